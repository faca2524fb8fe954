"""What is not trusted: checkpoints, their settings, and pickles wherever one could lie."""

import ast
import json
import pickle
import re
import shutil
import sys
from importlib.metadata import requires
from itertools import chain
from pathlib import Path

import pytest
import torch
from tiny import SENTENCES, tiny_pipeline
from tiny_runs import run
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, AutoProcessor, pipeline

from modeling_i2srm import I2SRMForTokenClassification, I2SRMProcessor
from modeling_i2srm.data.feature_cache import VisualFeatureCache
from modeling_i2srm.inference.extraction import Extractor

ROOT = Path(__file__).resolve().parents[2]
named = None  # a list while what unpicklers look up is watched


def watch(event, arguments):
    if named is not None and event == "pickle.find_class":
        named.append(arguments)


sys.addaudithook(watch)  # which cannot be taken away again


@pytest.fixture
def unpickled(monkeypatch) -> list:
    """Everything that any unpickler of Python looks up or is asked to load, and each `torch.load` with its options."""
    seen = []
    monkeypatch.setattr(sys.modules[__name__], "named", seen)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(
            pickle, name, lambda *_, name=name, **__: seen.append(name) or pytest.fail(f"pickle.{name}")
        )
    load = torch.load

    def record(*arguments, **options):
        seen.append(("torch.load", options.get("weights_only")))
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", record)
    return seen


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for task in ("entities", "relations"):
        tiny_pipeline(task).save_pretrained(folder / task)
    return {task: folder / task for task in ("entities", "relations")}


