"""Multimodal information extraction from social-media posts with I2SRM (arXiv 2310.06326)."""

from importlib import import_module

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_i2srm import I2SRMConfig
from .modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)
from .pipeline_i2srm import (
    MultimodalRelationClassificationPipeline,
    MultimodalTextClassificationPipeline,
    MultimodalTokenClassificationPipeline,
)
from .processing_i2srm import I2SRMProcessor
from .version import __version__

AutoConfig.register("i2srm", I2SRMConfig, exist_ok=True)
AutoModel.register(I2SRMConfig, I2SRMModel, exist_ok=True)
AutoModelForTokenClassification.register(I2SRMConfig, I2SRMForTokenClassification, exist_ok=True)
AutoModelForSequenceClassification.register(  # the one that config.architectures names, else the first
    I2SRMConfig, (I2SRMForRelationClassification, I2SRMForSequenceClassification), exist_ok=True
)
AutoProcessor.register(I2SRMConfig, I2SRMProcessor, exist_ok=True)
for task, *classes in (
    ("multimodal-token-classification", MultimodalTokenClassificationPipeline, AutoModelForTokenClassification),
    (
        "multimodal-relation-classification",
        MultimodalRelationClassificationPipeline,
        AutoModelForSequenceClassification,
    ),
    ("multimodal-text-classification", MultimodalTextClassificationPipeline, AutoModelForSequenceClassification),
):
    if task not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(task, *classes, type="multimodal")

# These need the packages of the extra "train" and are imported when they are first used.
_TRAINING = {
    "ClassificationMetric": "metrics",
    "I2SRMDataCollator": "data_collator",
    "I2SRMTrainer": "trainer",
    "I2SRMTrainingArguments": "trainer",
    "MNERMetric": "metrics",
    "MREMetric": "metrics",
    "VisualFeatureCache": "visual_feature_cache",
    "cache_pictures": "cached_pictures",
    "classification_compute_metrics": "metrics",
    "mner_compute_metrics": "metrics",
    "mre_compute_metrics": "metrics",
}


def __getattr__(name: str):
    if name in _TRAINING:
        try:
            return getattr(import_module(f".{_TRAINING[name]}", __name__), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{name} needs {error.name}: pip install 'modeling-i2srm[train]'") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "I2SRMConfig",
    "I2SRMForRelationClassification",
    "I2SRMForSequenceClassification",
    "I2SRMForTokenClassification",
    "I2SRMModel",
    "I2SRMProcessor",
    "MultimodalRelationClassificationPipeline",
    "MultimodalTextClassificationPipeline",
    "MultimodalTokenClassificationPipeline",
    "__version__",
    *_TRAINING,
]
