"""Visual topics: what kind of thing is a post about? The visual posts, with one label per post instead of tags.

    python dataset_scripts/visual_topics.py --output_dir data/visual_topics

`--help` lists all options. The code: modeling_i2srm/prepare/visual_topics.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.visual_topics")
