"""The studies of `examples/run_experiments.py` and the settings that each compares, as plain data."""

from dataclasses import dataclass
from typing import Any, Literal

FULL = "full"
PLAIN_FUSION = {"semantic_loss_weight": 0.0, "attn_mixup": False}
SHARES = (25, 50, 75, 100)
MISMATCHES = [f"{kind}:{percent}" for kind in ("shuffled", "blanked", "noised") for percent in SHARES]


@dataclass(frozen=True)
class Setting:
    """One setting of a study.

    Args:
        name: in tables.
        overrides: arguments of the training scripts and their values; all others come from the command line.
        x: its value on the axis of a study that varies a number.
        series: its curve, in a study with several.
        reference: the setting that it is tested against; `None` for the reference itself.
    """

    name: str
    overrides: dict[str, Any]
    x: float | None = None
    series: str = ""
    reference: str | None = FULL


Scale = Literal["linear", "log", "symlog"]


@dataclass(frozen=True)
class Study:
    """A question and the settings that answer it.

    Args:
        question: one sentence.
        settings: in the order of the table; the full model, if present, is the first.
        argument: the one argument that is varied, if the command line may set other values.
        axis: label of the horizontal axis with its unit; "" for a study of named settings.
        scale: of that axis, as in matplotlib; "symlog" can show zero.
    """

    question: str
    settings: tuple[Setting, ...]
    argument: str | None = None
    axis: str = ""
    scale: Scale = "linear"

    def choose(self, names: list[str] | None = None) -> list[Setting]:
        """Choose settings by name, or by value in a study with an `argument`; `None` means all.

        The references of the chosen settings are added; among encoders the first name is the reference.

        Raises:
            ValueError: an unknown name or an invalid value.
        """
        if names is None:
            return list(self.settings)
        known = {setting.name: setting for setting in self.settings}
        chosen: dict[str, Setting] = {}
        base = next(setting.name for setting in self.settings if setting.reference is None)
        for name in names:
            if name in known and (self.axis or self.argument is None):
                setting = known[name]
            elif self.argument is None:
                raise ValueError(f"{name!r} is not a setting of this study; they are {', '.join(map(repr, known))}")
            elif self.axis:
                setting = Setting(name, {self.argument: self._number(name)}, self._number(name), reference=base)
            else:  # encoders
                setting = Setting(name, {self.argument: name}, reference=None if name == names[0] else names[0])
            if setting.reference in known:
                chosen.setdefault(setting.reference, known[setting.reference])
            chosen.setdefault(name, setting)
        return sorted(chosen.values(), key=lambda setting: -1 if setting.x is None else setting.x)

    def _number(self, value: str) -> float | int:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number for {self.argument}, e.g. --settings 0.1 0.5") from None
        return int(number) if self.argument == "prompt_length" else number


def varied(
    question: str, argument: str, values: tuple, default: object, axis: str = "", scale: Scale = "linear"
) -> Study:
    """A study of one argument; all values are tested against its default."""
    settings = (
        Setting(str(value), {argument: value}, value if axis else None, "", None if value == default else str(default))
        for value in values
    )
    return Study(question, tuple(settings), argument, axis, scale)


def in_series(question: str, argument: str, values: tuple, series: dict[str, dict], axis: str, scale: Scale) -> Study:
    """A study of one argument, in several curves; each point is tested against the first curve's at the same x."""
    first = next(iter(series))
    settings = tuple(
        Setting(
            f"{name}, {value:g}",
            {**overrides, argument: value},
            value,
            name,
            None if name == first else f"{first}, {value:g}",
        )
        for name, overrides in series.items()
        for value in values
    )
    return Study(question, settings, None, axis, scale)


# The models of the study "mismatch".
TRAINED: dict[str, dict[str, Any]] = {
    FULL: {},
    "no KL": {"semantic_loss_weight": 0.0},
    "trained with 30 % wrong pictures": {"train_mismatch": "shuffled:30"},
    "trained with 30 % wrong pictures, no KL": {"train_mismatch": "shuffled:30", "semantic_loss_weight": 0.0},
}

