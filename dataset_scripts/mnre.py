"""MNRE: relations between entities of tweets with pictures, from the released files to Parquet.

    python dataset_scripts/mnre.py --data_dir RAW --output_dir data/mnre

`--help` lists all options. The code: modeling_i2srm/prepare/mnre.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.mnre")
