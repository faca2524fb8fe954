"""Joint models as ONNX files: a session gives the graphs that torch gives."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from tiny import SENTENCES, SIDE, TAGS, bert_tokenizer, noise, text_config, tiny_pipeline

from modeling_i2srm import I2SRMForJointExtraction
from modeling_i2srm.crf import LinearChainCRF, entity_types, tags_of
from modeling_i2srm.crf import find_entities as entities_of
from modeling_i2srm.joint_head import Graph, GraphEntity, decode_types
from modeling_i2srm.onnx.export import export_onnx, graph_difference, largest_difference, load_model, metadata
from modeling_i2srm.onnx.session import METADATA, Chain, OnnxSession, best_types, find_entities, spans_path

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def joint():
    # One text layer: the export takes half the time. With this seed there are entities, regions and relations enough.
    text = text_config(vocab_size=len(bert_tokenizer()), num_hidden_layers=1)
    return tiny_pipeline("joint", seed=1, crop_attention=True, text_config=text)


@pytest.fixture(scope="module")
def exported(joint, tmp_path_factory):
    path = tmp_path_factory.mktemp("joint") / "joint.onnx"
    export_onnx(joint.model, path, image_size=SIDE)
    return path


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


def test_types_are_those_of_the_package():
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 5, 7):
        for _ in range(5):
            unary, pairs = random.normal(size=(count, 4)), 2 * random.normal(size=(count, count, 4, 4))
            assert best_types(unary, pairs) == decode_types(unary, pairs)


def test_entities_are_those_of_the_package():
    tags = ["I-A", "I-A", "I-B", "O", "A", "B-A", "B-A", "I-A"]
    assert (
        find_entities(tags) == [entity[:2] for entity in entities_of(tags)] == [(0, 2), (2, 3), (4, 5), (5, 6), (6, 8)]
    )


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
