"""Run a study: a table, a figure and a significance test of each setting against the full model.

    accelerate launch examples/run_experiments.py STUDY --task mner|mre --dataset DATA --seeds 1 2 3
    accelerate launch examples/run_experiments.py ablation examples/configs/quickstart_mner.json --attn_mixup true \\
        --task mner
    accelerate launch examples/run_experiments.py text_encoder examples/configs/mnre.json --task mre \\
        --settings FOLDER_OR_HUB_ID ANOTHER

All other arguments are those of run_mner.py and run_mre.py, from a JSON file, the command line, or both. The same
command resumes a study that was stopped; runs are cached by their settings, and studies share them.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from ..studies.run import plan, run_study
from ..studies.settings import STUDIES
from ..support import faults
from ..support.options import SETTINGS_FILES, OptionParser, program
from ..training.run import end_processes
from ..training.tasks import MNER, MRE
from .launch import PROCESSES, launch, take_processes

TASKS = {"mner": MNER, "mre": MRE}


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the arguments of this script; return them and those of the runs."""
    studies = "\n".join(f"  {name:16}{study.question}" for name, study in STUDIES.items())
    parser = OptionParser(
        "run_experiments.py",
        description=f"{__doc__}\nstudies:\n{studies}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s STUDY [settings.json] --task mner|mre [options] [--NAME VALUE ...]",
    )
    parser.add_argument("study", metavar="STUDY", choices=STUDIES, help="one of the studies above")
    parser.add_argument("--task", choices=TASKS, required=True, help="entities (mner) or relations (mre)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="train each setting with each of these")
    parser.add_argument(
        "--settings", nargs="+", help="run only these settings, or give other values of the study's argument"
    )
    parser.add_argument(
        "-o", "--output_dir", type=Path, default=Path("runs/experiments"), help="the folder of all studies"
    )
    parser.add_argument("--keep_models", action="store_true", help="keep the weights of finished runs")
    settings = [argv.pop(1)] if len(argv) > 1 and argv[1].endswith(SETTINGS_FILES) else []
    arguments, rest = parser.parse_known_args(argv)
    return arguments, settings + rest


def main() -> None:
    argv = sys.argv[1:]
    launched = program("accelerate launch examples/run_experiments.py")
    command = f"{launched} {shlex.join(argv)}"
    if number := os.environ.get(PROCESSES):
        command += f" --num_processes {number}"

    def run():
        processes, words = take_processes(argv)
        arguments, rest = parse(words.copy())
        task = TASKS[arguments.task]
        if processes > 1:
            plan(arguments.study, task, rest, arguments.seeds, arguments.settings)  # says once what is wrong
            return launch(["study"], words, processes)
        faults.stop_on_sigterm()
        folder = run_study(
            arguments.study,
            task,
            rest,
            arguments.seeds,
            arguments.output_dir,
            arguments.settings,
            command,
            arguments.keep_models,
        )
        if int(os.environ.get("RANK", 0)) == 0:
            print((folder / "table.md").read_text(encoding="utf-8"))
            print(f"runs, table and picture: {folder}")
        end_processes()

    faults.run_script(run, program("run_experiments.py"))
