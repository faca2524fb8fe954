"""What users saved with earlier versions still loads, resumes and gives the same; see tests/artifacts."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from artifacts import make_artifacts
from safetensors.torch import load_file, save_file
from tiny import assert_same
from transformers import pipeline

from modeling_i2srm import VisualFeatureCache, cache_pictures
from modeling_i2srm.inference.corpus import extract_corpus
from modeling_i2srm.onnx.session import OnnxSession
from modeling_i2srm.support.checkpoint_code import update_checkpoint_code
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MNER

FOLDER = Path(__file__).parent / "artifacts"
# Digests of a corpus run and of a feature cache hold configurations, to which another transformers may add fields.
SAME_TRANSFORMERS = json.loads((FOLDER / "versions.json").read_text())["transformers"] == transformers.__version__
needs_same_transformers = pytest.mark.skipif(not SAME_TRANSFORMERS, reason="digests hold fields of transformers")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A copy, which is the working directory."""
    shutil.copytree(FOLDER, tmp_path / "artifacts", ignore=shutil.ignore_patterns("*.py[co]", "make_artifacts.py"))
    monkeypatch.chdir(tmp_path / "artifacts")
    return tmp_path / "artifacts"


@pytest.mark.parametrize("name", ["ner", "mre", "classification"])
def test_a_saved_checkpoint_gives_the_same_answers(folder, name):
    pipe = pipeline(make_artifacts.TASKS[name], model=name, device="cpu")
    text = Path("answers.json").read_text().replace('"entity":', '"entity_group":')  # as pipelines call it since 0.2
    expected = json.loads(text)[name]
    assert_same(pipe(make_artifacts.posts_of(name, Path("pictures"))), expected)


def test_a_saved_checkpoint_takes_the_present_code(folder, tmp_path):
    update_checkpoint_code("ner")
    pipe = pipeline("multimodal-token-classification", model="ner", device="cpu")
    pipe.save_pretrained(tmp_path / "new")
    files = [{path.name: path.read_text() for path in Path(place).glob("*.py")} for place in ("ner", tmp_path / "new")]
    assert files[0] == files[1]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_goes_through_the_same_losses(folder, resumed):
    settings = {"resume_from_checkpoint": "last"} if resumed else {}
    results = run_task(MNER, parse_arguments(make_artifacts.command_line("run" if resumed else "new_run", **settings)))
    expected = json.loads(Path("losses.json").read_text())
    losses = make_artifacts.run_losses("run" if resumed else "new_run", results)
    assert [entry["step"] for entry in losses["steps"]] == [entry["step"] for entry in expected["steps"]]
    for entry, other in zip(losses["steps"], expected["steps"], strict=True):
        assert entry == pytest.approx(other, rel=1e-4)
    assert losses["test"] == pytest.approx(expected["test"], rel=1e-4)


@needs_same_transformers
def test_cached_features_are_not_computed_again(folder, monkeypatch):
    files = sorted(Path("features").rglob("*.*"))
    model, processor, splits = make_artifacts.load_for_features()
    cache = VisualFeatureCache.for_model("features", model, processor, "float32")
    assert len(cache) > 10
    forward = model.base_model.vision_encoder.forward
    monkeypatch.setattr(model.base_model.vision_encoder, "forward", None)
    rows = cache_pictures(cache, dict(splits), model, processor, progress=False)
    assert sorted(Path("features").rglob("*.*")) == files
    monkeypatch.setattr(model.base_model.vision_encoder, "forward", forward)
    image = processor.load_picture(splits["test"][0]["image"])
    pixels = processor.encode_pictures([image], [[]])["pixel_values"]
    with torch.no_grad():
        features = model.base_model.get_visual_features(pixels)[0, 0]
    stored = cache.read([rows["test"][0]["picture_keys"][0]])[0]
    torch.testing.assert_close(stored, features, rtol=1e-4, atol=1e-5)


def test_an_exported_model_gives_the_same_answers(folder):
    pipe = pipeline("multimodal-token-classification", model="ner", device="cpu")
    session = OnnxSession("onnx/ner.onnx", threads=1)
    posts = make_artifacts.posts_of("ner", Path("pictures"))
    for inputs in (pipe.processor(text=post["text"], images=post.get("image")) for post in posts):
        with torch.no_grad():
            logits = pipe.model(**inputs).logits
        found = session(**{name: tensor.numpy() for name, tensor in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(found), logits, rtol=1e-4, atol=1e-4)


@needs_same_transformers
def test_an_unfinished_corpus_is_finished(folder, monkeypatch):
    monkeypatch.chdir(folder / "corpus")
    done = Path("output/part-00000.jsonl")
    before = done.stat().st_mtime_ns, done.read_bytes()
    summary = extract_corpus(make_artifacts.corpus_arguments())
    assert (done.stat().st_mtime_ns, done.read_bytes()) == before
    for expected in sorted(Path("finished").glob("*.jsonl")):
        paths = Path("output", expected.name), expected
        posts = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
        assert_same(*posts, tolerance=2e-4)
    expected = json.loads(Path("finished/summary.json").read_text())
    assert summary["posts_in_this_run"] == 6
    for name in ("posts", "entities", "relations", "objects", "errors", "parts", "posts_without_picture"):
        assert summary[name] == expected[name]


@needs_same_transformers
def test_a_corpus_of_another_model_is_not_continued(folder, monkeypatch):
    monkeypatch.chdir(folder / "corpus")
    weights = load_file(folder / "ner" / "model.safetensors")
    weights["classifier.bias"][0] += 1
    save_file(weights, folder / "ner" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="is of another run: --ner ../ner there, ../ner here, of other contents"):
        extract_corpus(make_artifacts.corpus_arguments())
