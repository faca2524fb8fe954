"""What a training run says: its results, the model card, and lines on how it reads its data and computes its steps."""

from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import TrainingArguments

from ..configuration_i2srm import I2SRMConfig
from ..support.atomic_files import placing
from ..support.markdown import markdown_table
from ..support.precision import bf16_is_fast
from .arguments import ModelArguments
from .fusion_movement import rates_of_parts
from .tasks import Task
from .trainer import I2SRMTrainer, I2SRMTrainingArguments, reads_pictures

USAGE = """\
```python
from transformers import pipeline

pipe = pipeline("{pipeline}", model="{path}", trust_remote_code=True)
print(pipe({post}))
```

transformers' own pipeline "{generic}" is not for this model: it reads no pictures and splits texts into other words."""

# name: title, the Hub's name of the task, pipeline, a post, limit
CARDS = {
    "mner": (
        "Multimodal named entity recognition",
        "token-classification",
        "multimodal-token-classification",
        '{"text": "Kobe lands in Paris", "image": "kobe.jpg"}',
        "The tags are those of the training data; other domains and languages were not evaluated.",
    ),
    "mre": (
        "Multimodal relation extraction",
        "text-classification",
        "multimodal-relation-classification",
        '{"text": "Kobe lands in Paris", "head": (0, 4), "tail": (14, 19), "image": "kobe.jpg"}',
        "Somebody has to say which two entities are meant; other domains and languages were not evaluated.",
    ),
    "joint": (
        "Multimodal joint extraction of entities and relations",
        "token-classification",
        "multimodal-joint-extraction",
        '{"text": "Kobe lands in Paris", "image": "kobe.jpg", "objects": ["crop.jpg"]}',
        "Types and relations are those of the training data; other domains and languages were not evaluated.",
    ),
    "classification": (
        "Classification of posts",
        "text-classification",
        "multimodal-text-classification",
        '{"text": "what a day", "image": "kobe.jpg"}',
        "The labels are those of the training data; other domains and languages were not evaluated.",
    ),
}

# Metrics, and what the report of made-up data calls the best that a reader can reach of them.
CEILINGS = {"lenient_f1": "entity_f1", "strict_f1": "entity_f1"}
CEILINGS |= {"triple_f1": "triple_f1", "region_accuracy": "region_accuracy"}

RATED_PARTS = {"vision": "the backbone", "fusion": "the fusion parts", "pair": "pairs and regions"}
RATED_PARTS |= {"head": "classifier and CRF"}

TEMPLATE = """\
---
{metadata}
---

# {title}

{summary}

## Use

{usage}

## Data

{data}

## Results

{results}

## Recipe

{recipe}

## Limits

- A picture helps only where it tells something that the text does not: compare the columns above before you rely on it.
- {limit}

Method: I2SRM, [arXiv 2310.06326](https://arxiv.org/abs/2310.06326); equations in the documentation of modeling_i2srm.
"""


# On fewer training posts AttnMixup cost F1, or changed it by no more than chance (docs/measured/results.md).
FEW_POSTS = 5_000


