"""When a model should say "not sure": limits of scores that keep a share of the right answers, by split conformal.

The nonconformity of a right answer is 1 - its score. Of n right answers among held-out posts, which neither train the
model nor choose its checkpoint, the limit of the share 0.9 is the k-th lowest score, k = floor(0.1 (n + 1)); 0, which
keeps all, if k is 0. If a right answer of a new post is exchangeable with these, it scores below the limit with a
probability of at most k / (n + 1) <= 0.1 (Vovk et al., 2005, split conformal prediction). So nine in ten of the right
answers are kept, whatever the scores mean; how many wrong ones are withheld is measured, not guaranteed. Of m right
answers of new posts the number kept is beta-binomial with the parameters n + 1 - k and k.
"""

import logging
from collections.abc import Sequence

from scipy.stats import betabinom

from ..checks import NO_RELATION
from .calibration import FEWEST, scored_answers

logger = logging.getLogger(__name__)

SHARES = (50, 60, 70, *range(80, 100))  # per cent of the right answers that a limit keeps
KINDS = ("entities", "relations", "labels")


def rank(count: int, per_cent: int) -> int:
    """k: which of the right answers, from the lowest score on, is the limit; 0 where none of them is.

    Example:

    >>> rank(99, 90), rank(98, 90), rank(8, 90)
    (10, 9, 0)
    """
    return (count + 1) * (100 - per_cent) // 100


def find_limits(scores: Sequence[float]) -> dict[str, float]:
    """The limit of each of `SHARES`, by the share as a text, from the scores of right answers.

    Example:

    >>> find_limits([n / 100 for n in range(1, 100)])["0.9"]
    0.1
    """
    ordered = sorted(scores)
    ranks = {f"{share / 100:g}": rank(len(ordered), share) for share in SHARES}
    return {share: ordered[k - 1] if k else 0.0 for share, k in ranks.items()}


def answers_to_keep(records: Sequence[dict]) -> dict[str, list[tuple[float, bool]]]:
    """Score of each answer of predictions.jsonl, and whether it is right, by kind; "None" is no relation."""
    return {
        kind: [(score, right) for label, score, right in answers if (kind, label) != ("relations", NO_RELATION)]
        for kind, answers in scored_answers(records).items()
        if kind in KINDS
    }


def fit_abstention(records: Sequence[dict]) -> dict[str, dict] | None:
    """What `I2SRMConfig.abstention` holds, from the predictions of held-out posts.

    Kinds with fewer than `FEWEST` right answers are left out; `None` if that is all of them.
    """
    abstention = {}
    for kind, answers in answers_to_keep(records).items():
        scores = [score for score, right in answers if right]
        if len(scores) < FEWEST:
            logger.info(f"no score limits of {kind}: {len(scores)} right answers of held-out posts, {FEWEST} needed")
            continue
        abstention[kind] = {"count": len(scores), "limits": find_limits(scores)}
    return abstention or None


def measure_abstention(records: Sequence[dict], abstention: dict[str, dict], coverage: float = 0.9) -> dict[str, dict]:
    """What limits keep of the answers to other posts, by kind.

    Args:
        records: of predictions.jsonl.
        abstention: of `fit_abstention`.
        coverage: a share that it holds.

    Returns:
        For each kind: limit; right, the number of right answers, and covered, the share of them that is kept;
        interval, in which that lies 95 times in 100 if the posts are exchangeable; wrong, the number of wrong answers,
        and withheld, the share of them that is withheld; precision of all answers, and kept_precision of those kept.
    """
    measured = {}
    for kind, answers in answers_to_keep(records).items():
        if kind not in abstention or not any(right for _, right in answers):
            continue
        limit, count = abstention[kind]["limits"][f"{coverage:g}"], abstention[kind]["count"]
        right = [score >= limit for score, is_right in answers if is_right]
        wrong = [score >= limit for score, is_right in answers if not is_right]
        kept = sum(right) + sum(wrong)
        measured[kind] = {
            "coverage": coverage,
            "limit": limit,
            "right": len(right),
            "covered": sum(right) / len(right),
            "interval": coverage_interval(count, len(right), round(100 * coverage)),
            "wrong": len(wrong),
            "withheld": 1 - sum(wrong) / len(wrong) if wrong else None,
            "precision": len(right) / len(answers),
            "kept_precision": sum(right) / kept if kept else None,
        }
    return measured


def coverage_interval(count: int, new: int, per_cent: int, probability: float = 0.95) -> list[float]:
    """The interval that holds the share of right answers that are kept, ends included, with a probability.

    Args:
        count: of the right answers that the limit is from.
        new: number of the right answers that it is applied to.
    """
    k = rank(count, per_cent)
    if not k:
        return [1.0, 1.0]
    low, high = betabinom(new, count + 1 - k, k).interval(probability)
    return [float(low) / new, float(high) / new]


__all__ = ["answers_to_keep", "coverage_interval", "find_limits", "fit_abstention", "measure_abstention", "rank"]
