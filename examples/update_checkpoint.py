"""Update the code in checkpoints that an older version saved.

    python examples/update_checkpoint.py runs/my_posts
    python examples/update_checkpoint.py runs/quickstart runs/quickstart/checkpoint-*

`--help` lists all options. The code: modeling_i2srm/cli/update_checkpoint.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.update_checkpoint")
