"""Fit the map that tells whether the picture of a post is its own, and put it into the folder of a model.

    python examples/fit_picture_match.py --model runs/mine --dataset data/mine

`--help` lists all options. The code: modeling_i2srm/cli/fit_picture_match.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.fit_picture_match")
