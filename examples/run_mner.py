"""Train, evaluate and predict multimodal named entities.

    accelerate launch examples/run_mner.py examples/configs/quickstart.json
    accelerate launch examples/run_mner.py examples/configs/twitter2015.json --seed 2 --output_dir runs/twitter2015-2

Arguments come from a JSON file, from the command line, or from both (the command line wins); `--help` lists them.
"""

from modeling_i2srm.arguments import parse_arguments
from modeling_i2srm.faults import run_script, stop_on_sigterm
from modeling_i2srm.mner import MNER
from modeling_i2srm.training import end_processes, run_task


def main():
    arguments = parse_arguments()
    stop_on_sigterm()
    run_task(MNER, *arguments)
    end_processes()


if __name__ == "__main__":
    run_script(main, "run_mner.py")
