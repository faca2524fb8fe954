"""Presets, and the choice among them."""

import json

import datasets
import pytest
from graph_rows import graph_rows

from modeling_i2srm.support.options import dict_to_argv
from modeling_i2srm.training import presets
from modeling_i2srm.training.arguments import make_parser, parse_arguments
from modeling_i2srm.training.presets import BEST_METRICS, PRESETS, at_hand, choose, read_preset

HERE = ["--use_cpu", "true", "--report_to", "none"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> str:
    """Twelve posts with pictures, and a test split."""
    folder = tmp_path_factory.mktemp("data") / "mine"
    (folder / "data").mkdir(parents=True)
    for split in ("train", "test"):
        graph_rows(12).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return str(folder)


def chosen(argv: list[str], task: str = "joint", processes: int = 1):
    """The parsed arguments that were chosen, and the lines."""
    choice = choose(task, argv, make_parser(task), processes)
    return parse_arguments([*choice.argv, *HERE], task), choice.lines


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_options_of_every_task_and_given_ones_win(tmp_path, name):
    given = ["--dataset", "d", "--output_dir", str(tmp_path), "--preset", name, "--seed", "7", *HERE]
    for task, metric in BEST_METRICS.items():
        training = parse_arguments(given, task).training
        settings = read_preset(name, task)
        assert (training.seed, training.metric_for_best_model) == (7, metric)
        assert training.learning_rate == settings["learning_rate"] and not parse_arguments(given, task).run.overwrite
        if name != "tiny":  # at lower rates than these a model does not learn to see the pictures
            assert 2e-4 <= training.fusion_learning_rate <= 1e-3
        rate = {"tiny": 1e-2, "small": 1e-2, "base": 1e-2, "paper": 5e-2}[name]
        assert (training.head_learning_rate == rate) == (task in ("mner", "joint"))


def test_without_pretrained_encoders_the_small_new_ones_are_chosen(mine, monkeypatch):
    monkeypatch.setattr(presets, "model_info", None)  # the Hub is not asked offline
    arguments, lines = chosen(["--dataset", mine, "--seed", "5"])
    assert arguments.model.from_scratch and arguments.training.seed == 5
    assert arguments.training.output_dir == "runs/mine-joint"
    assert arguments.training.do_train and arguments.training.do_predict and not arguments.training.do_eval
    assert arguments.training.per_device_train_batch_size == 8 and arguments.training.num_train_epochs == 100
    assert lines[0].startswith("preset tiny: small new encoders") and "fusion 0.003, tags 0.01." in lines[3]
    assert len(lines) == 5 and "HF_HUB_OFFLINE is set" in lines[0] and "resnet-18 not in the Hub cache" in lines[0]
    for line, option in zip(lines, ("--preset", "--text_config", "--num_train", "--learning_rate", "-o"), strict=True):
        assert option in line.partition("Change: ")[2]
    assert chosen(["--dataset", mine, "--num_train_epochs", "2"])[0].training.num_train_epochs == 2
    assert chosen(["--dataset", mine], processes=4)[0].training.num_train_epochs == 100


def test_pretrained_encoders_are_chosen_where_they_are_at_hand(mine, monkeypatch):
    monkeypatch.setattr(presets, "at_hand", lambda model: True)
    monkeypatch.setattr(presets, "bf16_is_fast", lambda device: False)
    monkeypatch.setattr(presets.torch.cuda, "is_available", lambda: False)
    arguments, lines = chosen(["--dataset", mine])
    assert "MiniLM" in arguments.model.text_encoder and lines[0].startswith(
        "preset small: a pretrained MiniLM and a frozen ResNet-18 (on a CPU). "
    )
    assert arguments.run.early_stopping_patience == 0  # there is no validation split
    features = f"{presets.constants.HF_HOME}/i2srm_features"
    assert arguments.cache.cache_visual_features == features and f"kept in {features})" in lines[1]
    for other in (["--cache_visual_features", ""], ["--freeze_vision", "false"]):
        arguments, lines = chosen(["--dataset", mine, *other])
        assert not arguments.cache.cache_visual_features and "cache_visual_features" not in lines[1]
    monkeypatch.setattr(presets, "MOST_CACHED", 1)
    assert chosen(["--dataset", mine])[0].cache.cache_visual_features is None
    monkeypatch.setattr(presets.torch.cuda, "is_available", lambda: True)
    assert choose("joint", ["--dataset", mine], make_parser()).argv[:2] == ["--preset", "base"]
    words = ["--dataset", mine, "--use_cpu", "true", "--text_encoder", "a/b"]
    choice = choose("mner", words, make_parser())
    assert choice.argv[:2] == ["--preset", "small"] and "encoders: a/b, microsoft/resnet-18" in choice.lines[1]
    assert choice.lines[0].startswith("preset small: settings for a pretrained MiniLM")
    assert choice.lines[3].startswith("rates: encoders 0.0001, fusion 0.001, head 0.01.")


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_chosen_where_it_is_fast(mine, monkeypatch, fast):
    monkeypatch.setattr(presets, "at_hand", lambda model: True)
    monkeypatch.setattr(presets, "bf16_is_fast", lambda device: fast)
    arguments, lines = chosen(["--dataset", mine, "--use_cpu", "true"])
    assert arguments.training.bf16 == fast
    assert ("CPU, 1 process, bfloat16;" in lines[4]) == ("Change: --bf16 false" in lines[4]) == fast
    arguments, lines = chosen(["--dataset", mine, "--bf16", "false"])
    assert not arguments.training.bf16 and "bfloat16" not in lines[4]
    assert not chosen(["--dataset", mine, "--preset", "tiny"])[0].training.bf16
    argv = choose("joint", ["--dataset", mine, "--fp16", "true"], make_parser()).argv
    assert "--bf16" not in argv
    monkeypatch.setattr(presets.torch.accelerator, "is_available", lambda: True)  # one that is no GPU of CUDA
    monkeypatch.setattr(presets.torch.cuda, "is_available", lambda: False)
    assert "--use_cpu" not in choose("joint", ["--dataset", mine], make_parser()).argv


def test_a_hub_that_does_not_answer_has_nothing(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(presets.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(presets, "model_info", fail)
    assert not at_hand("some/model")
    monkeypatch.setattr(presets, "model_info", lambda *_, **__: True)
    assert at_hand("some/model")


def test_a_checkpoint_keeps_its_encoders(mine, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"text_config": {"hidden_size": 128}}')
    arguments, lines = chosen(["--dataset", mine, "--model", str(tmp_path)])
    assert arguments.model.model_name_or_path == str(tmp_path) and not arguments.model.from_scratch
    assert arguments.config.text_config is None and arguments.training.learning_rate == 2e-3
    assert "its rates suit" in lines[0] and lines[1].startswith(f"encoders: those of {tmp_path}")


@pytest.mark.parametrize("trained", [True, False])
def test_a_checkpoint_with_a_backbone_that_is_trained_has_no_features_to_keep(mine, tmp_path, trained):
    config = {"text_config": {"hidden_size": 384}, "freeze_vision": not trained}
    (tmp_path / "config.json").write_text(json.dumps(config))
    cache = chosen(["--dataset", mine, "--model", str(tmp_path)])[0].cache
    assert (cache.cache_visual_features is None) == trained
    given = chosen(["--dataset", mine, "--model", str(tmp_path), "--freeze_vision", str(trained).lower()])[0].cache
    assert (given.cache_visual_features is None) != trained


def test_a_new_backbone_replaces_that_of_a_preset():
    words = ["--preset", "small", "--vision-config", '{"model_type": "resnet"}', "--image_size", "32", "--dataset", "d"]
    model = parse_arguments([*words, *HERE], "mner").model
    assert "MiniLM" in model.text_encoder and model.image_size == 32


def test_posts_without_pictures_train_on_text(tmp_path):
    (tmp_path / "data").mkdir()
    rows = graph_rows(4, image=[None] * 4, objects=[[]] * 4)
    rows.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    arguments, lines = chosen(["--dataset", str(tmp_path)])
    assert not arguments.model.use_images and "no pictures (--use_images true)" in lines[1]
    assert not arguments.training.do_predict


def test_an_earlier_run_is_not_overwritten(mine, tmp_path):
    (tmp_path / "results.json").touch()
    words = ["--dataset", mine, "-o", str(tmp_path)]
    with pytest.raises(ValueError, match=rf"{tmp_path} holds an earlier run: .*-o {tmp_path}-2, .*--overwrite true"):
        chosen(words)
    assert chosen([*words, "--overwrite", "true"])[0].run.overwrite


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"preset": "tiny", "text_encoder": "a/b"},
            "--text_encoder a/b is ignored with --from_scratch true",
        ),
        ({"preset": "small", "vocab_size": 9}, "--vocab_size 9 is ignored with a pretrained text encoder"),
        ({"preset": "small", "image_size": 9}, "--image_size 9 is ignored with a pretrained backbone"),
        ({"model": "m", "vision_encoder": "a/b"}, "--vision_encoder a/b is ignored with --model_name_or_path m"),
        ({"preset": "smal"}, "--preset smal is not a preset; they are tiny, small, base, paper; did you mean small?"),
        ({"dataset": None}, "no data set given"),
        ({"dataset": "/none"}, "cannot read the data set '/none'"),
    ],
)
def test_options_that_would_be_ignored_and_data_that_is_absent_are_errors(mine, settings, message):
    argv = dict_to_argv({"dataset": mine, "output_dir": "runs/x", **settings})
    with pytest.raises((ValueError, OSError), match=message):
        if settings.get("dataset", "") in (None, "/none"):
            choose("joint", argv, make_parser())
        parse_arguments([*argv, *HERE], "joint")


def test_few_posts_are_seen_more_often():
    options = make_parser().parse_known_args(["--dataset", "d"])[0]
    rows = datasets.Dataset.from_dict({"image": [b"x"] * 5000})
    fitted = presets.fit_to_data(datasets.DatasetDict(train=rows), "small", "mner", options, 1)
    assert fitted["num_train_epochs"] == 10 and "per_device_train_batch_size" not in fitted
    fitted = presets.fit_to_data(datasets.DatasetDict(train=rows.select(range(40))), "small", "mner", options, 1)
    assert (fitted["per_device_train_batch_size"], fitted["num_train_epochs"]) == (8, 60)
    assert "num_train_epochs" not in presets.fit_to_data(datasets.DatasetDict(train=rows), "paper", "mner", options, 1)
