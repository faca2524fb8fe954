import contextlib
import io
import json
import pickle
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported_files import load_extract, posts_of_all_kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import SENTENCES, SIDE, TAGS, VOCAB, assert_same, tiny_config, tiny_inputs, tiny_processor
from transformers import pipeline

from modeling_i2srm import (
    Extractor,
    I2SRMForRelationClassification,
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)
from modeling_i2srm.cli import export_onnx as script
from modeling_i2srm.crf import LinearChainCRF, bio_violations
from modeling_i2srm.onnx import export as onnx_export
from modeling_i2srm.onnx.export import export_checkpoint, export_onnx, largest_difference, load_model, metadata
from modeling_i2srm.onnx.folder import describe, write_files
from modeling_i2srm.onnx.session import OnnxSession, viterbi

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
SHAPES = [(1, 4, 1), (1, 30, 4), (3, 12, 2), (5, 9, 3), (2, 64, 4)]  # posts, tokens, pictures; traced with 2, 8, 2
MASKS = {
    "present": lambda batch, pictures: torch.ones(batch, pictures, dtype=torch.long),
    "absent": lambda batch, pictures: torch.zeros(batch, pictures, dtype=torch.long),
    "some": lambda batch, pictures: torch.arange(batch * pictures).view(batch, pictures) % 2,
}


def loud(model, seed=0):
    """Random weights large enough that logits are of the order of 1 and pictures change them."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def build(head, model_type="bert", text=None, **settings):
    torch.manual_seed(0)
    return loud(head(tiny_config(model_type, text=text, **settings)))


def pictures_and_text(batch, length, pictures, seed=0):
    torch.manual_seed(seed)
    inputs = tiny_inputs(batch, length, pictures)
    return inputs.pop("word_mask"), inputs


def entities(batch, length):
    head_mask, tail_mask = torch.zeros(2, batch, length, dtype=torch.long)
    head_mask[:, 1] = tail_mask[:, 2:4] = 1
    return {"head_mask": head_mask, "tail_mask": tail_mask}


def differ(session, model, inputs):
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    logits = session(**inputs)
    assert logits.shape == expected.shape and logits.dtype == np.float32
    return np.abs(logits - expected).max()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with a BERT tagger with a CRF and its processor; of one layer, which takes half the time to trace."""
    folder = tmp_path_factory.mktemp("ner")
    build(I2SRMForTokenClassification, text={"vocab_size": VOCAB, "num_hidden_layers": 1}).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint):
    """The tagger's file in the folder that the script has written, and what the script printed."""
    folder, printed = checkpoint / "exported", io.StringIO()
    with contextlib.redirect_stdout(printed):
        script.main(["--model", str(checkpoint), "--output", str(folder)])
    return folder / "model.onnx", printed.getvalue()


@pytest.fixture(scope="module")
def tagger(checkpoint):
    return I2SRMForTokenClassification.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def ner(exported):
    return OnnxSession(exported[0], threads=1)


@pytest.fixture(scope="module")
def classifier():
    """A RoBERTa relation classifier of two layers."""
    return build(I2SRMForRelationClassification, "roberta", id2label={0: "None", 1: "/per/per/peer", 2: "/per/loc/x"})


@pytest.fixture(scope="module")
def relations(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("re") / "model.onnx"
    classifier.train()
    export_onnx(classifier, path, image_size=SIDE)
    assert classifier.training  # as it was
    classifier.eval()
    return OnnxSession(path, threads=1)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("batch", "length", "pictures"), SHAPES)
def test_emissions_agree(ner, tagger, batch, length, pictures, mask):
    _, inputs = pictures_and_text(batch, length, pictures)
    inputs["image_mask"] = MASKS[mask](batch, pictures)
    assert differ(ner, tagger, inputs) < TOLERANCE


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("batch", "length", "pictures"), SHAPES)
def test_relation_logits_agree(relations, classifier, batch, length, pictures, mask):
    _, inputs = pictures_and_text(batch, length, pictures)
    inputs |= {"image_mask": MASKS[mask](batch, pictures), **entities(batch, length)}
    assert differ(relations, classifier, inputs) < TOLERANCE


