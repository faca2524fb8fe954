"""What the training scripts share: data, model, training, evaluation, prediction and reports."""

import errno
import gc
import json
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    EarlyStoppingCallback,
    PreTrainedModel,
    set_seed,
)
from transformers import logging as transformers_logging
from transformers.trainer_utils import PredictionOutput

from ..configuration_i2srm import I2SRMConfig
from ..data.collator import I2SRMDataCollator
from ..data.dataset import (
    check_picture_paths,
    encode_split,
    first_rows,
    load_splits,
    longest_first,
    read_data_report,
    train_tokenizer,
)
from ..data.feature_cache import VisualFeatureCache, cache_pictures
from ..data.mismatch import Mismatch, mismatch_pictures
from ..processing_i2srm import I2SRMProcessor, resnet_image_processor
from ..support import faults
from ..support.atomic_files import check_writable, not_writable, replacing, write_json
from ..support.faults import LOST_PROCESS, NO_SPACE, Interrupted, Interruption, RunError, first_line, lost_process
from ..words import MARKERS
from .arguments import config_overrides, parse_arguments
from .checkpoints import check_whole, find_checkpoints, how_to_resume, last_whole_checkpoint, remove, tidy
from .report import describe_run, draw_training_curves, write_model_card
from .trainer import I2SRMTrainer, picture_workers

logger = logging.getLogger(__name__)


@dataclass
class Task:
    """What differs between the tasks.

    Args:
        name: e.g. "mner"; used in file names and the model card.
        model_class: the model with its head.
        text_columns: the columns that `encode` reads; also the columns that a data set must have.
        label_names: reads the label names from the features of a data set, or explains what is wrong.
        encode: processor, row, max_length, sub-tokens of its words or `None` -> encoded row.
        lost_labels: row, number of words cut off, label names -> number of labels lost.
        compute_metrics: label names -> the trainer's compute_metrics.
        prediction_records: data set, prediction output, label names -> dicts for predictions.jsonl.
        describe: such a dict -> what was found in it, in words, or `None`.
        main_metrics: metrics shown first in the table and in the model card.
        type_metrics: metrics that are there for each label too, as NAME_LABEL.
        entity_markers: whether the tokenizer needs them.
        plain_text: whether a column "text" will do for "tokens".
        draw: dicts of predictions.jsonl, label names, path -> a picture of them.
    """

    name: str
    model_class: type[PreTrainedModel]
    text_columns: tuple[str, ...]
    label_names: Callable
    encode: Callable
    lost_labels: Callable
    compute_metrics: Callable
    prediction_records: Callable
    describe: Callable
    main_metrics: tuple[str, ...]
    type_metrics: tuple[str, ...]
    entity_markers: bool = False
    plain_text: bool = False
    draw: Callable | None = None


@dataclass
class RunResult:
    """What one training run gave: metrics of the test and validation split, truncation counts and file names.

    `mismatched` are metrics of the test split with wrong pictures, by KIND:PERCENT; `data` is what the data set's
    report says that belongs beside every result, such as warnings; `skipped_steps` are those whose loss or gradients
    were not finite.
    """

    output_dir: Path
    test: dict = field(default_factory=dict)
    validation: dict = field(default_factory=dict)
    blanked: dict = field(default_factory=dict)
    mismatched: dict[str, dict] = field(default_factory=dict)
    truncation: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    records: list[dict] = field(default_factory=list)
    skipped_steps: int = 0

    @property
    def mark(self) -> dict:
        """What is written beside the metrics in every file."""
        return {"data": self.data} if self.data else {}