@dataclass
class RunResult:
    """The results of one training run.

    Args:
        test, validation: metrics of the splits, by name.
        blanked: metrics of the test split without pictures.
        mismatched: metrics of the test split with wrong pictures, by KIND:PERCENT.
        truncation: counts of what was truncated, by split.
        pictures: number of posts that have a picture, by split; empty where pictures are not read.
        data: what the report of the data set says about every result, such as warnings.
        records: of predictions.jsonl.
        reliability: of their scores, by kind of answer, as of `summarize_reliability`.
        unscaled: metrics of the test split without temperatures, and under "reliability" that of the scores then.
        abstention: what score limits keep of the test answers, as of `measure_abstention`.
        skipped_steps: number of steps whose loss or gradients were not finite.
        fusion_movement: how far new visual prompts moved; `None` where it was not measured.
        rates: learning rate of each part that was trained.
    """

    output_dir: Path
    test: dict = field(default_factory=dict)
    validation: dict = field(default_factory=dict)
    blanked: dict = field(default_factory=dict)
    mismatched: dict[str, dict] = field(default_factory=dict)
    truncation: dict = field(default_factory=dict)
    pictures: dict[str, int] = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    records: list[dict] = field(default_factory=list)
    reliability: dict[str, dict] = field(default_factory=dict)
    unscaled: dict = field(default_factory=dict)
    abstention: dict[str, dict] = field(default_factory=dict)
    skipped_steps: int = 0
    fusion_movement: float | None = None
    rates: dict[str, float] = field(default_factory=dict)

    def read_training(self, trainer: I2SRMTrainer) -> None:
        """Take what the log history and the optimizer of a training say; nothing where there was none."""
        self.skipped_steps, self.rates = len(trainer.skipped_steps), rates_of_parts(trainer.optimizer)
        measured = (entry.get("fusion_movement") for entry in trainer.state.log_history)
        self.fusion_movement = next((value for value in measured if value is not None), None)

    @property
    def mark(self) -> dict:
        """What every file of metrics also holds."""
        return {"data": self.data} if self.data else {}


def write_model_card(
    output_dir: Path,
    task: Task,
    dataset: str,
    model_args: ModelArguments,
    training_args: I2SRMTrainingArguments,
    config: I2SRMConfig,
    result: RunResult,
    seconds: float,
    hub_model_id: str | None = None,
) -> None:
    """Write README.md into the folder of a run.

    Args:
        task: the `Task`.
        result: the `RunResult` of `modeling_i2srm.training.run`.
        seconds: how long the run took.
        hub_model_id: the repository that the run is pushed to.
    """
    title, hub_task, pipeline, post, limit = CARDS[task.name]
    post = post if model_args.use_images else post.partition(', "image"')[0] + "}"
    name = f"{title} on {Path(dataset).name}"
    card = TEMPLATE.format(
        metadata=_metadata(name, task, dataset, model_args, result).to_yaml(),
        title=name,
        summary=f"`{task.model_class.__name__}`, trained on {_what_was_read(model_args, result)} with modeling_i2srm.",
        usage=USAGE.format(
            pipeline=pipeline, generic=hub_task, path=hub_model_id or folder_name(output_dir), post=post
        ),
        data=_data(dataset, result),
        results=_results(task, result),
        limit=limit,
        recipe=_recipe(model_args, training_args, config, result, seconds),
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    with placing(output_dir / "README.md") as temporary:
        ModelCard(card).save(temporary)


def folder_name(folder: Path) -> str:
    """A folder as its name leads to it from the working directory; its full path where it is not in there."""
    full = folder.absolute()
    return (full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full).as_posix()


def _metadata(name: str, task: Task, dataset: str, model_args: ModelArguments, result: RunResult) -> ModelCardData:
    """What the Hub reads of a card: sources, tags and results."""
    title, hub_task, pipeline, _, _ = CARDS[task.name]
    dataset_name = Path(dataset).name
    metrics = [
        EvalResult(
            task_type=hub_task,
            task_name=title,
            dataset_type=dataset_name,
            dataset_name=dataset_name + (" (released crops)" if result.data.get("objects") == "released" else ""),
            dataset_split=split,
            metric_type="f1" if metric.endswith("f1") else metric.rpartition("_")[2],
            metric_name=metric.replace("_", " "),
            metric_value=round(values[metric], 4),
        )
        for split, values in (("test", result.test), ("validation", result.validation))
        for metric in task.main_metrics
        if metric in values
    ]
    if model_args.model_name_or_path:
        sources = [model_args.model_name_or_path]
    else:
        sources = [] if model_args.from_scratch else [model_args.text_encoder, model_args.vision_encoder]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="other",  # else the Hub takes the task from the head, and leads to transformers' own pipeline
        inference=False,  # and shows a widget of it
        tags=["i2srm", "multimodal", "custom_code", pipeline, task.name],
        datasets=None if Path(dataset).exists() else [dataset],
        base_model=[source for source in sources if not Path(source).exists()] or None,
        model_name=name,
        eval_results=metrics or None,
    )


