"""I2SRMForJointExtraction: its losses, their denominators, decoding, loading, and what must not change its answers."""

import math

import pytest
import torch
from tiny import TAGS, enable_checkpointing, tiny_config, tiny_inputs
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification

from modeling_i2srm import (
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
)

RELATIONS = ["None", "/per/loc/lives_in", "/per/per/peer"]
TYPES = [["PER", "/per/loc/lives_in", "LOC"], ["PER", "/per/per/peer", "PER"]]


def joint_model(**overrides) -> I2SRMForJointExtraction:
    torch.manual_seed(0)
    return I2SRMForJointExtraction(tiny_config(**{"relation_labels": RELATIONS, **overrides})).eval()


@pytest.fixture(scope="module")
def model():
    return joint_model(relation_types=TYPES)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    inputs = tiny_inputs(labels=True)
    inputs["entity_spans"] = torch.tensor(
        [[[0, 1], [2, 4], [5, 6]], [[0, 2], [3, 4], [-1, -1]], [[1, 2], [3, 5], [5, 6]]]
    )
    inputs["relation_labels"] = torch.randint(0, 3, (3, 3, 3))
    inputs["relation_labels"][0, 0, 1] = -100
    inputs["region_labels"] = torch.tensor([[0, -1, 2], [1, -100, 0], [-1, -1, -100]])
    inputs["image_mask"] = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    return inputs


def call(model, inputs, *without, **other):
    return model(**{name: value for name, value in inputs.items() if name not in without} | other)


def graph_of(model, inputs, **settings):
    outputs = call(model, inputs, "labels", "entity_spans", "relation_labels", "region_labels")
    return model.decode_graphs(outputs, inputs["word_mask"])


def test_parts_of_the_loss_are_means_over_pairs_and_regions(model, inputs):
    outputs = call(model, inputs)
    pairs = [(b, i, j) for b, n in enumerate((3, 2, 3)) for i in range(n) for j in range(n) if i != j]
    pairs.remove((0, 0, 1))  # not annotated
    each = [-outputs.relation_logits[p].log_softmax(-1)[inputs["relation_labels"][p]] for p in pairs]
    torch.testing.assert_close(outputs.relation_loss, 5 * torch.stack(each).mean())
    # Post 0: the third entity's crop is absent; post 1: one is not annotated; post 2 has no crops.
    places = [(0, 0, 0), (0, 1, 3), (1, 0, 1)]
    each = [-outputs.region_logits[b, i].log_softmax(-1)[target] for b, i, target in places]
    torch.testing.assert_close(outputs.region_loss, torch.stack(each).mean())
    parts = [outputs[name] for name in ("task_loss", "semantic_loss", "relation_loss", "region_loss")]
    torch.testing.assert_close(outputs.loss, sum(parts))
    assert model.loss_counts(inputs).tolist() == [3, 2, len(pairs), len(places)]


def test_weights_of_the_parts_and_of_the_relations(inputs):
    plain = call(joint_model(), inputs)
    weighted = call(joint_model(relation_loss_weight=0.5, region_loss_weight=2.0), inputs)
    torch.testing.assert_close(weighted.relation_loss, plain.relation_loss * 0.1)
    torch.testing.assert_close(weighted.region_loss, plain.region_loss * 2)
    model = joint_model(class_weights=[0.1, 1.0, 2.0], relation_loss_weight=1.0)
    outputs = call(model, inputs)
    labels = inputs["relation_labels"].masked_fill(torch.eye(3, dtype=torch.bool), -100)
    labels[1, 2], labels[1, :, 2] = -100, -100
    weights = torch.tensor([0.1, 1.0, 2.0])
    expected = F.cross_entropy(outputs.relation_logits.flatten(0, 2), labels.flatten(), weight=weights)
    torch.testing.assert_close(outputs.relation_loss, expected)
    torch.testing.assert_close(model.loss_counts(inputs)[2], weights[labels[labels >= 0]].sum())


def test_shares_of_two_halves_add_up_to_the_loss_of_the_whole(model, inputs):
    names = ("task_loss", "semantic_loss", "relation_loss", "region_loss")
    whole, counts = call(model, inputs), model.loss_counts(inputs)
    total = torch.zeros(4)
    for part in (slice(0, 1), slice(1, 3)):
        half = {name: value[part] for name, value in inputs.items()}
        outputs, shares = call(model, half), model.loss_counts(half) / counts
        total += torch.stack([outputs[name] * share for name, share in zip(names, shares, strict=True)])
    torch.testing.assert_close(total, torch.stack([whole[name] for name in names]))


def test_posts_without_annotations_or_pictures_have_no_such_loss(model, inputs):
    outputs = call(model, inputs, "pixel_values", "image_mask")
    assert outputs.region_loss == 0 and outputs.semantic_loss is None
    assert model.loss_counts({k: v for k, v in inputs.items() if k not in ("pixel_values", "image_mask")})[3] == 0
    bare = call(model, inputs, "relation_labels", "region_labels", "entity_spans")
    assert bare.relation_loss is None and bare.region_loss is None and bare.loss is not None
    nothing = call(model, inputs, relation_labels=torch.full((3, 3, 3), -100))
    assert nothing.relation_loss == 0 and nothing.loss.isfinite()


