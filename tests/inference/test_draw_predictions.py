"""The page of drawn test posts that a joint run ends with."""

import json
import re
import sys

import pytest
from datasets import load_dataset

from modeling_i2srm.cli import draw_predictions, train
from modeling_i2srm.cli.draw_predictions import draw_run
from modeling_i2srm.training import run


def record(row: dict, **changes) -> dict:
    entities = [{"start": 0, "end": 1, "label": "PER", "score": 0.9, "region": -1}]
    gold = {"entities": [{"start": 0, "end": 1, "label": "LOC", "region": -1}], "relations": []}
    return {"id": row["id"], "tokens": row["tokens"], "entities": entities, "relations": [], "gold": gold} | changes


def write(folder, records: list[dict]):
    (folder / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def test_posts_of_the_test_split_are_drawn(posts, tmp_path, capsys):
    rows = load_dataset(posts, split="test")
    write(tmp_path, [record(row) for row in rows][::-1])
    page = draw_run(tmp_path, posts, count=4)
    assert page == tmp_path / "posts.html"
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"<h2><bdi>Post (.*?)</bdi></h2>", text) == [rows[n]["id"] for n in (9, 7, 4, 2)]
    assert text.count("<figure") == sum((rows[n]["image"] is not None) + len(rows[n]["objects"]) for n in (9, 7, 4, 2))
    assert text.count("<h3>Gold</h3>") == 4 and "PER 0.90" in text and "LOC 1.00" in text
    draw_predictions.main([str(tmp_path), "--dataset", posts])
    assert page.read_text(encoding="utf-8").count("<section>") == len(rows) and str(page) in capsys.readouterr().out


def test_posts_without_ids_are_found_by_their_rows(posts, tmp_path):
    rows = load_dataset(posts, split="test").remove_columns("id")
    rows.to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    write(tmp_path, [record({"id": str(n), "tokens": rows[n]["tokens"]}) for n in (3, 5)])
    page = draw_run(tmp_path, str(tmp_path / "data"), count=2).read_text(encoding="utf-8")
    assert page.count("<section>") == 2 and all(rows[n]["tokens"][-1] in page for n in (3, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"id": "none"}, "post 'none' is not a test post of .*: name the run's data"), ({"gold": None}, "not of a joint")],
)
def test_predictions_of_other_runs_are_refused(posts, tmp_path, changes, message, capsys):
    one = record(load_dataset(posts, split="test")[0], **changes)
    write(tmp_path, [{name: value for name, value in one.items() if value is not None}])
    with pytest.raises(ValueError, match=message):
        draw_run(tmp_path, posts)
    with pytest.raises(SystemExit):
        draw_predictions.main([str(tmp_path), "--dataset", posts])
    assert re.search(message, capsys.readouterr().err)


def test_there_is_at_least_one_post(tmp_path):
    with pytest.raises(ValueError, match=r"count=0 must be 1 or more, e.g. count=20"):
        draw_run(tmp_path, "data", count=0)


def test_a_joint_run_ends_with_the_page(monkeypatch, tmp_path, capsys):
    """The training scripts call it on the main process, with the data of the run."""
    calls = []
    monkeypatch.setattr(draw_predictions, "draw_run", lambda *args, **options: calls.append((args, options)) or "page")
    monkeypatch.setattr(run, "run_task", lambda *_: {})
    monkeypatch.setattr(sys, "argv", ["run", "--dataset", "data", "--output_dir", str(tmp_path), "--image_dir", "/"])
    sys.argv += ["--do_predict", "--use_cpu", "--model_name_or_path", "x"]
    for task in ("mner", "joint"):
        train.main(task)
    assert calls == [((tmp_path, "data"), {"image_dir": "/"})] and "drawn: page" in capsys.readouterr().out
