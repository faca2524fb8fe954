"""How far scores can be believed: reliability, temperatures, and what a run does with its validation posts."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import tiny_config, tiny_inputs
from tiny_runs import run
from torch.nn import functional as F

from modeling_i2srm import (
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
)
from modeling_i2srm.training import run as training_run
from modeling_i2srm.training.calibration import (
    FEWEST,
    calibrate,
    collect_likelihoods,
    divide_scores,
    fit_temperature,
    measure_reliability,
    scored_answers,
    summarize_reliability,
    without_temperatures,
)
from modeling_i2srm.training.figures import draw_reliability
from modeling_i2srm.training.run import split_validation

# Reliability


def test_scores_that_are_right_as_often_as_they_say_have_no_error():
    scores = [0.2] * 10 + [0.8] * 10
    right = [True] * 2 + [False] * 8 + [True] * 8 + [False] * 2
    one = measure_reliability(scores, right, bins=2)
    assert (one.ece, one.accuracy, one.confidence, one.count) == (0, 0.5, 0.5, 20)
    assert one.brier == pytest.approx(0.2 * 0.8) and one.bins == [(0.2, 0.2, 10), (0.8, 0.8, 10)]


def test_the_error_is_the_mean_distance_over_bins_of_equally_many_answers():
    rng = np.random.default_rng(0)
    scores, right = rng.uniform(size=97), rng.uniform(size=97) < 0.5
    order = np.argsort(scores)
    expected, start = 0.0, 0
    for size in [7] * 7 + [6] * 8:  # 97 in 15 parts
        part = order[start : start + size]
        expected += size * abs(scores[part].mean() - right[part].mean())
        start += size
    one = measure_reliability(scores, right)
    assert start == 97 and one.ece == pytest.approx(expected / 97, abs=1e-6)
    assert [count for _, _, count in one.bins] == [7] * 7 + [6] * 8


def test_the_error_by_chance_is_that_of_answers_that_are_right_as_often_as_their_scores_say():
    rng = np.random.default_rng(0)
    scores = rng.beta(4, 1, size=600)
    drawn = [measure_reliability(scores, rng.uniform(size=600) < scores) for _ in range(2000)]
    assert drawn[0].ece_by_chance == pytest.approx(np.mean([one.ece for one in drawn]), rel=0.02)
    assert measure_reliability([0.0, 1.0], [False, True]).ece_by_chance == 0


def test_the_risk_of_the_answers_kept_falls_if_wrong_ones_have_low_scores():
    good = measure_reliability([0.9, 0.8, 0.7, 0.1], [True, True, True, False])
    bad = measure_reliability([0.9, 0.8, 0.7, 0.1], [False, True, True, True])
    assert good.aurc == pytest.approx(1 / 4 / 4) and bad.aurc == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


@pytest.mark.parametrize(("scores", "right"), [([], []), ([0.5], [True, False])])
def test_there_is_an_answer_for_each_score(scores, right):
    with pytest.raises(ValueError, match="give a score for each"):
        measure_reliability(scores, right)


TAGGED = {
    "gold": ["B-PER", "I-PER", "O", "B-LOC"],
    "predicted": ["B-PER", "I-PER", "O", "B-ORG"],
    "entities": [
        {"entity": "PER", "start": 0, "end": 2, "score": 0.9},
        {"entity": "ORG", "start": 3, "end": 4, "score": 0.4},
    ],
}
RELATED = {"gold": "peer", "predicted": "None", "head": {}, "tail": {}, "score": 0.6}
LABELLED = {"gold": "happy", "predicted": "happy", "score": 0.7}


def graph(regions=(0, -1), relations=True) -> dict:
    """A post of a joint model: three entities, of which the last is not annotated, and two relations."""
    spans, labels = [(0, 1), (2, 3), (4, 5)], ["PER", "LOC", "ORG"]
    entities = [
        {"start": s, "end": e, "label": label, "score": 0.9, "region": region, "region_score": 0.8}
        for (s, e), label, region in zip(spans, labels, (0, 0, -1), strict=True)
    ]
    gold = [
        {"start": s, "end": e, "label": label, "region": region}
        for (s, e), label, region in zip(reversed(spans[:2]), ("LOC", "MISC"), reversed(regions), strict=True)
    ]
    triples = [{"head": 0, "tail": 1, "label": "lives_in", "score": 0.5}]
    triples.append({"head": 0, "tail": 2, "label": "peer", "score": 0.4})
    right = [{"head": 1, "tail": 0, "label": "lives_in"}] if relations else None
    return {"entities": entities, "relations": triples, "gold": {"entities": gold, "relations": right}}


def test_answers_of_every_task_are_scored():
    assert scored_answers([TAGGED]) == {"entities": [("PER", 0.9, True), ("ORG", 0.4, False)]}
    assert scored_answers([RELATED]) == {"relations": [("None", 0.6, False)]}
    assert scored_answers([LABELLED]) == {"labels": [("happy", 0.7, True)]}
    # The type of the first entity is wrong, the relation between the first two is right whatever the types, and that
    # with an entity that is not annotated is left out.
    assert scored_answers([graph()]) == {
        "entities": [("PER", 0.9, False), ("LOC", 0.9, True), ("ORG", 0.9, False)],
        "relations": [("lives_in", 0.5, True)],
        "regions": [("object", 0.8, True), ("object", 0.8, False)],
    }
    assert set(scored_answers([graph(regions=(None, None), relations=False)])) == {"entities"}


def test_the_summary_has_an_error_for_each_label(tmp_path):
    summary = summarize_reliability([TAGGED, TAGGED])
    assert summary["entities"]["count"] == 4 and summary["entities"]["ece"] == pytest.approx(0.25)
    assert summary["entities"]["labels"] == {"ORG": {"ece": 0.4, "count": 2}, "PER": {"ece": 0.1, "count": 2}}
    assert json.loads(json.dumps(summary)) and summarize_reliability([]) == {}
    draw_reliability(summary, tmp_path / "one.png")
    draw_reliability({}, tmp_path / "none.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size[0] > 300
    assert not (tmp_path / "none.png").exists()


# Temperatures


def test_the_temperature_of_scores_that_are_too_sure():
    logits, labels = torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    temperature = fit_temperature(lambda t: F.cross_entropy(logits / t, labels).item())
    assert temperature == pytest.approx(4 / math.log(3), rel=1e-3)  # 3 of 4 are right: softmax gives 3/4


def joint_batch() -> dict:
    inputs = tiny_inputs(batch=4, labels=True)
    spans = torch.tensor([[[0, 1], [1, 2]]] * 4)
    relations = torch.tensor([[[-100, 1], [0, -100]]] * 4)
    return {**inputs, "entity_spans": spans, "relation_labels": relations, "region_labels": torch.tensor([[0, -1]] * 4)}


def tagger(**settings):
    return I2SRMForTokenClassification(tiny_config(**settings)), tiny_inputs(batch=4, labels=True), {"tags": "logits"}


def posts_with(**labels) -> dict:
    return {**{name: value for name, value in tiny_inputs(batch=4).items() if name != "word_mask"}, **labels}


def relation():
    head, tail = torch.zeros(2, 4, 9, dtype=torch.long)
    head[:, 2], tail[:, 4] = 1, 1
    batch = posts_with(labels=torch.tensor([0, 1, 2, -100]), head_mask=head, tail_mask=tail)
    return I2SRMForRelationClassification(tiny_config(id2label=dict(enumerate("abc")))), batch, {"relations": "logits"}


def post():
    batch = posts_with(labels=torch.tensor([0, 1, 2, -100]))
    return I2SRMForSequenceClassification(tiny_config(id2label=dict(enumerate("abc")))), batch, {"labels": "logits"}


def joint():
    config = tiny_config(relation_labels=["None", "peer", "lives_in"], relation_loss_weight=1.0)
    kinds = {"tags": "logits", "relations": "relation_logits", "regions": "region_logits"}
    return I2SRMForJointExtraction(config), joint_batch(), kinds


# For each head a model, a batch with labels, and the logits by kind of score.
CASES = {
    "tagger": tagger,
    "no CRF": lambda: tagger(use_crf=False),
    "relation": relation,
    "post": post,
    "joint": joint,
}


def case(name: str):
    torch.manual_seed(0)
    return CASES[name]()


@pytest.mark.parametrize("name", CASES)
def test_dividing_weights_divides_the_logits_and_their_likelihood_is_that_of_the_loss(name):
    model, batch, kinds = case(name)
    model.eval()
    with torch.no_grad():
        before = model(**batch)
    likelihoods = {kind: value for kind, (_, value) in collect_likelihoods(model, [batch]).items()}
    assert likelihoods.keys() == kinds.keys()
    temperatures = {kind: 1.5 + place for place, kind in enumerate(kinds)}
    expected = {kind: likelihoods[kind](temperature) for kind, temperature in temperatures.items()}
    divide_scores(model, temperatures)
    with torch.no_grad():
        after = model(**batch)
    for kind, field in kinds.items():
        old, new = before[field], after[field]
        usable = old > torch.finfo(old.dtype).min / 2  # not those of absent crops
        assert torch.allclose(new[usable] * temperatures[kind], old[usable], atol=1e-5)
    again = {kind: value(1.0) for kind, (_, value) in collect_likelihoods(model, [batch]).items()}
    assert again == pytest.approx(expected, rel=1e-5) and again != pytest.approx(
        {kind: value(1.0) for kind, value in likelihoods.items()}, rel=1e-5
    )
    if name == "joint":
        assert again["relations"] == pytest.approx(after.relation_loss.item(), rel=1e-4)
        assert again["regions"] == pytest.approx(after.region_loss.item(), rel=1e-4)
    elif name in ("relation", "post", "no CRF"):
        assert again[next(iter(kinds))] == pytest.approx(after.task_loss.item(), rel=1e-4)
    assert model.config.temperatures == temperatures
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    with without_temperatures(model), torch.no_grad():
        plain = {kind: value(1.0) for kind, (_, value) in collect_likelihoods(model, [batch]).items()}
    assert plain == pytest.approx({kind: value(1.0) for kind, value in likelihoods.items()}, rel=1e-4)
    assert model.config.temperatures == temperatures
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_the_best_tags_stay_and_the_temperature_is_in_the_checkpoint(tmp_path):
    model, batch, _ = case("tagger")
    model.eval()
    tags = model.decode(model(**batch).logits, batch["word_mask"])
    divide_scores(model, {"tags": 3.0})
    model.save_pretrained(tmp_path)
    again = I2SRMForTokenClassification.from_pretrained(tmp_path).eval()
    assert again.config.temperatures == {"tags": 3.0}
    assert again.decode(again(**batch).logits, batch["word_mask"]) == tags


def test_a_head_with_few_labels_stays_as_it_is(caplog):
    model, batch, _ = case("joint")
    model.train()
    with caplog.at_level("INFO", logger="modeling_i2srm"):
        temperatures = calibrate(model, [batch] * 10)
    assert set(temperatures) == {"tags", "relations", "regions"} and model.training
    assert caplog.text.count("negative log-likelihood") == 3
    model, batch, _ = case("relation")
    with caplog.at_level("INFO", logger="modeling_i2srm"):
        assert calibrate(model, [batch]) == {} and model.config.temperatures is None
    assert f"3 labels to fit a temperature on, {FEWEST} needed" in caplog.text


def test_temperatures_lower_the_likelihood_of_what_they_are_fitted_on():
    model, batch, _ = case("joint")
    divide_scores(model, {"tags": 0.05, "relations": 0.05, "regions": 0.05})  # much too sure
    before = {kind: value(1.0) for kind, (_, value) in collect_likelihoods(model.eval(), [batch] * 10).items()}
    temperatures = calibrate(model, [batch] * 10)
    after = {kind: value(1.0) for kind, (_, value) in collect_likelihoods(model, [batch] * 10).items()}
    assert all(temperatures[kind] > 1 and after[kind] < before[kind] for kind in before)


# Runs


class Options:
    """What `split_validation` reads of a run's arguments."""

    def __init__(self, calibrate: bool = True, choose: bool = True, train: bool = True):
        self.run = type("Run", (), {"calibrate": calibrate})
        self.training = type("Training", (), {"do_train": train, "load_best_model_at_end": choose})


