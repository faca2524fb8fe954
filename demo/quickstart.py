"""The two small checkpoints that the demo takes where none are named: trained here if they are not there yet."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In the repository the scripts are next to the folder of the demo, in a Space inside of it.
ROOT = HERE if (HERE / "dataset_scripts").is_dir() else HERE.parent
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", "examples/configs/accelerate/cpu.yaml"]
RESUME = ["--resume_from_checkpoint", "last"]
# What `make quickstart` and `make quickstart-mre` do.
COMMANDS = {
    "quickstart": (
        ["dataset_scripts/visual_posts.py", "--output_dir", "data/visual_posts"],
        [*LAUNCH, "examples/run_mner.py", "examples/configs/quickstart.json", *RESUME],
    ),
    "quickstart_mre": (
        ["dataset_scripts/visual_relations.py", "--output_dir", "data/visual_relations"],
        [*LAUNCH, "examples/run_mre.py", "examples/configs/quickstart_mre.json", *RESUME],
    ),
}


def quickstart_checkpoint(name: str) -> str:
    """The folder of a quickstart checkpoint, which is made first, in some minutes, if it is not complete.

    Args:
        name: "quickstart" (entities) or "quickstart_mre" (relations).

    Raises:
        RuntimeError: a command failed; its own message went to the terminal.
    """
    folder = ROOT / "runs" / name
    if (folder / "results.json").exists():  # the last file that a run writes
        return str(folder)
    print(f"{folder} is not complete: training it, which takes some minutes on two cores", flush=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # in a Space the package is not installed
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    for command in COMMANDS[name]:
        if code := subprocess.run([sys.executable, *command], cwd=ROOT, env=environment).returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {code}; give checkpoints of your own: --ner ID --re ID")
    return str(folder)
