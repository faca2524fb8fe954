"""A folder of packages with all that some packages need and nothing else, for processes without the rest."""

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

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


def bare_command(site: Path, script: Path, *arguments) -> list[str]:
    """The command that runs a script with the packages in `site` alone: no site-packages, no PYTHONPATH."""
    start = "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv[:2] = []; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return [sys.executable, "-I", "-S", "-c", start, *map(str, (site, script, *arguments))]