def test_absent_pictures_give_the_text_only_result_and_present_ones_another(ner, relations):
    for session, extra in ((ner, {}), (relations, entities(3, 9))):
        _, inputs = pictures_and_text(3, 9, 2)
        inputs |= extra
        absent = session(**inputs, image_mask=torch.zeros(3, 2))
        text = session(**{name: values for name, values in inputs.items() if name != "pixel_values"})
        np.testing.assert_array_equal(absent, text)
        assert np.abs(session(**inputs) - text).max() > 100 * TOLERANCE


def test_posts_without_any_picture_agree_with_torch(ner, tagger, relations, classifier):
    for session, model, extra in ((ner, tagger, {}), (relations, classifier, entities(3, 9))):
        _, inputs = pictures_and_text(3, 9, 1)
        del inputs["pixel_values"]
        assert differ(session, model, {**inputs, **extra}) < TOLERANCE


def test_a_raw_session_needs_only_the_named_inputs(ner, tagger):
    _, inputs = pictures_and_text(2, 10, 3)
    inputs["image_mask"] = torch.tensor([[1, 0, 1], [0, 0, 0]])
    feed = {graph_input.name: inputs[graph_input.name].numpy() for graph_input in ner.session.get_inputs()}
    (logits,) = ner.session.run(None, feed)
    assert np.abs(logits - tagger(**inputs).logits.detach().numpy()).max() < TOLERANCE


def test_a_session_can_be_pickled(ner):
    _, inputs = pictures_and_text(2, 9, 2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ner))(**inputs), ner(**inputs))


def test_script_says_how_far_the_file_is_from_torch(exported, ner):
    path, printed = exported
    assert printed.startswith(f"{path.parent}: agrees with torch on present and absent pictures, largest difference")
    assert f"  python {path.parent / 'extract.py'} post.json" in printed
    difference = float(printed.split("scores ")[1].split()[0])
    assert 0 < difference < TOLERANCE
    assert ner.labels == TAGS and ner.max_pictures == 4
    assert ner.shapes["pixel_values"] == ["batch", "pictures", 3, SIDE, SIDE]


def test_tags_are_decoded_alike(ner, tagger):
    for seed in range(20):
        word_mask, inputs = pictures_and_text(4, 12, 2, seed)
        word_mask[3] = 0  # a post without words
        logits = ner(**inputs)
        tags = ner.decode(logits, word_mask)
        assert tags == tagger.decode(torch.from_numpy(logits), word_mask)
        assert tags == tagger.decode(tagger(**inputs).logits, word_mask)
        assert [len(row) for row in tags] == word_mask.sum(1).tolist()


def with_metadata(path, entries, target):
    """A copy of a file with other metadata."""
    proto = onnx.load(path)
    del proto.metadata_props[:]
    if entries is not None:
        proto.metadata_props.add(key="i2srm", value=json.dumps(entries))
    onnx.save(proto, target)
    return target


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("use_crf", [True, False])
def test_decoding_follows_the_configuration(exported, tmp_path, use_crf, constrained):
    model = build(
        I2SRMForTokenClassification, "roberta", use_crf=use_crf, constrained_decoding=constrained, attn_mixup=False
    )
    session = OnnxSession(with_metadata(exported[0], metadata(model), tmp_path / "other.onnx"))
    torch.manual_seed(1)
    logits, word_mask = torch.randn(60, 8, len(TAGS)), torch.rand(60, 8) < 0.7
    tags = session.decode(logits, word_mask)
    assert tags == model.decode(logits, word_mask)
    names = [[TAGS[tag] for tag in row] for row in tags]
    valid = [
        all(tag[:1] != "I" or before[1:] == tag[1:] for before, tag in zip(["O", *row], row, strict=False))
        for row in names
    ]
    assert all(valid) == constrained


