"""The soak of the pipelines, a short one: threads and processes answer as one after the other does."""

import json
import subprocess
import sys

import pytest

from benchmarks import soak


def test_posts_are_the_same_for_the_same_number_and_of_all_kinds():
    pictures = soak.make_pictures()
    posts = [soak.make_post(number, pictures) for number in range(1000)]
    assert posts == [soak.make_post(number, pictures) for number in range(1000)]
    lengths = [len(post["text"].split()) for post in posts]
    assert min(lengths) == 1 and max(lengths) > 150
    assert 600 < sum("image" in post for post in posts) < 730 and {len(p.get("objects", ())) for p in posts} == {
        0,
        1,
        2,
        3,
    }


def test_answers_are_compared_with_a_tolerance_of_scores_alone():
    answer = [[{"entity": "PER", "score": 0.5, "start": 3}], {"label": "met", "score": 0.25}]
    for found, expected in (
        ([[{"entity": "PER", "score": 0.500001, "start": 3}], {"label": "met", "score": 0.25}], True),
        ([[{"entity": "PER", "score": 0.5001, "start": 3}], {"label": "met", "score": 0.25}], False),
        ([[{"entity": "LOC", "score": 0.5, "start": 3}], {"label": "met", "score": 0.25}], False),
        ([[{"entity": "PER", "score": 0.5, "start": 4}], {"label": "met", "score": 0.25}], False),
        ([[], {"label": "met", "score": 0.25}], False),
        (None, False),
    ):
        assert soak.same(found, answer) is expected


def test_the_slope_is_that_after_the_warm_up():
    assert soak.slope([100, 400, *(500 + 0.5 * i for i in range(8))], 1000) == pytest.approx(500)
    assert soak.slope([100, 400], 1000) == 0


@pytest.mark.slow
def test_a_short_soak():
    command = [sys.executable, soak.__file__, "--posts", "500", "--sample", "50"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    assert done.returncode == 0
    measured = json.loads(done.stdout)
    assert measured.pop("posts") == 500 and measured.pop("distinct_answers") > 450
    assert len(measured) == 3
    for way, result in measured.items():
        assert (result["answers"], result["wrong"]) == (500, 0), way
        assert 0 < result["p50_ms"] < result["p99_ms"] <= result["max_ms"]
        for memory in result["memory_mb"]:
            assert memory[-1] - memory[2] < 40, way  # in so few posts the pools of the allocator still fill


def test_a_wrong_answer_ends_the_soak(monkeypatch):
    monkeypatch.setattr(soak, "measure", lambda *_: {"wrong": 1, "answers": 20})
    monkeypatch.setattr(soak, "save_models", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["soak.py", "--posts", "20"])
    with pytest.raises(SystemExit) as ended:
        soak.main()
    assert ended.value.code == 1