def _what_was_read(model_args: ModelArguments, result: RunResult) -> str:
    """What of the posts a model was trained on."""
    if not model_args.use_images:
        return "text alone (the pictures were not read)"
    if "train" not in result.pictures:
        return "text and pictures"
    count, posts = result.pictures["train"], result.truncation["train"]["posts"]
    return (
        f"text and pictures ({count:,} of {posts:,} posts have one)" if count else "text alone (no post has a picture)"
    )


def _data(dataset: str, result: RunResult) -> str:
    name = Path(dataset).name if Path(dataset).exists() else dataset
    notes = [
        f"{what}: {result.data[key]}"
        for key, what in (("edition", "Edition"), ("objects", "Crops"))
        if key in result.data
    ]
    notes += [f"**{warning}**" for warning in result.data.get("warnings", [])]
    counts = {
        name: values | ({"with a picture": result.pictures[name]} if name in result.pictures else {})
        for name, values in result.truncation.items()
    }
    rows = [[name, *values.values()] for name, values in counts.items()]
    names = next(iter(counts.values()), {"posts": 0})
    header = ["split", *(name.replace("_", " ") for name in names)]
    return "\n\n".join([f"`{name}`", *notes, markdown_table(header, rows)])


def _results(task: Task, result: RunResult) -> str:
    columns = {"validation": result.validation, "test": result.test, "test, pictures absent": result.blanked}
    columns |= {"test, no temperatures": result.unscaled}
    columns = {name: values for name, values in columns.items() if values}
    known = {name for values in columns.values() for name in values}
    names = [name for name in task.main_metrics if name in known]
    names += sorted(name for name in known if name.startswith(tuple(f"{metric}_" for metric in task.type_metrics)))
    if not names:
        return "Not evaluated."
    rows = [
        [name.replace("_", " "), *(f"{100 * v[name]:.2f}" if name in v else "-" for v in columns.values())]
        for name in names
    ]
    tables = ["In per cent.", markdown_table(["metric", *columns], rows)]
    if result.reliability:
        header = ["scores on the test split", "answers", "mean score", "right"]
        header += ["expected calibration error", "by chance"]
        before = result.unscaled.get("reliability", {})
        rows = [
            [*reliability_row(kind, one), *([f"{100 * before[kind]['ece']:.1f}"] if kind in before else ["-"])]
            for kind, one in result.reliability.items()
        ]
        tables.append(markdown_table([*header, "without temperature"], rows))
    tables += [describe_abstention(kind, one) for kind, one in result.abstention.items()]
    return "\n\n".join(tables)


def describe_abstention(kind: str, one: dict) -> str:
    """A sentence on what the score limit of a kind of answer keeps."""
    low, high = (f"{100 * end:.1f}" for end in one["interval"])
    text = f"coverage={one['coverage']:g} keeps {100 * one['covered']:.1f} % of the {one['right']} right {kind} "
    text += f"(expected: {low} to {high} %)"
    if one["withheld"] is not None:
        text += f" and withholds {100 * one['withheld']:.1f} % of the {one['wrong']} wrong ones"
    text += f": of all {100 * one['precision']:.1f} % are right"
    return text + ("." if one["kept_precision"] is None else f", of those kept {100 * one['kept_precision']:.1f} %.")


def reliability_row(kind: str, one: dict) -> list[str]:
    """Format the reliability of a kind of answer, in per cent. Values that older results lack are dashes."""
    names = ("confidence", "accuracy", "ece", "ece_by_chance")
    return [kind, str(one["count"]), *(f"{100 * one[name]:.1f}" if name in one else "-" for name in names)]


