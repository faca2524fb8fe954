"""Configuration of I2SRM models."""

import dataclasses
import inspect
import math
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from .checks import names_no_relation
from .loading import loading

SUPPORTED_TEXT_MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")

# The Auto classes that load a checkpoint, whichever model was saved into it.
AUTO_MAP = {
    "AutoConfig": "configuration_i2srm.I2SRMConfig",
    "AutoModel": "modeling_i2srm.I2SRMModel",
    "AutoModelForTokenClassification": "modeling_i2srm.I2SRMForTokenClassification",
    "AutoModelForSequenceClassification": "modeling_i2srm.I2SRMForRelationClassification",
    "AutoProcessor": "processing_i2srm.I2SRMProcessor",
}

# Heads that share an Auto class, which loads the head that was saved, by default the first; and their modules.
SHARED_CLASSES = {
    "AutoModelForTokenClassification": {
        "I2SRMForTokenClassification": "modeling_i2srm",
        "I2SRMForJointExtraction": "modeling_joint",
    },
    "AutoModelForSequenceClassification": {
        "I2SRMForRelationClassification": "modeling_i2srm",
        "I2SRMForSequenceClassification": "modeling_i2srm",
    },
}

# The pipeline of each head, as a saved configuration names it for remote code; the installed package registers them.
CUSTOM_PIPELINES = {
    "I2SRMForTokenClassification": {
        "multimodal-token-classification": {
            "impl": "pipeline_i2srm.MultimodalTokenClassificationPipeline",
            "pt": ["AutoModelForTokenClassification"],
            "type": "multimodal",
        }
    },
    "I2SRMForRelationClassification": {
        "multimodal-relation-classification": {
            "impl": "pipeline_i2srm.MultimodalRelationClassificationPipeline",
            "pt": ["AutoModelForSequenceClassification"],
            "type": "multimodal",
        }
    },
    "I2SRMForSequenceClassification": {
        "multimodal-text-classification": {
            "impl": "pipeline_i2srm.MultimodalTextClassificationPipeline",
            "pt": ["AutoModelForSequenceClassification"],
            "type": "multimodal",
        }
    },
    "I2SRMForJointExtraction": {
        "multimodal-joint-extraction": {
            "impl": "joint_pipeline.MultimodalJointExtractionPipeline",
            "pt": ["AutoModelForTokenClassification"],
            "type": "multimodal",
        }
    },
}


LAST_STAGES = (-4, -3, -2, -1)  # out_indices of a backbone of timm