def setup_logging(training_args):
    """Log from the main process at the level of the arguments, warnings from the others."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    level = training_args.get_process_log_level()
    logging.getLogger("modeling_i2srm").setLevel(min(level, logging.INFO) if training_args.should_log else level)
    transformers_logging.set_verbosity(max(level, logging.WARNING))
    transformers_logging.enable_explicit_format()
    datasets.utils.logging.set_verbosity(max(level, logging.WARNING))


def build_model(task: Task, model_args, config_args, data_args, train_tokens, names: list[str], resume_from=None):
    """The model and its processor: from a checkpoint, from pretrained encoders, or from scratch.

    When a run is resumed, a tokenizer that was trained is read from its checkpoint.
    """
    overrides = config_overrides(config_args)
    num_objects = {"num_objects": overrides["num_objects"]} if "num_objects" in overrides else {}
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    if model_args.model_name_or_path:
        path = model_args.model_name_or_path
        if fixed := {"text_config", "vision_config"} & overrides.keys():
            raise ValueError(f"{' and '.join(sorted(fixed))} cannot change with --model_name_or_path {path}: leave out")
        config = I2SRMConfig.from_pretrained(path, **overrides)
        if task.model_class.__name__ not in (config.architectures or []):  # another head: only I2SRMModel is taken
            config = I2SRMConfig.from_pretrained(path, **overrides, **labels)
        elif list(config.id2label.values()) != names:
            raise ValueError(f"{path} has the labels {list(config.id2label.values())}, the data set {names}")
        model = task.model_class.from_pretrained(path, config=config)
        return with_markers(task, model, I2SRMProcessor.from_pretrained(path, **num_objects))
    if not model_args.from_scratch:
        if "text_config" in overrides:
            raise ValueError("--text_config is that of a new text encoder: leave it out or add --from_scratch true")
        encoders = model_args.text_encoder, None if "vision_config" in overrides else model_args.vision_encoder
        model = task.model_class.from_encoders(*encoders, **labels, **overrides)
        processor = I2SRMProcessor.from_encoders(*encoders, max_length=data_args.max_length, **num_objects)
        if "vision_config" in overrides:
            processor.image_processor = resnet_image_processor(model_args.image_size)
        return with_markers(task, model, processor)
    if "text_config" not in overrides or "vision_config" not in overrides:
        raise ValueError(
            'from_scratch needs both, e.g. --text_config \'{"model_type": "bert", ...}\' --vision_config ...'
        )
    text_config = AutoConfig.for_model(**overrides.pop("text_config"))
    if resume_from is None:
        tokenizer = train_tokenizer(train_tokens, model_args.vocab_size, data_args.max_length)
    else:
        tokenizer = I2SRMProcessor.from_pretrained(resume_from).tokenizer
    if task.entity_markers:
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    text_config.vocab_size, text_config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    config = I2SRMConfig(text_config=text_config, **labels, **overrides)
    image_processor = resnet_image_processor(model_args.image_size)
    processor = I2SRMProcessor(image_processor, tokenizer, max_length=data_args.max_length, **num_objects)
    return task.model_class(config), processor


def with_markers(task: Task, model, processor: I2SRMProcessor):
    """A model and its processor with the entity markers and their embeddings, where the task needs them."""
    if task.entity_markers:
        processor.add_entity_markers()
        if len(processor.tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(processor.tokenizer))
    return model, processor


def balanced_weights(labels: list[int], count: int) -> list[float]:
    """Weights that let each of the labels that occur count as much as another, with mean 1 over the rows."""
    numbers = Counter(labels)
    return [len(labels) / (len(numbers) * numbers[label]) if numbers[label] else 1.0 for label in range(count)]


def checkpoint_to_resume(training_args, overwrite: bool) -> str | None:
    """Find out where to go on, and refuse to mix two runs in one folder."""
    output_dir, wanted = Path(training_args.output_dir), training_args.resume_from_checkpoint
    with training_args.main_process_first(local=False, desc="looking for checkpoints"):
        if training_args.should_save:
            tidy(output_dir)
        if wanted in ("last", "true", "True", True):
            last = last_whole_checkpoint(
                training_args.output_dir, training_args.should_log, training_args.load_best_model_at_end
            )
            if last is None:
                logger.warning(f"no checkpoint in {output_dir} to resume from: starting anew")
            return last
        if wanted:
            check_whole(wanted, training_args.load_best_model_at_end)
            return wanted
        if earlier := find_checkpoints(output_dir):
            if not overwrite:
                raise ValueError(
                    f"{output_dir} holds checkpoints of an earlier run; go on with --resume_from_checkpoint last, "
                    "start over with --overwrite true, or choose another --output_dir"
                )
            if training_args.should_save:
                for checkpoint in earlier:
                    remove(checkpoint)
    return None


@contextmanager
def explaining_faults(training_args) -> Iterator[None]:
    """Say what to do where a run is ended from outside: by a signal, the disk, or the end of another process."""
    try:
        yield
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
        name = signal.Signals(signum).name
        raise Interrupted(signum, f"stopped by {name}; {how_to_resume(training_args.output_dir)}") from None
    except (OSError, RuntimeError) as error:
        if lost_process(error):
            advice = how_to_resume(training_args.output_dir)
            raise RunError(f"{LOST_PROCESS} ({first_line(error)}); {advice}") from error
        if isinstance(error, OSError) and error.errno in (*NO_SPACE, errno.EROFS):
            where = error.filename or f"{training_args.output_dir} or {datasets.config.HF_DATASETS_CACHE}"
            raise RunError(
                f"{error.strerror}: {where}. All that was saved before is kept. See to it that there is room and that "
                f"it can be written to, then {how_to_resume(training_args.output_dir)}"
            ) from error
        raise


def room_for_a_checkpoint(trainer: I2SRMTrainer) -> int:
    """The bytes that a checkpoint takes at least."""
    if trainer.args.save_strategy == "no":
        return 0
    size = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    adam = getattr(trainer.args.optim, "value", trainer.args.optim) in ("adamw_torch", "adamw_torch_fused")
    if adam and not trainer.args.save_only_model:
        size += sum(2 * p.numel() * p.element_size() for p in trainer.model.parameters() if p.requires_grad)
    return size


def open_feature_cache(data_args, model, processor: I2SRMProcessor, checkpoint: str | None) -> VisualFeatureCache:
    """The cache of visual features for a model that is about to be trained, or to go on from a checkpoint."""
    folder, dtype = data_args.cache_visual_features, data_args.visual_cache_dtype
    if checkpoint is not None:  # the trainer will load all of it; the features have to be those of its backbone
        resumed = type(model).from_pretrained(checkpoint)
        model.base_model.vision_encoder.load_state_dict(resumed.base_model.vision_encoder.state_dict())
    try:
        return VisualFeatureCache.for_model(folder, model, processor, dtype)
    except OSError as error:
        raise not_writable(folder, "--cache_visual_features", error) from error


def run_training(task: Task, model_args, config_args, data_args, training_args) -> RunResult:
    """Train, evaluate and predict as the arguments say; everything lands in `training_args.output_dir`."""
    started = time.perf_counter()
    if training_args.should_save:
        check_writable(training_args.output_dir, "--output_dir")
    set_seed(training_args.seed)
    splits = load_splits(data_args.dataset, task.text_columns, task.plain_text)
    check_picture_paths(data_args.dataset, splits, data_args.image_dir)
    features = next(iter(splits.values())).features
    names = task.label_names(features, data_args.dataset)
    for flag, split in (("do_train", "train"), ("do_eval", "validation"), ("do_predict", "test")):
        if getattr(training_args, flag) and split not in splits:
            raise ValueError(f"--{flag} needs a split {split!r}; {data_args.dataset} has {', '.join(splits)}")
        if getattr(training_args, flag) and not len(splits[split]):
            raise ValueError(f"--{flag} needs rows, but the split {split!r} of {data_args.dataset} has none")
    train_tokens = splits["train"]["tokens"] if model_args.from_scratch and "train" in splits else ()
    checkpoint = checkpoint_to_resume(training_args, data_args.overwrite) if training_args.do_train else None
    if data_args.balance_relations and "relation" not in task.text_columns:
        raise ValueError("--balance_relations is for examples/run_mre.py: leave it out")
    if data_args.balance_relations and training_args.do_train:
        config_args.class_weights = balanced_weights(splits["train"]["relation"], len(names))
    model, processor = build_model(task, model_args, config_args, data_args, train_tokens, names, checkpoint)
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info(f"{type(model).__name__}: {count:,} parameters, {trained:,} trained; pictures {model_args.use_images}")

    feature_cache = None
    if data_args.cache_visual_features and model_args.use_images:
        feature_cache = open_feature_cache(data_args, model, processor, checkpoint)

    result = RunResult(Path(training_args.output_dir), data=read_data_report(data_args.dataset))
    for warning in result.data.get("warnings", []):
        logger.warning(f"{data_args.dataset}: {warning}")
    limits = {
        "train": (training_args.do_train, data_args.max_train_samples),
        "validation": (training_args.do_eval, data_args.max_eval_samples),
        "test": (training_args.do_predict, data_args.max_predict_samples),
    }
    encoded, length_column = {}, training_args.length_column_name
    with training_args.main_process_first(desc="encoding"):
        for name, (wanted, limit) in limits.items():
            if wanted:
                rows = first_rows(splits[name], limit)
                if name == "train":
                    rows = training_rows(rows, data_args, training_args.seed)
                encoded[name], result.truncation[name] = encode_split(
                    task, rows, processor, data_args.max_length, name, data_args.skip_long_pairs, length_column
                )
        if "test" in encoded and model_args.use_images:
            for text in data_args.test_mismatch or ():
                encoded[text] = mismatch_pictures(encoded["test"], Mismatch.parse(text), training_args.seed)
    if feature_cache is not None:
        model.base_model.vision_encoder.to(training_args.device)
        encoded = cache_pictures(
            feature_cache,
            encoded,
            model,
            processor,
            num_workers=picture_workers(training_args),
            progress=not training_args.disable_tqdm,
        )

    callbacks = []
    if data_args.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=data_args.early_stopping_patience))
    trainer = I2SRMTrainer(
        model=model,
        args=training_args,
        data_collator=I2SRMDataCollator(processor, use_images=model_args.use_images, feature_cache=feature_cache),
        train_dataset=encoded.get("train"),
        eval_dataset=longest_first(encoded["validation"], length_column)[0] if training_args.do_eval else None,
        processing_class=processor,
        compute_metrics=task.compute_metrics(names),
        callbacks=callbacks,
    )
    if trainer.is_world_process_zero():
        for line in describe_run(trainer):
            logger.info(line)
    if training_args.do_train:
        if training_args.should_save:
            check_writable(training_args.output_dir, "--output_dir", room_for_a_checkpoint(trainer))
        with Interruption("a checkpoint is saved after this step; once more stops at once") as trainer.interruption:
            trained = trainer.train(resume_from_checkpoint=checkpoint)
        if trainer.interruption.signum:  # in the last step
            raise Interrupted(trainer.interruption.signum)
        result.skipped_steps = len(trainer.skipped_steps)
        trainer.save_model()
        trainer.log_metrics("train", trained.metrics)
        trainer.save_metrics("train", trained.metrics)
        trainer.save_state()
        if trainer.is_world_process_zero():
            draw_training_curves(trainer.state.log_history, result.output_dir / "training_curves.png")
    if training_args.do_eval:
        metrics = trainer.evaluate()
        trainer.save_metrics("eval", metrics | result.mark)
        result.validation = without_prefix(metrics, "eval_")
    if training_args.do_predict:
        predict(task, trainer, encoded["test"], names, result, blank=model_args.use_images)
        for text in (name for name in encoded if name not in limits):
            output = predict_in_order(trainer, encoded[text], text)
            result.mismatched[text] = without_prefix(output.metrics, f"{text}_")
            records = task.prediction_records(encoded[text], output, names)
            write_predictions(trainer, records, result.output_dir / predictions_name(text))
    if training_args.push_to_hub:
        training_args.hub_model_id = trainer.hub_model_id  # in full
        trainer.create_model_card = lambda **kwargs: None  # it would replace ours
    if trainer.is_world_process_zero():
        write_model_card(
            result.output_dir,
            task=task,
            dataset=data_args.dataset,
            model_args=model_args,
            training_args=training_args,
            config=model.config,
            result=result,
            seconds=time.perf_counter() - started,
        )
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return result


def training_rows(rows: Dataset, data_args, seed: int) -> Dataset:
    """The rows to train on: a share of them, wrong pictures, as the arguments say; all as they are by default."""
    if data_args.train_fraction is not None:
        count = max(round(data_args.train_fraction * len(rows)), 1)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])  # more rows hold those of fewer
        logger.info(f"train: {count} of {len(rows)} rows, --train_fraction {data_args.train_fraction}")
        rows = rows.select(chosen)
    if data_args.train_mismatch:
        rows = mismatch_pictures(rows, Mismatch.parse(data_args.train_mismatch), seed)
    return rows


def predict(task: Task, trainer: I2SRMTrainer, split: Dataset, names: list[str], result: RunResult, blank: bool):
    """Predict the test split, write predictions.jsonl, and do it again with every picture absent."""
    output = predict_in_order(trainer, split, "test")
    trainer.save_metrics("test", output.metrics | result.mark)
    result.test = without_prefix(output.metrics, "test_")
    result.records = task.prediction_records(split, output, names)
    write_predictions(trainer, result.records, result.output_dir / predictions_name())
    if trainer.is_world_process_zero() and task.draw is not None:
        task.draw(result.records, names, result.output_dir / "confusion.png")
    if blank:
        trainer.data_collator.use_images = False
        result.blanked = without_prefix(predict_in_order(trainer, split, "blanked").metrics, "blanked_")
        trainer.data_collator.use_images = True


def predict_in_order(trainer: I2SRMTrainer, split: Dataset, name: str) -> PredictionOutput:
    """Predict a split longest first, with the predictions in the order of its rows and metrics called `name`_..."""
    by_length, order = longest_first(split, trainer.args.length_column_name)
    return in_order_of_data(trainer.predict(by_length, metric_key_prefix=name), order)


def predictions_name(mismatch: str | None = None) -> str:
    """The file of the predictions of the test split, or of it with wrong pictures."""
    return "predictions.jsonl" if mismatch is None else f"predictions-{mismatch.replace(':', '-')}.jsonl"


def write_predictions(trainer: I2SRMTrainer, records: list[dict], path: Path):
    if trainer.is_world_process_zero():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def in_order_of_data(output: PredictionOutput, order: list[int]) -> PredictionOutput:
    """The predictions for a split of `longest_first`, put back into the order the rows had before."""
    back = np.argsort(order)
    values = output.predictions
    values = tuple(value[back] for value in values) if isinstance(values, tuple) else values[back]
    return output._replace(predictions=values, label_ids=output.label_ids[back])


def without_prefix(metrics: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def run_task(task: Task, model_args, config_args, data_args, training_args) -> dict:
    """Run a task, and its text-only twin if asked for; print the table and write results.json.

    Returns:
        {"multimodal": {...}, "pictures_blanked": {...}, "mismatched": {KIND:PERCENT: {...}}, "text_only": {...},
        "truncation": {...}, "data": {...}, "skipped_steps": {...}, "seconds": ...}; entries that were not run are left
        out. Metrics are those of the test split, with those of the validation split under "validation"; "data" is what
        the data set's report says of its edition and crops; "skipped_steps" counts, for each model that was trained,
        the steps that were not finite.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with what was saved and how to go on.
        RunError: a disk that is full or cannot be written to, numbers that are not finite, or another process that
            ended; with what to do.
    """
    started = time.perf_counter()
    setup_logging(training_args)
    output_dir = Path(training_args.output_dir)
    results, skipped = {}, {}

    def train(name: str) -> RunResult:
        with explaining_faults(training_args):
            run = run_training(task, model_args, config_args, data_args, training_args)
        results[name] = {**run.test, "validation": run.validation}
        if training_args.do_train:
            skipped[name] = run.skipped_steps
        return run

    main = train("multimodal" if model_args.use_images else "text_only")
    if main.blanked:
        results["pictures_blanked"] = main.blanked
    if main.mismatched:
        results["mismatched"] = main.mismatched
    if model_args.compare_text_only and model_args.use_images:
        model_args.use_images = False
        training_args.output_dir = str(output_dir / "text_only")
        training_args.push_to_hub = False
        train("text_only")
        model_args.use_images, training_args.output_dir = True, str(output_dir)
    results |= {"truncation": main.truncation, **main.mark, "skipped_steps": skipped}
    results["seconds"] = round(time.perf_counter() - started, 1)
    if training_args.should_save:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / "results.json", results)
        print(results_table(results, task.main_metrics, task.type_metrics))
        for warning in main.data.get("warnings", []):
            print(f"WARNING: {data_args.dataset}: {warning}")
        for record in example_records(main.records, task.describe):
            print(record)
        print_files(output_dir)
    return results


def run_script(task: Task, argv: list[str] | None = None):
    """Run a task as the command line says; what ends it from outside, or is wrong with what it was given, is said in
    one message (`faults.run_script`)."""

    def run():
        arguments = parse_arguments(argv)
        faults.stop_on_sigterm()
        run_task(task, *arguments)
        end_processes()

    faults.run_script(run, f"run_{task.name}.py")


def results_table(results: dict, main_metrics: tuple[str, ...], type_metrics: tuple[str, ...]) -> str:
    """A plain-text table: a row a metric (the main ones, then per label), a column a run, in per cent."""
    columns = [name for name in ("multimodal", "pictures_blanked", "text_only") if len(results.get(name, {})) > 1]
    if not columns:
        return "no test predictions (--do_predict)"
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
    """The first posts in which something was found, and what."""
    found = ((record, text) for record in records if (text := describe(record)))
    return [f"  {' '.join(record['tokens'])}\n    -> {text}" for record, text in islice(found, count)]


def print_files(output_dir: Path):
    print()
    for what, name in (
        ("checkpoint", "model.safetensors"),
        ("model card", "README.md"),
        ("training curves", "training_curves.png"),
        ("predictions", "predictions.jsonl"),
        ("confusion", "confusion.png"),
        ("results", "results.json"),
    ):
        if (output_dir / name).exists():
            print(f"{what + ':':18}{output_dir / name}")


def end_processes():
    """Leave the process group together and with no trainer left that uses it; else some runs abort at exit."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


__all__ = ["RunResult", "Task", "end_processes", "predictions_name", "run_script", "run_task", "run_training"]
