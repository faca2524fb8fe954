"""Flickr30k Entities: typed phrases of captions, with their boxes in the photos, from the released files to Parquet.

    python dataset_scripts/flickr30k_entities.py --data_dir RAW --output_dir data/flickr30k_entities

`--help` lists all options. The code: modeling_i2srm/prepare/flickr30k_entities.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.flickr30k_entities")
