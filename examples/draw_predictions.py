"""Draw the test posts of a joint training run on an HTML page, with the gold graph beside each predicted one.

    python examples/draw_predictions.py runs/quickstart --dataset data/visual_posts

`--help` lists all options. The code: modeling_i2srm/cli/draw_predictions.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.draw_predictions")
