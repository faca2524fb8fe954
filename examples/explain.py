"""Explain the answers for a post: what the model attends to, and how the answers change without each picture.

    python examples/explain.py --model runs/quickstart --text "who else loves Camelot ?" --image post.jpg
    python examples/explain.py --ner runs/quickstart_mner --re runs/quickstart_mre --dataset data/visual_posts --row 82

`--help` lists all options. The code: modeling_i2srm/cli/explain.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.explain")
