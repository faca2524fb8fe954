"""Coverage-guided fuzzing of the parsers of raw data, with atheris (`make fuzz`, which installs it).

    python tests/fuzz/fuzz_parsers.py --minutes 10                # all targets, one after the other
    python tests/fuzz/fuzz_parsers.py --minutes 2 --targets mnre
    python tests/fuzz/fuzz_parsers.py --keep                      # a small set of what was found -> tests/fuzz/corpus

Inputs that reach new code are kept in --work; one that breaks a promise of tests/fuzz/targets.py lies there as
crash-..., and the exit status is 1. An input that was mended goes to tests/fuzz/corpus/TARGET, which
tests/project/test_fuzz_corpus.py replays.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus"
NAMES = ("conll", "mnre", "posts_jsonl", "posts_csv", "posts_tsv", "crop_index")
PREPARE = ("builder", "conll", "mnre", "posts", "picture_files", "twitter")
INSTRUMENTED = [*(f"modeling_i2srm.prepare.{name}" for name in PREPARE), "torch._weights_only_unpickler"]
LIMITS = ["-max_len=2048", "-timeout=10", "-rss_limit_mb=3000"]
KEPT_BYTES = 600  # of an input that is committed


def fuzz(target: str, options: list[str]):
    """Run libFuzzer on one target; does not return."""
    import atheris

    atheris.enabled_hooks.add("str")  # startswith and similar methods guide it, too

    sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
    with atheris.instrument_imports(include=INSTRUMENTED):
        if target == "crop_index":
            import torch  # noqa: F401
        import targets
    shared_memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None))
    again = f"{sys.executable} {__file__} --target {target}"  # how a merge starts itself, through a shell
    atheris.Setup([again, *options], lambda content: targets.check(target, content, folder))
    atheris.Fuzz()


def run(target: str, *options: str) -> tuple[int, str]:
    """Run libFuzzer in a process of its own; the exit status and what it said."""
    command = [sys.executable, __file__, "--target", target, *LIMITS, *options]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return process.returncode, process.stdout


def fuzz_all(targets: list[str], minutes: float, work: Path) -> int:
    """Fuzz each target for its share of the minutes and print a line about each."""
    failed = 0
    for target in targets:
        found = work / target
        found.mkdir(parents=True, exist_ok=True)
        seconds = max(round(60 * minutes / len(targets)), 1)
        folders = [str(found), str(CORPUS / target)]
        prefix = f"-artifact_prefix={work}/{target}-"
        status, said = run(target, f"-max_total_time={seconds}", "-print_final_stats=1", prefix, *folders)
        (work / f"{target}.log").write_text(said)
        coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
        runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        edges, features, inputs = coverage[-1] if coverage else ("?", "?", "?")
        print(
            f"{target:12} {seconds:5} s {int(runs[1]) if runs else 0:>10,} runs, {edges} edges, {features} features, "
            f"{inputs} inputs: {'FAILED, see ' + str(work / target) + '.log' if status else 'nothing found'}",
            flush=True,
        )
        failed += status != 0
    return 1 if failed else 0


def keep(targets: list[str], work: Path):
    """Put the smallest set of inputs with the same coverage into the committed corpus."""
    for target in targets:
        kept = CORPUS / target
        kept.mkdir(parents=True, exist_ok=True)
        status, said = run(
            target, "-merge=1", "-use_counters=0", f"-max_len={KEPT_BYTES}", str(kept), str(work / target)
        )
        size = sum(path.stat().st_size for path in kept.iterdir())
        print(f"{target}: {len(list(kept.iterdir()))} inputs, {size:,} bytes{'' if status == 0 else ' FAILED ' + said}")


def main() -> int:
    if sys.argv[1:2] == ["--target"]:
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="for all targets together (default %(default)s)")
    parser.add_argument("--targets", nargs="+", choices=NAMES, default=NAMES, help="default: all")
    parser.add_argument("--work", type=Path, default=Path("runs/fuzz"), help="found inputs (default %(default)s)")
    parser.add_argument("--keep", action="store_true", help="do not fuzz: bring what was found into the corpus")
    arguments = parser.parse_args()
    if arguments.keep:
        keep(arguments.targets, arguments.work)
        return 0
    return fuzz_all(arguments.targets, arguments.minutes, arguments.work)


if __name__ == "__main__":
    sys.exit(main())
