"""A folder of packages with all that some packages need and nothing else, for processes without the rest."""

import os
import re
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from subprocess import CompletedProcess

import forked
from packaging.requirements import Requirement


def bare_site(folder: Path, *names: str) -> Path:
    """Link what the named distributions need into `folder`, all their requirements but no extras."""
    folder.mkdir(parents=True)
    waiting, done = list(names), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in done:
            continue
        done.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # not wanted on this platform or by this build
            continue
        for top in {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}:
            source = Path(found.locate_file(top))
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source.resolve())
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return folder


def run_bare(site: Path, script: Path, *arguments: object, **environment: str) -> CompletedProcess:
    """Run a script with the packages in `site` alone, in its folder: no site-packages, no PYTHONPATH.

    The process is a fork of this one, which keeps of all packages but torch and what torch needs.

    Args:
        environment: all variables.
    """

    def work():
        forked.forget("torch", "numpy", "sympy", "PIL", "regex")
        os.environ.clear()
        os.environ.update(environment)
        standard = [path for path in sys.path if path.startswith(sysconfig.get_path("stdlib"))]
        sys.path[:] = ["", *(path for path in standard if "site-packages" not in path), str(site)]
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
        forked.run_script(script, list(map(str, arguments)), script.parent)

    return forked.run(work, script.with_suffix(".printed"))
