"""The speed benchmarks run, and measure what they say."""

import json
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import gpu, post_growth
from benchmarks.infer import Side
from benchmarks.scaling import growth
from benchmarks.train import whole_runs
from benchmarks.workload import MatrixProducts, build, grouped_lengths, make_batches, make_text
from modeling_i2srm import I2SRMDataCollator

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *words: str) -> dict:
    command = [sys.executable, str(BENCHMARKS / script), *words]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout)


def test_made_up_texts_are_as_long_as_real_ones_and_grouped_by_length():
    generator = np.random.default_rng(0)
    for task, mean, deviation in (("ner", 42.1, 9.5), ("re", 30.7, 6.4)):
        batches = np.array(grouped_lengths(task, 8, 50, generator))
        assert batches.mean() == pytest.approx(mean, abs=1) and batches.std() == pytest.approx(deviation, abs=1)
        assert (np.diff(batches.ravel()) >= 0).all() and np.ptp(batches, axis=1).mean() < 3


@pytest.mark.parametrize("task", ["ner", "re"])
def test_made_up_posts_are_posts_of_the_task(task):
    model, processor = build(task, "tiny")
    (batch,) = make_batches(task, model.config, 4, 1)
    assert [len(post["objects"]) for post in batch] == [model.config.num_objects] * 4
    text = make_text(task, model.config, 14, np.random.default_rng(0))
    assert {len(values) for values in text.values() if isinstance(values, list)} == {14}
    assert model(**processor.pad([text]))["loss"].isfinite()


def test_the_floor_counts_the_products_of_the_text_encoder(monkeypatch):
    config = build("ner", "tiny")[0].config
    shapes = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: shapes.append((a.shape, b.shape)) or product(a, b))
    MatrixProducts(config, torch.float32, "cpu", backward=False)(posts=3, tokens=7)
    assert len(shapes) == 2 * (6 + 2)  # layers x (four projections, two of the feed-forward part, two of the attention)
    assert (torch.Size([12, 7, 8]), torch.Size([12, 8, 16 + 7])) in shapes
    assert (torch.Size([21, 32]), torch.Size([32, 48])) in shapes
    forward = len(shapes)
    MatrixProducts(config, torch.float32, "cpu", backward=True)(posts=3, tokens=7)
    assert len(shapes) == forward + 3 * forward


@pytest.mark.slow  # a process for each side
@pytest.mark.parametrize("task", ["re", "ner"])
def test_training_steps(task):
    sides = ["recipe", "cached:bf16", "fill"]
    result = run("train.py", "--task", task, "--size", "tiny", "--batch_size", "4", "--steps", "2", "--sides", *sides)
    for side in sides:
        assert result[side]["samples_per_second"] == pytest.approx(4 / result[side]["wall_seconds"], rel=0.1)  # rounded
        assert result[side]["times_faster"] == pytest.approx(
            result["recipe"]["wall_seconds"] / result[side]["wall_seconds"], abs=0.02, rel=0.01
        )
    assert result["whole_runs_times_faster"]["cached:bf16"].keys() == {"1_epochs", "5_epochs"}
    assert 1 > result["recipe"]["loader_share"] > 0 == result["fill"]["loader_share"]
    assert all(result[side]["peak_megabytes"] > 50 for side in sides)


def test_a_whole_run_fills_the_cache_once():
    seconds = {"recipe": 10.0, "fill": 1.0, "cached": 1.0, "cached:bf16": 0.5}
    assert whole_runs(seconds, "recipe") == {
        "cached": {"1_epochs": 5.0, "5_epochs": 8.33},
        "cached:bf16": {"1_epochs": 6.67, "5_epochs": 14.29},
    }


@pytest.mark.slow
def test_an_unknown_side_is_refused():
    command = [sys.executable, str(BENCHMARKS / "train.py"), "--size", "tiny", "--sides", "cached:fp8"]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "unknown side 'cached:fp8'" in done.stderr


@pytest.mark.slow
def test_the_data_path():
    result = run("data.py", "--rounds", "1", "--posts", "200", "--loader_posts", "8")
    pictures = result["picture"]
    assert list(pictures) == ["600x400", "800x600", "1200x675", "2048x1536"]
    assert pictures["800x600"]["reduced_2"]["max_levels"] == 0 < pictures["800x600"]["reduced_1"]["max_levels"]
    assert all(result["loader_posts_per_second"][f"{workers}_workers"] > 0 for workers in (0, 1, 2))
    assert result["tokenisation_posts_per_second"].keys() == {"one_by_one", "batches"}
    tokens = result["sub_tokens_per_batch"]
    assert tokens["without_padding"] < tokens["longest_grouped"] < tokens["longest"] < tokens["fixed_80"] == 640