@pytest.mark.parametrize("pairs", [False, True])
def test_every_parameter_is_trained(inputs, pairs):
    model = joint_model(attn_mixup_pairs=pairs, entity_type_embeddings=True, freeze_vision=False).train()
    call(model, inputs).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert (model.relation_attn_mixup is not None) == pairs


def test_default_spans_are_those_of_the_labels_or_decoded(model, inputs):
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    labels = torch.full_like(inputs["labels"], -100)
    words = inputs["word_mask"][0].nonzero()[:, 0][:6]
    labels[0, words] = torch.tensor([TAGS.index(names[i]) for i in (1, 2, 0, 3, 3, 0)])
    outputs = call(model, inputs, "entity_spans", "relation_labels", "region_labels", labels=labels)
    assert outputs.entity_spans[0].tolist() == [[0, 2], [3, 4], [4, 5]]
    assert outputs.entity_spans[1].tolist() == [[-1, -1]] * 3
    decoded = call(model, inputs, "labels", "entity_spans", "relation_labels", "region_labels")
    tags = model.decode(decoded.logits, inputs["word_mask"])
    starts = [[i for i, tag in enumerate(row) if TAGS[tag].startswith("B-")] for row in tags]
    assert [[s for s, _ in row if s >= 0] for row in decoded.entity_spans.tolist()] == starts
    scores = model.score_spans(decoded, inputs["word_mask"], outputs.entity_spans)
    torch.testing.assert_close(scores[0], outputs.relation_logits)
    torch.testing.assert_close(scores[1], outputs.region_logits)


def test_words_without_a_label_are_in_no_entity_wherever_o_stands(inputs):
    model = joint_model(id2label=dict(enumerate(TAGS[::-1])), entity_type_embeddings=True)
    labels = torch.full_like(inputs["labels"], -100)
    labels[0, inputs["word_mask"][0].nonzero()[2, 0]] = TAGS[::-1].index("B-LOC")
    spans = call(model, inputs, "entity_spans", "relation_labels", "region_labels", labels=labels).entity_spans
    assert spans.tolist() == [[[2, 3]], [[-1, -1]], [[-1, -1]]]


def test_scores_of_a_graph_are_probabilities_of_its_spans_relations_and_regions(model, inputs):
    outputs = call(model, inputs, "labels", "relation_labels", "region_labels", "image_mask")
    for b, graph in enumerate(model.decode_graphs(outputs, inputs["word_mask"])):
        assert [(e.start, e.end) for e in graph.entities] == [
            tuple(s) for s in inputs["entity_spans"][b].tolist() if s[0] >= 0
        ]
        for i, entity in enumerate(graph.entities):
            ids = [
                TAGS.index(f"B-{entity.label}"),
                *[TAGS.index(f"I-{entity.label}")] * (entity.end - entity.start - 1),
            ]
            spans = [[(entity.start, ids)] if n == b else [] for n in range(3)]
            expected = model.span_scores(outputs.logits, inputs["word_mask"], spans)[b][0]
            assert entity.score == pytest.approx(expected, rel=1e-6)
            regions = outputs.region_logits[b, i].softmax(-1)
            assert entity.region == (-1 if (best := int(regions.argmax())) == 3 else best)
            assert entity.region_score == pytest.approx(float(regions.detach().max()), rel=1e-6)
        for relation in graph.relations:
            triple = [graph.entities[relation.head].label, relation.label, graph.entities[relation.tail].label]
            assert triple in TYPES
            scores = outputs.relation_logits[b, relation.head, relation.tail].softmax(-1)
            assert relation.score == pytest.approx(float(scores[RELATIONS.index(relation.label)]), rel=1e-6)


def test_coherent_decoding_allows_only_relations_of_the_types(inputs):
    model = joint_model(relation_types=TYPES)
    with torch.no_grad():
        model.joint_head.relation_output.bias += torch.tensor([-9.0, 0, 3])  # every pair is related
    coherent = graph_of(model, inputs)
    for graph in coherent:
        assert all(graph.entities[r.head].label == "PER" for r in graph.relations)
    model.config.coherent_decoding = False
    free = graph_of(model, inputs)
    assert [len(g.relations) for g in free] == [len(g.entities) * (len(g.entities) - 1) for g in free]
    model.config.coherent_decoding, model.config.relation_types = True, None
    assert [len(g.relations) for g in graph_of(model, inputs)] == [len(g.relations) for g in free]


