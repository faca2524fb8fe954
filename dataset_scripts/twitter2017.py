"""Twitter-2017: named entities in tweets with pictures, from the released files to Parquet.

    python dataset_scripts/twitter2017.py --data_dir RAW --output_dir data/twitter2017

`--help` lists all options. The code: modeling_i2srm/prepare/twitter2017.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.twitter2017")
