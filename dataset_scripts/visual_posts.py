"""Visual posts: a small made-up data set in which only the picture shows the type of most names.

    python dataset_scripts/visual_posts.py --output_dir data/visual_posts

`--help` lists all options. The code: modeling_i2srm/prepare/visual_posts.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.visual_posts")
