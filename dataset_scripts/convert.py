"""Posts with entities, from any form that posts.py reads, as CoNLL, as tasks of Label Studio or in the exchange format.

    python dataset_scripts/convert.py --input out --to label_studio --output tasks.json

`--help` lists all options. The code: modeling_i2srm/prepare/convert.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.convert")
