"""Train, evaluate and predict whole posts: entities, the relations between them, and the objects that show them.

    accelerate launch examples/run_joint.py examples/configs/quickstart.json
    accelerate launch examples/run_joint.py examples/configs/quickstart.json --seed 2 --output_dir runs/quickstart-2

Arguments come from a JSON file, from the command line, or from both (the command line wins); `--help` lists them.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.train", "joint")