def test_the_code_of_a_checkpoint_is_what_security_says(checkpoints):
    """The files that travel, and the packages that they import."""
    text = (ROOT / "SECURITY.md").read_text()
    listed = re.findall(r"\w+\.py", "".join(re.findall(r"^ {4}.+$", text, re.MULTILINE)))
    assert len(listed) == len(set(listed))
    needed = re.search(r"They need (.+?), which transformers installs", text, re.DOTALL)[1]
    packages = set(re.findall(r"\w+", needed)) - {"and"}
    for folder in checkpoints.values():
        code = {path.name: ast.parse(path.read_text()) for path in folder.glob("*.py")}
        assert set(code) == set(listed)
        imported = set()
        for node in chain(*map(ast.walk, code.values())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
        assert {{"PIL": "pillow"}.get(name, name) for name in imported - sys.stdlib_module_names} == packages
    requirements = " ".join(line for line in requires("transformers") if "extra ==" not in line)
    assert all(re.search(rf"\b{name}\b", requirements) for name in packages - {"torch", "transformers", "pillow"})


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_watch_sees_a_bomb(tmp_path, unpickled):
    data = pickle.dumps(Bomb(tmp_path / "exploded"))
    with pytest.raises(pytest.fail.Exception):
        pickle.loads(data)
    assert unpickled == ["loads"]
    pickle._loads(data)  # by another way
    assert len(unpickled) > 1 and (tmp_path / "exploded").exists()


def test_nothing_is_unpickled_when_a_checkpoint_is_loaded_and_used(tmp_path, checkpoints, unpickled):
    ner, re = str(checkpoints["entities"]), str(checkpoints["relations"])
    assert AutoConfig.from_pretrained(ner).model_type == "i2srm"
    AutoModel.from_pretrained(ner)
    model = AutoModelForTokenClassification.from_pretrained(ner)
    processor = AutoProcessor.from_pretrained(ner)
    pipeline("multimodal-token-classification", model=ner)(SENTENCES[0])
    pipeline("multimodal-relation-classification", model=re)({"text": SENTENCES[0], "head": (0, 2), "tail": (3, 6)})
    Extractor.from_pretrained(ner, re)(SENTENCES[0])
    pixels = processor(text="Kobe", images=torch.rand(3, 40, 40))["pixel_values"][0]
    model.base_model.vision_encoder.requires_grad_(False)
    cache = VisualFeatureCache.for_model(tmp_path, model, processor)
    cache.add(["0" * 32], model.base_model.get_visual_features(pixels[None])[0, :1])
    again = VisualFeatureCache.for_model(tmp_path, model, processor)
    assert again.read(["0" * 32]).shape[0] == 1
    assert unpickled == []


def test_a_training_that_is_resumed_loads_tensors_alone(posts, tmp_path, unpickled, monkeypatch):
    settings = {"num_train_epochs": 2, "save_strategy": "epoch", "do_eval": None, "do_predict": None}
    monkeypatch.setattr(sys.modules[__name__], "named", None)
    run(posts, tmp_path / "out", **settings)
    checkpoint = max((tmp_path / "out").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(checkpoint)
    unpickled.clear()
    run(posts, tmp_path / "out", **settings, resume_from_checkpoint="last")
    loaded = [seen for seen in unpickled if isinstance(seen, tuple)]
    assert len(loaded) >= 3 and set(loaded) == {("torch.load", True)}  # optimizer, scheduler, random states


def test_weights_that_are_a_pickle_are_not_run(tmp_path, checkpoints):
    """`weights_only` holds where there are no safetensors; safetensors go first where there are both."""
    folder = shutil.copytree(checkpoints["entities"], tmp_path / "checkpoint")
    torch.save({"classifier.bias": Bomb(tmp_path / "exploded")}, folder / "pytorch_model.bin")
    I2SRMForTokenClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    for load in (I2SRMForTokenClassification, AutoModelForTokenClassification):
        with pytest.raises(Exception, match="(?i)weights.only"):
            load.from_pretrained(folder)
    with pytest.raises(Exception, match="(?i)weights.only"):
        pipeline("multimodal-token-classification", model=str(folder))
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_format_are_read_as_tensors(tmp_path, checkpoints, unpickled):
    folder = shutil.copytree(checkpoints["entities"], tmp_path / "checkpoint")
    model = I2SRMForTokenClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    again = I2SRMForTokenClassification.from_pretrained(folder)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert unpickled and set(unpickled) == {("torch.load", True)}


def test_a_checkpoint_cannot_allow_private_addresses(tmp_path, checkpoints):
    folder = shutil.copytree(checkpoints["entities"], tmp_path / "checkpoint")
    for name in ("processor_config.json", "config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        settings |= {"allow_private_addresses": True, "task_specific_params": {"allow_private_addresses": True}}
        (folder / name).write_text(json.dumps(settings))
    for processor in (I2SRMProcessor.from_pretrained(folder), AutoProcessor.from_pretrained(folder)):
        assert processor.allow_private_addresses is False
    ner = pipeline("multimodal-token-classification", model=str(folder))
    post = {"text": SENTENCES[0], "image": "http://127.0.0.1:9/a.png"}
    assert "not public" in ner(post)[0]["image_errors"]["image"]
    assert "refused" in ner(post, allow_private_addresses=True)[0]["image_errors"]["image"]  # nobody listens
    ner.processor.allow_private_addresses = True
    assert "refused" in ner(post)[0]["image_errors"]["image"]
    ner.processor.save_pretrained(tmp_path / "again")
    assert I2SRMProcessor.from_pretrained(tmp_path / "again").allow_private_addresses is False
    assert "allow_private" not in (tmp_path / "again" / "processor_config.json").read_text()


def test_options_of_pipelines_and_extractors_reach_the_download(checkpoints):
    post = {"text": SENTENCES[0], "image": "http://127.0.0.1:9/a.png", "head": (0, 2), "tail": (3, 6)}
    ner, re = str(checkpoints["entities"]), str(checkpoints["relations"])
    relate = pipeline("multimodal-relation-classification", model=re, allow_private_addresses=True)
    assert "refused" in relate(post)["image_errors"]["image"]
    for allowed, word in ((None, "not public"), (True, "refused"), (False, "not public")):
        found = Extractor.from_pretrained(ner, re, allow_private_addresses=allowed)(post)
        assert word in found.image_errors["image"]