def evenly_spaced_stages(stage_names: list[str], count: int = 4) -> list[str]:
    """The names of `count` evenly spaced stages of a backbone, with the last stage and without the stem.

    A ResNet gives stage1..stage4; a 12-block DINOv2 gives stage3, stage6, stage9, stage12.
    """
    stages = [name for name in stage_names if name != "stem"]
    count = min(count, len(stages))
    return [stages[(i + 1) * len(stages) // count - 1] for i in range(count)]


def check_registered(name: str, model_type: str) -> None:
    """Raise a `ValueError`, which shows what to import, unless the model type of a backbone is registered.

    Args:
        name: what the message calls the backbone.
    """
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"{name} has model_type {model_type!r}, which neither transformers nor a module that was imported "
            'registers; e.g. vision_config={"model_type": "resnet"}, and for a backbone of your own import its module '
            f"first: import my_backbone, which calls AutoConfig.register({model_type!r}, MyConfig) and "
            "AutoBackbone.register(MyConfig, MyBackbone)"
        )


def timm_name(name_or_path: str) -> str | None:
    """The name in timm of the backbone "timm/NAME", unless that is a folder; of others `None`."""
    prefix, _, name = str(name_or_path).partition("/")
    return name if prefix == "timm" and name and not Path(name_or_path).exists() else None


def import_timm() -> ModuleType:
    """The package timm, which imports torchvision; raises an `ImportError` that says what to install."""
    try:
        return import_module("timm")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that is built for another torch
        raise ImportError(
            f"backbones of timm need timm and a torchvision that fits torch: pip install timm ({error})"
        ) from error


def backbone_config(name_or_path: str) -> PreTrainedConfig:
    """The configuration of a vision backbone: of transformers, of your own once its module is imported, or of timm.

    Args:
        name_or_path: local folder or Hub id; "timm/NAME" is NAME of timm.

    Raises:
        ImportError: timm cannot be imported.
        ValueError: a model type that nothing registers.
    """
    if (name := timm_name(name_or_path)) is not None:
        import_timm()
        timm_config: Any = CONFIG_MAPPING["timm_backbone"]
        return timm_config(backbone=name, out_indices=list(LAST_STAGES))
    model_type = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
    if isinstance(model_type, str):
        check_registered("the backbone", model_type)
    return AutoConfig.from_pretrained(name_or_path)


def check_labels(id2label: object) -> None:
    """Raise a `ValueError` unless `id2label` is `None` or maps 0, 1, 2 ... to distinct names."""
    if id2label is None:
        return
    example = 'e.g. id2label={0: "O", 1: "B-PER", 2: "I-PER"}'
    if not isinstance(id2label, dict) or not all(isinstance(name, str) for name in id2label.values()):
        raise ValueError(f"id2label={id2label!r:.200} must be a dict of names; {example}")
    if sorted(map(str, id2label)) != sorted(map(str, range(len(id2label)))):
        raise ValueError(f"id2label={id2label!r:.200} must have the ids 0 to {len(id2label) - 1}; {example}")
    if repeated := [name for name, count in Counter(id2label.values()).items() if count > 1]:
        raise ValueError(f"id2label has {', '.join(map(repr, repeated))} more than once; {example}")


def check_class_weights(weights: object, num_labels: int | None = None) -> None:
    """Raise a `ValueError` unless `weights` is `None` or a list of finite positive numbers, one per label."""
    if weights is None:
        return
    if not isinstance(weights, (list, tuple)):
        raise ValueError(f"class_weights={weights!r} must be a list of numbers, e.g. class_weights=[0.5, 1.0, 2.0]")
    for i, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise ValueError(
                f"class_weights[{i}]={weight!r} must be a finite positive number, e.g. class_weights=[0.5, 1.0, 2.0]"
            )
    if num_labels is not None and len(weights) != num_labels:
        raise ValueError(
            f"{len(weights)} class_weights, but {num_labels} labels: give one per label, "
            f"e.g. class_weights=[1.0] * {num_labels}, or class_weights=None"
        )


def check_relations(names: object, triples: object) -> None:
    """Raise a `ValueError` unless relations are `None` or distinct names, and triples `None` or three names each."""
    example = 'e.g. relation_labels=["None", "/per/loc/place_of_residence"]'
    if names is not None:
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"relation_labels={names!r:.200} must be a list of names; {example}")
        if not names or len(set(names)) < len(names) or not names_no_relation(names[0]):
            raise ValueError(f"relation_labels={names!r:.200} must be distinct, no relation first; {example}")
    if triples is not None:
        for triple in triples if isinstance(triples, (list, tuple)) else [triples]:
            if not isinstance(triple, (list, tuple)) or [type(name) for name in triple] != [str] * 3:
                raise ValueError(
                    f"relation_types: {triple!r:.100} is not [head type, relation, tail type]; "
                    'e.g. relation_types=[["PER", "/per/loc/place_of_residence", "LOC"]]'
                )
            if names is not None and triple[1] not in names:
                raise ValueError(f"relation_types: {triple[1]!r} is not one of relation_labels; {example}")


def check_abstention(abstention: object) -> None:
    """Raise a `ValueError` for score limits that `I2SRMConfig.score_limit` cannot read."""
    try:
        kinds: Any = abstention or {}
        for kind, values in kinds.items():
            if not 0.99 <= max(map(float, values["limits"])) < 1:
                raise ValueError("no limit of the share 0.99")
            if not all(0 <= limit <= 1 for limit in values["limits"].values()):
                raise ValueError(f"a limit of {kind} that is not between 0 and 1")
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(
            f"abstention={abstention!r:.200} ({error}); "
            'e.g. abstention={"entities": {"count": 700, "limits": {"0.9": 0.41, "0.99": 0.12}}}'
        ) from None


