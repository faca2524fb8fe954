"""The model of a training run and its processor: from a checkpoint, from pretrained encoders, or from scratch."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from datasets import DatasetDict
from transformers import AutoConfig, BitImageProcessorPil

from ..checks import NO_RELATION, no_relation_labels
from ..configuration_i2srm import I2SRMConfig
from ..data.dataset import train_tokenizer
from ..data.word_splitting import fit_splitting
from ..image_recipes import recipe_image_processor
from ..loading import CheckpointError
from ..modeling_i2srm import I2SRMModel
from ..pretrained_model import I2SRMPreTrainedModel
from ..processing_i2srm import I2SRMProcessor
from ..words import MARKERS
from .arguments import Arguments, config_overrides
from .tasks import Task

logger = logging.getLogger(__name__)

TAGGERS = {"I2SRMForTokenClassification", "I2SRMForJointExtraction"}  # they share classifier and CRF


@dataclass(frozen=True)
class RawData:
    """A data set as it was loaded.

    Args:
        splits: with the labels that the task learns.
        names: of the labels.
        report: what its report says about every result.
        fields: of the model's configuration, as of `Task.config_fields`.
    """

    splits: DatasetDict
    names: list[str]
    report: dict
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def label_sets(self) -> tuple[list[str], ...]:
        """The names of the labels and, of a joint task, of the relations."""
        relations = self.fields.get("relation_labels")
        return (self.names,) if relations is None else (self.names, relations)


def build_model(
    task: Task, arguments: Arguments, data: RawData, checkpoint: str | None = None
) -> tuple[I2SRMPreTrainedModel, I2SRMProcessor]:
    """The model and its processor: from a checkpoint, from pretrained encoders, or from scratch.

    Args:
        checkpoint: of a run that is resumed; a tokenizer that was trained is read from there.

    Raises:
        ValueError: arguments that do not go together, or labels other than those of the checkpoint.
    """
    overrides = config_overrides(arguments.config) | data.fields
    if arguments.data.balance_relations and "train" in data.splits:
        labels = task.relation_ids(data.splits["train"])
        overrides["class_weights"] = balanced_weights(labels, len(data.label_sets[-1]))
    if arguments.model.new_head and not arguments.model.model_name_or_path:
        raise ValueError("--new_head true is for a checkpoint: add --model_name_or_path FOLDER, or leave it out")
    if arguments.model.model_name_or_path:
        path, new_head = arguments.model.model_name_or_path, arguments.model.new_head
        model, processor = model_of_checkpoint(task, path, data.names, overrides, new_head)
    elif arguments.model.from_scratch:
        model, processor = model_from_scratch(task, arguments, data, overrides, checkpoint)
    else:
        model, processor = model_of_encoders(task, arguments, data.names, overrides)
    if arguments.training.do_train:
        fit_splitting(processor, data.splits["train"], arguments.data.word_splitting)
    elif arguments.data.word_splitting is not None:
        processor.word_splitting = arguments.data.word_splitting
    text_config = model.config.get_text_config()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):  # else Trainer does it, with a warning
        if (token := getattr(processor.tokenizer, name)) is not None:
            setattr(text_config, name, token)
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    pictures = arguments.model.use_images
    logger.info(f"{type(model).__name__}: {count:,} parameters, {trained:,} trained; pictures {pictures}")
    return model, processor


def known_names(task: Task, names: list[str]) -> list[str]:
    """The labels of a checkpoint as the task names those of data: of relations, one is None."""
    none = no_relation_labels(names) if "relation" in task.text_columns else set()
    return [NO_RELATION if name in none else name for name in names]


def label_maps(names: list[str]) -> dict:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def num_objects(overrides: dict) -> dict:
    """What the configuration says of the number of crops, for a processor."""
    return {"num_objects": overrides["num_objects"]} if "num_objects" in overrides else {}


def model_of_checkpoint(
    task: Task, path: str, names: list[str], overrides: dict, new_head: bool = False
) -> tuple[I2SRMPreTrainedModel, I2SRMProcessor]:
    """The model of a checkpoint; of one with another head, or for a new head, only `I2SRMModel` is taken."""
    if fixed := {"text_config", "vision_config"} & overrides.keys():
        raise ValueError(f"{' and '.join(sorted(fixed))} cannot change with --model_name_or_path {path}: leave out")
    saved = I2SRMConfig.from_pretrained(path)
    heads, wanted = set() if new_head else {*(saved.architectures or [])}, task.model_class.__name__
    if heads & (TAGGERS if wanted in TAGGERS else {wanted}):
        if known_names(task, saved.label_names) != names:
            raise ValueError(
                f"{path} has the labels {saved.label_names}, the data set {names}; to train a new head for these on "
                "the encoders and prompts of the checkpoint: --new_head true"
            )
    else:
        overrides = overrides | label_maps(names)
    if wanted not in heads:
        overrides = {"class_weights": None, **overrides}  # those of other labels
        overrides = ({"relation_labels": None, "relation_types": None} if new_head else {}) | overrides
    elif saved.relation_labels is not None:
        if saved.relation_labels != overrides["relation_labels"]:
            raise ValueError(
                f"{path} has the relations {saved.relation_labels}, the data set {overrides['relation_labels']}; to "
                "train a new head for these on the encoders and prompts of the checkpoint: --new_head true"
            )
        overrides = overrides | {"relation_types": joined_types(saved.relation_types, overrides.get("relation_types"))}
    config = I2SRMConfig.from_pretrained(path, **overrides)
    if new_head:
        model = task.model_class(config)
        model.base_model.load_state_dict(I2SRMModel.from_pretrained(path).state_dict())
        model.name_or_path = path  # as of a loaded one: its fusion parts are not new
    else:
        model = task.model_class.from_pretrained(path, config=config)
    return with_markers(task, model, I2SRMProcessor.from_pretrained(path, **num_objects(overrides)))


def joined_types(saved: list[list[str]] | None, new: list[list[str]] | None) -> list[list[str]] | None:
    """The relation_types of a checkpoint and those of the data it is trained on; `None` allows all."""
    return None if saved is None else saved + [triple for triple in new or [] if triple not in saved]


def model_of_encoders(
    task: Task, arguments: Arguments, names: list[str], overrides: dict
) -> tuple[I2SRMPreTrainedModel, I2SRMProcessor]:
    """A new model with the pretrained encoders that the arguments name."""
    if "text_config" in overrides:
        raise ValueError("--text_config is that of a new text encoder: leave it out or add --from_scratch true")
    options = arguments.model
    text_encoder, vision_encoder = options.text_encoder, options.vision_encoder
    encoders = (text_encoder, None if "vision_config" in overrides else vision_encoder)
    try:
        model = task.model_class.from_encoders(encoders[0], encoders[1], **label_maps(names), **overrides)
    except CheckpointError as error:
        others = "--text_encoder FOLDER --vision_encoder FOLDER, or small new ones: --preset tiny"
        raise CheckpointError(f"{error}; to use others: {others}") from error
    settings = {"max_length": arguments.data.max_length, **num_objects(overrides)}
    processor = I2SRMProcessor.from_encoders(*encoders, **settings)
    if "vision_config" in overrides:
        processor.image_processor = new_image_processor(model.config, options.image_size)
    return with_markers(task, model, processor)


def model_from_scratch(
    task: Task, arguments: Arguments, data: RawData, overrides: dict, checkpoint: str | None
) -> tuple[I2SRMPreTrainedModel, I2SRMProcessor]:
    """A new model with new encoders, and a tokenizer that is trained on the training split."""
    if "text_config" not in overrides or "vision_config" not in overrides:
        raise ValueError(
            'from_scratch needs both, e.g. --text_config \'{"model_type": "bert", ...}\' --vision_config ...'
        )
    max_length = arguments.data.max_length
    text_config = AutoConfig.for_model(**overrides.pop("text_config"))
    if checkpoint is None:
        tokens = data.splits["train"]["tokens"] if "train" in data.splits else ()
        tokenizer = train_tokenizer(tokens, arguments.model.vocab_size, max_length)
    else:
        tokenizer = I2SRMProcessor.from_pretrained(checkpoint).tokenizer
    if task.entity_markers:
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    text_config.vocab_size, text_config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    config = I2SRMConfig(text_config=text_config, **label_maps(data.names), **overrides)
    image_processor = new_image_processor(config, arguments.model.image_size)
    processor = I2SRMProcessor(image_processor, tokenizer, max_length=max_length, **num_objects(overrides))
    return task.model_class(config), processor


def new_image_processor(config: I2SRMConfig, image_size: int) -> BitImageProcessorPil:
    """The picture recipe of a new backbone: that of its configuration, else that of a ResNet, at this size."""
    return recipe_image_processor(getattr(config.vision_config, "pretrained_cfg", None) or {}, image_size)


def with_markers(
    task: Task, model: I2SRMPreTrainedModel, processor: I2SRMProcessor
) -> tuple[I2SRMPreTrainedModel, I2SRMProcessor]:
    """A model and its processor with the entity markers and their embeddings, where the task needs them."""
    if task.entity_markers:
        processor.add_entity_markers()
        embeddings: Any = model.get_input_embeddings()
        if len(processor.tokenizer) > embeddings.weight.shape[0]:
            model.resize_token_embeddings(len(processor.tokenizer))
    return model, processor


def balanced_weights(labels: list[int], count: int) -> list[float]:
    """Weights that let each of the labels that occur count as much as another, with mean 1 over the rows."""
    numbers = Counter(labels)
    return [len(labels) / (len(numbers) * numbers[label]) if numbers[label] else 1.0 for label in range(count)]


__all__ = ["RawData", "build_model"]