@st.composite
def sentences(draw):
    """Scores of a small range, so that many paths are equally good, and whether BIO is enforced."""
    words, tags = draw(st.integers(0, 6)), draw(st.integers(1, 5))
    seed, whole = draw(st.integers(0, 2**32 - 1)), draw(st.booleans())
    generator = torch.Generator().manual_seed(seed)
    size = words * tags + tags * tags + 2 * tags
    scores = torch.randint(-1, 2, (size,), generator=generator) if whole else torch.randn(size, generator=generator)
    parts = scores.float().split([words * tags, tags * tags, tags, tags])
    return parts[0].view(words, tags), parts[1].view(tags, tags), parts[2], parts[3], draw(st.booleans())


@settings(max_examples=300, deadline=None)
@given(sentences())
def test_numpy_viterbi_equals_torch(sentence):
    emissions, transitions, start, end, constrained = sentence
    words, tags = emissions.shape
    crf = LinearChainCRF(tags)
    crf.load_state_dict({"transitions": transitions, "start_transitions": start, "end_transitions": end})
    invalid = bio_violations(TAGS[:tags]) if constrained else None
    padded = torch.cat([emissions, torch.full((2, tags), 9.0)])[None]
    expected = crf.viterbi(padded, torch.arange(words + 2)[None] < words, invalid)[0]
    if constrained:
        start, transitions = start.masked_fill(invalid[0], -np.inf), transitions.masked_fill(invalid[1], -np.inf)
    scores = (array.numpy() for array in (emissions, start, transitions, end))
    assert viterbi(*scores) == expected


def test_an_export_holds_no_path_of_this_machine(exported):
    assert str(ROOT).encode() not in Path(exported[0]).read_bytes()


def test_the_files_entities_are_those_of_the_extractor(exported, tagger, tmp_path):
    processor = tiny_processor()
    pipe = pipeline("multimodal-token-classification", model=tagger, processor=processor)
    posts = posts_of_all_kinds(tmp_path)
    expected = Extractor(pipe)(posts)
    found = load_extract(exported[0].parent).OnnxExtractor(threads=1)(posts)
    assert_same([one.to_dict() for one in found], [one.to_dict() for one in expected], TOLERANCE)
    assert sum(len(one.entities) for one in expected) > 10


def test_the_files_relations_are_those_of_the_pipeline(relations, classifier):
    processor, folder = tiny_processor(), Path(relations._arguments[0]).parent
    processor.add_entity_markers()
    write_files(folder, processor, describe(processor, "mre"))
    extract = load_extract(folder)
    pipe = pipeline("multimodal-relation-classification", model=classifier, processor=processor)
    text = " ".join(SENTENCES)
    far = (0, 2), (len(text) - 6, len(text))
    posts = [
        {"text": "Kobe lands in #Paris!", "head": (0, 4), "tail": (15, 20), "image": Image.new("RGB", (40, 50), "red")},
        {"tokens": SENTENCES[3].split(), "pairs": [((0, 1), (2, 4)), ((5, 6), (0, 2))]},
        {"text": text, "pairs": [((8, 20), (0, 2)), far]},
    ]
    found, expected = extract.OnnxExtractor(threads=1)(posts), pipe(posts, skip_long_pairs=True)
    assert_same(found, expected, TOLERANCE)
    assert expected[2][0]["words_left_out"] and expected[2][1] is None
    with pytest.raises(extract.EntityPairError, match="raise max_length"):
        extract.OnnxExtractor(threads=1)({"text": text, "head": far[0], "tail": far[1]})
    with pytest.raises(ValueError, match=r'head=None, tail=None, pairs=None: give head and tail, .*"head": \(0, 4\)'):
        extract.OnnxExtractor(threads=1)("Kobe")


@pytest.mark.slow
def test_the_files_labels_are_those_of_the_pipeline(tmp_path):
    labels = dict(enumerate(["bad", "good", "neither"]))
    model, processor = build(I2SRMForSequenceClassification, id2label=labels), tiny_processor()
    export_onnx(model, tmp_path / "model.onnx", SIDE)
    write_files(tmp_path, processor, describe(processor, "classification"))
    assert largest_difference(model, OnnxSession(tmp_path / "model.onnx", threads=1)) < TOLERANCE
    posts = posts_of_all_kinds(tmp_path)
    found = load_extract(tmp_path).OnnxExtractor(threads=1)(posts)
    expected = pipeline("multimodal-text-classification", model=model, processor=processor)(posts)
    assert_same(found, expected, TOLERANCE)
    assert expected[-1]["words_left_out"]


