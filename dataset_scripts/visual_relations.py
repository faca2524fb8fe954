"""Visual relations: a small made-up data set in which only the picture shows most relations.

    python dataset_scripts/visual_relations.py --output_dir data/visual_relations

`--help` lists all options. The code: modeling_i2srm/prepare/visual_relations.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("prepare.visual_relations")
