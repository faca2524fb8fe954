"""Multimodal information extraction from social-media posts with I2SRM (arXiv 2310.06326)."""

from importlib import import_module
from typing import TYPE_CHECKING

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_i2srm import I2SRMConfig
from .joint_pipeline import MultimodalJointExtractionPipeline
from .modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)
from .modeling_joint import I2SRMForJointExtraction
from .pipeline_i2srm import (
    MultimodalRelationClassificationPipeline,
    MultimodalTextClassificationPipeline,
    MultimodalTokenClassificationPipeline,
)
from .processing_i2srm import I2SRMProcessor
from .version import __version__

if TYPE_CHECKING:  # at run time `__getattr__` imports these
    from .data.collator import I2SRMDataCollator as I2SRMDataCollator
    from .data.feature_cache import VisualFeatureCache as VisualFeatureCache
    from .data.feature_cache import cache_pictures as cache_pictures
    from .inference.answers import Extraction as Extraction
    from .inference.example import example_model as example_model
    from .inference.example import example_posts as example_posts
    from .inference.explanation import explain as explain
    from .inference.extraction import Extractor as Extractor
    from .inference.html import draw_post as draw_post
    from .inference.html import draw_posts as draw_posts
    from .onnx.session import OnnxSession as OnnxSession
    from .support.detectors import ObjectCropper as ObjectCropper
    from .training.metrics import ClassificationMetric as ClassificationMetric
    from .training.metrics import MNERMetric as MNERMetric
    from .training.metrics import MREMetric as MREMetric
    from .training.metrics import classification_compute_metrics as classification_compute_metrics
    from .training.metrics import mner_compute_metrics as mner_compute_metrics
    from .training.metrics import mre_compute_metrics as mre_compute_metrics
    from .training.trainer import I2SRMTrainer as I2SRMTrainer
    from .training.trainer import I2SRMTrainingArguments as I2SRMTrainingArguments

AutoConfig.register("i2srm", I2SRMConfig, exist_ok=True)
AutoModel.register(I2SRMConfig, I2SRMModel, exist_ok=True)
# Of several heads the one that config.architectures names, else the first.
AutoModelForTokenClassification.register(
    I2SRMConfig, (I2SRMForTokenClassification, I2SRMForJointExtraction), exist_ok=True
)
AutoModelForSequenceClassification.register(
    I2SRMConfig, (I2SRMForRelationClassification, I2SRMForSequenceClassification), exist_ok=True
)
AutoProcessor.register(I2SRMConfig, I2SRMProcessor, exist_ok=True)
for task, pipeline_class, auto_class in (
    ("multimodal-token-classification", MultimodalTokenClassificationPipeline, AutoModelForTokenClassification),
    (
        "multimodal-relation-classification",
        MultimodalRelationClassificationPipeline,
        AutoModelForSequenceClassification,
    ),
    ("multimodal-text-classification", MultimodalTextClassificationPipeline, AutoModelForSequenceClassification),
    ("multimodal-joint-extraction", MultimodalJointExtractionPipeline, AutoModelForTokenClassification),
):
    if task not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, auto_class, type="multimodal")

# Imported when they are first used: name -> module, extra whose packages it needs.
_LAZY = {
    "ClassificationMetric": ("training.metrics", "train"),
    "Extraction": ("inference.answers", None),
    "Extractor": ("inference.extraction", None),
    "I2SRMDataCollator": ("data.collator", "train"),
    "I2SRMTrainer": ("training.trainer", "train"),
    "I2SRMTrainingArguments": ("training.trainer", "train"),
    "MNERMetric": ("training.metrics", "train"),
    "MREMetric": ("training.metrics", "train"),
    "ObjectCropper": ("support.detectors", None),
    "OnnxSession": ("onnx.session", "onnx"),
    "VisualFeatureCache": ("data.feature_cache", "train"),
    "cache_pictures": ("data.feature_cache", "train"),
    "classification_compute_metrics": ("training.metrics", "train"),
    "draw_post": ("inference.html", None),
    "draw_posts": ("inference.html", None),
    "example_model": ("inference.example", None),
    "example_posts": ("inference.example", None),
    "explain": ("inference.explanation", None),
    "mner_compute_metrics": ("training.metrics", "train"),
    "mre_compute_metrics": ("training.metrics", "train"),
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _LAZY[name]
    try:
        return getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        if extra is None:
            raise
        raise ModuleNotFoundError(f"{name} needs {error.name}: pip install 'modeling-i2srm[{extra}]'") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "I2SRMConfig",
    "I2SRMForJointExtraction",
    "I2SRMForRelationClassification",
    "I2SRMForSequenceClassification",
    "I2SRMForTokenClassification",
    "I2SRMModel",
    "I2SRMProcessor",
    "MultimodalJointExtractionPipeline",
    "MultimodalRelationClassificationPipeline",
    "MultimodalTextClassificationPipeline",
    "MultimodalTokenClassificationPipeline",
    "__version__",
    *_LAZY,
]
