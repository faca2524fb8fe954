"""Twitter-GMNER: named entities in tweets, with their boxes in the pictures, from the released files to Parquet.

    python dataset_scripts/gmner.py --data_dir RAW/Twitter10000_v2.0 --output_dir data/gmner

`--help` lists all options. The code: modeling_i2srm/prepare/gmner.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.gmner")