def _recipe(
    model_args: ModelArguments,
    training_args: I2SRMTrainingArguments,
    config: I2SRMConfig,
    result: RunResult,
    seconds: float,
) -> str:
    if model_args.model_name_or_path:
        encoders = model_args.model_name_or_path
    elif model_args.from_scratch:
        kinds = [getattr(part, "model_type", "?") for part in (config.text_config, config.vision_config)]
        encoders = f"{' and '.join(kinds)} from scratch"
    else:
        encoders = f"{model_args.text_encoder} and {model_args.vision_encoder}"
    effective = (
        training_args.per_device_train_batch_size * training_args.gradient_accumulation_steps * training_args.world_size
    )
    rates = result.rates
    rows: list[list] = [
        ["encoders", encoders],
        ["epochs", training_args.num_train_epochs],
        ["batch size", f"{effective} ({training_args.world_size} processes)"],
        ["learning rate", training_args.learning_rate],
        *([f"learning rate of {name}", rates[part]] for part, name in RATED_PARTS.items() if part in rates),
        ["warm-up", training_args.warmup_steps],
        ["weight decay", training_args.weight_decay],
        ["seed", training_args.seed],
        ["AttnMixup", describe_attn_mixup(config, result.truncation.get("train", {}).get("posts"))],
        *([["share of names swapped", training_args.name_swapping]] if training_args.name_swapping else []),
        ["object crops", config.num_objects],
        ["seconds in total", round(seconds)],
    ]
    return markdown_table(["setting", "value"], rows)


def describe_attn_mixup(config: I2SRMConfig, posts: int | None) -> str:
    """Say whether AttnMixup is on, and warn if there are few training posts (docs/measured/results.md)."""
    if not config.attn_mixup:
        return "off"
    if posts is None or posts >= FEW_POSTS:
        return "on"
    return f"on; on few posts (here {posts:,}) it cost up to 7 points of F1 in measurements: try --attn_mixup false"


def describe_run(trainer: I2SRMTrainer) -> list[str]:
    """Lines that say how a trainer reads its data and computes its steps, as it is set up now."""
    args, posts = trainer.args, trainer.train_dataset
    sampling = args.train_sampling_strategy
    config = trainer.accelerator.unwrap_model(trainer.model).config
    return [
        f"AttnMixup: {describe_attn_mixup(config, len(posts) if isinstance(posts, Sized) else None)}",
        f"pictures: {describe_pictures(trainer)}",
        "text: padded to the longest of the batch; "
        + ("batches of posts of similar length" if sampling == "group_by_length" else f"order {sampling}")
        + (f"; {100 * args.name_swapping:g} % of the names are swapped in training" if args.name_swapping else ""),
        f"step: optimizer {getattr(args.optim, 'value', args.optim)}; {describe_precision(args)}; "
        f"{args.device.type} with {torch.get_num_threads()} threads in this process",
    ]


def describe_pictures(trainer: I2SRMTrainer) -> str:
    args, collator = trainer.args, trainer.data_collator
    cached = getattr(collator, "feature_cache", None) is not None
    if not cached and not reads_pictures(collator):
        return "not read"
    frozen = trainer.accelerator.unwrap_model(trainer.model).config.freeze_vision
    backbone = f"backbone {'frozen' if frozen else 'trained'}"
    if cached:
        return f"{backbone}; features from the cache"
    workers = args.dataloader_num_workers
    memory = getattr(collator, "picture_memory", None)
    kept = f"kept in up to {memory.free / 2**20:,.0f} MB, " if memory is not None else ""
    reduced = getattr(getattr(collator, "processor", None), "reduced_decode", None)
    return (
        f"{backbone}; features computed in every step; decoded by "
        f"{f'{workers} worker processes' if workers else 'the training process itself'}, "
        f"{f'large JPEGs at a part of their size (reduced_decode={reduced})' if reduced else 'in full'}, "
        f"{kept}memory {'' if args.dataloader_pin_memory else 'not '}pinned"
    )


