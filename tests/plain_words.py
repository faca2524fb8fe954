"""Refuse phrases that a stranger stumbles over, and name plain ones (part of `make lint`).

    python tests/plain_words.py [FOLDER]

Reviewers add to PHRASES what they find. A tree without .git, such as an unpacked source distribution, is not checked.
"""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("*.py", "*.md", "*.cfg", "*.toml", "Makefile", "*/Makefile")
# Saved by older versions, and the lists themselves.
SKIPPED = ("tests/artifacts/*", "tests/plain_words.py", "tests/project/test_plain_words.py")
# Files that still hold such phrases: remove a line when its file is rewritten.
EXEMPT = ("modeling_i2srm/inference/corpus.py", "modeling_i2srm/training/checkpoints.py")
OLD_CHANGES = "## 0.1.0"  # the sections of CHANGELOG.md from here on stay as they are
# Regular expression, in lower case, a space for any gap -> what to write instead.
PHRASES = {
    r"gone on with": "resumed",
}
GAP = r"""(?:\s|#|"\s*f?")+"""  # also the end of a line of a comment or of a string


def find_phrases(text: str) -> list[tuple[int, str, str]]:
    """The phrases of a text that PHRASES names, as (line from 1, phrase, what to write instead), in their order."""
    places = [
        (match.start(), re.sub(GAP, " ", match[0]), better)
        for phrase, better in PHRASES.items()
        for match in re.finditer(rf"\b(?:{phrase})\b".replace(" ", GAP), text, re.IGNORECASE)
    ]
    return [(text.count("\n", 0, start) + 1, phrase, better) for start, phrase, better in sorted(places)]


def is_checked(path: str) -> bool:
    """Whether a tracked file is one of those that this project's own words are in."""
    return any(fnmatchcase(path, pattern) for pattern in FILES) and not any(
        fnmatchcase(path, pattern) for pattern in (*SKIPPED, *EXEMPT)
    )


def main(root: Path) -> int:
    """Print the phrases in the tracked files; 1 if there are any."""
    if not (root / ".git").exists():
        print(f"{root} is not a git repository: its words are not checked")
        return 0
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, stdout=subprocess.PIPE).stdout
    hits = 0
    for path in filter(is_checked, listed.decode().split("\0")):
        if not (root / path).is_file():
            continue
        text = (root / path).read_text(encoding="utf-8")
        if path == "CHANGELOG.md":
            text = text.partition(OLD_CHANGES)[0]
        for line, phrase, better in find_phrases(text):
            print(f'{path}:{line}: "{phrase}": write {better}', file=sys.stderr)
            hits += 1
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
