"""The model card of a training run: data, recipe, metrics and how to use the checkpoint."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .whole_files import placing

USAGE = """\
```python
from transformers import pipeline

pipe = pipeline("{pipeline}", model="{path}", trust_remote_code=True)
print(pipe({post}))
```"""

# name: title, the Hub's task, pipeline, a post, limit
TASKS = {
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
    "classification": (
        "Classification of posts",
        "text-classification",
        "multimodal-text-classification",
        '{"text": "what a day", "image": "kobe.jpg"}',
        "The labels are those of the training data; other domains and languages were not evaluated.",
    ),
}

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


def write_model_card(output_dir: Path, task, dataset: str, model_args, training_args, config, result, seconds):
    """Write README.md into the folder of a run.

    Args:
        task: the `Task` of `modeling_i2srm.training`.
        result: the `RunResult` of `modeling_i2srm.training`.
        seconds: how long the run took.
    """
    title, pipeline_tag, pipeline, post, limit = TASKS[task.name]
    dataset_name = Path(dataset).name
    metrics = [
        EvalResult(
            task_type=pipeline_tag,
            task_name=title,
            dataset_type=dataset_name,
            dataset_name=dataset_name + (" (released crops)" if result.data.get("objects") == "released" else ""),
            dataset_split=split,
            metric_type="f1" if name.endswith("f1") else name.rpartition("_")[2],
            metric_name=name.replace("_", " "),
            metric_value=round(values[name], 4),
        )
        for split, values in (("test", result.test), ("validation", result.validation))
        for name in task.main_metrics
        if name in values
    ]
    if model_args.model_name_or_path:
        sources = [model_args.model_name_or_path]
    else:
        sources = [] if model_args.from_scratch else [model_args.text_encoder, model_args.vision_encoder]
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag=pipeline_tag,
        tags=["i2srm", "multimodal", task.name],
        datasets=None if Path(dataset).exists() else [dataset],
        base_model=[name for name in sources if not Path(name).exists()] or None,
        model_name=f"{title} on {dataset_name}",
        eval_results=metrics or None,
    )
    path = training_args.hub_model_id if training_args.push_to_hub else Path(output_dir).name
    pictures = "text and pictures" if model_args.use_images else "text alone (the pictures were not read)"
    card = TEMPLATE.format(
        metadata=card_data.to_yaml(),
        title=f"{title} on {dataset_name}",
        summary=f"`{task.model_class.__name__}`, trained on {pictures} with modeling_i2srm.",
        usage=USAGE.format(pipeline=pipeline, path=path, post=post),
        data=_data(dataset, result),
        results=_results(task, result),
        limit=limit,
        recipe=_recipe(model_args, training_args, config, seconds),
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    with placing(output_dir / "README.md") as temporary:
        ModelCard(card).save(temporary)


def _table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _data(dataset: str, result) -> str:
    name = Path(dataset).name if Path(dataset).exists() else dataset
    said = [
        f"{what}: {result.data[key]}"
        for key, what in (("edition", "Edition"), ("objects", "Crops"))
        if key in result.data
    ]
    said += [f"**{warning}**" for warning in result.data.get("warnings", [])]
    rows = [[name, *counts.values()] for name, counts in result.truncation.items()]
    names = next(iter(result.truncation.values()), {"posts": 0})
    header = ["split", *(name.replace("_", " ") for name in names)]
    return "\n\n".join([f"`{name}`", *said, _table(header, rows)])


def _results(task, result) -> str:
    columns = {"validation": result.validation, "test": result.test, "test, pictures absent": result.blanked}
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
    return "In per cent.\n\n" + _table(["metric", *columns], rows)


def _recipe(model_args, training_args, config, seconds: float) -> str:
    if model_args.model_name_or_path:
        encoders = model_args.model_name_or_path
    elif model_args.from_scratch:
        encoders = f"{config.text_config.model_type} and {config.vision_config.model_type} from scratch"
    else:
        encoders = f"{model_args.text_encoder} and {model_args.vision_encoder}"
    rates = {part: getattr(training_args, f"{part}_learning_rate") for part in ("fusion", "head")}
    rates = {part: training_args.learning_rate if rate is None else rate for part, rate in rates.items()}
    effective = (
        training_args.per_device_train_batch_size * training_args.gradient_accumulation_steps * training_args.world_size
    )
    rows = [
        ["encoders", encoders],
        ["epochs", training_args.num_train_epochs],
        ["batch size", f"{effective} ({training_args.world_size} processes)"],
        ["learning rate", training_args.learning_rate],
        ["learning rate of the fusion parts", rates["fusion"]],
        ["learning rate of classifier and CRF", rates["head"]],
        ["warm-up", training_args.warmup_steps],
        ["weight decay", training_args.weight_decay],
        ["seed", training_args.seed],
        ["AttnMixup", config.attn_mixup],
        ["object crops", config.num_objects],
        ["seconds, all told", round(seconds)],
    ]
    return _table(["setting", "value"], rows)


__all__ = ["write_model_card"]