@pytest.mark.slow  # a process for each point
def test_growth(tmp_path):
    settings = ["--size", "tiny", "--largest", "2", "--steps", "1", "--output", str(tmp_path / "growth.png")]
    result = run("scaling.py", "--axes", "pictures", *settings)
    points = result["pictures"]["points"]
    assert list(points) == ["0", "1", "2"] and len(result["pictures"]["growth"]["seconds"]) == 1
    assert all(point["seconds"] > 0 and point["megabytes"] > 50 for point in points.values())
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    (point,) = (run("scaling.py", "--size", "tiny", "--axes", "rows", "--point", "40"),)
    assert point.keys() == {"start_seconds", "epoch_seconds", "megabytes"}


def test_the_exponent_of_growth():
    points = {1: {"seconds": 1.0}, 2: {"seconds": 2.0}, 8: {"seconds": 32.0}}
    assert growth(points) == {"seconds": [1.0, 2.0]}


@pytest.mark.parametrize("task", ["ner", pytest.param("re", marks=pytest.mark.slow)])
def test_inference(task, tmp_path):
    sides = ["recipe", "ours", "cached:bf16", "eager", "floor"]
    words = ["--task", task, "--size", "tiny", "--batch_size", "4", "--steps", "1", "--sides", *sides]
    done = forked.run(forked.script(BENCHMARKS / "infer.py", *words), tmp_path / "printed")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for side in sides:
        assert result[side]["samples_per_second"] == pytest.approx(4 / result[side]["wall_seconds"], rel=0.1)  # rounded


@pytest.mark.parametrize("task", ["ner", "re"])
def test_all_sides_of_inference_give_one_answer(task):
    model, processor = build(task, "tiny")
    for parameter in model.parameters():  # a new model's answers would be close calls
        if parameter.dim() > 1 and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    (batch,) = make_batches(task, model.config, 4, 1)
    pictures = I2SRMDataCollator(processor)(batch)["pixel_values"]
    for post, features in zip(batch, model.eval().model.get_visual_features(pictures), strict=True):
        post["visual_features"] = features
    answers = [Side(side, model, processor, task, "cpu").step(batch) for side in ("recipe", "ours", "cached", "eager")]
    assert all(answer == answers[0] for answer in answers) and answers[0]


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_the_cpu_at_a_reduced_size():
    words = ["--device", "cpu", "--sizes", "tiny", "--batch_sizes", "2", "--steps", "1", "--no-compile"]
    arguments = gpu.parser.parse_args(words)
    lines = [
        *gpu.agreement(arguments),
        *gpu.train_and_infer(arguments, "train"),
        *gpu.train_and_infer(arguments, "infer"),
        *gpu.pipelines(arguments),
        *gpu.extractors(arguments),
    ]
    exact = [line for line in lines if line["part"] == "agreement" and line["side"].endswith("float32")]
    assert len(exact) == 4 and all(line["largest_difference"] < 1e-5 for line in exact)
    sides = {line["side"] for line in lines if line["part"] == "train"}
    assert sides == {"floor:bf16", "cached:bf16", "ours:bf16", "recipe:bf16", "cached:fp32", "eager:bf16"}
    assert all(line["samples_per_second"] > 0 for line in lines if line["part"] in ("train", "infer"))
    speeds = {(line["part"], line["side"]): line["posts_per_second"] for line in lines if "posts_per_second" in line}
    dtypes = ("float32", "bfloat16")
    assert {*speeds} == {
        *(("pipelines", f"{side}:{dtype}") for side in ("ours", "transformers") for dtype in dtypes),
        *(("extractor", dtype) for dtype in dtypes),
    }
    assert all(speed > 0 for speed in speeds.values())


@pytest.mark.slow
def test_the_growth_benchmark_measures_and_draws_every_axis(tmp_path, monkeypatch, capsys):
    axes = {"posts": [8], "words": [4, 90], "entities": [1, 2], "crops": [0, 1]}
    monkeypatch.setattr(post_growth, "AXES", axes)
    monkeypatch.setattr(post_growth, "REPEATS", 1)
    monkeypatch.setattr(sys, "argv", ["post_growth.py", "--output", str(tmp_path / "growth.png")])
    before = torch.get_num_threads()
    try:
        post_growth.main()
    finally:
        torch.set_num_threads(before)
    result = json.loads(capsys.readouterr().out)
    assert {*result} == {*axes} and [*result["words"]] == ["4", "90"] and [*result["crops"]] == ["0", "1"]
    assert all(point["milliseconds"] > 0 for points in result.values() for point in points.values())
    assert result["posts"]["8"]["megabytes"] > 0
    with Image.open(tmp_path / "growth.png") as figure:
        assert figure.size[0] > 500


def test_a_side_that_runs_out_of_memory_has_an_error():
    def make():
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert gpu.time_side(make, [[{}]], 1, "cpu") == {"error": "CUDA out of memory"}
