"""A training run in its steps: prepare the data, build the model, encode, fit, evaluate, publish."""

import copy
import errno
import gc
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import logging as transformers_logging
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..data.collator import I2SRMDataCollator
from ..data.dataset import (
    check_picture_paths,
    encode_split,
    first_rows,
    load_splits,
    longest_first,
    read_data_report,
)
from ..data.feature_cache import VisualFeatureCache, cache_pictures
from ..data.mismatch import Mismatch, mismatch_pictures
from ..data.picture_columns import check_picture_columns, count_pictures
from ..data.picture_memory import PictureMemory
from ..pretrained_model import I2SRMPreTrainedModel
from ..processing_i2srm import I2SRMProcessor
from ..support import faults
from ..support.allocator import keep_freed_memory
from ..support.atomic_files import check_writable, not_writable, write_json
from ..support.faults import LOST_PROCESS, NO_SPACE, Interrupted, Interruption, RunError, first_line, lost_process
from ..support.options import program
from ..support.processes import in_process_group
from .abstention import fit_abstention, measure_abstention
from .arguments import Arguments, parse_arguments
from .build import RawData, build_model
from .calibration import FEWEST, calibrate, summarize_reliability, without_temperatures
from .checkpoints import (
    EarlyStoppingCallback,
    check_whole,
    find_checkpoints,
    how_to_resume,
    last_whole_checkpoint,
    remove,
    tidy,
)
from .figures import draw_reliability, draw_training_curves
from .predictions import predict, predictions_name, without_prefix, write_predictions
from .progress import ProgressTable
from .report import RunResult, describe_run, print_results, write_model_card
from .tasks import Task
from .trainer import I2SRMTrainer, I2SRMTrainingArguments, picture_workers

logger = logging.getLogger(__name__)


@dataclass
class EncodedData:
    """Splits with encoded text, the test split with wrong pictures by KIND:PERCENT, and for each split what truncation
    lost and how many posts have a picture."""

    splits: dict[str, Dataset] = field(default_factory=dict)
    mismatched: dict[str, Dataset] = field(default_factory=dict)
    truncation: dict[str, dict] = field(default_factory=dict)
    pictures: dict[str, int] = field(default_factory=dict)