def test_a_post_has_the_same_graph_alone_and_among_others(model, inputs):
    together = graph_of(model, inputs)
    for b, graph in enumerate(together):
        (alone,) = graph_of(model, {name: value[b : b + 1] for name, value in inputs.items()})
        assert [(e.start, e.end, e.label, e.region) for e in alone.entities] == [
            (e.start, e.end, e.label, e.region) for e in graph.entities
        ]
        assert [(r.head, r.tail, r.label) for r in alone.relations] == [
            (r.head, r.tail, r.label) for r in graph.relations
        ]
        scores = [[one.score for one in (*g.entities, *g.relations)] for g in (alone, graph)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_a_post_without_pictures_has_the_graph_of_its_text(model, inputs):
    absent = graph_of(model, {**inputs, "image_mask": torch.zeros(3, 4)})
    text = graph_of(
        model, {name: value for name, value in inputs.items() if name not in ("pixel_values", "image_mask")}
    )
    for first, second in zip(absent, text, strict=True):
        assert [(e.start, e.end, e.label, e.region) for e in first.entities] == [
            (e.start, e.end, e.label, e.region) for e in second.entities
        ]
        assert [e.score for e in first.entities] == pytest.approx([e.score for e in second.entities], abs=1e-6)
    assert all(e.region == -1 and e.region_score == 1 for graph in text for e in graph.entities)


def test_cached_features_give_the_same_result(model, inputs):
    features = model.get_visual_features(inputs["pixel_values"], inputs["image_mask"])
    cached = call(model, inputs, "pixel_values", visual_features=features)
    torch.testing.assert_close(cached.loss, call(model, inputs).loss)


def test_checkpointing_changes_neither_loss_nor_gradients(inputs):
    gradients = []
    for checkpointing in (False, True):
        model = joint_model(text={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, attn_mixup=False)
        if checkpointing:
            enable_checkpointing(model)
        model.train()
        outputs = call(model, inputs)
        outputs.loss.backward()
        gradients.append([outputs.loss.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_bf16(model, inputs):
    exact = call(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = call(model, inputs)
    for name in ("task_loss", "relation_loss", "region_loss"):
        torch.testing.assert_close(outputs[name].float(), exact[name], rtol=0.05, atol=0.05)
    half = joint_model(relation_types=TYPES).bfloat16()
    assert graph_of(half, {**inputs, "pixel_values": inputs["pixel_values"].bfloat16()})[0].entities


def test_save_and_load_through_the_auto_class(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert type(again) is I2SRMForJointExtraction
    assert again.config.auto_map["AutoModelForTokenClassification"] == "modeling_joint.I2SRMForJointExtraction"
    assert graph_of(again, inputs) == graph_of(model, inputs)


@pytest.mark.parametrize(
    ("start", "parts"),
    [
        (I2SRMModel, {"model"}),
        (I2SRMForTokenClassification, {"model", "classifier", "crf", "attn_mixup", "semantic_loss"}),
        (I2SRMForRelationClassification, {"model"}),
    ],
)
def test_it_starts_from_other_checkpoints(tmp_path, start, parts):
    torch.manual_seed(3)
    start(tiny_config()).save_pretrained(tmp_path)
    saved = start.from_pretrained(tmp_path).state_dict()
    config = tiny_config(relation_labels=RELATIONS)
    torch.use_deterministic_algorithms(True)  # memory that nothing has filled is NaN
    try:
        model = I2SRMForJointExtraction.from_pretrained(tmp_path, config=config)
    finally:
        torch.use_deterministic_algorithms(False)
    prefix = "model." if start is I2SRMModel else ""
    loaded = {n for n, v in model.state_dict().items() if prefix + n in saved or n.removeprefix(prefix) in saved}
    assert {name.split(".")[0] for name in loaded} == parts
    for name in loaded:
        torch.testing.assert_close(model.state_dict()[name], saved.get(name, saved.get(name.removeprefix("model."))))
    assert all(math.isfinite(float(parameter.sum())) for parameter in model.parameters())


def test_a_model_without_relations_learns_tags_and_regions(inputs):
    model = joint_model(relation_labels=["None"])
    inputs["relation_labels"] = torch.full((3, 3, 3), -100)
    outputs = call(model, inputs)
    assert outputs.relation_loss == 0 and outputs.region_loss > 0
    graphs = graph_of(model, inputs)
    assert any(graph.entities for graph in graphs) and not any(graph.relations for graph in graphs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relation_labels": None}, "relation_labels is missing"),
        ({"relation_labels": []}, "no relation first"),
        ({"relation_labels": ["peer", "None"]}, "no relation first"),
        ({"relation_labels": ["None", "peer", "peer"]}, "distinct"),
        ({"relation_labels": "None"}, "a list of names"),
        ({"relation_types": [["PER", "/per/per/peer"]]}, r"is not \[head type, relation, tail type\]"),
        ({"relation_types": [["PER", "knows", "PER"]]}, "'knows' is not one of relation_labels"),
        ({"class_weights": [1.0, 2.0]}, "2 class_weights, but 3 labels"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        joint_model(**settings)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("relation_labels", (3, 2, 2), r"relation_labels of shape \(3, 2, 2\) .* expected \(3, 3, 3\)"),
        ("region_labels", (3, 4), r"region_labels of shape \(3, 4\) .* expected \(3, 3\)"),
    ],
)
def test_labels_that_do_not_belong_to_the_spans_are_refused(model, inputs, name, shape, message):
    with pytest.raises(ValueError, match=message):
        call(model, inputs, **{name: torch.zeros(shape, dtype=torch.long)})


def test_a_checkpoint_names_its_auto_class():
    assert I2SRMForJointExtraction._auto_class == "AutoModelForTokenClassification"
