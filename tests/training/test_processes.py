"""Two processes give what one process gives on their joint batch, without AttnMixup or with it gathered."""

import json
from functools import partial
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_rows import rows
from two_processes import CASES, SLOW, evaluate_stream, main, train

from modeling_i2srm.support.processes import loss_shares, without_repeats
from modeling_i2srm.training.step_guard import JOINT_LOSS_PARTS, LOSS_PARTS


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory) -> Path:
    """Where two processes have put what they trained: the cases of the tests that are selected."""
    folder = tmp_path_factory.mktemp("two_processes")
    tests = [item for item in request.session.items if item.name.startswith("test_two_processes_train_and_predict")]
    names = [item.callspec.params["name"] for item in tests]
    for done in forked.run_together(partial(main, folder, names), folder / "printed"):
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]
)
def test_two_processes_train_and_predict_as_one(folder, tmp_path, name):
    weights, log, predictions, loss = train(name, tmp_path, processes=1)
    for rank in (0, 1):
        found = load_file(folder / f"{name}-{rank}.safetensors")
        torch.testing.assert_close(found, weights, rtol=1e-5, atol=1e-7)
    found, found_loss = json.loads((folder / f"{name}.json").read_text())
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert len(found) == len(log)
    for entry, expected in zip(found, log, strict=True):
        parts = ["loss", "grad_norm", *(JOINT_LOSS_PARTS if name.startswith("graphs") else LOSS_PARTS)]
        values = [{part: one[part] for part in parts} for one in (entry, expected)]
        assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-7, nan_ok=True)
    np.testing.assert_allclose(np.load(folder / f"{name}.npy"), predictions, rtol=1e-5, atol=1e-6)
    if name == "entities, 20 steps":  # as they were when the record was made
        record = json.loads((Path(__file__).parents[1] / "artifacts" / "two_processes.json").read_text())
        steps = [[entry[part] for part in ("loss", "grad_norm", *LOSS_PARTS)] for entry in log]
        np.testing.assert_allclose(steps, record["steps"], rtol=1e-5, atol=1e-7)
        assert loss == pytest.approx(record["loss"], rel=1e-5) and len(steps) == 20


def test_two_processes_evaluate_each_row_of_a_stream_once(folder, tmp_path):
    found, expected = json.loads((folder / "stream.json").read_text()), evaluate_stream(tmp_path, processes=1)
    assert found["rows"] == expected["rows"] == 23
    assert found["tags"] == expected["tags"] == [tag for row in rows(23) for tag in row["ner_tags"]]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def batch(size: int = 3) -> dict:
    return {
        "input_ids": torch.arange(2 * size).view(size, 2),
        "labels": torch.arange(size),
        "pixel_values": torch.rand(size, 2, 3, 4, 4),
    }


@pytest.mark.parametrize("rows, process, own", [(6, 0, 3), (6, 1, 3), (4, 0, 3), (4, 1, 1), (2, 0, 2)])
def test_rows_that_fill_up_are_left_out(rows, process, own):
    whole = batch()
    found = without_repeats(whole, rows, process)
    assert all(torch.equal(found[name], whole[name][:own]) for name in whole)
    kept = without_repeats(whole, rows, process, keep_shape=True)
    assert torch.equal(kept["input_ids"], whole["input_ids"]) and len(kept["pixel_values"]) == 3
    assert kept["labels"].tolist() == whole["labels"][:own].tolist() + [-100] * (3 - own)
    if own < 3:
        assert kept["image_mask"].tolist() == [[1, 1]] * own + [[0, 0]] * (3 - own)
    assert whole["labels"].tolist() == [0, 1, 2] and "image_mask" not in whole


def test_a_process_without_rows_keeps_one_that_does_not_count():
    found = without_repeats(batch(), 2, 1)
    assert found["input_ids"].tolist() == [[0, 1]] and found["labels"].tolist() == [-100]
    assert found["image_mask"].tolist() == [[0, 0]] and len(found["pixel_values"]) == 1


def test_means_of_the_processes_add_up_to_the_mean_of_all():
    values = [torch.tensor([1.0, 5.0]), torch.tensor([3.0]), torch.tensor([])]
    counts = torch.tensor([len(value) for value in values], dtype=torch.float)
    shares = loss_shares(counts, counts.sum(), len(values))
    means = torch.stack([value.sum() / max(len(value), 1) for value in values])
    assert float((means * shares).mean()) == pytest.approx(3.0)
    assert loss_shares(torch.zeros(2), torch.zeros(2), 2).tolist() == [0, 0]
