"""What the log says of a run."""

from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_config, tiny_processor

from modeling_i2srm import I2SRMForTokenClassification, I2SRMTrainer, I2SRMTrainingArguments
from modeling_i2srm.data.picture_memory import PictureMemory
from modeling_i2srm.support.precision import bf16_is_fast
from modeling_i2srm.training.report import describe_precision, describe_run


def description(tmp_path, *, freeze: bool = True, feature_cache=None, picture_memory=None, **settings) -> str:
    arguments = I2SRMTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **settings)
    model = I2SRMForTokenClassification(tiny_config(freeze_vision=freeze))
    trainer = I2SRMTrainer(model, arguments, processing_class=tiny_processor(reduced_decode=None))
    trainer.data_collator.feature_cache = feature_cache
    trainer.data_collator.picture_memory = picture_memory
    return "\n".join(describe_run(trainer))


def test_a_run_is_described(tmp_path):
    text = description(tmp_path, dataloader_num_workers=0, train_sampling_strategy="random")
    assert "backbone frozen; features computed in every step; decoded by the training process itself, in full" in text
    assert "padded to the longest of the batch; order random" in text
    assert f"{I2SRMTrainingArguments.default_optim}; float32" in text and "cpu with 1 threads" in text
    assert "AttnMixup: on\n" in text
    text = description(tmp_path, freeze=False, dataloader_num_workers=2)
    assert "backbone trained" in text and "decoded by 2 worker processes" in text and "similar length" in text
    text = description(tmp_path, picture_memory=PictureMemory(2**21), name_swapping=0.25)
    assert "kept in up to 2 MB, memory" in text and "25 % of the names are swapped in training" in text
    assert "backbone frozen; features from the cache" in description(tmp_path, feature_cache=object())


@pytest.mark.parametrize(
    "bf16, fast, words",
    [
        (False, False, "float32"),
        (False, True, "float32; bfloat16 is faster here for encoders from MiniLM's size: --bf16 true --use_cpu true"),
        (True, True, "bfloat16 autocast"),
        (True, False, "bfloat16 autocast, for which this device has no instructions: slower than float32"),
    ],
)
def test_the_faster_precision_is_named(monkeypatch, bf16, fast, words):
    monkeypatch.setattr("modeling_i2srm.training.report.bf16_is_fast", lambda device: fast)
    arguments = SimpleNamespace(bf16=bf16, fp16=False, device=torch.device("cpu"))
    assert describe_precision(arguments) == words


def test_float16_on_the_cpu_is_said_not_to_be(tmp_path):
    assert "float32: accelerate ignores --fp16 true on the CPU" in description(tmp_path, fp16=True)


@pytest.mark.parametrize("names, fast", [([], False), (["avx512_bf16"], True), (["amx_bf16", "avx2"], True)])
def test_bf16_of_a_cpu(monkeypatch, names, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True), raising=False)
    assert bf16_is_fast("cpu") is fast
    assert not bf16_is_fast(torch.device("meta"))
