"""Update the code in checkpoints that an older version saved.

    python examples/update_checkpoint.py runs/my_posts
    python examples/update_checkpoint.py runs/quickstart runs/quickstart/checkpoint-*

A checkpoint carries the code of its model. Code saved by version 0.1.0 does not run with transformers 5.40 or later,
which no longer has the argument that passes the visual prompts to the text encoder. This replaces the .py files of a
checkpoint and the entries that name them in config.json and processor_config.json. Weights, tokenizer and all other
settings stay as they are. Download a Hub repository into a folder first.
"""

import argparse

from ..support.checkpoint_code import update_checkpoint_code
from ..support.options import OptionParser

parser = OptionParser("update_checkpoint.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folder of a checkpoint")


def main(arguments: list[str] | None = None) -> None:
    for folder in parser.parse_args(arguments).folders:
        try:
            done = update_checkpoint_code(folder)
        except (ValueError, OSError) as error:
            parser.exit(2, f"{parser.prog}: {error}\n")
        for name, what in done.items():
            print(f"{folder}: {what} {name}")
        if not done:
            print(f"{folder}: already up to date")
