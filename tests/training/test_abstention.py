"""The score limits that keep a share of the right answers: what is guaranteed, and what a run does with it."""

import numpy as np
import pytest
from tiny import tiny_config

from modeling_i2srm import I2SRMConfig
from modeling_i2srm.training.abstention import (
    SHARES,
    coverage_interval,
    find_limits,
    fit_abstention,
    measure_abstention,
    rank,
)
from modeling_i2srm.training.calibration import FEWEST


def test_the_coverage_of_exchangeable_scores_is_that_of_the_beta_binomial_distribution():
    rng = np.random.default_rng(0)
    count, new, repeats = 149, 200, 2000
    held_out, later = rng.beta(5, 1, (repeats, count)), rng.beta(5, 1, (repeats, new))
    limits = [find_limits(scores)["0.9"] for scores in held_out[:50]]
    k = rank(count, 90)
    exact = np.sort(held_out, axis=1)[:, k - 1]
    assert limits == exact[:50].tolist()
    covered = (later >= exact[:, None]).mean(1)
    assert covered.mean() == pytest.approx(1 - k / (count + 1), abs=0.002) and 1 - k / (count + 1) >= 0.9
    low, high = coverage_interval(count, new, 90)
    inside = ((covered >= low) & (covered <= high)).mean()
    assert 0.945 < inside < 0.97 and high - low < 0.13  # the ends of a discrete distribution are inside
    higher = (later >= np.sort(held_out, axis=1)[:, [k + 9]]).mean(1)
    assert ((higher >= low) & (higher <= high)).mean() < 0.8  # another limit would be seen


@pytest.mark.parametrize("count", [1, 9, 10, 99, 100, 777])
def test_no_share_is_promised_that_the_number_of_answers_does_not_give(count):
    scores = [n / 1000 for n in range(1, count + 1)]
    for share, limit in find_limits(scores).items():
        below = sum(score < limit for score in scores)
        assert (below + (limit > 0)) / (count + 1) <= 1 - float(share) + 1e-9
        assert limit > 0 or (count + 1) * (1 - float(share)) < 1 + 1e-9
    assert list(find_limits(scores)) == [f"{share / 100:g}" for share in SHARES]
    assert coverage_interval(8, 10, 90) == [1.0, 1.0]


def pair(predicted: str, gold: str, score: float) -> dict:
    return {"predicted": predicted, "gold": gold, "head": {}, "score": score}


RIGHT = [pair("peer", "peer", n / 100) for n in range(1, 100)]
OTHERS = [pair("None", "None", 0.001)] * 20 + [pair("peer", "None", score) for score in (0.05, 0.09, 0.1, 0.5)]


def test_limits_are_those_of_right_answers_and_no_relation_is_no_answer():
    assert fit_abstention(RIGHT + OTHERS)["relations"] == {
        "count": 99,
        "limits": find_limits([n / 100 for n in range(1, 100)]),
    }
    assert fit_abstention(OTHERS + RIGHT[: FEWEST - 1]) is None
    assert fit_abstention([{"predicted": "a", "gold": "a", "score": 0.5}] * FEWEST)["labels"]["limits"]["0.5"] == 0.5


def test_what_is_kept_is_counted():
    [(kind, one)] = measure_abstention(RIGHT + OTHERS, fit_abstention(RIGHT)).items()
    assert (kind, one["limit"], one["right"], one["wrong"]) == ("relations", 0.1, 99, 4)
    assert (one["covered"], one["withheld"]) == (90 / 99, 0.5)
    assert (one["precision"], one["kept_precision"]) == (99 / 103, 90 / 92)
    assert one["interval"][0] < 0.9 < one["interval"][1]
    assert measure_abstention(OTHERS, fit_abstention(RIGHT)) == {}


# The configuration


def limited() -> I2SRMConfig:
    return tiny_config(abstention={"entities": {"count": 99, "limits": find_limits([n / 100 for n in range(1, 100)])}})


@pytest.mark.parametrize(("coverage", "limit"), [(0.9, 0.1), (0.895, 0.1), (0.905, 0.09), (0.99, 0.01), (0.2, 0.5)])
def test_a_share_between_two_takes_the_limit_that_keeps_more(coverage, limit, tmp_path):
    limited().save_pretrained(tmp_path)
    assert I2SRMConfig.from_pretrained(tmp_path).score_limit("entities", coverage) == limit


@pytest.mark.parametrize("coverage", [0, 1, 0.995, 90, True, "0.9", float("nan")])
def test_shares_out_of_range_are_refused(coverage):
    with pytest.raises(ValueError, match=r"coverage=.* at most 0.99, e.g. coverage=0.9"):
        limited().score_limit("entities", coverage)


def test_a_checkpoint_without_limits_says_how_to_get_them():
    for config in (limited(), tiny_config()):
        with pytest.raises(ValueError, match=r"no score limits of relations.*--calibrate true.*threshold=0.5"):
            config.score_limit("relations", 0.9)


@pytest.mark.parametrize(
    "abstention",
    [
        {"entities": 0.5},
        {"entities": {"limits": {}}},
        {"entities": {"limits": {"0.9": 0.5}}},
        {"entities": {"limits": {"0.99": "high"}}},
        {"entities": {"limits": {"0.99": 1.5}}},
        [0.5],
    ],
)
def test_limits_that_cannot_be_read_are_refused(abstention):
    with pytest.raises(ValueError, match=r"^abstention=.*e\.g\. abstention="):
        tiny_config(abstention=abstention)
