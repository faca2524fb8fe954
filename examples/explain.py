"""Explain what is found in a post: where the attention went, and what is said without each of its pictures.

    python examples/explain.py --ner runs/quickstart --text "who else loves Camelot ?" --image post.jpg
    python examples/explain.py --ner runs/quickstart --re runs/quickstart_mre --dataset data/visual_posts --row 9

`--help` lists all options. The code: modeling_i2srm/cli/explain.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.explain")
