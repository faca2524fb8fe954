"""Presets of the training options, and a choice among them that suits a data set and a machine.

The presets are the files of the folder `presets`. A preset comes before settings files and given options, which win.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
from datasets import DatasetDict
from huggingface_hub import constants, model_info, try_to_load_from_cache
from transformers import PreTrainedConfig

from ..data.dataset import read_splits
from ..data.picture_columns import count_pictures
from ..support.options import DataclassParser, dict_to_argv, did_you_mean, take_option
from ..support.precision import bf16_is_fast

PRESETS = ("tiny", "small", "base", "paper")
BEST_METRICS = {"mner": "lenient_f1", "mre": "micro_f1", "joint": "triple_f1", "classification": "macro_f1"}
# The options that say what a model is made of, which a checkpoint knows already.
ENCODERS = (
    "text_encoder",
    "vision_encoder",
    "from_scratch",
    "text_config",
    "vision_config",
    "vocab_size",
    "image_size",
    "prompt_hidden_size",
    "num_objects",
)
SMALL_BATCH, FEWEST_STEPS, MOST_EPOCHS = 8, 300, 100  # of few posts
TIMEOUT = 5.0  # seconds to ask the Hub whether it has a model
FEATURES = "i2srm_features"  # folder in the Hugging Face cache, for the features of frozen backbones
MOST_CACHED = 25_000  # posts; with three crops each their features take 3.5 GB with ResNet-50


class Choice(NamedTuple):
    """The command line of a training run, and the lines that say what was chosen and how to change it."""

    argv: list[str]
    lines: list[str]


def read_preset(name: str, task: str | None = None) -> dict:
    """The options of a preset by name.

    Args:
        name: one of `PRESETS`.
        task: "mner", "mre", "joint" or "classification", for the options that differ from task to task.

    Raises:
        ValueError: another name.
    """
    return _read(name)["settings"] | _read(name)["tasks"].get(task, {}) | _best_metric(task)


def _read(name: str) -> dict:
    if name not in PRESETS:
        names = ", ".join(PRESETS)
        raise ValueError(f"--preset {name} is not a preset; they are {names}{did_you_mean(name, list(PRESETS))}")
    return json.loads((Path(__file__).with_name("presets") / f"{name}.json").read_text(encoding="utf-8"))


def _best_metric(task: str | None) -> dict:
    return {} if task is None else {"metric_for_best_model": BEST_METRICS[task]}


def read_config(path: str | Path, task: str | None = None) -> dict:
    """The settings of a JSON file, with those of the preset that it names."""
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    preset = settings.pop("preset", None)
    return settings if preset is None else read_preset(preset, task) | settings


def with_preset(argv: list[str], task: str | None = None) -> list[str]:
    """Put the options of --preset before the others, but for those of encoders that others replace."""
    name, rest = take_option(argv, "--preset")
    if name is None:
        return rest
    options = {word.partition("=")[0].replace("-", "_") for word in rest if word.startswith("--")}
    dropped: tuple[str, ...] = ("vision_encoder",) if "__vision_config" in options else ()
    if options & {"__model", "__model_name_or_path"}:
        dropped = ENCODERS
    settings = {key: value for key, value in read_preset(name, task).items() if key not in dropped}
    return [*dict_to_argv(settings), *rest]


def choose(task: str, argv: list[str], parser: DataclassParser, processes: int = 1) -> Choice:
    """Complete a command line with what suits the data set and the machine; given options stay.

    Args:
        task: "mner", "mre", "joint" or "classification".
        argv: options, those of settings files included.
        parser: of the training options.
        processes: that train together.

    Raises:
        ValueError: no data set, one that cannot be read, or an output folder that holds an earlier run.
    """
    options = parser.parse_known_args(with_preset(argv, task))[0]
    if not options.dataset:
        raise ValueError(f"no data set given; e.g. i2srm train {task} data/mine -o runs/mine")
    output = options.output_dir or f"runs/{Path(options.dataset).name}-{task}"
    refuse_earlier_run(output, options)
    splits = read_splits(options.dataset)
    preset, reason = choose_preset(argv, options, parser.names_in(argv))
    rest = take_option(argv, "--preset")[1]
    settings = {"output_dir": output, **fit_to_data(splits, preset, task, options, processes)}
    settings |= fit_to_device(preset, options)
    chosen = ["--preset", preset, *dict_to_argv(settings), *rest]
    final = parser.parse_known_args(with_preset(chosen, task))[0]
    return Choice(chosen, describe(final, task, preset, reason, len(splits.get("train", ())), processes))


def refuse_earlier_run(output: str, options: object) -> None:
    """Raise a `ValueError` where a run would overwrite an earlier one."""
    earlier = [path for name in ("results.json", "*.safetensors", "checkpoint-*") for path in Path(output).glob(name)]
    if earlier and not getattr(options, "overwrite", False) and not getattr(options, "resume_from_checkpoint", None):
        raise ValueError(
            f"{output} holds an earlier run: choose another folder, e.g. -o {output}-2, resume it with "
            "--resume_from_checkpoint last, or delete it with --overwrite true"
        )


def choose_preset(argv: list[str], options: object, names: set[str]) -> tuple[str, str]:
    """A preset and the reason for it: the given one, that of a checkpoint, or the largest that this machine can train.

    Args:
        argv: options as they were given.
        options: their values.
        names: of the options.
    """
    if given := take_option(argv, "--preset")[0]:
        return given, "as given"
    if checkpoint := getattr(options, "model_name_or_path", None):
        text = PreTrainedConfig.get_config_dict(checkpoint)[0].get("text_config") or {}
        width = text.get("hidden_size", 0)
        return "tiny" if width <= 128 else "small" if width < 768 else "base", f"its rates suit {checkpoint}"
    if getattr(options, "from_scratch", False):
        return "tiny", "the encoders are new"
    on_gpu = device_of(options) == "cuda"
    where = "on a GPU" if on_gpu else "on a CPU"
    if names & {"text_encoder", "vision_encoder"}:
        return "base" if on_gpu else "small", f"encoders as given, {where}"
    missing: list[str] = []
    for preset in ("base", "small") if on_gpu else ("small",):
        settings = read_preset(preset)
        missing = [model for model in (settings["text_encoder"], settings["vision_encoder"]) if not at_hand(model)]
        if not missing:
            return preset, where
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub does not answer"
    return "tiny", f"{' and '.join(missing)} not in the Hub cache, and {why}"


def at_hand(model: str) -> bool:
    """Whether the weights of a Hub id are in the cache, or the Hub can be reached and has the model."""
    weights = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(model, name), str) for name in weights):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        model_info(model, timeout=TIMEOUT)
    except Exception:  # of the network, in many kinds
        return False
    return True


def device_of(options: object) -> str:
    """The kind of device that a run trains on."""
    return "cuda" if torch.cuda.is_available() and not getattr(options, "use_cpu", False) else "cpu"


def fit_to_data(splits: DatasetDict, preset: str, task: str, options: object, processes: int) -> dict:
    """The options that depend on the data: which splits and pictures there are, and more epochs for few posts."""
    settings: dict = {"do_predict": "test" in splits}
    if "validation" not in splits:
        settings |= {"do_eval": False, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
        settings["early_stopping_patience"] = 0
    train = splits.get("train")
    if train is None:
        return settings
    pictures = count_pictures(train)
    if not pictures:
        settings["use_images"] = False
    elif preset in ("small", "base") and is_frozen(options) and pictures <= MOST_CACHED:
        settings["cache_visual_features"] = str(Path(constants.HF_HOME) / FEATURES)
    if preset == "tiny":
        settings |= {"vocab_size": 4000, "max_length": 128}
    if getattr(options, "model_name_or_path", None):
        settings.pop("vocab_size", None)
    if preset != "paper":
        values = read_preset(preset, task)
        batch = values["per_device_train_batch_size"]
        if len(train) < 20 * batch * processes:
            batch = settings["per_device_train_batch_size"] = min(batch, SMALL_BATCH)
        steps = max(math.ceil(len(train) / (batch * processes)), 1)
        epochs = max(values["num_train_epochs"], min(math.ceil(FEWEST_STEPS / steps), MOST_EPOCHS))
        settings["num_train_epochs"] = epochs
    return settings


def fit_to_device(preset: str, options: object) -> dict:
    """bfloat16 for pretrained encoders where the device is fast with it."""
    device = device_of(options)
    if preset not in ("small", "base") or getattr(options, "fp16", False) or not bf16_is_fast(device):
        return {}
    if device == "cuda":
        return {"bf16": True}
    if torch.accelerator.is_available() and not getattr(options, "use_cpu", False):
        return {}  # another accelerator, which use_cpu would leave idle
    return {"bf16": True, "use_cpu": True}  # without use_cpu transformers refuses


def is_frozen(options: object) -> bool:
    """Whether the backbone is frozen, by the option, or else by the checkpoint to start from, or else by default."""
    given, checkpoint = (getattr(options, name, None) for name in ("freeze_vision", "model_name_or_path"))
    if given is None and checkpoint:
        given = PreTrainedConfig.get_config_dict(checkpoint)[0].get("freeze_vision")
    return given is not False


def describe(options: object, task: str, preset: str, reason: str, rows: int, processes: int) -> list[str]:
    """What was chosen, in five lines, each with the options that change it."""
    value = vars(options)
    others = ", ".join(name for name in PRESETS if name != preset)
    usual, about = read_preset(preset), _read(preset)["about"]
    if any(name in usual and value[name] != usual[name] for name in ("text_encoder", "vision_encoder")):
        about = f"settings for {about}"
    if checkpoint := value["model_name_or_path"]:
        encoders = f"those of {checkpoint}. Change: --model FOLDER"
    elif value["from_scratch"]:
        encoders = f"new ones, pictures of {value['image_size']} pixels. Change: --text_config, --vision_config"
    else:
        encoders = f"{value['text_encoder']}, {value['vision_encoder']}. Change: --text_encoder, --vision_encoder"
    if not value["use_images"]:
        encoders += "; no pictures (--use_images true)"
    elif cache := value["cache_visual_features"]:
        encoders += f", --cache_visual_features (each picture is computed once and kept in {cache})"
    batch, epochs = value["per_device_train_batch_size"], value["num_train_epochs"]
    patience = value["early_stopping_patience"]
    stop = f", until {patience} evaluations bring no better {value['metric_for_best_model']}" if patience else ""
    rates = {"encoders": "learning_rate", "fusion": "fusion_learning_rate"}
    if task == "joint":
        rates |= {"pairs": "pair_learning_rate", "tags": "head_learning_rate"}
    else:
        rates["head"] = "head_learning_rate"
    said = [f"{part} {value[name]:g}" for part, name in rates.items() if value[name] is not None]
    device = {"cuda": "GPU", "cpu": "CPU"}[device_of(options)]
    precision, change = (", bfloat16", "--bf16 false, ") if value["bf16"] else ("", "")
    return [
        f"preset {preset}: {about} ({reason}). Change: --preset {others}",
        f"encoders: {encoders}",
        f"training: {rows:,} posts, {epochs:g} epochs in batches of {batch}{stop}. Change: --num_train_epochs, "
        "--per_device_train_batch_size, --early_stopping_patience",
        f"rates: {', '.join(said)}. Change: --learning_rate, --fusion_learning_rate, --head_learning_rate",
        f"machine: {device}, {processes} process{'es' if processes > 1 else ''}{precision}; results: "
        f"{value['output_dir']}. Change: {change}--num_processes, -o",
    ]


__all__ = ["PRESETS", "Choice", "at_hand", "choose", "read_config", "read_preset", "with_preset"]
