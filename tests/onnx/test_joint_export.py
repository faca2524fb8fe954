"""Joint models as ONNX files and exported folders: they give the graphs that torch gives."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from exported_files import load_extract, posts_of_all_kinds
from tiny import SENTENCES, SIDE, TAGS, assert_same, bert_tokenizer, noise, text_config, tiny_pipeline

from modeling_i2srm import Extractor, I2SRMForJointExtraction, joint_pipeline
from modeling_i2srm.crf import LinearChainCRF, entity_types, tags_of
from modeling_i2srm.joint_head import Graph, GraphEntity
from modeling_i2srm.onnx.export import export_onnx, graph_difference, largest_difference, load_model, metadata
from modeling_i2srm.onnx.folder import describe, export_folder, quantise, write_files
from modeling_i2srm.onnx.session import METADATA, Chain, OnnxSession, spans_path

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def joint():
    # One text layer: the export takes half the time. With this seed there are entities, regions and relations enough.
    text = text_config(vocab_size=len(bert_tokenizer()), num_hidden_layers=1)
    return tiny_pipeline("joint", seed=1, crop_attention=True, text_config=text)


@pytest.fixture(scope="module")
def folder(joint, tmp_path_factory):
    path = tmp_path_factory.mktemp("joint")
    export_onnx(joint.model, path / "model.onnx", image_size=SIDE)
    write_files(path, joint.processor, describe(joint.processor, "joint"))
    return path


@pytest.fixture(scope="module")
def exported(folder):
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def extract(folder):
    """The module of the folder's extract.py."""
    return load_extract(folder)


@pytest.fixture(scope="module")
def session(exported) -> OnnxSession:
    return OnnxSession(exported, threads=1)


def inputs_of(joint, pictures: str) -> dict:
    images = {"all": [noise(n) for n in range(4)], "some": [noise(), None, None, noise(1)], "none": None}[pictures]
    objects = {"all": [[noise(5), noise(6)]] * 4, "some": [[noise(5)], [noise(6)], None, None], "none": None}[pictures]
    return joint.processor(text=SENTENCES, images=images, objects=objects)


@torch.no_grad()
def graphs_of(joint, inputs: dict) -> list[Graph]:
    return joint.model.decode_graphs(joint.model(**inputs), inputs["word_mask"])


@pytest.mark.parametrize("pictures", ["all", "some", "none"])
def test_a_session_gives_the_graphs_of_torch(session, joint, pictures):
    inputs = inputs_of(joint, pictures)
    graphs = graphs_of(joint, inputs)
    for graph, answer in zip(graphs, session.extract(**inputs), strict=True):
        assert graph_difference(graph, answer) < TOLERANCE
    assert sum(len(graph.entities) for graph in graphs) > 10 and sum(len(graph.relations) for graph in graphs) > 5
    assert any(entity.region >= 0 for graph in graphs for entity in graph.entities) == (pictures != "none")
    tags = session.decode(session(**inputs), inputs["word_mask"])
    assert tags == joint.model.decode(joint.model(**inputs).logits, inputs["word_mask"])


def test_posts_of_other_sizes_agree_with_torch(session, joint):
    assert largest_difference(joint.model, session) < TOLERANCE


@pytest.mark.parametrize(
    "fields", [{"coherent_decoding": False}, {"relation_types": None}, {"constrained_decoding": False}]
)
def test_decoding_follows_the_configuration(exported, joint, monkeypatch, tmp_path, fields):
    inputs = inputs_of(joint, "all")
    default = graphs_of(joint, inputs)
    for name, value in fields.items():
        monkeypatch.setattr(joint.model.config, name, value)
    proto = onnx.load(exported)
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA, value=json.dumps(metadata(joint.model)))
    onnx.save(proto, tmp_path / "other.onnx")
    shutil.copy(spans_path(exported), tmp_path / "other.spans.onnx")
    graphs = graphs_of(joint, inputs)
    for graph, answer in zip(graphs, OnnxSession(tmp_path / "other.onnx", threads=1).extract(**inputs), strict=True):
        assert graph_difference(graph, answer) < TOLERANCE
    assert graphs != default


def test_a_post_without_entities_has_an_empty_graph(session, joint):
    words = torch.zeros_like(inputs_of(joint, "none")["word_mask"])
    answers = session.extract(**{**inputs_of(joint, "none"), "word_mask": words})
    assert answers == [{"entities": [], "relations": []}] * 4


# Decoding in numpy