def as_rows(posts) -> Dataset:
    return Dataset.from_dict({"number": list(range(len(posts))), "tokens": [["post", str(post)] for post in posts]})


@pytest.mark.parametrize(
    ("options", "rows", "choosing", "held_out"),
    [
        (Options(), 2 * FEWEST, range(0, 2 * FEWEST, 2), range(1, 2 * FEWEST, 2)),
        (Options(), 2 * FEWEST - 1, range(2 * FEWEST - 1), None),
        (Options(choose=False), 3, range(3), range(3)),
        (Options(calibrate=False), 200, range(200), None),
        (Options(train=False), 200, range(200), None),
    ],
)
def test_posts_that_choose_the_checkpoint_do_not_calibrate_it(options, rows, choosing, held_out):
    first, second = split_validation(options, as_rows(range(rows)))
    assert first["number"][:] == list(choosing)
    assert second is None if held_out is None else second["number"][:] == list(held_out)
    assert split_validation(options, None) == (None, None)


def test_the_pairs_of_a_post_are_on_one_side():
    posts = [post for post in range(FEWEST) for _ in "ab"]  # two directions of each pair
    first, second = split_validation(Options(), as_rows(posts))
    sides = [{tokens[1] for tokens in side["tokens"]} for side in (first, second)]
    assert not sides[0] & sides[1] and len(first) == len(second) == FEWEST
    assert split_validation(Options(), as_rows([0] * 2 * FEWEST))[1] is None
    uneven = [0] * 9 * FEWEST + [1 + n // 6 for n in range(6 * FEWEST)]  # one post of many pairs
    assert [len(side) for side in split_validation(Options(), as_rows(uneven))] == [9 * FEWEST, 6 * FEWEST]


def test_a_run_calibrates_its_model(posts, tmp_path, caplog, monkeypatch):
    limits = {"entities": {"count": 1, "limits": {"0.9": 0.5, "0.99": 0.25}}}
    held_out = []
    monkeypatch.setattr(training_run, "fit_abstention", lambda records: held_out.append(records) or limits)
    settings = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "use_images": False}
    with caplog.at_level("INFO", logger="modeling_i2srm"):
        results = run(posts, tmp_path / "on", **settings)
        plain = run(posts, tmp_path / "off", calibrate=False, **settings)
    assert caplog.text.count("scores of tags: temperature") == 1
    on, off = (I2SRMForTokenClassification.from_pretrained(tmp_path / name) for name in ("on", "off"))
    assert off.config.temperatures is None and on.config.temperatures.keys() == {"tags"}
    temperature = on.config.temperatures["tags"]
    for name in ("classifier.weight", "crf.transitions"):
        assert torch.allclose(on.state_dict()[name] * temperature, off.state_dict()[name], rtol=1e-3)
    for name, value in plain["text_only"].items():
        if name.endswith("f1"):
            assert results["text_only"][name] == value, name
    assert results["reliability"].keys() <= {"entities"}
    assert results["unscaled"].keys() >= {"lenient_f1", "strict_f1", "reliability"} and "unscaled" not in plain
    assert results["unscaled"]["strict_f1"] == results["text_only"]["strict_f1"]  # the best tags stay
    [records] = held_out
    assert len(records) == results["truncation"]["validation"]["posts"] and "entities" in records[0]
    assert on.config.abstention == limits and off.config.abstention is None
