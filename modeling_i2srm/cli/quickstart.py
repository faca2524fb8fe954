"""Make the visual posts and train the small joint model on them, with and without pictures.

    i2srm quickstart
    i2srm quickstart -o runs/second --seed 2

All options are those of `i2srm train joint`.
"""

import sys
from pathlib import Path

from ..prepare import visual_posts
from . import train

DATASET, OUTPUT = "data/visual_posts", "runs/quickstart"


def main(argv: list[str] | None = None) -> None:
    """Make the data set, unless it is there, and train."""
    words = sys.argv[1:] if argv is None else argv
    if not {"--help", "-h"} & {*words} and not Path(DATASET, "report.json").is_file():
        visual_posts.main(["--output_dir", DATASET])
    settings = ["--preset", "tiny", "--dataset", DATASET, "--output_dir", OUTPUT, "--compare_text_only", "true"]
    train.run("joint", [*settings, *words])