def setup_logging(training_args: I2SRMTrainingArguments) -> None:
    """Log from the main process at the level of the arguments, warnings from the others."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    level = training_args.get_process_log_level()
    logging.getLogger("modeling_i2srm").setLevel(min(level, logging.INFO) if training_args.should_log else level)
    transformers_logging.set_verbosity(max(level, logging.WARNING))
    transformers_logging.enable_explicit_format()
    transformers_logging.disable_progress_bar()  # of files that are read and written: one bar is enough
    datasets.utils.logging.set_verbosity(max(level, logging.WARNING))


@contextmanager
def logging_to_file(arguments: Arguments) -> Iterator[None]:
    """Also append what the main process logs in this block to run.log in the output folder, where it can be made."""
    folder = arguments.output_dir
    if not arguments.training.should_save or folder.exists() and not folder.is_dir():
        yield  # the run itself says what is wrong with the folder
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(folder / "run.log", encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package = logging.getLogger("modeling_i2srm")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()


def checkpoint_to_resume(training_args: I2SRMTrainingArguments, overwrite: bool) -> str | None:
    """The checkpoint to resume from, if any.

    Raises:
        ValueError: the folder holds another run, or the checkpoint is incomplete.
    """
    output_dir, wanted = Path(training_args.output_dir or ""), training_args.resume_from_checkpoint
    with training_args.main_process_first(local=False, desc="looking for checkpoints"):
        if training_args.should_save:
            tidy(output_dir)
        if wanted in ("last", "true", "True", True):
            last = last_whole_checkpoint(output_dir, training_args.should_log, training_args.load_best_model_at_end)
            if last is None:
                logger.warning(f"no checkpoint in {output_dir} to resume from: the run starts from the beginning")
            return last
        if wanted:
            check_whole(wanted, training_args.load_best_model_at_end)
            return wanted
        if earlier := find_checkpoints(output_dir):
            if not overwrite:
                raise ValueError(
                    f"{output_dir} holds checkpoints of an earlier run; resume it with --resume_from_checkpoint last, "
                    "start over with --overwrite true, or choose another --output_dir"
                )
            if training_args.should_save:
                for checkpoint in earlier:
                    remove(checkpoint)
    return None


@contextmanager
def explaining_faults(output_dir: Path) -> Iterator[None]:
    """Say what to do where a run is ended from outside: by a signal, the disk, or the end of another process."""
    try:
        yield
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
        name = signal.Signals(signum).name
        raise Interrupted(signum, f"stopped by {name}; {how_to_resume(output_dir)}") from None
    except (OSError, RuntimeError) as error:
        if lost_process(error):
            raise RunError(f"{LOST_PROCESS} ({first_line(error)}); {how_to_resume(output_dir)}") from error
        if isinstance(error, OSError) and error.errno in (*NO_SPACE, errno.EROFS):
            where = error.filename or f"{output_dir} or {datasets.config.HF_DATASETS_CACHE}"
            raise RunError(
                f"{error.strerror}: {where}. All that was saved before is kept. See to it that there is room and that "
                f"it can be written to, then {how_to_resume(output_dir)}"
            ) from error
        raise


def room_for_a_checkpoint(trainer: I2SRMTrainer) -> int:
    """The bytes that a checkpoint takes at least."""
    if trainer.args.save_strategy == "no":
        return 0
    parameters = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
    size = sum(p.numel() * p.element_size() for p in parameters)
    adam = getattr(trainer.args.optim, "value", trainer.args.optim) in ("adamw_torch", "adamw_torch_fused")
    if adam and not trainer.args.save_only_model:
        size += sum(2 * p.numel() * p.element_size() for p in parameters if p.requires_grad)
    return size


def open_feature_cache(
    folder: str, dtype: str, model: I2SRMPreTrainedModel, processor: I2SRMProcessor, checkpoint: str | None
) -> VisualFeatureCache:
    """The cache of visual features for a model that is about to be trained, or resumed from a checkpoint."""
    if checkpoint is not None:  # the trainer will load all of it; the features have to be those of its backbone
        resumed = type(model).from_pretrained(checkpoint)
        weights = resumed.base_model.get_submodule("vision_encoder").state_dict()
        model.base_model.get_submodule("vision_encoder").load_state_dict(weights)
    try:
        return VisualFeatureCache.for_model(folder, model, processor, dtype)
    except OSError as error:
        raise not_writable(folder, "--cache_visual_features", error) from error


def run_training(task: Task, arguments: Arguments) -> RunResult:
    """Train, evaluate and predict as the arguments say; everything lands in the output folder."""
    started = time.perf_counter()
    data = prepare_data(task, arguments)
    training = arguments.training
    checkpoint = checkpoint_to_resume(training, arguments.run.overwrite) if training.do_train else None
    model, processor = build_model(task, arguments, data, checkpoint)
    splits = encode_data(task, arguments, data, processor)
    splits, cache = cache_features(arguments, splits, model, processor, checkpoint)
    choosing, held_out = split_validation(arguments, splits.splits.get("validation"))
    if choosing is not None and training.do_train and training.load_best_model_at_end:
        task.check_best_metric(training.metric_for_best_model or "loss", choosing)
    trainer = make_trainer(task, arguments, data.label_sets, splits, choosing, model, processor, cache)
    if training.do_train:
        model.config.reads_pictures = arguments.model.use_images
        fit(task, trainer, arguments.output_dir, checkpoint, held_out, data.names)
    result = evaluate(task, trainer, splits, data, arguments.output_dir, blank=arguments.model.use_images)
    result.read_training(trainer)
    publish(task, arguments, trainer, result, time.perf_counter() - started)
    return result


def prepare_data(task: Task, arguments: Arguments) -> RawData:
    """Load the data set and check it: columns, labels, paths of pictures, and the splits that the run needs.

    Raises:
        ValueError: what is missing or wrong, with the corrected call.
    """
    training, path = arguments.training, arguments.data.dataset
    if training.should_save:
        check_writable(arguments.output_dir, "--output_dir")
    set_seed(training.seed)
    if arguments.data.balance_relations and not {"relation", "relations"} & {*task.text_columns}:
        raise ValueError("--balance_relations is for examples/run_joint.py and run_mre.py: leave it out")
    if arguments.data.none_label is not None and "relation" not in task.text_columns:
        raise ValueError("--none_label is for examples/run_mre.py: leave it out")
    splits = load_splits(path, task.text_columns, task.plain_text, arguments.data.word_splitting, task.other_columns)
    splits = task.convert_labels(splits, path)
    check_picture_paths(path, splits, arguments.data.image_dir)
    names = task.label_names(next(iter(splits.values())).features, path, arguments.data.none_label)
    for flag, split in (("do_train", "train"), ("do_eval", "validation"), ("do_predict", "test")):
        if getattr(training, flag) and split not in splits:
            raise ValueError(f"--{flag} needs a split {split!r}; {path} has {', '.join(splits)}")
        if getattr(training, flag) and not len(splits[split]):
            raise ValueError(f"--{flag} needs rows, but the split {split!r} of {path} has none")
        if getattr(training, flag):
            check_pictures(f"{path}: split {split!r}", splits[split], arguments.model.use_images)
    report = read_data_report(path)
    for warning in report.get("warnings", []):
        logger.warning(f"{path}: {warning}")
    fields = task.config_fields(splits)
    if not training.do_train:
        fields.pop("relation_types", None)  # a checkpoint has its own
    return RawData(splits, names, report, fields)


def check_pictures(where: str, split: Dataset, use_images: bool) -> None:
    """Raise a `ValueError` where pictures are asked for and a split has none."""
    check_picture_columns(where, split.column_names, use_images, "--use_images false")
    if use_images and not count_pictures(split):
        raise ValueError(f"{where}: no post has a picture; to use the text alone: --use_images false")


def encode_data(task: Task, arguments: Arguments, data: RawData, processor: I2SRMProcessor) -> EncodedData:
    """Encode the splits that the run needs, and make the test splits with wrong pictures."""
    training, samples = arguments.training, arguments.samples
    limits = {
        "train": (training.do_train, samples.max_train_samples),
        "validation": (training.do_eval, samples.max_eval_samples),
        "test": (training.do_predict, samples.max_predict_samples),
    }
    encoded = EncodedData()
    with training.main_process_first(desc="encoding"):
        for name, (wanted, limit) in limits.items():
            if wanted:
                rows = first_rows(data.splits[name], limit)
                if name == "train":
                    rows = training_rows(rows, samples.train_fraction, samples.train_mismatch, training.seed)
                encoded.splits[name], encoded.truncation[name] = encode_split(
                    task,
                    rows,
                    processor,
                    arguments.data.max_length,
                    name,
                    arguments.data.skip_long_pairs,
                    training.length_column_name,
                )
                if arguments.model.use_images:
                    encoded.pictures[name] = count_pictures(encoded.splits[name])
        if "test" in encoded.splits and arguments.model.use_images:
            for text in samples.test_mismatch or ():
                wrong = mismatch_pictures(encoded.splits["test"], Mismatch.parse(text), training.seed)
                encoded.mismatched[text] = wrong
    return encoded


def cache_features(
    arguments: Arguments,
    data: EncodedData,
    model: I2SRMPreTrainedModel,
    processor: I2SRMProcessor,
    checkpoint: str | None,
) -> tuple[EncodedData, VisualFeatureCache | None]:
    """The data with keys of cached features in the place of pictures, and the cache, where the arguments name one."""
    options, training = arguments.cache, arguments.training
    if not options.cache_visual_features or not arguments.model.use_images:
        return data, None
    cache = open_feature_cache(options.cache_visual_features, options.visual_cache_dtype, model, processor, checkpoint)
    model.base_model.vision_encoder.to(training.device)
    together = {**data.splits, **data.mismatched}
    workers, progress = picture_workers(training), not training.disable_tqdm
    keyed = cache_pictures(cache, together, model, processor, num_workers=workers, progress=progress)
    splits, mismatched = ({name: keyed[name] for name in part} for part in (data.splits, data.mismatched))
    return replace(data, splits=splits, mismatched=mismatched), cache


class RunTrainer(I2SRMTrainer):
    """The trainer of a script: README.md is what `write_model_card` writes, also on the Hub."""

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """Leave README.md alone."""


def make_trainer(
    task: Task,
    arguments: Arguments,
    label_sets: tuple[list[str], ...],
    data: EncodedData,
    validation: Dataset | None,
    model: I2SRMPreTrainedModel,
    processor: I2SRMProcessor,
    cache: VisualFeatureCache | None,
) -> I2SRMTrainer:
    """The trainer of a run; it logs how it reads its data and computes its steps.

    Args:
        validation: the posts that are evaluated during training.
    """
    training, patience = arguments.training, arguments.run.early_stopping_patience
    trainer = RunTrainer(
        model=model,
        args=training,
        data_collator=I2SRMDataCollator(
            processor,
            use_images=arguments.model.use_images,
            feature_cache=cache,
            picture_memory=PictureMemory(memory * 2**20) if (memory := arguments.cache.picture_memory) else None,
        ),
        train_dataset=data.splits.get("train"),
        eval_dataset=None if validation is None else longest_first(validation, training.length_column_name)[0],
        processing_class=processor,
        compute_metrics=task.compute_metrics(*label_sets),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=patience)] if patience else [],
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(ProgressTable(task.main_metrics, bar=not training.disable_tqdm))
    if trainer.is_world_process_zero():
        for line in describe_run(trainer):
            logger.info(line)
    return trainer


def split_validation(arguments: Arguments, validation: Dataset | None) -> tuple[Dataset | None, Dataset | None]:
    """The validation posts that are evaluated during training, and those that scores are calibrated on.

    Both are all of them, unless a checkpoint is chosen by validation: then every second post is for the one and the
    others are for the other. Rows with the same tokens are one post, as the pairs of entities of a post; each post is
    for the part that has fewer rows. Where that leaves fewer than `FEWEST` for the calibration, all are for the choice.
    """
    training = arguments.training
    if validation is None or not (training.do_train and arguments.run.calibrate):
        return validation, None
    if not training.load_best_model_at_end:
        return validation, validation
    posts: dict[tuple[str, ...], list[int]] = {}
    for place, tokens in enumerate(validation["tokens"]):
        posts.setdefault(tuple(tokens), []).append(place)
    choosing: list[int] = []
    held_out: list[int] = []
    for places in posts.values():
        (choosing if len(choosing) <= len(held_out) else held_out).extend(places)
    if len(held_out) < FEWEST:
        logger.info(
            f"scores are not calibrated: of {len(validation)} validation rows {len(held_out)} would be left for it, "
            f"{FEWEST} needed"
        )
        return validation, None
    return validation.select(sorted(choosing)), validation.select(sorted(held_out))


def is_spread(trainer: I2SRMTrainer) -> bool:
    """Whether the parameters of the model are spread over processes."""
    return trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled


def calibrate_scores(task: Task, trainer: I2SRMTrainer, rows: Dataset, names: list[str]) -> None:
    """Make the scores of a trained model probabilities, and find limits of them, see `calibrate`, `fit_abstention`."""
    if is_spread(trainer):
        logger.warning("scores are not calibrated: the parameters are spread over processes")
        return
    workers = max(trainer.args.dataloader_num_workers, 0)
    loader = DataLoader(rows, trainer.args.eval_batch_size, collate_fn=trainer.data_collator, num_workers=workers)
    device = trainer.args.device
    batches = ({name: value.to(device) for name, value in batch.items()} for batch in loader)
    model = trainer.accelerator.unwrap_model(trainer.model)
    with trainer.accelerator.autocast():
        calibrate(model, batches)
    model.config.abstention = fit_abstention(predict(task, trainer, rows, "held_out", names)[1])


def fit(
    task: Task,
    trainer: I2SRMTrainer,
    output_dir: Path,
    checkpoint: str | None,
    held_out: Dataset | None,
    names: list[str],
) -> None:
    """Train, calibrate, and save the model, its state and the curves.

    Args:
        held_out: posts to calibrate the scores on; names are those of the labels.

    Raises:
        Interrupted: after SIGINT or SIGTERM; a checkpoint is saved first.
    """
    if trainer.args.should_save:
        check_writable(output_dir, "--output_dir", room_for_a_checkpoint(trainer))
    config = trainer.accelerator.unwrap_model(trainer.model).config
    config.temperatures = config.abstention = None  # of scores before this training
    if trainer.args.device.type == "cpu":
        keep_freed_memory()
    with Interruption("a checkpoint is saved after this step; once more stops at once") as trainer.interruption:
        trained = trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.interruption.signum:  # in the last step
        raise Interrupted(trainer.interruption.signum)
    if held_out is not None:
        calibrate_scores(task, trainer, held_out, names)
    trainer.save_model()
    trainer.save_metrics("train", trained.metrics)
    trainer.save_state()
    if trainer.is_world_process_zero():
        draw_training_curves(trainer.state.log_history, output_dir / "training_curves.png")


def evaluate(
    task: Task, trainer: I2SRMTrainer, data: EncodedData, raw: RawData, output_dir: Path, blank: bool
) -> RunResult:
    """Evaluate the validation split, and predict the test split: as it is, without pictures, and with wrong ones.

    Args:
        blank: whether to predict without pictures too.
    """
    result = RunResult(output_dir, truncation=data.truncation, pictures=data.pictures, data=raw.report)
    if "validation" in data.splits:
        metrics = trainer.evaluate(longest_first(data.splits["validation"], trainer.args.length_column_name)[0])
        trainer.save_metrics("eval", metrics | result.mark)
        result.validation = without_prefix(metrics, "eval_")
    if "test" not in data.splits:
        return result
    split = data.splits["test"]
    result.test, result.records = predict(task, trainer, split, "test", raw.names)
    trainer.save_metrics("test", {f"test_{name}": value for name, value in result.test.items()} | result.mark)
    result.reliability = summarize_reliability(result.records)
    model = trainer.accelerator.unwrap_model(trainer.model)
    result.abstention = measure_abstention(result.records, model.config.abstention or {})
    if model.config.temperatures and not is_spread(trainer):
        with without_temperatures(model):
            metrics, records = predict(task, trainer, split, "unscaled", raw.names)
        result.unscaled = metrics | {"reliability": summarize_reliability(records)}
    write_predictions(trainer, result.records, result.output_dir / predictions_name())
    if trainer.is_world_process_zero():
        task.draw(result.records, raw.names, result.output_dir / "confusion.png")
        draw_reliability(result.reliability, result.output_dir / "reliability.png")
    if blank:
        pictures = [name for name in ("image", "objects", "picture_keys") if name in split.column_names]
        blank = split.remove_columns(pictures).add_column("image", [None] * len(split))
        result.blanked, _ = predict(task, trainer, blank, "blanked", raw.names)
    for text, wrong in data.mismatched.items():
        result.mismatched[text], records = predict(task, trainer, wrong, text, raw.names)
        write_predictions(trainer, records, result.output_dir / predictions_name(text))
    return result


def publish(task: Task, arguments: Arguments, trainer: I2SRMTrainer, result: RunResult, seconds: float) -> None:
    """Write the model card, and push the folder to the Hub with `--push_to_hub`."""
    push = arguments.training.push_to_hub
    if trainer.is_world_process_zero():
        write_model_card(
            result.output_dir,
            task=task,
            dataset=arguments.data.dataset,
            model_args=arguments.model,
            training_args=arguments.training,
            config=trainer.accelerator.unwrap_model(trainer.model).config,
            result=result,
            seconds=seconds,
            hub_model_id=trainer.hub_model_id if push else None,
        )
    if push:
        trainer.push_to_hub()


def training_rows(rows: Dataset, fraction: float | None, mismatch: str | None, seed: int) -> Dataset:
    """The rows to train on: a share of them, or some with wrong pictures.

    Args:
        fraction: the share; rows of a smaller one are among those of a larger one.
        mismatch: KIND:PERCENT, see `Mismatch`.
    """
    if fraction is not None:
        count = max(round(fraction * len(rows)), 1)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
        logger.info(f"train: {count} of {len(rows)} rows, --train_fraction {fraction}")
        rows = rows.select(chosen)
    return mismatch_pictures(rows, Mismatch.parse(mismatch), seed) if mismatch else rows


def run_task(task: Task, arguments: Arguments) -> dict:
    """Run a task, and with `--compare_text_only` its text-only twin; print the table and write results.json.

    Returns:
        {"multimodal": {...}, "pictures_blanked": {...}, "mismatched": {KIND:PERCENT: {...}}, "text_only": {...},
        "reliability": {...}, "unscaled": {...}, "abstention": {...}, "truncation": {...}, "data": {...},
        "skipped_steps": {...}, "fusion_movement": {...}, "seconds": ...}; entries that were not run are left out.
        Metrics are those of the test split, with those of the validation split under "validation"; "reliability" is
        that of the scores of the first model's test predictions, "unscaled" are its metrics and reliability without its
        temperatures, and "abstention" is what its score limits keep; "data" is what the data set's report says of its
        edition and crops; "skipped_steps" counts, for each model that was trained, the steps that were not finite;
        "fusion_movement" is how far its new visual prompts moved in the first steps
        (`modeling_i2srm.training.fusion_movement`).

    Raises:
        Interrupted: after SIGINT or SIGTERM, with what was saved and how to resume.
        RunError: a disk that is full or cannot be written to, numbers that are not finite, or another process that
            ended; with what to do.
    """
    started = time.perf_counter()
    setup_logging(arguments.training)
    runs = {"multimodal" if arguments.model.use_images else "text_only": arguments}
    if arguments.model.compare_text_only and arguments.model.use_images:
        runs["text_only"] = text_only_twin(arguments)
    done = {}
    for name, settings in runs.items():
        with explaining_faults(settings.output_dir), logging_to_file(settings):
            done[name] = run_training(task, settings)
    main = next(iter(done.values()))
    results: dict = {name: {**run.test, "validation": run.validation} for name, run in done.items()}
    results |= {"pictures_blanked": main.blanked} if main.blanked else {}
    results |= {"mismatched": main.mismatched} if main.mismatched else {}
    others = {name: getattr(main, name) for name in ("reliability", "unscaled", "abstention")}
    results |= {name: values for name, values in others.items() if values}
    results |= {"truncation": main.truncation, **main.mark}
    results["skipped_steps"] = {name: run.skipped_steps for name, run in done.items() if arguments.training.do_train}
    moved = {name: run.fusion_movement for name, run in done.items() if run.fusion_movement is not None}
    results |= {"fusion_movement": moved} if moved else {}
    results["seconds"] = round(time.perf_counter() - started, 1)
    if arguments.training.should_save:
        main.output_dir.mkdir(parents=True, exist_ok=True)
        write_json(main.output_dir / "results.json", results)
        warnings = [f"{arguments.data.dataset}: {warning}" for warning in main.data.get("warnings", [])]
        warnings += [f"no post of the {name} split has a picture" for name, count in main.pictures.items() if not count]
        print_results(task, results, main.records, main.output_dir, warnings)
    return results


def text_only_twin(arguments: Arguments) -> Arguments:
    """The arguments of the same run without pictures, in the folder text_only of its own.

    It resumes from its own last checkpoint, also where the run names one of its checkpoints.
    """
    training = copy.copy(arguments.training)
    training.output_dir = str(arguments.output_dir / "text_only")
    training.push_to_hub = False
    training.resume_from_checkpoint = "last" if training.resume_from_checkpoint else None
    return arguments._replace(model=replace(arguments.model, use_images=False), training=training)


def run_script(
    task: Task,
    argv: list[str] | None = None,
    finish: Callable[[Arguments], None] | None = None,
) -> None:
    """Run a task with the arguments of the command line; errors end it with one message (`faults.run_script`).

    Args:
        finish: called on the main process after a run with predictions.
    """

    def run() -> None:
        arguments = parse_arguments(argv, task.name)
        faults.stop_on_sigterm()
        run_task(task, arguments)
        if finish is not None and arguments.training.do_predict and arguments.training.should_save:
            finish(arguments)
        end_processes()

    faults.run_script(run, program(f"run_{task.name}.py"))


def end_processes() -> None:
    """Leave the process group together and with no trainer left that uses it; else some runs abort at exit."""
    if in_process_group():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


__all__ = ["RunResult", "end_processes", "predictions_name", "run_script", "run_task", "run_training"]
