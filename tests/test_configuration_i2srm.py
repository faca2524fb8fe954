import copy
import json

import pytest
from config_fields import DEFAULTS, FIELDS, OTHERS
from tiny import RESNET, TAGS, text_config, tiny_config
from transformers import AutoConfig, BertConfig, ResNetConfig

from modeling_i2srm import I2SRMConfig
from modeling_i2srm.configuration_i2srm import SUPPORTED_TEXT_MODEL_TYPES, evenly_spaced_stages

LABELS = {"id2label": dict(enumerate(TAGS)), "label2id": {name: i for i, name in enumerate(TAGS)}}


def test_defaults_are_the_published_recipe():
    config = I2SRMConfig()
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS
    assert FIELDS == {*DEFAULTS, "text_config", "vision_config"}  # none is forgotten here
    text, vision = config.text_config, config.vision_config
    assert (text.model_type, text.hidden_size, text.num_hidden_layers, text.vocab_size) == ("roberta", 1024, 24, 50265)
    assert (vision.model_type, tuple(vision.depths), sum(vision.hidden_sizes)) == ("resnet", (3, 4, 6, 3), 3840)
    assert config.model_type == "i2srm"
    assert set(config.keys_to_ignore_at_inference) >= {"task_loss", "mixup_loss", "semantic_loss"}


@pytest.mark.parametrize("way", ["json", "folder", "auto", "copy"])
@pytest.mark.parametrize("model_type", SUPPORTED_TEXT_MODEL_TYPES)
def test_round_trip_of_every_field(tmp_path, way, model_type):
    config = tiny_config(model_type, **LABELS, **OTHERS)
    config.save_pretrained(tmp_path)
    again = {
        "json": lambda: I2SRMConfig.from_dict(json.loads(config.to_json_string())),
        "folder": lambda: I2SRMConfig.from_pretrained(tmp_path),
        "auto": lambda: AutoConfig.from_pretrained(tmp_path),
        "copy": lambda: copy.deepcopy(config),
    }[way]()
    assert type(again) is I2SRMConfig
    assert {name: getattr(again, name) for name in OTHERS} == OTHERS
    assert type(again.text_config) is type(config.text_config) and again.text_config.hidden_size == 32
    assert again.vision_config.hidden_sizes == RESNET["hidden_sizes"]
    assert again.vision_config.out_features == OTHERS["vision_out_features"]
    assert {name: getattr(again, name) for name in LABELS} == LABELS
    assert {**again.to_dict(), "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}


def test_sub_configurations_are_objects_or_dicts():
    as_dicts = I2SRMConfig(text_config=text_config(), vision_config=RESNET)
    objects = [BertConfig.from_dict(text_config()), ResNetConfig.from_dict(RESNET)]
    as_objects = I2SRMConfig(text_config=objects[0], vision_config=objects[1])
    assert as_objects.text_config is objects[0]
    assert as_dicts.to_dict() == as_objects.to_dict()
    assert RESNET["model_type"] == "resnet"  # the caller's dict is left as it is


def test_auto_classes_of_one_folder():
    added = tiny_config(auto_map={"AutoModelForOther": "other.Other"}).auto_map
    expected = {"AutoConfig", "AutoModel", "AutoModelForTokenClassification", "AutoModelForSequenceClassification"}
    assert expected | {"AutoProcessor", "AutoModelForOther"} <= set(added)
    assert added["AutoModelForTokenClassification"] == "modeling_i2srm.I2SRMForTokenClassification"
    assert added["AutoModelForSequenceClassification"] == "modeling_i2srm.I2SRMForRelationClassification"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["stem", "stage1", "stage2", "stage3", "stage4"], ["stage1", "stage2", "stage3", "stage4"]),
        (["stem", *(f"stage{i}" for i in range(1, 13))], ["stage3", "stage6", "stage9", "stage12"]),
        (["stem", *(f"stage{i}" for i in range(1, 7))], ["stage1", "stage3", "stage4", "stage6"]),
        (["stage1", "stage2"], ["stage1", "stage2"]),
    ],
)
def test_evenly_spaced_stages(names, expected):
    assert evenly_spaced_stages(names) == expected


