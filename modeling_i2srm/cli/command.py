"""The command `i2srm`: a table of subcommands, the pages of their help, and shell completion.

A page of help is a file of the folder `pages`. The standard library alone is imported until a subcommand runs.
"""

import re
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

PAGES = Path(__file__).with_name("pages")


class Subcommand(NamedTuple):
    """A subcommand.

    Args:
        about: what it does, for `i2srm --help`.
        module: below modeling_i2srm; its `main()` reads sys.argv.
        names: what may follow the subcommand, e.g. tasks, each with the module of its `main()`.
        argument: passes the name to `main`.
    """

    about: str
    module: str = ""
    names: dict[str, str] = {}
    argument: bool = False


DATA_SETS: tuple[str, ...] = ("posts", "twitter2015", "twitter2017", "mnre", "gmner", "mvsa", "flickr30k_entities")
DATA_SETS += ("visual_posts", "visual_topics", "crop_objects", "convert")
TASKS = ("mner", "mre", "joint", "classification")
SHELLS = ("bash", "zsh")

SUBCOMMANDS = {
    "prepare": Subcommand(
        "Turn your posts, or a benchmark, into a data set.", names={name: f"prepare.{name}" for name in DATA_SETS}
    ),
    "train": Subcommand("Train a model.", names=dict.fromkeys(TASKS, "cli.train"), argument=True),
    "evaluate": Subcommand("Score a model on a data set.", "cli.evaluate"),
    "extract": Subcommand("Find entities and relations in files of posts.", "cli.extract"),
    "serve": Subcommand("Answer posts over HTTP.", "cli.serve"),
    "explain": Subcommand("Show what a model looks at in a post.", "cli.explain"),
    "audit": Subcommand("Find out what gives the labels away.", "cli.audit"),
    "study": Subcommand("Find out what each part of the method adds.", "cli.run_experiments"),
    "export": Subcommand("Write a model as ONNX and compare the answers.", "cli.export_onnx"),
    "demo": Subcommand("Answer made-up posts with the model of the package.", "cli.demo"),
    "quickstart": Subcommand("Make a data set and train a small model on it (minutes).", "cli.quickstart"),
    "completion": Subcommand("Print the completion of bash or zsh.", names=dict.fromkeys(SHELLS, "")),
}


def main() -> None:
    """Run the subcommand of the command line, or print its help."""
    words = sys.argv[1:]
    if words in ([], ["-h"], ["--help"], ["--help-all"]):
        return print(overview())
    if words == ["--version"]:
        from importlib.metadata import version

        return print(f"i2srm {version('modeling-i2srm')}")
    name, words = words[0], words[1:]
    subcommand = SUBCOMMANDS[checked(name, list(SUBCOMMANDS), "i2srm", "subcommand")]
    program, module = f"i2srm {name}", subcommand.module
    arguments: list[str] = []
    asks = bool({"-h", "--help"} & set(words))
    if subcommand.names:
        if not words or words[0] in ("-h", "--help", "--help-all"):
            return print(page(name))
        choice = checked(words[0], list(subcommand.names), program, "name")
        program, words = f"{program} {choice}", words[1:]
        module, arguments = subcommand.names[choice], [choice] if subcommand.argument else []
        if asks and (text := page(name, choice)):
            return print(text)
        if name == "completion":
            return print(completion(choice))
    elif asks:
        return print(page(name))
    sys.argv = [program, *("--help" if word == "--help-all" else word for word in words)]
    import_module("modeling_i2srm.cli.scripts").run(module, *arguments)


def checked(name: str, names: list[str], program: str, kind: str) -> str:
    """A name that is one of several; for another the process exits with the one that may be meant."""
    if name in names:
        return name
    near = "".join(f"; did you mean {close}?" for close in get_close_matches(name, names, n=1))
    print(f"{program}: no {kind} {name!r}; they are {', '.join(names)}{near}", file=sys.stderr)
    sys.exit(2)


def overview() -> str:
    """The page of `i2srm --help`."""
    lines = "\n".join(f"  {name:12}{subcommand.about}" for name, subcommand in SUBCOMMANDS.items())
    return read_page("i2srm").replace("SUBCOMMANDS\n", f"{lines}\n").rstrip()


def page(name: str, choice: str = "") -> str:
    """The help of a subcommand, or of one of its names: of its own, or that of the subcommand with the name put in."""
    for file in (f"{name}-{choice}", f"{name}-NAME", name):
        if (PAGES / f"{file}.txt").is_file() and (choice or "-" not in file):
            return read_page(file).replace("NAME", choice or "NAME").rstrip()
    return ""


def read_page(name: str) -> str:
    return (PAGES / f"{name}.txt").read_text(encoding="utf-8")


def options_of(name: str) -> list[str]:
    """The options that the pages of a subcommand show."""
    pages = [read_page(path.stem) for path in sorted(PAGES.glob(f"{name}*.txt"))]
    return sorted({option for text in pages for option in re.findall(r"(?<!\S)--?[a-z][a-z_-]*", text)})


def completion(shell: str) -> str:
    """A script that completes subcommands, names and the options of their help; files where nothing else fits."""
    cases = "\n".join(
        f'    {name}) words="{" ".join([*subcommand.names, *options_of(name)])}" ;;'
        for name, subcommand in SUBCOMMANDS.items()
    )
    start = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{start}_i2srm() {{
  local words="{" ".join(SUBCOMMANDS)} --help --version"
  [ "$COMP_CWORD" -gt 1 ] && case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _i2srm i2srm"""


__all__ = ["SUBCOMMANDS", "main"]
