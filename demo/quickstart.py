"""The small joint checkpoint that the demo takes where none is named: trained here if it is not there yet."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In the repository the scripts are next to the folder of the demo, in a Space inside of it.
ROOT = HERE if (HERE / "dataset_scripts").is_dir() else HERE.parent
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", "examples/configs/accelerate/cpu.yaml"]
RESUME = ["--resume_from_checkpoint", "last"]
# What `make quickstart` does.
COMMANDS = (
    ["dataset_scripts/visual_posts.py", "--output_dir", "data/visual_posts"],
    [*LAUNCH, "examples/run_joint.py", "examples/configs/quickstart.json", *RESUME],
)


def quickstart_checkpoint() -> str:
    """The folder of the quickstart checkpoint, which is made first, in some minutes, if it is not complete.

    Raises:
        RuntimeError: a command failed; its own message went to the terminal.
    """
    folder = ROOT / "runs" / "quickstart"
    if (folder / "results.json").exists():  # the last file that a run writes
        return str(folder)
    print(f"{folder} is not complete: training it, which takes some minutes on two cores", flush=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # in a Space the package is not installed
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    for command in COMMANDS:
        if code := subprocess.run([sys.executable, *command], cwd=ROOT, env=environment).returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {code}; give a checkpoint of your own: --model ID")
    return str(folder)
