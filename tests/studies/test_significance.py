import numpy as np
import pytest
from seqeval.metrics import f1_score
from sklearn.metrics import f1_score as relation_f1

from modeling_i2srm.studies.report import Counted, on_the_same_posts
from modeling_i2srm.studies.significance import adjusted, compare, f1, post_counts

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def random_counts(seed: int, right: float, posts: int = 200) -> np.ndarray:
    """One gold and one found label a post, right with a probability."""
    hits = np.random.default_rng(seed).random(posts) < right
    return np.stack([hits, np.ones(posts), np.ones(posts)], 1).astype(float)


def test_counts_of_tags_give_the_f1_of_seqeval():
    generator = np.random.default_rng(0)
    records = [
        {name: [TAGS[i] for i in generator.integers(0, 5, 9)] for name in ("gold", "predicted")} for _ in range(40)
    ]
    expected = f1_score([r["gold"] for r in records], [r["predicted"] for r in records])
    assert f1(post_counts(records).sum(0)) == pytest.approx(expected) and 0 < expected < 1


def test_counts_of_relations_give_the_micro_f1_without_none():
    generator = np.random.default_rng(0)
    names = ["None", "peer", "member"]
    records = [{name: names[generator.integers(0, 3)] for name in ("gold", "predicted")} for _ in range(60)]
    records = [{**record, "head": {"start": 0, "end": 1}} for record in records]
    gold, predicted = [r["gold"] for r in records], [r["predicted"] for r in records]
    expected = relation_f1(gold, predicted, labels=["peer", "member"], average="micro")
    assert f1(post_counts(records).sum(0)) == pytest.approx(expected) and 0 < expected < 1
    named = [{key: "no_relation" if name == "None" else name for key, name in record.items()} for record in records]
    assert (post_counts(named) == post_counts(records)).all()


def test_runs_of_different_posts_are_compared_on_those_that_both_have(caplog):
    one, other = random_counts(0, 0.5, 40), random_counts(1, 0.9, 40)
    ids = [f"t{i}" for i in range(40)]
    ours, theirs = on_the_same_posts("b", [Counted(ids[1:], one[1:])], [Counted(ids[::-1][1:], other[::-1][1:])])
    shared = [place for place in sorted(range(40), key=str) if 0 < place < 39]
    assert np.array_equal(ours[0], one[shared]) and np.array_equal(theirs[0], other[shared])
    assert "setting 'b' is compared with its reference on 38 of 39 test posts" in caplog.text
    assert on_the_same_posts("b", [Counted(ids, one)], [Counted(ids, other)])[1][0] is other
    with pytest.raises(ValueError, match="setting 'b': predictions of other posts .* ids that repeat"):
        on_the_same_posts("b", [Counted(["t"] * 2, one[:2])], [Counted(["t", "u"], one[:2])])


def test_no_label_at_all_is_an_f1_of_zero():
    assert f1(post_counts([{"gold": "None", "predicted": "None", "head": {}}]).sum(0)) == 0


@pytest.mark.parametrize("names", [["positive", "neutral", "negative"], ["none", "other"]])
def test_every_label_of_a_post_counts_whatever_its_name(names):
    generator = np.random.default_rng(0)
    records = [{name: names[generator.integers(0, len(names))] for name in ("gold", "predicted")} for _ in range(60)]
    accuracy = np.mean([record["gold"] == record["predicted"] for record in records])
    assert f1(post_counts(records).sum(0)) == pytest.approx(accuracy) and 0 < accuracy < 1


def test_p_of_few_posts_is_the_share_of_all_ways_to_swap():
    """One model right on all of 6 posts, the other on none: of the 64 ways to swap, 2 are as extreme."""
    right, wrong = np.array([[1.0, 1, 1]] * 6), np.array([[0.0, 1, 1]] * 6)
    found = compare([right], [wrong])
    assert found.difference == 1 and found.p == pytest.approx(2 / 64)
    assert (found.low, found.high) == (1, 1)


def test_the_interval_is_that_of_a_difference_of_shares():
    """With one label per post F1 is the share of right posts, so the interval is mean ± 1.96 standard errors."""
    ours, theirs = random_counts(1, 0.8, 400), random_counts(2, 0.6, 400)
    found = compare([ours], [theirs])
    differences = ours[:, 0] - theirs[:, 0]
    error = differences.std() / 20
    assert found.difference == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.02)
    assert found.p < 0.001


def test_without_an_effect_small_ps_are_as_rare_as_they_say():
    ps = [compare([random_counts(i, 0.7, 60)], [random_counts(999 + i, 0.7, 60)], 200).p for i in range(40)]
    assert 0.3 < np.mean(ps) < 0.75 and sum(p < 0.05 for p in ps) <= 6


def test_seeds_are_averaged_and_both_sides_are_treated_alike():
    ours, theirs = [random_counts(i, 0.8) for i in (1, 2)], [random_counts(i, 0.7) for i in (3, 4)]
    one, other = compare(ours, theirs), compare(theirs, ours)
    assert one.difference == pytest.approx(
        np.mean([f1(a.sum(0)) - f1(b.sum(0)) for a, b in zip(ours, theirs, strict=True)])
    )
    assert one.difference == pytest.approx(-other.difference) and one.p == pytest.approx(other.p, abs=0.02)
    assert compare(ours, theirs) == one
    with pytest.raises(ValueError, match="200 posts with 2 seeds against 200 with 1"):
        compare(ours, theirs[:1])


def test_adjusting_for_several_questions():
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])  # p * 3 / rank, never falling
    assert adjusted([]) == []