def describe_precision(args: TrainingArguments) -> str:
    if args.fp16 and args.device.type == "cpu":
        return "float32: accelerate ignores --fp16 true on the CPU, but not --bf16 true"
    if args.fp16:
        return "float16 autocast"
    fast = bf16_is_fast(args.device)
    if args.bf16 and not fast:
        return "bfloat16 autocast, for which this device has no instructions: slower than float32"
    if args.bf16:
        return "bfloat16 autocast"
    ask = "--bf16 true" + (" --use_cpu true" if args.device.type == "cpu" else "")  # without it transformers refuses
    return "float32" + (f"; bfloat16 is faster here for encoders from MiniLM's size: {ask}" if fast else "")


def print_results(task: Task, results: dict, records: list[dict], folder: Path, warnings: list[str]) -> None:
    """Print the table of a run, the warnings of its data, some predictions, and the files that it wrote.

    Args:
        results: as results.json has them.
        records: of predictions.jsonl.
    """
    print(results_table(results, task.main_metrics, task.type_metrics))
    for warning in warnings:
        print(f"WARNING: {warning}")
    for kind, one in results.get("reliability", {}).items():
        _, count, score, right, error, chance = reliability_row(kind, one)
        before = results.get("unscaled", {}).get("reliability", {}).get(kind)
        note = "" if before is None else f", without temperature {100 * before['ece']:.1f}"
        error = f"calibration error {error} points ({chance} by chance{note})"
        print(f"scores of {count} {kind}: mean {score} %, right {right} %, {error}")
    for kind, one in results.get("abstention", {}).items():
        print(describe_abstention(kind, one))
    for record in example_records(records, task.describe):
        print(record)
    print_files(folder)


def results_table(results: dict, main_metrics: tuple[str, ...], type_metrics: tuple[str, ...]) -> str:
    """A plain-text table: a row a metric (the main ones, then per label), a column per run, in per cent.

    Beside the blanked pictures stands what a reader of the text alone reaches, where the data's report says it.
    """
    columns = [name for name in ("multimodal", "pictures_blanked", "text_only") if len(results.get(name, {})) > 1]
    if not columns:
        return "no test predictions (--do_predict)"
    reached = results.get("data", {}).get("ceilings", {}).get("text", {})
    if ceiling := {name: reached[CEILINGS[name]] for name in main_metrics if CEILINGS.get(name) in reached}:
        results = {**results, "text_ceiling": ceiling}
        columns.insert(2, "text_ceiling")  # beside the blanked pictures
    rows = list(main_metrics)
    for metric in type_metrics:
        rows += sorted(name for name in results[columns[0]] if name.startswith(f"{metric}_"))
    width = max(map(len, rows)) + 2
    lines = ["", "test".ljust(width) + "".join(name.replace("_", " ").rjust(18) for name in columns)]
    for row in rows:
        values = [results[name].get(row) for name in columns]
        lines.append(row.ljust(width) + "".join(("-" if v is None else f"{100 * v:.2f}").rjust(18) for v in values))
    return "\n".join([*lines, ""])


def example_records(records: list[dict], describe: Callable, count: int = 3) -> list[str]:
    """The first posts with a prediction to show, and what is predicted."""
    described = ((record, text) for record in records if (text := describe(record)))
    return [f"  {' '.join(record['tokens'])}\n    -> {text}" for record, text in islice(described, count)]


def print_files(output_dir: Path) -> None:
    """Print where the files of a run are."""
    print()
    for what, name in (
        ("checkpoint", "model.safetensors"),
        ("model card", "README.md"),
        ("training curves", "training_curves.png"),
        ("predictions", "predictions.jsonl"),
        ("confusion", "confusion.png"),
        ("reliability", "reliability.png"),
        ("results", "results.json"),
        ("log", "run.log"),
    ):
        if (output_dir / name).exists():
            print(f"{what + ':':18}{output_dir / name}")


__all__ = [
    "RunResult",
    "describe_run",
    "print_results",
    "write_model_card",
]
