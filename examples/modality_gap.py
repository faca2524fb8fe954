"""Measure the gap between text and pictures of models, before and after training: a table, a picture and a JSON file.

    python examples/modality_gap.py --model runs/quickstart runs/no_kl --names "with KL" "without KL" \\
        --dataset data/visual_posts --output gap

`--help` lists all options. The code: modeling_i2srm/cli/modality_gap.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.modality_gap")