def test_processor_output_goes_in_as_it_is(ner, tagger, relations, classifier):
    processor = tiny_processor()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    for images in ([picture, None], [None, None]):
        inputs = processor(text=SENTENCES[:2], images=images, objects=[[picture], None])
        logits = ner(**inputs)
        assert ner.decode(logits, inputs["word_mask"]) == tagger.decode(tagger(**inputs).logits, inputs["word_mask"])
    processor.add_entity_markers()
    inputs = processor(text="Kobe lands in Paris", head=(0, 4), tail=(14, 19), images=picture)
    assert "token_type_ids" in inputs
    assert differ(relations, classifier, inputs) < TOLERANCE


def test_a_file_that_is_not_the_models_is_noticed(exported, ner, checkpoint, tmp_path, monkeypatch):
    other = I2SRMForTokenClassification.from_pretrained(checkpoint)
    assert largest_difference(other, ner) < TOLERANCE
    other.classifier.bias.data[0] += 2e-4
    assert largest_difference(other, ner) == pytest.approx(2e-4, rel=0.02)
    other.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    monkeypatch.setattr(onnx_export, "export_onnx", lambda *arguments: None)  # the file stays the other model's
    with pytest.raises(RuntimeError, match=r"differs from torch by 2\.0e-04, more than 1e-04"):
        export_checkpoint(tmp_path, exported[0])
    other.crf.transitions.data.mul_(-30)
    with pytest.raises(RuntimeError, match="does not decode tags as model.decode does"):
        largest_difference(other, ner)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pixel_value": torch.zeros(2, 1, 3, SIDE, SIDE)}, TypeError, r"unexpected pixel_value; .*processor\(text"),
        ({"input_ids": None}, ValueError, "input_ids is missing"),
        ({"pixel_values": torch.zeros(2, 5, 3, SIDE, SIDE)}, ValueError, r"\(2, 5, 3, 32, 32\).* 1 to 4 pictures"),
        ({"pixel_values": torch.zeros(2, 3, SIDE, SIDE)[:1]}, ValueError, r"pixel_values\[:, None\]"),
        ({"image_mask": torch.ones(2, 1)}, ValueError, r"image_mask of shape \(2, 1\).*expected \(2, 2\)"),
        ({"pixel_values": None, "image_mask": torch.ones(2, 1)}, ValueError, "image_mask names pictures"),
        ({"token_type_ids": torch.ones(2, 9)}, ValueError, "token_type_ids has values other than 0"),
    ],
)
def test_session_refuses_wrong_inputs(ner, change, error, message):
    _, inputs = pictures_and_text(2, 9, 2)
    with pytest.raises(error, match=message):
        ner(**{**inputs, **change})


def test_session_decodes_no_logits_that_are_not_finite(ner, relations):
    words, inputs = pictures_and_text(2, 9, 2)
    logits = ner(**inputs)
    spoiled = np.where(np.asarray(words)[..., None] == 0, np.nan, logits)  # nobody looks there
    assert ner.decode(spoiled, words) == ner.decode(logits, words)
    inputs["pixel_values"][1, 0] = np.nan
    with pytest.raises(ValueError, match=r"posts \[1\] of the batch are NaN or infinite: check their pixel_values"):
        ner.decode(ner(**inputs), words)
    with pytest.raises(ValueError, match=r"posts \[1\] of the batch are NaN or infinite"):
        relations(**inputs, **entities(2, 9))
    inputs["image_mask"] = np.array([[1, 1], [0, 1]])
    assert len(ner.decode(ner(**inputs), words)) == 2


