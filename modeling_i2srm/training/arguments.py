"""Arguments of the training scripts: every field from the command line, from a JSON or YAML file, or from both."""

import dataclasses
import inspect
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..configuration_i2srm import I2SRMConfig
from ..data.mismatch import Mismatch
from ..support.options import DataclassParser, read_settings
from ..words import check_splitting
from .presets import with_preset
from .trainer import I2SRMTrainingArguments


@dataclass
class ModelArguments:
    """Which encoders to start from."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "aliases": ["--model"],
            "help": "An I2SRM checkpoint to start from, instead of the encoders (folder or Hub id).",
        },
    )
    new_head: bool = field(
        default=False,
        metadata={
            "help": "Take only the encoders and prompts of the checkpoint, and train a new head for other labels."
        },
    )
    text_encoder: str = field(
        default="FacebookAI/roberta-large", metadata={"help": "Pretrained text encoder (folder or Hub id)."}
    )
    vision_encoder: str = field(
        default="microsoft/resnet-50", metadata={"help": "Pretrained vision backbone (folder or Hub id)."}
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "Build both encoders from --text_config and --vision_config, and train a tokenizer."},
    )
    vocab_size: int = field(
        default=4000, metadata={"help": "Largest vocabulary of a tokenizer that is trained (--from_scratch)."}
    )
    image_size: int = field(
        default=224, metadata={"help": "Side of the pictures in pixels, for a new backbone (--vision_config)."}
    )
    use_images: bool = field(default=True, metadata={"help": "Read the pictures; false trains on the text alone."})
    compare_text_only: bool = field(
        default=False, metadata={"help": "Also train the same model without pictures, and show both in the table."}
    )


@dataclass
class DataArguments:
    """Which data set to train and evaluate on, and how its rows are encoded."""

    dataset: str = field(default="", metadata={"help": "Folder of Parquet files, or Hub id (required)."})
    image_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder that picture paths of the data set must be in; / allows any. Default: the folder of the "
            "data set and the caches of downloads. Pictures stored as bytes have no path."
        },
    )
    max_length: int = field(
        default=128, metadata={"help": "Longest post in sub-tokens; what is truncated is reported."}
    )
    skip_long_pairs: bool = field(
        default=False,
        metadata={
            "help": "Leave out and count entity pairs that do not fit into max_length; otherwise they are an error."
        },
    )
    none_label: str | None = field(
        default=None,
        metadata={"help": "The label for no relation, unless it is None, Other or another known name, e.g. NA."},
    )
    word_splitting: str | None = field(
        default=None,
        metadata={
            "help": "How raw text is split into words: spaces, words, multilingual, hashtags_apart or signs_apart. "
            "Default: the splitting that restores most of the training tokens."
        },
    )
    balance_relations: bool = field(
        default=False,
        metadata={
            "help": "Weight relations by their inverse frequency in the training data (in a joint model: among all "
            "ordered pairs of entities)."
        },
    )

    def __post_init__(self):
        if not self.dataset:
            raise ValueError("no data set given; e.g. --dataset data/twitter2015 (a folder of Parquet) or a Hub id")
        if self.word_splitting is not None:
            check_splitting(self.word_splitting)


@dataclass
class SampleArguments:
    """Which rows of the splits are used, and whether some get wrong pictures."""

    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on this many rows only, the first ones."}
    )
    train_fraction: float | None = field(
        default=None, metadata={"help": "Train on this share of the rows, drawn with the seed, e.g. 0.1."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Evaluate on this many rows only, the first ones."}
    )
    max_predict_samples: int | None = field(
        default=None, metadata={"help": "Predict this many rows only, the first ones."}
    )
    train_mismatch: str | None = field(
        default=None,
        metadata={
            "help": "Give this share of the training posts a wrong picture: shuffled, blanked, noised or grey:PERCENT."
        },
    )
    test_mismatch: list[str] | None = field(
        default=None,
        metadata={"help": "Also predict the test split with wrong pictures, e.g. shuffled:50 shuffled:100 noised:100."},
    )

    def __post_init__(self):
        for text in (*([self.train_mismatch] if self.train_mismatch else []), *(self.test_mismatch or [])):
            Mismatch.parse(text)
        if self.train_fraction is not None and not 0 < self.train_fraction <= 1:
            raise ValueError(f"--train_fraction {self.train_fraction} must be above 0 and at most 1, e.g. 0.1")


@dataclass
class FeatureCacheArguments:
    """Where pictures are kept between epochs: features of a frozen backbone on disk, or prepared pictures in memory."""

    cache_visual_features: str | None = field(
        default=None,
        metadata={"help": "Folder for the features of a frozen backbone: each picture is computed once for all runs."},
    )
    visual_cache_dtype: Literal["bfloat16", "float16", "float32"] = field(
        default="bfloat16",
        metadata={
            "help": "Number format of these features; bfloat16 is the fastest, float32 is exact and twice as large."
        },
    )
    picture_memory: int = field(
        default=0,
        metadata={
            "help": "Megabytes of memory for prepared pictures, per process that reads pictures, so that later epochs "
            "reuse them. It pays if all of them fit. For a frozen backbone use --cache_visual_features."
        },
    )

    def __post_init__(self):
        if self.picture_memory < 0:
            raise ValueError(f"--picture_memory {self.picture_memory} is negative; give megabytes, e.g. 1000, or 0")


@dataclass
class RunArguments:
    """When a run stops early, and what happens to an earlier one in its folder."""

    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better metric; 0 = never."}
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Delete the checkpoints of an earlier run in this folder first."}
    )
    calibrate: bool = field(
        default=True,
        metadata={
            "help": "After training, fit a temperature per head, so that scores are probabilities, and the score "
            "limits of Extractor(..., coverage=0.9), on validation posts. If these also choose the checkpoint, every "
            "second one is used for this."
        },
    )


def _config_arguments() -> type:
    """A dataclass with every field of `I2SRMConfig`, unset by default; dicts are written as JSON."""
    of_the_data = {"relation_labels", "relation_types", "temperatures", "abstention", "reads_pictures"}
    names = inspect.get_annotations(I2SRMConfig).keys() - of_the_data
    config_fields = [f for f in dataclasses.fields(I2SRMConfig) if f.name in names]
    about, fields = inspect.getdoc(I2SRMConfig) or "", list[tuple]()
    for f in config_fields:
        kind: Any = str if f.name.endswith("_config") else f.type
        described = re.search(rf"^    (?:\w+, )?{f.name}(?:, \w+)*: (.+(?:\n {{8}}.+)*)$", about, re.MULTILINE)
        text = " ".join(described[1].split()) if described else "see I2SRMConfig"
        default = "" if f.default is None else f" [model default: {f.default}]"
        help_text = f"{text}{default}".replace("%", "%%")
        fields.append((f.name, kind | None, field(default=None, metadata={"help": help_text})))
    return dataclasses.make_dataclass("ConfigArguments", fields)


ConfigArguments = _config_arguments()


def config_overrides(arguments: object) -> dict:
    """The fields of `ConfigArguments` that were set, with JSON texts read."""
    overrides = {name: value for name, value in vars(arguments).items() if value is not None}
    for name in ("text_config", "vision_config"):
        if name in overrides:
            example = f"""e.g. --{name} '{{"model_type": "{"bert" if name == "text_config" else "resnet"}"}}'"""
            try:
                overrides[name] = json.loads(overrides[name])
            except json.JSONDecodeError as error:
                raise ValueError(f"--{name} {overrides[name]!r} is not JSON ({error}); {example}") from None
            if not isinstance(overrides[name], dict) or "model_type" not in overrides[name]:
                raise ValueError(f"--{name} {overrides[name]!r} is not a dict with a model_type; {example}")
    return overrides


class Arguments(NamedTuple):
    """All arguments of a training script."""

    model: ModelArguments
    config: Any  # a `ConfigArguments`, made from the fields of `I2SRMConfig`
    data: DataArguments
    samples: SampleArguments
    cache: FeatureCacheArguments
    run: RunArguments
    training: I2SRMTrainingArguments

    @property
    def output_dir(self) -> Path:
        return Path(self.training.output_dir or "")


def make_parser(task: str | None = None) -> DataclassParser:
    """The parser of the training options."""
    kinds: list[Any] = [ModelArguments, ConfigArguments, DataArguments, SampleArguments, FeatureCacheArguments]
    kinds += [RunArguments, I2SRMTrainingArguments]
    script = "run_TASK.py" if task is None else f"run_{task}.py"
    usage = "%(prog)s [DATASET] [--preset tiny|small|base|paper] [--config FILE] [--OPTION VALUE ...]"
    return DataclassParser(script, kinds, usage=usage)


def parse_arguments(argv: list[str] | None = None, task: str | None = None) -> Arguments:
    """Read the arguments of a script: `script.py [settings.json] [--name value ...]`, the command line wins.

    Args:
        task: its name, for the options of a preset that differ from task to task.

    Raises:
        ValueError: values that are not valid, an option that would be ignored, or processes that a launcher started
            and that would not train together.
    """
    argv = with_preset(read_settings(sys.argv[1:] if argv is None else argv, "--dataset"), task)
    parser = make_parser(task)
    arguments = Arguments(*parser.parse_args_into_dataclasses(argv))
    together, launched = arguments.training.world_size, int(os.environ.get("WORLD_SIZE", 0))
    if launched not in (0, together):
        raise ValueError(f"{launched} processes were launched, but {together} runs by itself; add --use_cpu true")
    refuse_ignored(arguments, parser.names_in(argv))
    return arguments


def refuse_ignored(arguments: Arguments, names: set[str]) -> None:
    """Raise a `ValueError` for an option that is given and would be ignored.

    Args:
        names: of the options that are given.
    """
    model = arguments.model
    if model.model_name_or_path:
        of_encoders = ("text_encoder", "vision_encoder", "from_scratch", "vocab_size", "image_size")
        ignored = dict.fromkeys(of_encoders, f"--model_name_or_path {model.model_name_or_path}")
    elif model.from_scratch:
        ignored = dict.fromkeys(("text_encoder", "vision_encoder"), "--from_scratch true (which --preset tiny says)")
    else:
        ignored = {"vocab_size": "a pretrained text encoder (--from_scratch false)"}
        if arguments.config.vision_config is None:
            ignored["image_size"] = "a pretrained backbone (no --vision_config)"
        else:
            ignored["vision_encoder"] = "--vision_config"
    for name, reason in ignored.items():
        if name in names and getattr(model, name) is not False:
            raise ValueError(f"--{name} {getattr(model, name)} is ignored with {reason}: leave one of them out")


__all__ = [
    "Arguments",
    "DataArguments",
    "FeatureCacheArguments",
    "ModelArguments",
    "RunArguments",
    "SampleArguments",
    "config_overrides",
    "make_parser",
    "parse_arguments",
]
