"""Shared by benchmarks whose runs are compared on the same posts: packed counts of each run, tables and differences."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from joint_runs import read_records

from modeling_i2srm.studies.significance import Comparison, compare, f1

ROOT = Path(__file__).resolve().parent.parent
MACHINE = "two shared cores of an AMD EPYC with AVX-512 BF16; each run has one thread"
DIFFERENCES = ["difference", "seeds", "points", "95 % interval", "p, corrected"]


class Difference(NamedTuple):
    """A difference between two arms: its title, the number of seeds, the comparison, and p after Holm's correction."""

    title: str
    seeds: int
    comparison: Comparison
    p: float


class Side(NamedTuple):
    """An arm, and the test set on which it is scored."""

    arm: str
    kind: str = "test"


def pack(counts: np.ndarray) -> list[str]:
    """Counts (posts, 3) as three strings with a character for each post, so that a line of runs.jsonl stays short."""
    if counts.max() > 78:
        raise ValueError(f"a post has a count of {counts.max()}; at most 78 fit into a character")
    return ["".join(chr(ord("0") + count) for count in column) for column in counts.T]


def unpack(columns: list[str]) -> np.ndarray:
    """The counts (posts, 3) that `pack` was given."""
    return np.array([[ord(character) - ord("0") for character in column] for column in columns]).T


def group_by_arm(records: dict[str, dict], data: str) -> dict[str, dict[int, dict]]:
    """The records of a data set, by arm and seed; their names are DATA/ARM/seedN."""
    arms: dict[str, dict[int, dict]] = {}
    for name, record in records.items():
        place, arm, seed = name.split("/")
        if place == data:
            arms.setdefault(arm, {})[int(seed.removeprefix("seed"))] = record
    return arms


def scores(records: Iterable[dict], kind: str = "test") -> list[np.ndarray]:
    """The counts (posts, 3) of each record."""
    return [unpack(record["counts"][kind]) for record in records]


def arm_rows(arms: dict[str, dict[int, dict]]) -> list[list[str]]:
    """For each arm and test set: its name, the number of seeds, mean and standard deviation of F1 in per cent."""
    rows = []
    for arm, runs in arms.items():
        members = [runs[seed] for seed in sorted(runs)]
        for kind in members[0]["counts"]:
            values = [float(f1(one.sum(0))) for one in scores(members, kind)]
            rows.append([arm if kind == "test" else f"{arm}, {kind}", str(len(values)), spread(values)])
    return rows


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation of shares, in per cent; of one share itself."""
    values = [100 * share for share in shares]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def find_differences(arms: dict[str, dict[int, dict]], wanted: Iterable[tuple[str, Side, Side]]) -> list[Difference]:
    """Compare arms on the seeds that both have.

    Args:
        arms: of `group_by_arm`.
        wanted: title, one side, and the side that is subtracted; left out where they have no seed in common.
    """
    pairs = []
    for title, *sides in wanted:
        seeds = sorted(set.intersection(*(set(arms.get(side.arm, ())) for side in sides)))
        if seeds:
            counts = [scores([arms[side.arm][seed] for seed in seeds], side.kind) for side in sides]
            pairs.append((title, len(seeds), compare(*counts)))
    corrected = holm([comparison.p for *_, comparison in pairs])
    return [Difference(*pair, p) for pair, p in zip(pairs, corrected, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """p values after Holm's correction for multiple tests."""
    corrected, largest = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def difference_rows(differences: Sequence[Difference]) -> list[list[str]]:
    """The table of the differences, in points."""
    rows = []
    for title, seeds, one, p in differences:
        middle, low, high = (f"{100 * value:+.1f}" for value in (one.difference, one.low, one.high))
        rows.append([title, str(seeds), middle, f"{low} to {high}", f"{p:.3f}"])
    return rows


def read_runs(folder: str) -> dict[str, dict]:
    """The records of all runs that are kept in a folder of benchmarks/runs, by name."""
    runs: dict[str, dict] = {}
    for path in sorted((ROOT / "benchmarks/runs" / folder).glob("*.jsonl")):
        runs |= read_records(path)
    return runs


def describe_runs(runs: dict[str, dict]) -> dict:
    """The seeds, versions and machine of runs, for a record of the documentation."""
    seeds = sorted({int(name.rpartition("seed")[2]) for name in runs})
    return {"seeds": seeds, "versions": next(iter(runs.values()))["versions"], "machine": MACHINE}


def store(page: str, records: Iterable[dict]) -> None:
    """Put records into the file of a page; those of the same name are replaced in their place."""
    path = ROOT / f"benchmarks/records/{page}.jsonl"
    new = {record["name"]: record for record in records}
    old = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [new.pop(record["name"], record) for record in old] + list(new.values())
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept), encoding="utf-8")
