import dataclasses

import pytest
from tiny import tiny_config

from modeling_i2srm import I2SRMConfig
from modeling_i2srm.studies.settings import STUDIES
from modeling_i2srm.support.options import dict_to_argv
from modeling_i2srm.training.arguments import parse_arguments

CONFIG = {field.name for field in dataclasses.fields(I2SRMConfig)}
NAMES = {
    "ablation": [
        "full",
        "no KL",
        "no AttnMixup",
        "attention only",
        "interpolation only",
        "no crops",
        "no picture",
        "single level",
        "neither module",
        "plain text encoder",
    ],
    "mismatch": ["full", "no KL", "trained with 30 % wrong pictures", "trained with 30 % wrong pictures, no KL"],
    "seeds": ["full"],
}
LISTS = ("text_encoder", "vision_encoder")
VALUES = {
    "delta": ("mixup_delta", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
    "ratio": ("mixup_ratio", [0, 0.2, 0.4, 0.6, 0.8, 1]),
    "alpha": ("mixup_alpha", [0.1, 0.2, 0.5, 1, 2, 4, 8]),
    "kl_weight": ("semantic_loss_weight", [0, 0.01, 0.03, 0.1, 0.3, 0.5, 1, 2]),
    "prompt_length": ("prompt_length", [1, 2, 4, 8]),
    "low_resource": ("train_fraction", [0.05, 0.1, 0.2, 0.5, 1]),
    "batch_size": ("per_device_train_batch_size", [2, 4, 8, 16, 32, 64]),
}
SETTINGS = [
    pytest.param(study, setting, id=f"{study}: {setting.name}")
    for study in STUDIES
    for setting in STUDIES[study].settings
]


def test_the_registry_is_complete():
    assert set(STUDIES) == {*NAMES, *VALUES, *LISTS}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_has_its_settings_once_and_something_to_test_them_against(study):
    settings = {setting.name: setting for setting in STUDIES[study].settings}
    assert len(settings) == len(STUDIES[study].settings) and STUDIES[study].question.endswith("?")
    if study in NAMES:
        assert list(settings) == NAMES[study]
    if study in VALUES:
        argument, values = VALUES[study]
        placed = [setting for setting in settings.values() if setting.x is not None]
        assert sorted({setting.x for setting in placed}) == values
        assert all(setting.overrides[argument] == setting.x for setting in placed) and STUDIES[study].axis
    for setting in settings.values():
        reference = settings.get(setting.reference)
        assert reference is not None or setting.reference is None
        assert reference is None or reference.reference is None
        if study in ("low_resource", "batch_size") and reference:
            assert reference.x == setting.x and reference.series == "full"


@pytest.mark.parametrize("study, setting", SETTINGS)
def test_every_override_is_an_argument_and_builds_a_model(study, setting):
    given = {"dataset": "-", "output_dir": "-", "use_cpu": True, **setting.overrides}
    read = {name: value for part in parse_arguments(dict_to_argv(given)) for name, value in vars(part).items()}
    assert {name: read[name] for name in setting.overrides} == setting.overrides
    tiny_config(**{name: value for name, value in setting.overrides.items() if name in CONFIG})


def test_choosing_settings_brings_their_reference_along():
    def chosen(study, *names):
        return [(setting.name, setting.reference) for setting in STUDIES[study].choose(list(names))]

    assert chosen("ablation", "no KL") == [("full", None), ("no KL", "full")]
    assert chosen("delta", "0.75", "0.3") == [("0.3", "0.7"), ("0.7", None), ("0.75", "0.7")]
    assert chosen("kl_weight", "0.2") == [("full", None), ("0.2", "full")]
    assert chosen("text_encoder", "mine", "FacebookAI/roberta-base") == [
        ("mine", None),
        ("FacebookAI/roberta-base", "mine"),
    ]
    assert chosen("low_resource", "no picture, 0.2") == [("full, 0.2", None), ("no picture, 0.2", "full, 0.2")]
    with pytest.raises(ValueError, match="'no kl' is not a setting of this study; they are 'full', 'no KL'"):
        STUDIES["ablation"].choose(["no kl"])
    with pytest.raises(ValueError, match="'much' is not a number for mixup_delta"):
        STUDIES["delta"].choose(["much"])