@pytest.mark.parametrize("name", ["convnext", "swin", "dinov2"])
def test_other_backbones_give_four_stages(name):
    vision = I2SRMConfig(text_config=text_config(), vision_config={"model_type": name}).vision_config
    assert len(vision.out_features) == 4 and vision.out_features[-1] == vision.stage_names[-1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"text_config": {"model_type": "deberta-v2"}},
            ["'deberta-v2'", "bert, roberta, xlm-roberta, camembert, electra"],
        ),
        ({"text_config": {"model_type": "distilbert"}}, ["'distilbert'", 'text_config={"model_type": "roberta"}']),
        ({"text": {"is_decoder": True}}, ["is_decoder=True", "is_decoder=False"]),
        ({"text_config": {"hidden_size": 8}}, ["text_config", "None", 'text_config={"model_type": "roberta"}']),
        ({"text_config": "bert-base"}, ["text_config", "'bert-base'", "model_type"]),
        ({"vision_config": {"model_type": "x"}}, ["vision_config", "'x'", 'vision_config={"model_type": "resnet"}']),
        ({"vision_out_features": ["stage9"]}, ["stage9", "stage4"]),
        ({"attn_mixup_heads": 5}, ["attn_mixup_heads=5", "32", "attn_mixup_heads=1"]),
        ({"attn_mixup_heads": 0}, ["attn_mixup_heads=0", "1 or more"]),
        ({"num_objects": -1}, ["num_objects=-1", "0 or more"]),
        ({"num_objects": 2.5}, ["num_objects=2.5", "integer", "num_objects=3"]),
        ({"num_objects": "3"}, ["num_objects='3'", "integer"]),
        ({"prompt_length": 0}, ["prompt_length=0", "1 or more"]),
        ({"prompt_hidden_size": 0}, ["prompt_hidden_size=0", "1 or more"]),
        ({"mixup_delta": 1.1}, ["mixup_delta=1.1", "[0, 1]"]),
        ({"mixup_ratio": -0.1}, ["mixup_ratio=-0.1", "[0, 1]"]),
        ({"attn_mixup_dropout": 2}, ["attn_mixup_dropout=2", "[0, 1]"]),
        ({"mixup_alpha": 0.0}, ["mixup_alpha=0.0", "mixup_alpha=1.0"]),
        ({"class_weights": 2.0}, ["class_weights=2.0", "list", "class_weights=[0.5, 1.0, 2.0]"]),
        ({"class_weights": "balanced"}, ["class_weights='balanced'", "class_weights=[0.5, 1.0, 2.0]"]),
        *(
            ({"class_weights": [1.0, wrong]}, [f"class_weights[1]={wrong!r}", "class_weights=[0.5, 1.0, 2.0]"])
            for wrong in (0.0, -1, float("nan"), float("inf"), "1", None, True)
        ),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(settings, words):
    with pytest.raises(ValueError) as error:
        tiny_config(**settings)
    assert [word for word in words if word not in str(error.value)] == []


def test_heads_need_not_divide_without_mixup():
    assert tiny_config(attn_mixup=False, attn_mixup_heads=5).attn_mixup_heads == 5


def test_one_attention_head_will_do():
    text = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 1}
    assert I2SRMConfig(text_config=text).text_config.num_attention_heads == 1


def test_score_limits_are_those_of_the_next_higher_share():
    config = tiny_config(abstention={"entities": {"count": 99, "limits": {"0.5": 0.8, "0.9": 0.4, "0.99": 0.1}}})
    assert [config.score_limit("entities", share) for share in (0.2, 0.5, 0.6, 0.9, 0.99)] == [0.8, 0.8, 0.4, 0.4, 0.1]
    for share in (True, "0.9", 0, -0.5, 0.995, 1, float("nan"), None):
        with pytest.raises(ValueError, match="must be above 0 and at most 0.99"):
            config.score_limit("entities", share)
    with pytest.raises(ValueError, match="no score limits of relations"):
        config.score_limit("relations", 0.9)


@pytest.mark.parametrize("names", ["None", 3, ["None", 3], {"None": 0}])
def test_relations_are_a_list_of_names(names):
    with pytest.raises(ValueError, match="must be a list of names"):
        tiny_config(relation_labels=names)