@pytest.mark.parametrize("words", [1, 2, 6])
def test_probabilities_of_spans_are_those_of_the_crf(words):
    torch.manual_seed(words)
    crf, emissions = LinearChainCRF(len(TAGS)), torch.randn(1, words, len(TAGS))
    for parameter in crf.parameters():
        parameter.data.normal_()
    scores = (crf.start_transitions, crf.transitions, crf.end_transitions)
    chain = Chain(emissions[0].numpy(), *(score.detach().numpy() for score in scores))
    checked = 0
    for start, end in ((first, last) for last in range(1, words + 1) for first in range(last)):
        for kind in entity_types(TAGS):
            tags = tags_of(kind, end - start, dict(enumerate(TAGS)))
            after = np.array([tag == f"I-{kind}" for tag in TAGS])
            mine = chain.log_probability(start, tags, np.zeros(len(TAGS), bool), after)
            span = (start, tags, [], np.flatnonzero(after).tolist())
            [[expected]] = crf.span_probabilities(emissions, torch.ones(1, words), [[span]])
            assert np.exp(mine) == pytest.approx(expected, rel=1e-9)
            checked += 1
    assert checked == 4 * words * (words + 1) // 2


# The folder


def test_the_file_gives_the_graphs_of_the_extractor(extract, joint, tmp_path):
    posts = posts_of_all_kinds(tmp_path)
    expected = Extractor(joint)(posts)
    found = extract.OnnxExtractor(threads=1)(posts)
    for one, other in zip(found, expected, strict=True):
        assert_same(one.to_dict(), other.to_dict(), TOLERANCE)
        assert [triple[:5] for triple in one.to_triples()] == [triple[:5] for triple in other.to_triples()]
    assert sum(len(one.relations) for one in expected) > 20
    assert any(entity.region for one in expected for entity in one.entities)
    assert expected[-1].pairs_left_out > 0  # the long post


def test_no_object_shows_an_entity_that_no_window_holds(extract):
    _, regions, seen = extract.OnnxExtractor(threads=1).score_windows([(1, 3)], [{}, {}], [(0, 2), (2, 4)])
    assert regions.argmax(-1).tolist() == [regions.shape[1] - 1] and not seen.any()


def test_boxes_of_a_post_are_cut_out_of_its_image(extract, joint):
    boxes = [noise(7), {"box": [0, 0, 25, 20], "score": 0.5, "label": "dog"}, {"box": [25, 20, 50, 40]}]
    post = {"text": SENTENCES[2], "image": noise(), "objects": boxes}
    expected = Extractor(joint)(post)
    assert_same(extract.OnnxExtractor(threads=1)(post).to_dict(), expected.to_dict(), TOLERANCE)
    assert any(entity.region and entity.region.box for entity in expected.entities)


def test_answers_do_not_depend_on_other_posts(extract, tmp_path):
    posts, extractor = posts_of_all_kinds(tmp_path)[:4], extract.OnnxExtractor(threads=1)
    assert [extractor(post) for post in posts] == extractor(posts)


def test_many_entities_and_thresholds(extract, joint, tmp_path, monkeypatch):
    for module in (extract, joint_pipeline):
        monkeypatch.setattr(module, "MAX_ENTITIES", 4)
    post, bounds = posts_of_all_kinds(tmp_path)[-1], {"threshold": 0.3, "relation_threshold": 0.5}
    expected = Extractor(joint, **bounds)(post)
    assert_same(extract.OnnxExtractor(threads=1, **bounds)(post).to_dict(), expected.to_dict(), TOLERANCE)
    assert len(expected.entities) > 8 and expected.relations


def test_the_command_answers_the_posts_of_a_file(extract, joint, tmp_path, capsys):
    noise(3).save(tmp_path / "0.png")
    box = {"box": [0, 0, 25, 20], "score": 0.5, "label": "dog"}
    post = {"id": "a", "text": SENTENCES[2], "image": "0.png", "objects": [None, box, "0.png"]}
    posts = [post, {"tokens": ["Kobe", "lands"]}]
    for name, text in {"p.json": json.dumps(posts), "p.jsonl": "\n".join(map(json.dumps, posts))}.items():
        (tmp_path / name).write_text(text)
        extract.main([str(tmp_path / name), "--threads", "1"])
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert answers[0]["image"] == "0.png" and answers[0]["objects"] == post["objects"] and answers[0]["id"] == "a"
        expected = Extractor(joint)({**post, "image": noise(3), "objects": [None, box, noise(3)]}).to_dict()
        for part in ("entities", "relations"):
            assert_same(answers[0][part], expected[part], TOLERANCE)
    (tmp_path / "bad.json").write_text('{"text": "a", "image": "https://a.b/c.png"}')
    with pytest.raises(SystemExit) as stopped:
        extract.main([str(tmp_path / "bad.json")])
    assert stopped.value.code == 2
    assert "post 0: 'https://a.b/c.png' is a URL, and an exported model reads nothing" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_is_named(extract, tmp_path):
    post = {"text": "Kobe lands", "image": str(tmp_path / "none.png")}
    with pytest.raises(extract.PictureError, match=r"none.png': No such file"):
        extract.OnnxExtractor(threads=1)(post)
    answer = extract.OnnxExtractor(threads=1, on_image_error="warn")(post)
    assert "No such file" in answer.image_errors["image"]
    assert answer.entities == extract.OnnxExtractor(threads=1)("Kobe lands").entities


