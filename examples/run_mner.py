"""Train, evaluate and predict multimodal named entities.

    accelerate launch examples/run_mner.py examples/configs/quickstart.json
    accelerate launch examples/run_mner.py examples/configs/twitter2015.json --seed 2 --output_dir runs/twitter2015-2

Arguments come from a JSON file, from the command line, or from both (the command line wins); `--help` lists them.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.train", "mner")
