"""MVSA-Single: the sentiment of tweets with a photo, from the raw files to Parquet.

    python dataset_scripts/mvsa.py --data_dir RAW/mvsa_single --output_dir data/mvsa

`--help` lists all options. The code: modeling_i2srm/prepare/mvsa.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.mvsa")
