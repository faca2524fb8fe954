"""The load test of the server counts an answer that is not the Extractor's as wrong."""

import json

import pytest
from tiny import SENTENCES

from benchmarks import serve_load
from modeling_i2srm import Extractor


def test_wrong_answers_are_counted(joint):
    extractor = Extractor(joint)
    posts = [{"text": " ".join(text.split()[:4])} for text in SENTENCES[:2]]
    batches = [["0", "1"], ["2"]]
    sent = [[{"id": name, **posts[int(name) % 2]} for name in batch] for batch in batches]
    answers = {
        name: answer.to_json()
        for batch, names in zip(sent, batches, strict=True)
        for name, answer in zip(names, extractor(batch), strict=True)
    }
    alone = [extractor(post).to_dict() for post in posts]
    result = serve_load.check(extractor, posts, alone, answers, batches)
    assert (result["requests"], result["wrong"], result["other_than_alone"]) == (3, 0, 0)
    assert result["largest_score_difference"] < 1e-5
    close = json.loads(answers["1"])
    close["entities"][0]["score"] += 1e-6
    wrong = {"0": answers["0"], "1": json.dumps(close), "2": "429 {}", "3": "503 {}"}  # the last one in no batch
    result = serve_load.check(extractor, posts, alone, wrong, batches)
    assert (result["requests"], result["wrong"], result["other_than_alone"]) == (4, 3, 2)
    assert result["largest_score_difference"] == pytest.approx(1e-6, rel=0.5)


@pytest.mark.parametrize(
    "one, other, difference",
    [
        ({"id": "1", "score": 0.5, "label": "a"}, {"id": "2", "score": 0.25, "label": "a"}, 0.25),
        ([{"start": 1}], [{"start": 2}], float("inf")),
        ([1], [1, 2], float("inf")),
        ({"a": 1}, {"b": 1}, float("inf")),
    ],
)
def test_only_scores_may_differ(one, other, difference):
    assert serve_load.compare(one, other) == difference
