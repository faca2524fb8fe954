"""Train, evaluate and predict relations between entities of multimodal posts.

    accelerate launch examples/run_mre.py examples/configs/quickstart_mre.json
    accelerate launch examples/run_mre.py examples/configs/mnre.json --seed 2 --output_dir runs/mnre-2

Arguments come from a JSON file, from the command line, or from both (the command line wins); `--help` lists them.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.train", "mre")