def test_session_refuses_pairs_without_an_entity_and_tags_of_relations(ner, relations):
    _, inputs = pictures_and_text(2, 9, 2)
    with pytest.raises(ValueError, match=r"head_mask is missing; .*head=\(0, 4\)"):
        relations(**inputs)
    masks = entities(2, 9)
    masks["tail_mask"][1] = 0
    with pytest.raises(ValueError, match=r"tail_mask is empty for the posts \[1\]"):
        relations(**inputs, **masks)
    with pytest.raises(ValueError, match="session.labels"):
        relations.decode(np.zeros((2, 3)), np.ones((2, 9)))
    with pytest.raises(ValueError, match=r"logits of shape \(2, 9, 4\)"):
        ner.decode(np.zeros((2, 9, 4)), np.ones((2, 9)))


def test_a_file_of_other_making_is_refused(exported, tmp_path):
    with pytest.raises(ValueError, match=r"bare.onnx' has no 'i2srm' entry.*examples/export_onnx.py --model"):
        OnnxSession(with_metadata(exported[0], None, tmp_path / "bare.onnx"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"opset": 11}, "opset=11 must be 18 or more, e.g. opset=18"),
        ({"opset": "18"}, "opset='18' must be"),
        ({"image_size": 0}, "image_size=0 must be positive, e.g. image_size=224"),
    ],
)
def test_export_refuses_wrong_settings(tagger, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(tagger, tmp_path / "x.onnx", **settings)
    assert not list(tmp_path.iterdir())


def test_export_refuses_other_models_and_precisions(tagger, tmp_path):
    with pytest.raises(TypeError, match=r"a I2SRMModel cannot be exported, only .*from_pretrained\("):
        export_onnx(tagger.model, tmp_path / "x.onnx")
    half = build(I2SRMForTokenClassification).bfloat16()
    with pytest.raises(ValueError, match=r"weights of torch.bfloat16: .*model.float\(\)"):
        export_onnx(half, tmp_path / "x.onnx")


def test_checkpoints_without_a_head_are_refused(tmp_path, capsys):
    I2SRMModel(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"architectures=\['I2SRMModel'\], but only I2SRMForJointExtraction, "):
        load_model(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        script.main(["--model", str(tmp_path), "--output", str(tmp_path / "x.onnx")])
    assert stopped.value.code == 2
    assert "python examples/export_onnx.py --model runs/quickstart --output joint.onnx" in capsys.readouterr().err


def test_the_head_is_the_one_the_checkpoint_names(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    assert type(load_model(tmp_path)) is I2SRMForRelationClassification


@pytest.mark.parametrize("missing", ["onnxscript", "onnxruntime"])
def test_the_extra_that_is_missing_is_named(missing, monkeypatch):
    for name in ("modeling_i2srm.onnx.export", "modeling_i2srm.onnx.session"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"ONNX export needs {missing}: pip install 'modeling-i2srm\[onnx\]'"
    ):
        import_module("modeling_i2srm.onnx.export")


SMALL_BACKBONES = {
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [2] * 4, "window_size": 2, "image_size": 32}
    | {"patch_size": 2},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "config", "attention", "opset"),
    [
        ("electra", {}, "sdpa", 18),
        ("xlm-roberta", {}, "eager", 20),
        ("camembert", {"num_objects": 0}, "sdpa", 23),
        *(
            ("bert", {"vision_config": {"model_type": name, **fields}}, "sdpa", 18)
            for name, fields in SMALL_BACKBONES.items()
        ),
    ],
)
def test_other_encoders_and_settings(tmp_path, model_type, config, attention, opset):
    model = build(I2SRMForTokenClassification, model_type, **config)
    model.set_attn_implementation(attention)
    export_onnx(model, tmp_path / "x.onnx", (SIDE, SIDE), opset)
    session = OnnxSession(tmp_path / "x.onnx", threads=1)
    assert largest_difference(model, session) < TOLERANCE
    _, inputs = pictures_and_text(2, 9, 1)
    assert np.abs(session(**inputs) - session(**inputs, image_mask=torch.zeros(2, 1))).max() > 100 * TOLERANCE