class I2SRMConfig(PreTrainedConfig):
    """Configuration of `I2SRMModel` and its heads: those of the two encoders, and the settings of the fusion parts.

    Sections and equation numbers are those of docs/concepts/method.md; the method is I2SRM (arXiv 2310.06326).

    Args:
        text_config: configuration of the text encoder, or its dict with `model_type`, one of
            `SUPPORTED_TEXT_MODEL_TYPES`; default a RoBERTa-large.
        vision_config: configuration of any `AutoBackbone`, or its dict; default a ResNet-50.
        vision_out_features: names of the backbone stages whose feature maps are used; default four evenly spaced ones,
            for timm the last four, or those of the out_indices in `vision_config`.
        freeze_vision: do not train the backbone: eval mode, no gradients.
        num_objects: object crops per post (M); a post has up to 1 + M pictures.
        prompt_length: prompt slots per picture (P).
        prompt_hidden_size: width of the prompt projector.
        semantic_loss_weight: weight of the KL term; `None` means the task's default (NER 1.0, relations and posts 0.5).
        semantic_loss_detach_text: stop the KL gradient at the text side.
        attn_mixup: switch for all of AttnMixup (training only).
        attn_mixup_attention: attend across the samples of the batch (needs `attn_mixup`).
        attn_mixup_interpolation: interpolate pairs of samples (needs `attn_mixup`).
        attn_mixup_heads: heads of the attention across samples; must divide the text hidden size.
        attn_mixup_dropout: dropout of that layer.
        attn_mixup_gather: apply AttnMixup to the samples of all training processes; else each process mixes its own.
        mixup_alpha: parameter of Beta(alpha, alpha) from which the interpolation weight is drawn.
        mixup_delta: share of the original and attended rows that enter the pool for mixing.
        mixup_ratio: share of the unmixed rows that are scored; of the mixed rows it is 1 - ratio.
        classifier_dropout: dropout before the classifier; default that of the text encoder.
        use_crf: linear-chain CRF over the words (token classification); else cross-entropy.
        constrained_decoding: never decode an invalid BIO sequence (token classification with BIO label names).
        class_weights: weight of each label in the cross-entropy (relations, labels of posts, and tags with
            `use_crf=False`); default all 1. A CRF refuses them. In a joint model they are the weights of the relations.
        relation_labels: names of the relations of a joint model, "None" first.
        relation_types: [head type, relation, tail type] of each triple that a joint model may give, those of its
            training data; `None` allows all.
        relation_loss_weight, region_loss_weight: weight of this part of the loss (joint model). The loss of tags is a
            sum over the words of a sentence, that of relations a mean over pairs, that of regions one over entities.
        crop_attention: let sub-tokens and pairs of entities attend to the pictures, beside the prompts (joint model).
        coherent_decoding: choose the types of entities and the relations between them together (joint model).
        temperatures: what the logits of tags, relations, regions or labels were divided by after training, so that
            scores are probabilities; the weights hold it already.
        abstention: of entities, relations and labels the number of right answers among held-out posts, count, and
            limits: by the share of right answers to keep, the score from which on an answer is kept (`score_limit`).
        reads_pictures: whether pictures were read in training (`True` by default); if not, pipelines do not read them,
            and the model warns when it is given some.
        entity_type_embeddings: add the type of an entity to its vector (joint model; no gain in our measurements).
        attn_mixup_pairs: apply AttnMixup to pairs of entities, too (joint model; costs accuracy in our measurements).
        initializer_range: standard deviation of new weights outside of the fusion parts and the CRF.

    Raises:
        ValueError: a text encoder that cannot take visual prompts, or a field out of its range.

    Example:

    >>> from modeling_i2srm import I2SRMConfig
    >>> config = I2SRMConfig(text_config={"model_type": "bert"}, vision_config={"model_type": "resnet"})
    >>> config.vision_config.out_features
    ['stage1', 'stage2', 'stage3', 'stage4']
    """

    model_type = "i2srm"
    sub_configs: ClassVar = {"text_config": AutoConfig, "vision_config": AutoConfig}
    keys_to_ignore_at_inference: ClassVar = [
        "task_loss",
        "mixup_loss",
        "semantic_loss",
        "relation_loss",
        "region_loss",
        "last_hidden_state",
        "visual_features",
        "image_mask",
        "attention_mask",
        "word_mask",
        "hidden_states",
        "attentions",
    ]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    vision_out_features: list[str] | None = None
    freeze_vision: bool = True
    num_objects: int = 3
    prompt_length: int = 4
    prompt_hidden_size: int = 800
    semantic_loss_weight: float | None = None
    semantic_loss_detach_text: bool = False
    attn_mixup: bool = True
    attn_mixup_attention: bool = True
    attn_mixup_interpolation: bool = True
    attn_mixup_heads: int = 4
    attn_mixup_dropout: float = 0.2
    attn_mixup_gather: bool = False
    mixup_alpha: float = 1.0
    mixup_delta: float = 0.7
    mixup_ratio: float = 0.6
    classifier_dropout: float | None = None
    use_crf: bool = True
    constrained_decoding: bool = True
    class_weights: list[float] | None = None
    relation_labels: list[str] | None = None
    relation_types: list[list[str]] | None = None
    relation_loss_weight: float = 5.0
    region_loss_weight: float = 1.0
    crop_attention: bool = True
    coherent_decoding: bool = True
    entity_type_embeddings: bool = False
    temperatures: dict[str, float] | None = None
    abstention: dict[str, dict] | None = None
    reads_pictures: bool = True
    attn_mixup_pairs: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        self.text_config = self._build(self.text_config, "text_config", ROBERTA_LARGE)
        self.vision_config = self._build(self.vision_config, "vision_config", {"model_type": "resnet"})
        kwargs.pop("custom_pipelines", None)
        check_labels(self.id2label)
        super().__post_init__(**kwargs)
        self.auto_map = {**AUTO_MAP, **(getattr(self, "auto_map", None) or {})}
        if self.architectures is None:  # Auto classes with several heads iterate over it
            self.architectures = []
        # Only for remote code: the installed package registers its pipelines, which then need no trust_remote_code.
        self.custom_pipelines = self._pipelines() if __name__.startswith("transformers_modules.") else {}
        self._check()
        vision: Any = self.vision_config
        if vision.model_type == "timm_backbone":  # the names of its stages are known only once it is built
            if vision.out_indices == [-1] and getattr(vision, "stage_names", None) is None:
                vision.out_indices = list(LAST_STAGES)
        elif self.vision_out_features is None and hasattr(vision, "stage_names"):
            self.vision_out_features = evenly_spaced_stages(vision.stage_names)
        if self.vision_out_features is not None:
            vision.out_features = self.vision_out_features

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in `PreTrainedConfig`; raises `CheckpointError`, which names folder, file and reason."""
        with loading("configuration", pretrained_model_name_or_path):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in `PreTrainedConfig`, for configurations of I2SRM only; overrides are validated like fields."""
        if not isinstance(config_dict, dict) or config_dict.get("model_type") != cls.model_type:
            model_type = config_dict.get("model_type") if isinstance(config_dict, dict) else config_dict
            raise ValueError(
                f"a configuration with model_type={model_type!r:.100}, expected {cls.model_type!r}; to start from "
                'pretrained encoders: I2SRMForTokenClassification.from_encoders("FacebookAI/roberta-large", '
                '"microsoft/resnet-50")'
            )
        loaded = super().from_dict(config_dict, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        config._check()
        return loaded

    @property
    def label_names(self) -> list[str]:
        """The names of the labels, in the order of their ids."""
        names: Any = self.id2label  # int -> str, once it is checked
        return [names[i] for i in range(len(names))]

    def score_limit(self, kind: str, coverage: float) -> float:
        """The score from which on answers are kept so that a share of the right ones is, by split-conformal prediction.

        Args:
            kind: entities, relations or labels.
            coverage: the share; one between two that `abstention` holds takes the limit of the higher one.

        Raises:
            ValueError: a share that is not between 0 and 0.99, or a checkpoint without limits of this kind.
        """
        if isinstance(coverage, bool) or not isinstance(coverage, (int, float)) or not 0 < coverage <= 0.99:
            raise ValueError(
                f"coverage={coverage!r} must be above 0 and at most 0.99, e.g. coverage=0.9; to keep all answers leave "
                "it out"
            )
        abstention = self.abstention or {}
        if kind not in abstention:
            raise ValueError(
                f"coverage={coverage!r}: this checkpoint has no score limits of {kind}. Train it with validation posts "
                f"of which it gets at least 50 {kind} right, e.g. i2srm train TASK DATA --calibrate true, or leave out "
                "low scores instead, e.g. Extractor(..., threshold=0.5)"
            )
        limits = {float(share): limit for share, limit in abstention[kind]["limits"].items()}
        return limits[min(share for share in limits if share >= coverage)]

    def _pipelines(self) -> dict:
        """The pipelines of the checkpoint's heads; those of all heads if it was saved without one."""
        heads = [head for head in CUSTOM_PIPELINES if head in (self.architectures or CUSTOM_PIPELINES)]
        return {task: dict(about) for head in heads for task, about in CUSTOM_PIPELINES[head].items()}

    def to_dict(self) -> dict:
        return {**super().to_dict(), "auto_map": self._auto_map(), "custom_pipelines": self._pipelines()}

    def _auto_map(self) -> dict:
        """`AUTO_MAP` with the Auto classes of several heads set to the head of the checkpoint."""
        shared = {}
        for name, heads in SHARED_CLASSES.items():
            head = next((head for head in heads if head in (self.architectures or ())), next(iter(heads)))
            repository, separator, _ = self.auto_map[name].rpartition("--")  # a value may begin with its repository
            shared[name] = f"{repository}{separator}{heads[head]}.{head}"
        return {**self.auto_map, **shared}

    @staticmethod
    def _build(config: object, name: str, default: dict) -> PreTrainedConfig:
        config = default if config is None else config
        if isinstance(config, PreTrainedConfig):
            return config
        if name == "vision_config" and isinstance(config, dict) and isinstance(config.get("model_type"), str):
            check_registered(name, config["model_type"])
        if not isinstance(config, dict) or config.get("model_type") not in CONFIG_MAPPING:
            known = config.get("model_type") if isinstance(config, dict) else config
            raise ValueError(
                f"{name} needs a configuration or a dict with a known 'model_type', got {known!r}; "
                f'e.g. {name}={{"model_type": "{default["model_type"]}"}}'
            )
        return CONFIG_MAPPING[config["model_type"]](**{k: v for k, v in config.items() if k != "model_type"})

    def _check(self):
        text: Any = self.text_config
        if text.model_type not in SUPPORTED_TEXT_MODEL_TYPES:
            raise ValueError(
                f"text encoder {text.model_type!r} cannot take visual prompts: its attention would ignore "
                f"them silently. Supported: {', '.join(SUPPORTED_TEXT_MODEL_TYPES)}; "
                'e.g. text_config={"model_type": "roberta"} or from_encoders("FacebookAI/roberta-large", ...)'
            )
        if getattr(text, "is_decoder", False):
            raise ValueError("text_config.is_decoder=True: I2SRM needs a bidirectional encoder (is_decoder=False)")
        self._check_kinds()
        for name, low in (
            ("num_objects", 0),
            ("prompt_length", 1),
            ("prompt_hidden_size", 1),
            ("attn_mixup_heads", 1),
        ):
            value = getattr(self, name)
            if value < low:
                raise ValueError(f"{name}={value!r} must be an integer of {low} or more, e.g. {name}={max(low, 1)}")
        hidden, heads = text.hidden_size, text.num_attention_heads
        if min(hidden, heads) < 1 or hidden % heads:
            raise ValueError(
                f"text_config: num_attention_heads={heads} does not divide hidden_size={hidden}; choose a divisor, "
                "e.g. num_attention_heads=1"
            )
        if self.attn_mixup and hidden % self.attn_mixup_heads:
            raise ValueError(
                f"attn_mixup_heads={self.attn_mixup_heads} does not divide the text hidden size {hidden}; choose a "
                "divisor, e.g. attn_mixup_heads=1"
            )
        for name in ("mixup_delta", "mixup_ratio", "attn_mixup_dropout", "classifier_dropout"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value} must be in [0, 1]")
        if self.mixup_alpha <= 0:
            raise ValueError(f"mixup_alpha={self.mixup_alpha} must be positive, e.g. mixup_alpha=1.0")
        check_labels(self.id2label)
        check_relations(self.relation_labels, self.relation_types)
        check_abstention(self.abstention)
        # The model that uses them checks their number: a tagger may start from a checkpoint of relations.
        check_class_weights(self.class_weights)

    def _check_kinds(self):
        """Raise a `ValueError` for a value of a wrong type: the text "false", for instance, would count as true."""
        annotations = inspect.get_annotations(I2SRMConfig)
        for field in dataclasses.fields(self):
            kind, value = annotations.get(field.name), getattr(self, field.name)
            if kind is bool and not isinstance(value, bool):
                raise ValueError(f"{field.name}={value!r} must be true or false, e.g. {field.name}={field.default}")
            if kind is int and (isinstance(value, bool) or not isinstance(value, int)):
                raise ValueError(f"{field.name}={value!r} must be an integer, e.g. {field.name}={field.default}")
            number = kind is float or (kind == float | None and value is not None)
            if number and (isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)):
                example = 0.5 if field.default is None else field.default
                raise ValueError(f"{field.name}={value!r} must be a finite number, e.g. {field.name}={example}")


ROBERTA_LARGE = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}

__all__ = ["I2SRMConfig"]