@pytest.mark.slow
def test_the_file_needs_four_packages_alone(folder, extract, tmp_path):
    blocked = ("torch", "transformers", "modeling_i2srm", "regex", "huggingface_hub", "safetensors", "onnx", "pandas")
    code = f"import sys, runpy\nsys.modules.update(dict.fromkeys({blocked}))\n"
    code += "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    noise().save(tmp_path / "0.png")
    post = {"text": f"{SENTENCES[0]} 去了Kobé", "image": "0.png"}
    (tmp_path / "post.json").write_text(json.dumps(post))
    command = [sys.executable, "-c", code, str(folder / "extract.py"), str(tmp_path / "post.json"), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    expected = extract.OnnxExtractor(threads=1)({**post, "image": noise()})
    assert_same(json.loads(done.stdout or "null")["entities"], expected.to_dict()["entities"])
    assert not done.stderr


def test_int8_is_in_the_text_encoder_alone(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "int8")
    quantise(tmp_path / "int8" / "model.onnx")
    nodes = [node.op_type for node in onnx.load(tmp_path / "int8" / "model.onnx").graph.node]
    before = [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]
    assert nodes.count("MatMulInteger") == 6 and nodes.count("MatMul") == before.count("MatMul") - 6  # one layer
    post = {"text": SENTENCES[2], "image": noise()}
    exact, close = (load_extract(path).OnnxExtractor(threads=1)(post) for path in (folder, tmp_path / "int8"))
    assert exact.entities != close.entities and {one.word for one in exact.entities} & {
        one.word for one in close.entities
    }
    assert not list((tmp_path / "int8").glob("*float32*"))


# What is refused


def test_a_file_without_the_one_of_its_spans_is_refused(exported, tmp_path):
    shutil.copy(exported, tmp_path / "joint.onnx")
    with pytest.raises(ValueError, match="is of a joint model and needs '.*joint.spans.onnx': copy both files"):
        OnnxSession(tmp_path / "joint.onnx")


def test_other_graphs_are_noticed(session, joint):
    inputs = inputs_of(joint, "all")
    [answer] = session.extract(**{name: tensor[:1] for name, tensor in inputs.items()})
    other = Graph([GraphEntity(0, 1, "PER", 0.5, -1, 0.5)], [])
    with pytest.raises(RuntimeError, match="gives other graphs than model.decode_graphs"):
        graph_difference(other, answer)


def test_models_that_have_no_graphs_are_refused(session, monkeypatch):
    monkeypatch.setattr(session, "joint", None)
    with pytest.raises(ValueError, match=r"not a joint one .*session.decode\(session"):
        session.extract(word_mask=np.ones((1, 3)), input_ids=np.ones((1, 3)))


def test_types_between_layers_are_refused(tmp_path):
    model = tiny_pipeline("joint", entity_type_embeddings=True).model
    with pytest.raises(ValueError, match=r"entity_type_embeddings=True: .*entity_type_embeddings=False"):
        export_onnx(model, tmp_path / "x.onnx")


def test_the_head_is_the_one_the_checkpoint_names(joint, tmp_path):
    joint.model.save_pretrained(tmp_path)
    assert type(load_model(tmp_path)) is I2SRMForJointExtraction


@pytest.mark.parametrize(
    ("arguments", "post", "message"),
    [
        ({}, 7, "7 is not a post"),
        ({}, [{"text": "a"}, {"txt": "b"}], "post 1: a post has no 'txt'"),
        ({"threshold": 2}, "a", "threshold=2 must be between 0 and 1"),
        ({"on_image_error": "skip"}, "a", "on_image_error='skip' must be one of"),
        ({"folder": "nowhere"}, "a", "'nowhere' holds no settings.json: write it with i2srm export"),
    ],
)
def test_what_is_no_post_or_no_folder_is_refused(extract, arguments, post, message):
    with pytest.raises(ValueError, match=message):
        extract.OnnxExtractor(**{"threads": 1, **arguments})(post)


def test_an_export_that_fails_leaves_the_earlier_folder(joint, tmp_path, monkeypatch):
    joint.save_pretrained(tmp_path / "model")

    def fail(name, path, opset):
        path.write_bytes(b"half")
        raise RuntimeError("differs from torch")

    monkeypatch.setattr("modeling_i2srm.onnx.folder.export_checkpoint", fail)
    for earlier in ({}, {"extract.py": "code", "model.onnx": "whole"}):
        for name, text in earlier.items():
            (tmp_path / "onnx" / name).write_text(text)
        with pytest.raises(RuntimeError, match="differs from torch"):
            export_folder(str(tmp_path / "model"), tmp_path / "onnx")
        assert {path.name: path.read_text() for path in (tmp_path / "onnx").iterdir()} == earlier


def test_folders_and_checkpoints_that_cannot_be_exported_are_refused(joint, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: give a new folder"):
        export_folder("model", tmp_path)
    monkeypatch.setattr(joint.processor.image_processor, "do_pad", True)
    monkeypatch.setattr(joint.processor.image_processor, "pad_size", {"height": 50, "width": 50})
    with pytest.raises(ValueError, match="BitImageProcessorPil makes other pixels than resizing"):
        describe(joint.processor, "joint")
