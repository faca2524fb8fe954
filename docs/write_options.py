"""Write the page of all options, docs/reference/options.md, from the parsers of the commands.

python docs/write_options.py
"""

import argparse
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path, PurePath
from typing import NamedTuple
from unittest.mock import patch

from modeling_i2srm.cli.command import SUBCOMMANDS
from modeling_i2srm.support.options import OptionParser
from modeling_i2srm.training import arguments as training
from modeling_i2srm.training.trainer import I2SRMTrainingArguments

PAGE = Path(__file__).with_name("reference") / "options.md"
BENCHMARKS = ("posts", "twitter2015", "twitter2017", "mnre", "gmner", "mvsa", "flickr30k_entities")
GROUPS = {
    "Encoders": training.ModelArguments,
    "Model": training.ConfigArguments,
    "Data": training.DataArguments,
    "Rows and wrong pictures": training.SampleArguments,
    "Pictures that are kept": training.FeatureCacheArguments,
    "Run": training.RunArguments,
    "Trainer": I2SRMTrainingArguments,
}
# Of options whose value is validated: the range, and a value outside of it that is refused.
RANGES = {
    "num_objects": ("0 or more", -1),
    "prompt_length": ("1 or more", 0),
    "prompt_hidden_size": ("1 or more", 0),
    "attn_mixup_heads": ("a divisor of the text hidden size", 7),
    "attn_mixup_dropout": ("0 to 1", 1.5),
    "classifier_dropout": ("0 to 1", 1.5),
    "mixup_alpha": ("above 0", 0.0),
    "mixup_delta": ("0 to 1", 1.5),
    "mixup_ratio": ("0 to 1", 1.5),
    "train_fraction": ("above 0, at most 1", 1.5),
    "train_mismatch": ("KIND:PERCENT", "tilted:50"),
    "test_mismatch": ("KIND:PERCENT, one or more", "tilted:50"),
    "picture_memory": ("0 or more", -1),
    "name_swapping": ("0 to 1", 1.5),
    "word_splitting": ("spaces, words, multilingual, hashtags_apart, signs_apart", "letters"),
    "max_batch": ("1 or more", 0),
    "max_wait_ms": ("0 to 1000 x timeout", -1),
    "max_queue": ("1 or more", 0),
    "timeout": ("above 0", 0),
    "max_body_mb": ("above 0", 0),
    "max_characters": ("1 or more", 0),
}
START = """\
# All options

`make records` generates this page from the parsers. *required* has no default. *none* means that the option is off
unless you give it, or that the text says what applies. A value that is not allowed ends the command with a message that
shows a valid one.

The options of `i2srm X` are those of [the script that does the same](scripts.md). `--config FILE` reads options from a
JSON or YAML file, whose keys are the names without dashes. Options on the command line win.
"""
TRAIN = """\
`i2srm evaluate`, `i2srm study` and `i2srm quickstart` take the same options. `i2srm train` also has `--preset` (tiny,
small, base or paper; default: what suits data and machine) and `--num_processes` (1 or more; default 1). All fields of
transformers' [TrainingArguments][1] are options, too, e.g. `--learning_rate` and `--num_train_epochs`. The last table
has those that we add or whose default we change.

[1]: https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments
"""


class Captured(BaseException):
    """Carries the parser of a command, which is stopped before it reads its arguments."""


def capture_parser(start: Callable[[], object]) -> argparse.ArgumentParser:
    """The parser that a command makes."""

    def stop(self, args=None, namespace=None):
        raise Captured(self)

    with patch.object(OptionParser, "parse_known_args", stop), patch.object(sys, "argv", ["i2srm"]):
        try:
            start()
        except Captured as captured:
            return captured.args[0]
    raise RuntimeError(f"{start} reads no arguments")


class Option(NamedTuple):
    """An option of a command.

    Args:
        action: what the parser knows about it.
        required: whether it must be given, as an option or as the first value.
    """

    action: argparse.Action
    required: bool


def find_options(parser: argparse.ArgumentParser) -> dict[str, Option]:
    """The options of a parser by name; without values that follow no option, --help, and --no_... of flags."""
    found: dict[str, Option] = {}
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            first = isinstance(parser, OptionParser) and parser._option is action and parser._required
            found.setdefault(action.dest, Option(action, action.required or first))
    return found


