"""Mutation testing: change one place of a module, run its tests, and count the changes that they notice.

    make mutants                                               # 350 mutants, evenly over the modules (hours)
    python tests/mutants.py --count 60 --modules crf words     # some modules
    python tests/mutants.py --seed 1                           # other mutants

A mutant is killed if a test fails or exceeds its time limit, three times that of the unchanged module. A survivor
that changes nothing a test could check is listed in tests/mutants.jsonl with a reason and counts as explained. The
other survivors are printed. Exits with 1 if less than 95 % are killed or explained.

Results are appended to runs/mutants.jsonl. A second run continues there; it repeats the mutants of a module that
changed, and survivors whose tests changed. Mutants are made and tested in a copy of the tree, with the public tests
only (neither real data nor the full parity kit), and without tests of torch.compile, which take minutes.

Why no library: mutmut replaces functions by trampolines, and transformers inspects signatures and copies source files
into checkpoints. cosmic-ray starts a process for each mutant, which costs 8 s of imports here; most of its mutants
replace one binary operator by each other one (429 of the 746 of crf.py), and it removes no statement, swaps no
arguments and changes no slice. Here a process that has imported torch and transformers forks for each mutant.
"""

import argparse
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mutations import Mutant, draw_mutants

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "runs" / "mutants.jsonl"
EXPLAINED = Path(__file__).with_suffix(".jsonl")
GOAL = 0.95
PRELOADED = ("torch", "transformers", "transformers.trainer", "datasets", "evaluate", "seqeval.metrics", "pytest")
LEFT_OUT = {"data", "runs", "site", "build", "dist"}  # of the copy, beside hidden files and folders

# Module -> its file and its tests (files, or single ones where the rest of a file takes minutes), fast ones first.
MODULES = {
    "configuration": (
        "configuration_i2srm.py",
        "test_configuration_i2srm.py bad_inputs/test_files.py::test_configurations support/test_checkpoint_code.py "
        "test_modeling_i2srm.py",
    ),
    "modeling": (
        "modeling_i2srm.py",
        "test_modeling_i2srm.py test_token_classification.py test_sequence_model.py test_relation_model.py "
        "test_artifacts.py test_parity.py",
    ),
    "modeling_joint": (
        "modeling_joint.py",
        "test_modeling_joint.py test_joint_pipeline.py test_artifacts.py",
    ),
    "joint_head": ("joint_head.py", "test_joint_head.py test_modeling_joint.py test_joint_pipeline.py"),
    "visual_prompt": ("visual_prompt.py", "test_visual_prompt.py test_modeling_i2srm.py test_parity.py"),
    "attn_mixup": (
        "attn_mixup.py",
        "test_attn_mixup.py test_parity.py test_sequence_model.py test_token_classification.py",
    ),
    "semantic_loss": ("semantic_loss.py", "test_semantic_loss.py"),
    "crf": ("crf.py", "test_crf.py"),
    "words": ("words.py", "test_words.py test_windows.py test_entity_markers.py"),
    "collator": (
        "data/collator.py",
        "data/test_collator.py training/test_classification.py::test_the_collator_takes_raw_rows "
        "bad_inputs/test_posts.py::test_rows bad_inputs/test_files.py::test_rows_of_which_some_have_no_keys "
        "data/test_feature_cache.py::test_rows_with_keys_need_the_cache "
        "data/test_feature_cache.py::test_a_batch_holds_the_features_of_its_pictures",
    ),
    "metrics": (
        "training/metrics.py",
        "training/test_metrics.py training/test_classification.py::test_the_metric_is_that_of_scikit_learn",
    ),
    "step_guard": ("training/step_guard.py", "training/test_step_guard.py training/test_trainer.py"),
    "checkpoints": (
        "training/checkpoints.py",
        "training/test_checkpoints.py test_artifacts.py training/test_push_to_hub.py",
    ),
    "feature_cache": (
        "data/feature_cache.py",
        "bad_inputs/test_files.py::test_shards bad_inputs/test_files.py::test_caches "
        "data/test_feature_cache.py test_artifacts.py",
    ),
}


