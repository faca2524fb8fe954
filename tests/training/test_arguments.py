import dataclasses
import json
from pathlib import Path

import pytest
from config_fields import FIELDS, OTHERS
from tiny import RESNET, text_config

from modeling_i2srm import I2SRMConfig, I2SRMTrainingArguments
from modeling_i2srm.training.arguments import (
    DataArguments,
    FeatureCacheArguments,
    ModelArguments,
    RunArguments,
    SampleArguments,
    config_overrides,
    parse_arguments,
)
from modeling_i2srm.training.presets import read_config

CONFIGS = Path(__file__).resolve().parents[2] / "examples" / "configs"
EVERY_FIELD = {**OTHERS, "text_config": text_config(), "vision_config": RESNET}
OF_THE_DATA = {"relation_labels", "relation_types", "temperatures", "abstention", "reads_pictures"}
EVERY_FIELD = {name: value for name, value in EVERY_FIELD.items() if name not in OF_THE_DATA}


def parse(way: str, folder: Path, **settings):
    """The same settings as a command line, as a JSON file, or as a JSON file that the command line corrects."""
    settings = {"dataset": "data/posts", "output_dir": str(folder), "use_cpu": True, "report_to": "none", **settings}
    file = folder / "settings.json"
    if way == "json":
        file.write_text(json.dumps(settings))
        return parse_arguments([str(file)])
    argv = []
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        argv += [f"--{name}", *(v if isinstance(v, str) else json.dumps(v) for v in values)]
    if way == "both":
        file.write_text('{"dataset": "wrong", "num_objects": 77, "seed": 78, "max_length": 79}')
        argv.insert(0, str(file))
    return parse_arguments(argv)


each_way = pytest.mark.parametrize("way", ["command line", "json", "both"])


def test_defaults(tmp_path):
    arguments = parse("command line", tmp_path)
    model, config, data, training = arguments.model, arguments.config, arguments.data, arguments.training
    assert model == ModelArguments() and data == DataArguments(dataset="data/posts")
    assert (model.text_encoder, model.vision_encoder) == ("FacebookAI/roberta-large", "microsoft/resnet-50")
    assert model.use_images and not model.from_scratch and data.max_length == 128
    assert config_overrides(config) == {}
    assert arguments.samples == SampleArguments() and arguments.cache == FeatureCacheArguments()
    assert arguments.run == RunArguments()
    assert type(training) is I2SRMTrainingArguments and not training.remove_unused_columns
    assert training.vision_learning_rate is training.fusion_learning_rate is training.head_learning_rate is None


@each_way
def test_every_field_of_the_configuration_can_be_set(tmp_path, way):
    assert set(EVERY_FIELD) == FIELDS - OF_THE_DATA
    given = config_overrides(parse(way, tmp_path, **EVERY_FIELD)[1])
    assert given == EVERY_FIELD
    assert {name: type(value) for name, value in given.items()} == {n: type(v) for n, v in EVERY_FIELD.items()}
    config = I2SRMConfig(**given)
    assert all(getattr(config, name) == value for name, value in OTHERS.items() if name not in OF_THE_DATA)
    assert config.text_config.hidden_size == 32


@each_way
def test_fields_of_the_other_arguments(tmp_path, way):
    settings = {"use_images": False, "max_length": 50, "max_train_samples": 7, "overwrite": True, "seed": 3}
    settings |= {"learning_rate": 3e-5, "head_learning_rate": 0.05, "fusion_learning_rate": 0.0, "warmup_steps": 0.01}
    settings |= {"lr_scheduler_kwargs": {"power": 2}, "lr_scheduler_type": "polynomial", "text_encoder": "a b"}
    parsed = parse(way, tmp_path, **settings)
    for name, value in settings.items():
        (got,) = [getattr(part, name) for part in parsed if hasattr(part, name)]
        assert got == value, name


def test_the_fields_of_the_parts_do_not_clash_and_are_all_explained(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    kinds = (ModelArguments, DataArguments, SampleArguments, FeatureCacheArguments, RunArguments)
    names = [f.name for kind in (*kinds, I2SRMTrainingArguments) for f in dataclasses.fields(kind)]
    assert len({*names, *FIELDS}) == len(names) + len(FIELDS)
    assert [name for name in names + sorted(FIELDS - OF_THE_DATA) if f"--{name}" not in text and name != "_n_gpu"] == []
    for words in (
        "object crops per post (M); a post has up to 1 + M pictures. [model default: 3]",
        "Stop after this many",
    ):
        assert words in text


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_the_configurations_of_the_examples_are_read(file, tmp_path):
    settings = read_config(file)
    parsed = parse_arguments([str(file), "--output_dir", str(tmp_path), "--use_cpu", "true", "--report_to", "none"])
    others = (part for part in parsed if part is not parsed.config and part is not parsed.training)
    given = config_overrides(parsed.config) | {name: value for part in others for name, value in vars(part).items()}
    assert parsed.training.output_dir == str(tmp_path)
    own = [name for name in settings if name in given]
    assert {"dataset", "max_length"} <= set(own)
    assert {name: given[name] for name in own} == {name: settings[name] for name in own}


@each_way
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bogus": 3}, ["--bogus", "3"]),
        ({"num_objects": "three"}, ["num_objects", "'three'"]),
        ({"freeze_vision": "perhaps"}, ["freeze_vision", "perhaps"]),
        ({"learning_rate": "fast"}, ["learning_rate", "'fast'"]),
        ({"lr_scheduler_type": "x"}, ["lr_scheduler_type", "'x'", "cosine"]),
        ({"text_config": "{bert"}, ["--text_config", "'{bert'", "not JSON", '{"model_type": "bert"}']),
        ({"vision_config": "[1]"}, ["--vision_config", "[1]", '{"model_type": "resnet"}']),
        ({"picture_memory": -1}, ["--picture_memory -1", "megabytes, e.g. 1000"]),
        ({"text_config": {"hidden_size": 3}}, ["--text_config", "'hidden_size': 3", "model_type"]),
    ],
)
def test_bad_values_are_named(tmp_path, way, settings, words, capsys):
    with pytest.raises((ValueError, SystemExit)) as error:
        config_overrides(parse(way, tmp_path, **settings)[1])
    message = f"{error.value} {capsys.readouterr().err}"
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"dataset": null}', ["no data set given", "--dataset data/"]),
        ('{"seed": 1,}', ["settings.json is not JSON", "line 1"]),
        ("[1]", ["settings.json holds [1]", '{"dataset":']),
    ],
)
def test_a_bad_settings_file_is_named(tmp_path, content, words):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError) as error:
        parse_arguments([str(tmp_path / "settings.json")])
    assert [word for word in words if word not in str(error.value)] == []
    with pytest.raises(FileNotFoundError, match="none.json"):
        parse_arguments([str(tmp_path / "none.json")])