def describe_values(action: argparse.Action) -> str:
    """The values of an option: a range, its choices or a type."""
    if action.dest in RANGES:
        return RANGES[action.dest][0]
    kind = getattr(action.type, "__name__", "str")
    if action.nargs == 0:
        return "no value"
    if action.choices is not None:
        return ", ".join(map(str, action.choices))
    if kind == "string_to_bool":
        return "true, false"
    named = {"int": "whole number", "float": "number"}.get(kind, "text")
    if isinstance(action.type, type) and issubclass(action.type, PurePath):
        named = "path"
    if isinstance(action.nargs, int):
        return f"{named}, {action.nargs} of them"
    return f"{named}, one or more" if action.nargs in ("+", "*") else named


def describe_default(option: Option) -> str:
    """The default of an option as the command line would give it."""
    action = option.action
    if option.required:
        return "required"
    if action.default is None or action.default == "" or action.default == [] or action.default is argparse.SUPPRESS:
        return "none"
    values = action.default if isinstance(action.default, (list, tuple)) else [action.default]
    words = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    return f"`{' '.join(words)}`"


def write_row(option: Option) -> str:
    """The row of an option: its names, its default, what it takes and what it does."""
    action, default = option.action, describe_default(option)
    names = [f"`{name}`" for name in action.option_strings if "-" not in name.lstrip("-")]
    text = (action.help or "").replace("%(default)s", default.strip("`")).replace("%%", "%")
    if match := re.search(r" \[model default: (.*)\]$", text):
        text, default = text[: match.start()], f"`{match[1].lower() if match[1] in ('True', 'False') else match[1]}`"
    text = re.sub(rf" \(default:? ?{re.escape(default.strip('`'))}\)", "", text)
    cells = (", ".join(names), default, describe_values(action), text[:1].upper() + text[1:])
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace('*', chr(92) + '*') for cell in cells)} |"


def write_table(options: list[Option]) -> str:
    """A table of options."""
    rows = [write_row(option) for option in options]
    return "\n".join(["| option | default | values | effect |", "|---|---|---|---|", *rows, ""])


def training_tables() -> list[str]:
    """A table for each dataclass of training options."""
    parser = training.make_parser()
    options = find_options(parser)
    parts = ["## i2srm train", TRAIN]
    for title, kind in GROUPS.items():
        own = inspect.get_annotations(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in own]
        parts += [f"### {title}", write_table([options[name] for name in names if name in options])]
    return parts


def command_tables() -> list[str]:
    """A table for each other subcommand."""
    parts = []
    for name in ("extract", "serve", "explain", "audit", "study", "export", "demo"):
        parser = capture_parser(import_module(f"modeling_i2srm.{SUBCOMMANDS[name].module}").main)
        parts += [f"## i2srm {name}", write_table([*find_options(parser).values()])]
    return parts


def prepare_tables() -> list[str]:
    """A table of the options that data sets made from raw files share, and one per name of its other options."""
    names = SUBCOMMANDS["prepare"].names
    parsers = {name: capture_parser(import_module(f"modeling_i2srm.{module}").main) for name, module in names.items()}
    options = {name: find_options(parser) for name, parser in parsers.items()}
    shared = set.intersection(*(set(options[name]) for name in BENCHMARKS)) - {"output_dir"}
    common = [option for name, option in options["twitter2015"].items() if name in shared - {"objects"}]
    parts = ["## i2srm prepare NAME", f"These names share options: {', '.join(BENCHMARKS)}."]
    parts.append(write_table(common))
    for name in parsers:
        known = shared - {"objects"} if name in BENCHMARKS else set()
        own = [option for key, option in options[name].items() if key not in known]
        parts += [f"### i2srm prepare {name}", write_table(own)]
    return parts


def build_page() -> str:
    """The page as Markdown."""
    return (
        "\n\n".join(part.strip() for part in [START, *training_tables(), *command_tables(), *prepare_tables()]) + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(build_page(), encoding="utf-8")
