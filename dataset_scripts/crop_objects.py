"""Make crops of objects that do not depend on the labels, for any data set in Parquet files.

    python dataset_scripts/crop_objects.py --dataset data/mnre --detector facebook/detr-resnet-50 \\
        --output data/mnre_objects
    python dataset_scripts/audit.py --parquet data/mnre_objects

`--help` lists all options. The code: modeling_i2srm/prepare/crop_objects.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.crop_objects")
