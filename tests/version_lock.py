"""Write the locked versions, and check an environment against them.

    make lock                          # or: python tests/version_lock.py write
    python tests/version_lock.py check dev     # does this environment hold the locked versions of modeling-i2srm[dev]?

constraints.txt pins the newest versions that setup.cfg and constraints.in allow, for every supported Python;
constraints-lowest.txt pins the lowest ones that setup.cfg allows, on the lowest Python. Both name all packages,
transitive ones included; constraints.txt also names pip and the build tools. A constraint takes effect only where
something requires the package, so the pins of nvidia and triton install nothing beside a torch built for the CPU.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement  # pip is there before anything is installed

ROOT = Path(__file__).resolve().parents[1]
LOCK, LOWEST = ROOT / "constraints.txt", ROOT / "constraints-lowest.txt"
LOWEST_PYTHON = "3.11"
BUILD_TOOLS = ("pip", "setuptools", "wheel")
RESOLVED = {
    LOCK: ["--universal", "--all-extras", "constraints.in"],
    LOWEST: ["--resolution", "lowest-direct", "--all-extras"],
}
HEADER = "# Written by `make lock` with uv {uv}. Do not edit: change {sources} and run it again.\n"


def canonical(name: str) -> str:
    """The name of a package as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path = LOCK) -> dict[str, str]:
    """Package -> version, of the pins in a file of constraints that apply to this Python and platform."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if text := line.partition("#")[0].strip():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate():
                pins[canonical(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return pins


def list_requirements(name: str, extra: str) -> set[str]:
    """All packages that an extra of an installed package requires, transitive ones included, without itself."""
    waiting, seen = [(name, extra)], set()
    while waiting:
        entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        try:
            texts = distribution(entry[0]).requires or ()
        except PackageNotFoundError:  # find_differences reports it as missing
            continue
        for requirement in map(Requirement, texts):
            if requirement.marker is None or requirement.marker.evaluate({"extra": entry[1]}):
                waiting += [(canonical(requirement.name), one) for one in ("", *requirement.extras)]
    return {package for package, _ in seen} - {canonical(name)}


def list_installed() -> dict[str, str]:
    """Package -> version of what is installed in this environment; without local versions such as +cpu."""
    return {canonical(one.metadata["Name"]): one.version.partition("+")[0] for one in distributions()}


def find_differences(extra: str, pins: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Compare the requirements of modeling-i2srm[extra] and the build tools with the lock; one line per difference."""
    required = list_requirements("modeling-i2srm", extra) | set(BUILD_TOOLS)
    return [
        f"{name}: installed {installed.get(name, 'nothing')}, locked {pins.get(name, 'nothing')}"
        for name in sorted(required)
        if installed.get(name) != pins.get(name)
    ]


def check(extra: str) -> int:
    """Print what differs from the lock; 1 if anything does."""
    differences = find_differences(extra, read_lock(), list_installed())
    for line in differences:
        print(line, file=sys.stderr)
    if differences:
        print("Run `make clean`, then `make install`; after a change of setup.cfg, `make lock` first.", file=sys.stderr)
    return 1 if differences else 0


def write() -> int:
    """Resolve setup.cfg with the locked uv and write both files of constraints."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        uv = f"uv=={read_lock()['uv']}"
        subprocess.run([f"{folder}/bin/python", "-m", "pip", "install", "--quiet", uv], check=True)
        for path, options in RESOLVED.items():
            output = Path(folder, path.name)
            command = [f"{folder}/bin/uv", "pip", "compile", "--quiet", "--upgrade", "--no-header", "--no-annotate"]
            command += ["--python-version", LOWEST_PYTHON, "--output-file", output, "setup.cfg", *options]
            subprocess.run(command, check=True, cwd=ROOT)
            sources = "setup.cfg or constraints.in" if "constraints.in" in options else "setup.cfg"
            path.write_text(HEADER.format(uv=uv[4:], sources=sources) + output.read_text(encoding="utf-8"), "utf-8")
            print(f"{path.name}: {len(read_lock(path))} packages for this Python")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="resolve setup.cfg again and write the files of constraints")
    commands.add_parser("check", help="compare this environment").add_argument("extra", help="train, dev ...")
    arguments = parser.parse_args()
    return write() if arguments.command == "write" else check(arguments.extra)


if __name__ == "__main__":
    sys.exit(main())
