"""Measures leaks of a data set: labels that show in the pictures' files and crops, posts that are in two splits.

    python dataset_scripts/audit.py --data_dir RAW
    python dataset_scripts/audit.py --parquet data/mnre data/my_posts --output audit.json

`--help` lists all options. The code: modeling_i2srm/cli/audit.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.audit")
