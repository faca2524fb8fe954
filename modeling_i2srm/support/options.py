"""Options of the scripts and of the command `i2srm`: settings files, one-line errors, and names that may be meant."""

import argparse
import json
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

SETTINGS_FILES = (".json", ".yaml", ".yml")


def program(script: str) -> str:
    """How messages call what runs: the script, or the subcommand of `i2srm` that does the same."""
    return sys.argv[0] if sys.argv[0].startswith("i2srm ") else script


def did_you_mean(name: str, names: list[str]) -> str:
    """A question to append to a message about an unknown name, or "".

    >>> did_you_mean("--sed", ["--seed", "--dataset"]), did_you_mean("--x", ["--seed"])
    ('; did you mean --seed?', '')
    """
    return "".join(f"; did you mean {near}?" for near in get_close_matches(name, names, n=1))


class OptionParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line and suggest what a misspelt option or value may mean.

    Args:
        script: the name of the script that messages begin with, unless the command `i2srm` runs it.
    """

    def __init__(self, script: str, **kwargs: Any):
        super().__init__(prog=program(script), **kwargs)
        self._option: argparse.Action | None = None  # that values without an option are for
        self._required, self._argv = False, list[str]()

    def take_values(self, option: str) -> None:
        """Take values that follow no option as those of an option, e.g. "--input", which has been added."""
        self._option = self._option_string_actions[option]
        self._required, self._option.required = self._option.required, False
        nargs = "*" if self._option.nargs == "+" else "?"
        self.add_argument("values", nargs=nargs, type=self._option.type or str, help=f"as {option}")

    def parse_known_args(self, args=None, namespace=None):
        """Parse arguments as `ArgumentParser` does."""
        self._argv = sys.argv[1:] if args is None else list(args)
        parsed, unknown = super().parse_known_args(args, namespace)
        if self._option is not None:
            values, name = parsed.values, self._option.dest
            del parsed.values
            if values and getattr(parsed, name):
                self.error(f"{' '.join(map(str, listed(values)))} besides --{name}: give one of them")
            if values:
                setattr(parsed, name, values)
            if self._required and not getattr(parsed, name):
                self.error(f"the following arguments are required: --{name}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        names = list(self._option_string_actions)
        if message.startswith(("unrecognized arguments: ", "the following arguments are required: ")):
            options = [word.partition("=")[0] for word in self._argv if word.startswith("--")]
            message += "".join(did_you_mean(name, names) for name in options if name not in names)
        elif choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += did_you_mean(choice[1], re.findall(r"[^\s',]+", choice[2]))
        self.exit(2, f"{self.prog}: {message}\n")


def listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "", []) else super()._get_help_string(action)


class DataclassParser(OptionParser, HfArgumentParser):
    """An `HfArgumentParser` with the errors of `OptionParser`, which knows no abbreviations.

    Args:
        script: as of `OptionParser`.
        kinds: the dataclasses whose fields are the options.
    """

    def __init__(self, script: str, kinds: list[Any], **kwargs: Any):
        kwargs = {"formatter_class": DefaultsFormatter, "allow_abbrev": False, **kwargs}
        super().__init__(script, dataclass_types=kinds, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """Parse all arguments; unknown ones are an error."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def names_in(self, argv: list[str]) -> set[str]:
        """The fields that the options of a command line set."""
        options = (self._option_string_actions.get(word.partition("=")[0]) for word in argv if word.startswith("-"))
        return {option.dest for option in options if option is not None}


def file_to_argv(path: str) -> list[str]:
    """The command line that says what a JSON or YAML file says.

    Raises:
        ValueError: a file that cannot be parsed or does not hold settings by name; `OSError` where there is none.
    """
    kind = "JSON" if path.endswith(".json") else "YAML"
    try:
        text = Path(path).read_text(encoding="utf-8")
        settings = json.loads(text) if kind == "JSON" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not {kind}: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ValueError(f'{path} holds {settings!r}, expected settings by name, e.g. {{"dataset": "data/my_posts"}}')
    return dict_to_argv(settings)


def dict_to_argv(settings: dict) -> list[str]:
    """The command line that sets options; `None` leaves one out.

    >>> dict_to_argv({"seed": 1, "do_train": True, "input": ["a", "b"], "text_config": {"model_type": "bert"}})
    ['--seed', '1', '--do_train', 'true', '--input', 'a', 'b', '--text_config', '{"model_type": "bert"}']
    """
    argv = []
    for name, value in settings.items():
        if value is not None:
            argv += [f"--{name}", *(v if isinstance(v, str) else json.dumps(v) for v in listed(value))]
    return argv


def take_option(argv: list[str], option: str) -> tuple[str | None, list[str]]:
    """The last value of an option in a command line, and the command line without it.

    >>> take_option(["--preset", "tiny", "--seed", "2", "--preset=small"], "--preset")
    ('small', ['--seed', '2'])

    Raises:
        ValueError: an option without a value.
    """
    value, rest, words = None, [], iter(argv)
    for word in words:
        if word == option:
            value = next(words, None)
            if value is None or value.startswith("--"):
                raise ValueError(f"{option} needs a value")
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return value, rest


def read_settings(argv: list[str], first: str | None = None) -> list[str]:
    """Put what settings files say before the other arguments, which win.

    The files are a first argument that ends in .json, .yaml or .yml, and those of --config.

    Args:
        first: the option, e.g. "--dataset", whose value the next argument is if it is not an option.
    """
    files, rest = ([argv[0]], argv[1:]) if argv and argv[0].endswith(SETTINGS_FILES) else ([], list(argv))
    while "--config" in rest:
        place = rest.index("--config")
        if place + 1 == len(rest):
            raise ValueError("--config needs a file, e.g. --config settings.json")
        files.append(rest[place + 1])
        del rest[place : place + 2]
    if first is not None and rest and not rest[0].startswith("-"):
        rest.insert(0, first)
    return [word for file in files for word in file_to_argv(file)] + rest


__all__ = [
    "SETTINGS_FILES",
    "DataclassParser",
    "OptionParser",
    "dict_to_argv",
    "did_you_mean",
    "file_to_argv",
    "program",
    "read_settings",
    "take_option",
]
