"""The modality gap: its numbers against plain loops, its vectors against the semantic loss, its picture and script."""

import importlib
import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from tiny import RELATIONS, SENTENCES, TAGS, bert_tokenizer, noise, tiny_config, tiny_processor
from topic_rows import features, rows
from transformers import BertModel, ResNetBackbone

from modeling_i2srm import (
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)
from modeling_i2srm.data.collator import I2SRMDataCollator
from modeling_i2srm.studies.modality_gap import draw_modality_gap, measure, modality_gap, untrained

script = importlib.import_module("modeling_i2srm.cli.modality_gap")
HEADS = (I2SRMForTokenClassification, I2SRMForRelationClassification, I2SRMForSequenceClassification)


def vectors(posts=7, size=6, shift=0.0):
    generator = np.random.default_rng(0)
    text = generator.normal(size=(posts, size)).astype(np.float32)
    return text, (0.5 * text + generator.normal(size=(posts, size)) + shift).astype(np.float32)


def test_the_numbers_are_those_of_plain_loops():
    text, pictures = vectors()
    gap = measure(text, pictures, left_out=3, trained=True)
    n = len(text)
    t, v = (x.astype(float) / np.linalg.norm(x.astype(float), axis=1)[:, None] for x in (text, pictures))

    def softmax(x):
        return np.exp(x.astype(float)) / np.exp(x.astype(float)).sum()

    def kl(i, j):
        p, q = softmax(text[i]), softmax(pictures[j])
        return sum(p * np.log(p / q))

    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    expected = {
        "posts": 7,
        "posts_without_picture": 3,
        "centroid_distance": np.sqrt(sum((t.mean(0) - v.mean(0)) ** 2)),
        "mean_kl": np.mean([kl(i, i) for i in range(n)]),
        "mean_kl_other": np.mean([kl(i, j) for i, j in pairs]),
        "alignment": np.mean([sum((t[i] - v[i]) ** 2) for i in range(n)]),
        "alignment_other": np.mean([sum((t[i] - v[j]) ** 2) for i, j in pairs]),
        "uniformity_text": math.log(np.mean([math.exp(-2 * sum((t[i] - t[j]) ** 2)) for i, j in pairs])),
        "uniformity_picture": math.log(np.mean([math.exp(-2 * sum((v[i] - v[j]) ** 2)) for i, j in pairs])),
        "entropy_text": np.mean([-sum(p * np.log(p)) for p in map(softmax, text)]),
        "entropy_picture": np.mean([-sum(p * np.log(p)) for p in map(softmax, pictures)]),
        "largest_entropy": math.log(6),
    }
    found = gap.to_dict()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert set(found) - set(expected) == {"separability", "projection_trained"}
    json.dumps(found)


def test_modalities_that_are_the_same_and_modalities_that_are_apart():
    text, _ = vectors(40)
    same = measure(text, text.copy(), 0, True)
    assert [same.centroid_distance, same.mean_kl, same.alignment] == pytest.approx([0, 0, 0], abs=1e-6)
    assert same.separability <= 0.6 and same.mean_kl_other > 0.5
    apart = measure(text, -np.abs(text) - 3, 0, True)
    assert apart.separability > 0.9 and apart.centroid_distance > 0.7
    one_point = measure(np.ones((4, 6), np.float32), np.ones((4, 6), np.float32), 0, True)
    assert one_point.uniformity_text == pytest.approx(0, abs=1e-9)
    assert one_point.entropy_picture == pytest.approx(one_point.largest_entropy)


def posts(head) -> list[dict]:
    """Posts for a head; the second has no picture, the fourth a crop alone."""
    found = []
    for i, sentence in enumerate([*SENTENCES, *SENTENCES[:2]]):
        row = {"tokens": sentence.split(), "image": noise(i), "objects": [noise(10 + i)]}
        if head is I2SRMForTokenClassification:
            row["ner_tags"] = [0] * len(row["tokens"])
        elif head is I2SRMForRelationClassification:
            row |= {"head": (0, 1), "tail": (2, 4), "relation": 1}
        else:
            row["label"] = 1
        found.append(row)
    found[1] |= {"image": None, "objects": []}
    found[3]["image"] = None
    return found


def build(head, **settings):
    processor = tiny_processor()
    if head is I2SRMForRelationClassification:
        processor.add_entity_markers()
    torch.manual_seed(0)
    names = TAGS if head is I2SRMForTokenClassification else RELATIONS
    settings = {"text": {"vocab_size": len(processor.tokenizer)}, "id2label": dict(enumerate(names)), **settings}
    return head(tiny_config(**settings)).eval(), processor


@pytest.mark.parametrize("head", HEADS)
def test_the_divergence_is_the_semantic_loss(head):
    model, processor = build(head, semantic_loss_weight=0.25)
    rows = posts(head)
    with torch.no_grad():
        expected = model(**I2SRMDataCollator(processor)(rows)).semantic_loss / 0.25
    model.train()
    gap = modality_gap(model, rows, processor, batch_size=4, progress=False)
    assert model.training and not model.model.vision_encoder.training
    assert gap.mean_kl == pytest.approx(float(expected), rel=1e-4)
    assert (gap.posts, gap.posts_without_picture, gap.projection_trained) == (4, 2, True)
    size = (2 if head is I2SRMForRelationClassification else 1) * 32
    assert gap.text.shape == gap.pictures.shape == (4, size) and gap.largest_entropy == pytest.approx(math.log(size))
    first = modality_gap(model, rows, collator=I2SRMDataCollator(processor), max_posts=3, progress=False)
    assert (first.posts, first.posts_without_picture) == (2, 1)
    np.testing.assert_allclose(first.text, gap.text[:2], atol=1e-5)


