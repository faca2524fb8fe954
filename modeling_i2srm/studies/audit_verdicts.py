"""Turns the measurements of an audit into verdicts: red, yellow or green, with a sentence that a person understands."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .audit_baselines import Baseline
from .audit_cues import CUES, TOGETHER, Telling

RED, YELLOW, GREEN = "red", "yellow", "green"
LEVELS = (RED, YELLOW, GREEN)
SIGNIFICANT = 0.05  # p of a permutation test, corrected
LEAST_PERMUTATIONS = math.ceil((len(CUES) + 1) / SIGNIFICANT) - 1  # with fewer, no p is that small: all would be green
RED_AUC, YELLOW_AUC = 0.75, 0.6
RED_SHARE, YELLOW_SHARE = 0.1, 0.01  # rows of a split that another split has, too
HIGH_BASELINE = {"default": 50.0, "a box round the whole picture (IoU of .5)": 25.0}  # per cent


class Verdict(NamedTuple):
    """An answer of the audit: its level ("red", "yellow" or "green"), what it is about, and a sentence."""

    level: str
    subject: str
    sentence: str


def judge(
    tellings: Sequence[Telling],
    baselines: Sequence[Baseline],
    overlap: Mapping[str, Mapping[str, Mapping[str, int]]],
    crops: Mapping[str, Mapping[str, dict]],
) -> list[Verdict]:
    """All verdicts on a data set, the worst first.

    Args:
        tellings: of `audit_cues`.
        baselines: of `audit_baselines`.
        overlap: of `audit_overlap`.
        crops: of each label, what `audit_crops` measures.
    """
    verdicts = [*judge_cues(tellings, crops), *judge_overlap(overlap), *judge_baselines(baselines)]
    return sorted(verdicts, key=lambda verdict: LEVELS.index(verdict.level))


def judge_cues(tellings: Sequence[Telling], crops: Mapping[str, Mapping[str, dict]]) -> Iterator[Verdict]:
    """A verdict for each cue, on the label that it tells best."""
    for cue in dict.fromkeys(telling.cue for telling in tellings):
        mine = [telling for telling in tellings if telling.cue == cue]
        told = [telling for telling in mine if telling.p <= SIGNIFICANT]
        best = max(told or mine, key=lambda telling: telling.auc)
        alone = capital(cue) if cue == TOGETHER else f"{capital(cue)} alone"
        level = level_of(best.auc, RED_AUC, YELLOW_AUC) if told else GREEN
        tail = "tell" if cue == TOGETHER or "names" in cue else "tells"
        sentence = f"{alone} {tail} {best.label} from others with AUC {decimals(best.auc)} (p = {best.p:.3f})"
        if level == GREEN:
            best = max(mine, key=lambda telling: telling.auc)
            little = f"little about the labels: AUC {decimals(best.auc)} at most (p = {best.p:.3f}), where .5 is chance"
            yield Verdict(GREEN, cue, f"{alone} {tail} {little}.")
        elif "file name" in cue and cue != TOGETHER:
            more = "models see no file names, so this spoils no score, but nothing may be made from them or their order"
            yield Verdict(YELLOW, cue, f"{sentence}: {more}.")
        elif level == YELLOW:
            more = "part of what a model gains with pictures may come from it: report this figure beside the gain"
            yield Verdict(YELLOW, cue, f"{sentence}: {more}.")
        else:
            seen = "see these crops" if "crop" in cue else "see it" if cue != TOGETHER else "see them"
            more = f"scores of models that {seen} say nothing about what the pictures show"
            yield Verdict(RED, cue, f"{sentence}: {more}{same_picture(cue, crops)}.")


def same_picture(cue: str, crops: Mapping[str, Mapping[str, dict]]) -> str:
    """What rows that share a picture and have different labels add to a verdict on the number of crops."""
    if cue != "the number of crops":
        return ""
    found = [
        entry["pictures of rows with both answers"]
        for columns in crops.values()
        for entry in columns.values()
        if entry.get("pictures of rows with both answers", {}).get("number")
    ]
    if not found:
        return ""
    worst = max(found, key=lambda one: one["number"])
    if worst["AUC"] <= YELLOW_AUC:
        return f"; among rows that share a picture it tells nothing (AUC {decimals(worst['AUC'])})"
    return (
        f". It is not a matter of the pictures: among rows that share one ({worst['number']} such pictures), the AUC "
        f"is {decimals(worst['AUC'])}"
    )


def judge_overlap(overlap: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Iterator[Verdict]:
    """A verdict for each two splits, on the rows of the second whose text or picture the first has."""
    for pair, entries in overlap.items():
        first, second = pair.split("/")
        counts = entries["rows with any of these"]
        rows, of, agreeing = counts["rows of the second"], counts["of"], counts["with its labels"]
        level = level_of(rows / of, RED_SHARE, YELLOW_SHARE)
        sentence = (
            f"{rows:,} of {of:,} {second} rows ({100 * rows / of:.1f} %) have the text or picture of a {first} row, or "
            "a similar one"
        )
        if rows:
            sentence += f"; {agreeing:,} of them have all its labels"
        more = "" if level == GREEN else ": a model that remembers is rewarded; report scores without these rows, too"
        yield Verdict(level, f"rows of {second} in {first}", f"{sentence}{more}.")


def judge_baselines(baselines: Sequence[Baseline]) -> Iterator[Verdict]:
    """A verdict for each blind answer that a person may be misled by."""
    for one in baselines:
        if not one.misleads:
            continue
        high = one.percent >= HIGH_BASELINE.get(one.answer, HIGH_BASELINE["default"])
        sentence = f"{capital(one.answer)}: right for {one.percent:.1f} % of {one.of:,} {one.what}"
        more = ", without a look at the post: a score near it shows nothing" if high else ""
        yield Verdict(YELLOW if high else GREEN, "blind answers", f"{sentence}{more}.")


def level_of(value: float, red: float, yellow: float) -> str:
    return RED if value >= red else YELLOW if value >= yellow else GREEN


def decimals(value: float) -> str:
    """A share with two decimals, without the zero in front; rounded down, so that it is 1 only where it is 1."""
    return "1" if value >= 1 else f"{int(100 * value + 1e-9) / 100:.2f}".lstrip("0")


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


__all__ = ["GREEN", "LEAST_PERMUTATIONS", "LEVELS", "RED", "YELLOW", "Verdict", "judge"]