def run_pytest(folder: Path, tests: list[str], limit: float | None = None) -> tuple[str, float]:
    """Run tests in a fork of this process, with the output in pytest.log.

    Returns:
        "passed", "failed" or "timed out", and seconds.
    """
    start = time.monotonic()
    process = os.fork()
    if not process:
        os.setsid()
        gc.freeze()  # collections would copy the memory of what was imported
        log = os.open(folder / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        import pytest

        options = ["-x", "-q", "-k", "not compil", "-p", "no:cacheprovider", "--rootdir=.", "--basetemp=pytest-files"]
        status = 1
        try:
            status = pytest.main([*options, *tests])
        finally:
            os._exit(status)
    try:
        while True:
            ended, status = os.waitpid(process, os.WNOHANG)
            seconds = time.monotonic() - start
            if ended:
                return "failed" if status else "passed", seconds
            if limit and seconds > limit:
                return "timed out", seconds
            time.sleep(0.05)
    finally:
        try:
            os.killpg(process, signal.SIGKILL)  # also what the tests started
        except ProcessLookupError:
            pass
        if not ended:
            os.waitpid(process, 0)


def judge(folder: Path, path: str, source: str, tests: list[str], limit: float, stamp: int) -> tuple[str, float]:
    """Run tests with the text of one file of a folder replaced.

    Args:
        stamp: a time of modification that no other text of this file has; compiled files are told apart by it.
    """
    file = folder / path
    original, times = file.read_bytes(), file.stat()
    try:
        file.write_text(source, encoding="utf-8")
        os.utime(file, (stamp, stamp))
        outcome, seconds = run_pytest(folder, tests, limit)
    finally:
        file.write_bytes(original)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    return {"passed": "survived", "failed": "killed"}.get(outcome, outcome), seconds


_copy: Path  # of the tree, one a worker


def make_copy(parent: str):
    """Copy the tree into a new folder; the worker's tests run there."""
    global _copy
    _copy = Path(tempfile.mkdtemp(dir=parent))
    os.environ["PYTHONPATH"] = str(_copy)
    for entry in ROOT.iterdir():
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in LEFT_OUT:
            shutil.copytree(entry, _copy / entry.name)
        elif entry.is_file():
            shutil.copy2(entry, _copy)


def run_unchanged(module: str) -> float:
    """Seconds of the tests of an unchanged module."""
    outcome, seconds = run_pytest(_copy, tests_of(module))
    if outcome != "passed":
        output = (_copy / "pytest.log").read_text()[-3000:]
        raise RuntimeError(f"the tests of {module} fail without a mutation: {outcome}\n{output}")
    return seconds


def run_mutant(mutant: Mutant, tests: str, limit: float, stamp: int) -> dict:
    """The result of a mutant, a line of RESULTS."""
    path = f"modeling_i2srm/{MODULES[mutant.module][0]}"
    outcome, seconds = judge(_copy, path, mutant.source, tests_of(mutant.module), limit, stamp)
    described = {"module": mutant.module, "line": mutant.line, "mutation": mutant.mutation}
    return {**described, "outcome": outcome, "seconds": round(seconds, 1), "key": mutant.key, "tests": tests}


def tests_of(module: str) -> list[str]:
    return [f"tests/{name}" for name in MODULES[module][1].split()]


def digest(mutant: Mutant) -> str:
    """Tells apart the texts of the tests of a mutant."""
    texts = (ROOT / name.split("::")[0] for name in tests_of(mutant.module))
    return hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()[:16]


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run_all(mutants: list[Mutant], jobs: int) -> list[dict]:
    """Results of mutants, in no order; those that RESULTS holds are taken from there."""
    from tqdm import tqdm

    tests = {mutant.key: digest(mutant) for mutant in mutants}
    kept = {row["key"]: row for row in read_lines(RESULTS) if row["key"] in tests}
    kept = {key: row for key, row in kept.items() if row["outcome"] != "survived" or row["tests"] == tests[key]}
    rows, pending = list(kept.values()), [mutant for mutant in mutants if mutant.key not in kept]
    if not pending:
        return rows
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as parent, tqdm(total=len(pending), unit="mutant") as bar:
        preload(Path(parent))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), make_copy, (parent,)) as pool:
            for module in dict.fromkeys(mutant.module for mutant in pending):
                bar.set_description(module)
                limit = 3 * pool.submit(run_unchanged, module).result() + 10
                work = [
                    (mutant, tests[mutant.key], limit, 10**9 + number)
                    for number, mutant in enumerate(pending)
                    if mutant.module == module
                ]
                for row in pool.map(run_mutant, *zip(*work, strict=True)):
                    rows.append(row)
                    with RESULTS.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    bar.update()
    return rows


def preload(parent: Path):
    """Import what all tests need, with the environment of tests/conftest.py, and leave real data out of reach."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ |= {"I2SRM_DATA_DIR": os.devnull, "I2SRM_PARITY_DIR": os.devnull}
    os.environ["HF_MODULES_CACHE"] = str(parent / "hf-modules")
    for name in PRELOADED:
        importlib.import_module(name)


def report(rows: list[dict]) -> int:
    """Print a line a module and the survivors; the exit status."""
    reasons = {(row["module"], row["line"], row["mutation"]): row["reason"] for row in read_lines(EXPLAINED)}
    counts, survivors = {}, []
    for row in rows:
        name = row["outcome"]
        if name == "survived":
            reason = reasons.get((row["module"], row["line"], row["mutation"]))
            name = "explained" if reason else name
            survivors.append(f"{row['module']}: {row['line']}\n    {row['mutation']}\n    {reason or 'NOT EXPLAINED'}")
        counts.setdefault(row["module"], Counter())[name] += 1
    counts["all"] = sum(counts.values(), Counter())
    print("\n".join(sorted(survivors)), end="\n\n")
    names = ("killed", "timed out", "explained", "survived")
    print("module".ljust(16), *(name.rjust(10) for name in ("mutants", *names, "share")))
    for module, count in counts.items():
        share = 1 - count["survived"] / max(count.total(), 1)
        numbers = (count.total(), *(count[name] for name in names))
        print(module.ljust(16), *(f"{number:10}" for number in numbers), f"{share:10.1%}")
    return 0 if share >= GOAL else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=350, help="mutants of all modules together (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws others (%(default)s)")
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=list(MODULES), metavar="MODULE")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at the same time (%(default)s)")
    options = parser.parse_args()
    package = ROOT / "modeling_i2srm"
    sources = {name: (package / MODULES[name][0]).read_text(encoding="utf-8") for name in options.modules}
    return report(run_all(draw_mutants(sources, options.count, options.seed), options.jobs))


if __name__ == "__main__":
    sys.exit(main())
