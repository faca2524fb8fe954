"""Train, evaluate and predict relations between entities of multimodal posts.

    accelerate launch examples/run_mre.py examples/configs/quickstart_mre.json
    accelerate launch examples/run_mre.py examples/configs/mnre.json --seed 2 --output_dir runs/mnre-2

Arguments come from a JSON file, from the command line, or from both (the command line wins); `--help` lists them.
"""

from modeling_i2srm.arguments import parse_arguments
from modeling_i2srm.faults import run_script, stop_on_sigterm
from modeling_i2srm.mre import MRE
from modeling_i2srm.training import end_processes, run_task


def main():
    arguments = parse_arguments()
    stop_on_sigterm()
    run_task(MRE, *arguments)
    end_processes()


if __name__ == "__main__":
    run_script(main, "run_mre.py")
