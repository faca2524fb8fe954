"""Your own posts, from JSONL, CSV or CoNLL files to Parquet.

    python dataset_scripts/posts.py --data_dir my_posts --output_dir data/my_posts

`--help` lists all options. The code: modeling_i2srm/prepare/posts.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.posts")
