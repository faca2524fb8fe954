"""The models that an `Extractor` takes, loaded from checkpoints."""

import os

import torch

from ..configuration_i2srm import I2SRMConfig
from ..loading import CheckpointError
from ..modeling_i2srm import I2SRMForRelationClassification, I2SRMForTokenClassification, I2SRMPreTrainedModel
from ..modeling_joint import I2SRMForJointExtraction

JOINT = I2SRMForJointExtraction.__name__
# Of each model that an `Extractor` takes, the pipeline and the class.
HEADS: dict[str, tuple[str, type[I2SRMPreTrainedModel]]] = {
    "joint": ("multimodal-joint-extraction", I2SRMForJointExtraction),
    "ner": ("multimodal-token-classification", I2SRMForTokenClassification),
    "re": ("multimodal-relation-classification", I2SRMForRelationClassification),
}


def is_joint(name: str, path: object) -> bool:
    """Whether a folder or Hub id holds a joint model.

    Args:
        name: of the argument, for the message.

    Raises:
        ValueError: it is not a path; `CheckpointError` for a configuration that cannot be read.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ValueError(
            f'{name}={path!r} is not a folder or Hub id; e.g. Extractor.from_pretrained("runs/quickstart")'
        )
    return JOINT in (I2SRMConfig.from_pretrained(path).architectures or ())


def load_head(
    name: str, path: str, model_class: type[I2SRMPreTrainedModel], dtype: str | torch.dtype
) -> I2SRMPreTrainedModel:
    """The model of a checkpoint, with all its weights from there: none is random, none is NaN."""
    config = I2SRMConfig.from_pretrained(path)
    if config.architectures and model_class.__name__ not in config.architectures:
        raise ValueError(
            f"{name}={str(path)!r} is a checkpoint of {config.architectures[0]}; give ner= one of a joint model, or "
            "ner= one of entities and re= one of relations, e.g. "
            'Extractor.from_pretrained("runs/quickstart_mner", "runs/quickstart_mre")'
        )
    model, report = model_class.from_pretrained(path, dtype=dtype, output_loading_info=True)
    wrong = {"lacks the weights": report["missing_keys"]}
    wrong["has weights that are not finite:"] = [
        key for key, parameter in model.named_parameters() if not parameter.isfinite().all()
    ]
    for what, keys in wrong.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(f"{name}={str(path)!r} {what} {', '.join(sorted(keys)[:3])}{more}")
    return model


__all__ = ["HEADS", "JOINT", "is_joint", "load_head"]