STUDIES: dict[str, Study] = {
    "ablation": Study(
        "What does each part of the method contribute?",
        (
            Setting(FULL, {}, reference=None),
            Setting("no KL", {"semantic_loss_weight": 0.0}),
            Setting("no AttnMixup", {"attn_mixup": False}),
            Setting("attention only", {"attn_mixup_interpolation": False}),
            Setting("interpolation only", {"attn_mixup_attention": False}),
            Setting("no crops", {"num_objects": 0}),
            Setting("no picture", {"use_images": False}),
            Setting("single level", {"vision_out_features": ["stage4"]}),
            Setting("neither module", PLAIN_FUSION),
            Setting(
                "plain text encoder",
                {**PLAIN_FUSION, "use_images": False, "use_crf": False, "constrained_decoding": False},
            ),
        ),
    ),
    "delta": varied(
        "How many rows should enter the pool for mixing?",
        "mixup_delta",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        0.7,
        "mixup_delta (share of the rows in the pool)",
    ),
    "ratio": varied(
        "How many unmixed and how many mixed rows should be scored?",
        "mixup_ratio",
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        0.6,
        "mixup_ratio (1: all unmixed rows, no mixed ones)",
    ),
    "alpha": varied(
        "How strongly should two rows be mixed?",
        "mixup_alpha",
        (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0),
        1.0,
        "mixup_alpha (of Beta(alpha, alpha))",
        "log",
    ),
    "kl_weight": Study(
        "How strongly should the pictures be pulled to the texts?",
        (
            Setting(FULL, {}, None, reference=None),
            *(
                Setting(str(weight), {"semantic_loss_weight": weight}, weight)
                for weight in (0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0)
            ),
        ),
        "semantic_loss_weight",
        "semantic_loss_weight (factor of the KL term)",
        "symlog",
    ),
    "prompt_length": varied(
        "How many prompt slots does a picture need?",
        "prompt_length",
        (1, 2, 4, 8),
        4,
        "prompt_length (slots per picture)",
        "log",
    ),
    "text_encoder": varied(
        "How much does the text encoder matter?",
        "text_encoder",
        (
            "FacebookAI/roberta-large",
            "FacebookAI/roberta-base",
            "google-bert/bert-base-uncased",
            "google-bert/bert-large-uncased",
            "FacebookAI/xlm-roberta-large",
            "vinai/bertweet-base",
            "google/electra-base-discriminator",
        ),
        "FacebookAI/roberta-large",
    ),
    "vision_encoder": varied(
        "How much does the vision encoder matter?",
        "vision_encoder",
        (
            "microsoft/resnet-50",
            "microsoft/resnet-18",
            "microsoft/resnet-101",
            "microsoft/resnet-152",
            "facebook/convnext-tiny-224",
            "microsoft/swin-tiny-patch4-window7-224",
            "facebook/dinov2-small",
        ),
        "microsoft/resnet-50",
    ),
    "low_resource": in_series(
        "Do pictures and modules help more where there is less to learn from?",
        "train_fraction",
        (0.05, 0.1, 0.2, 0.5, 1.0),
        {FULL: {}, "neither module": PLAIN_FUSION, "no picture": {"use_images": False}},
        "share of the training data",
        "log",
    ),
    "batch_size": in_series(
        "How large a batch does AttnMixup need?",
        "per_device_train_batch_size",
        (2, 4, 8, 16, 32, 64),
        {FULL: {}, "no AttnMixup": {"attn_mixup": False}},
        "posts of a batch (of one process)",
        "log",
    ),
    "mismatch": Study(
        "How far does a wrong picture mislead, and does training with wrong pictures, or KL, help against it?",
        tuple(
            Setting(name, {**overrides, "test_mismatch": MISMATCHES}, reference=None if name == FULL else FULL)
            for name, overrides in TRAINED.items()
        ),
        None,
        "test posts with wrong pictures (%)",
    ),
    "seeds": Study("How much do results vary over seeds?", (Setting(FULL, {}, reference=None),)),
}

__all__ = ["STUDIES", "Setting", "Study"]