def test_a_model_without_semantic_loss_gets_a_new_projection():
    head = I2SRMForSequenceClassification
    model, processor = build(head, semantic_loss_weight=0.0)
    options = {"progress": False, "batch_size": 2}
    state = torch.random.get_rng_state()
    gaps = [modality_gap(model, posts(head), processor, seed=seed, **options) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not gaps[0].projection_trained and gaps[0].to_dict() == gaps[1].to_dict()
    assert np.array_equal(gaps[0].text, gaps[2].text) and gaps[0].mean_kl != gaps[2].mean_kl
    own = modality_gap(build(head)[0], posts(head), processor, **options)
    assert gaps[0].pictures.std() == pytest.approx(own.pictures.std(), rel=0.3)


def test_what_cannot_be_measured_is_explained():
    head = I2SRMForSequenceClassification
    model, processor = build(head)
    with pytest.raises(ValueError, match="1 of 2 posts have a picture"):
        modality_gap(model, posts(head)[:2], processor, progress=False)
    with pytest.raises(ValueError, match="0 of 1 posts have a picture"):
        modality_gap(model, posts(head)[1:2], processor, progress=False)
    with pytest.raises(ValueError, match="give the processor"):
        modality_gap(model, posts(head))
    with pytest.raises(ValueError, match="I2SRMModel has no head"):
        modality_gap(I2SRMModel(model.config), posts(head), processor)
    torch.nn.init.constant_(model.post_semantic_loss.projection.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        modality_gap(model, posts(head), processor, progress=False)


def test_an_untrained_model_has_the_configuration_and_other_parameters(tmp_path):
    model, _ = build(I2SRMForRelationClassification, prompt_length=2, mixup_alpha=0.3, freeze_vision=False)
    new, again = untrained(model, seed=3), untrained(model, seed=3)
    settings = [{**m.config.to_dict(), "architectures": None, "dtype": None} for m in (model, new)]
    assert settings[0] == settings[1] and type(new) is type(model) and not new.training
    for name, value in new.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    weights = [m.model.text_encoder.encoder.layer[0].output.dense.weight for m in (model, new)]
    assert not torch.equal(*weights)

    # From pretrained encoders, whose vocabulary has no markers yet.
    config = tiny_config(text={"vocab_size": len(bert_tokenizer())})
    BertModel(config.text_config).save_pretrained(tmp_path / "text")
    ResNetBackbone(config.vision_config).save_pretrained(tmp_path / "vision")
    encoders = str(tmp_path / "text"), str(tmp_path / "vision")
    new = untrained(model, *encoders)
    assert new.config.prompt_length == 2 and new.config.mixup_alpha == 0.3 and not new.config.freeze_vision
    assert new.config.id2label == model.config.id2label
    assert new.get_input_embeddings().num_embeddings == len(bert_tokenizer()) + 4
    own = BertModel.from_pretrained(encoders[0]).encoder.layer[0].output.dense.weight
    assert torch.equal(new.model.text_encoder.encoder.layer[0].output.dense.weight, own)


@pytest.mark.parametrize("count, ending", [(1, "svg"), (3, "png")])
def test_the_picture(tmp_path, count, ending):
    text, pictures = vectors(1000 if count == 3 else 20, shift=2.0)
    gap = measure(text, pictures, 0, True)
    path = tmp_path / f"gap.{ending}"
    draw_modality_gap({rf"model {i} $\bad$": gap for i in range(count)}, path)
    assert 5_000 < path.stat().st_size < 200_000
    if ending == "png":
        with Image.open(path) as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1_000_000)}
            assert picture.width >= 700 and {(0, 114, 178), (213, 94, 0)} <= colours


def test_the_script(tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        Dataset.from_list(rows(12), features=features()).to_parquet(folder / f"{split}.parquet")
    models = []
    for name, weight in (("kl", 0.5), ("plain", 0.0)):
        model, processor = build(I2SRMForSequenceClassification, semantic_loss_weight=weight)
        models.append(str(tmp_path / name))
        model.save_pretrained(models[-1]), processor.save_pretrained(models[-1])
    output = tmp_path / "out" / "gap"
    given = ["--dataset", str(folder), "--output", str(output), "--max_posts", "10", "--model", *models]
    script.main(given)
    numbers = json.loads(output.with_suffix(".json").read_text())
    assert list(numbers) == ["untrained", "kl", "plain"] and numbers["kl"]["posts"] == 10
    assert [values["projection_trained"] for values in numbers.values()] == [True, True, False]
    printed = capsys.readouterr().out
    assert f"{numbers['kl']['centroid_distance']:.3f}" in printed and "plain *" in printed
    assert output.with_suffix(".png").exists()
    for wrong, message in ((["--names", "one"], "give 2 different names"), (["--split", "none"], "none")):
        with pytest.raises(SystemExit) as stopped:
            script.main([*given, *wrong])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    I2SRMModel(model.config).save_pretrained(tmp_path / "base")
    with pytest.raises(SystemExit):
        script.main([*given[:-3], "--model", str(tmp_path / "base")])
    assert "is a checkpoint of I2SRMModel" in capsys.readouterr().err
