"""The joint task of the training scripts: a run end to end, where it starts from, its losses, and its predictions."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, List
from graph_rows import RELATIONS, TAGS, graph_rows, write_graphs
from tiny import bert_tokenizer, run_arguments, tiny_config, tiny_processor
from tiny_rows import training_logs
from transformers import AutoModelForTokenClassification

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMTrainer,
    I2SRMTrainingArguments,
)
from modeling_i2srm.support.processes import loss_shares, without_repeats
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.build import build_model, model_of_checkpoint
from modeling_i2srm.training.graph_metrics import joint_compute_metrics
from modeling_i2srm.training.graph_predictions import predict_graphs, read_labels, read_predictions
from modeling_i2srm.training.run import encode_data, prepare_data, run_task
from modeling_i2srm.training.step_guard import JOINT_LOSS_PARTS
from modeling_i2srm.training.tasks import JOINT, MNER, MRE
from modeling_i2srm.training.trainer import DENOMINATORS, parameter_part

TYPES = [["PER", "lives_in", "LOC"], ["PER", "peer", "PER"]]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> str:
    return write_graphs(tmp_path_factory.mktemp("graphs"), train=12, validation=4, test=5)


def tiny_joint(**overrides) -> I2SRMForJointExtraction:
    torch.manual_seed(0)
    settings = {"attn_mixup": False, "text": {"vocab_size": len(bert_tokenizer()), **STILL}, **overrides}
    names = {"id2label": dict(enumerate(TAGS)), "relation_labels": RELATIONS, "relation_types": TYPES}
    return I2SRMForJointExtraction(tiny_config(**names, **settings))


def build_trainer(folder, model=None, rows=None, **settings) -> I2SRMTrainer:
    defaults = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
    defaults |= {"num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.1, "dataloader_num_workers": 0}
    return I2SRMTrainer(
        model=tiny_joint() if model is None else model,
        args=I2SRMTrainingArguments(str(folder), **{**defaults, **settings}),
        train_dataset=graph_rows(8) if rows is None else rows,
        eval_dataset=graph_rows(7),
        processing_class=tiny_processor(),
        compute_metrics=joint_compute_metrics(TAGS, RELATIONS),
    )


def test_rows_that_fill_up_the_batch_of_a_process_are_predicted_and_counted_nowhere(tmp_path):
    trainer = build_trainer(tmp_path)
    whole = trainer.data_collator([trainer.eval_dataset[place] for place in range(3)])
    assert "entity_spans" in whole
    padded = without_repeats(whole, 2, 0, keep_shape=True)  # the third row is a repeated one
    with torch.no_grad():
        outputs = [trainer.model.eval()(**batch) for batch in (whole, padded)]
    predictions, others = (
        predict_graphs(trainer.model, output, batch) for output, batch in zip(outputs, (whole, padded), strict=True)
    )
    for one, other in zip(predictions, others, strict=True):
        width = min(one.shape[1], other.shape[1])
        assert torch.equal(one[:2, :width], other[:2, :width]) and len(other) == 3


def test_a_run_end_to_end(posts, tmp_path, capsys):
    folder = tmp_path / "run"
    ceilings = {"text": {"entity_f1": 0.61, "triple_f1": 0.34, "region_accuracy": 0.5}}
    (tmp_path / "data").symlink_to(posts + "/data")
    (tmp_path / "report.json").write_text(json.dumps({"ceilings": ceilings}))
    options = {
        "cache_visual_features": tmp_path / "features",
        "test_mismatch": "shuffled:100",
        "balance_relations": True,
    }
    options |= {"num_train_epochs": 1, "save_strategy": "no", "freeze_vision": True}
    results = run_task(JOINT, parse_arguments(run_arguments(str(tmp_path), folder, **options)))
    assert results == json.loads((folder / "results.json").read_text())
    assert results["data"]["ceilings"] == ceilings and results["truncation"]["test"]["relations_lost"] == 0
    for part in (results["multimodal"], results["pictures_blanked"]):
        assert {*JOINT.main_metrics, "region_accuracy_pointed", "grounded_f1", "quintuple_f1"} <= part.keys()
    shuffled = results["mismatched"]["shuffled:100"]  # no crop is that of the annotation
    assert {*JOINT.main_metrics} <= shuffled.keys() and "region_accuracy_pointed" not in shuffled
    assert results["pictures_blanked"]["region_accuracy_pointed"] == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["test", "multimodal", "pictures", "blanked", "text", "ceiling"] in table
    assert [row[-1] for row in table if row[:1] in (["strict_f1"], ["triple_f1"])] == ["61.00", "34.00"]
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert isinstance(model, I2SRMForJointExtraction)
    assert (model.config.relation_labels, model.config.relation_types) == (RELATIONS, TYPES)
    pairs, related = sum(6 if i % 4 == 3 else 2 for i in range(12)), 6
    expected = [pairs / (3 * count) for count in (pairs - 12, related, related)]
    assert model.config.class_weights == pytest.approx(expected)
    records = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"p{i}" for i in range(5)]
    assert records[1]["gold"] == {
        "entities": [
            {"start": 0, "end": 1, "label": "PER", "region": 0},
            {"start": 2, "end": 3, "label": "PER", "region": -1},
        ],
        "relations": [{"head": 1, "tail": 0, "label": "peer"}],
    }
    for entity in (entity for record in records for entity in record["entities"]):
        assert entity.keys() == {"start", "end", "label", "score", "region", "region_score"}
    assert "learning rate of pairs and regions" in (folder / "README.md").read_text()


@pytest.mark.parametrize("task, names, count", [(MNER, TAGS, 5), (MRE, RELATIONS, 9)], ids=["mner", "mre"])
def test_the_other_tasks_read_the_same_data(posts, tmp_path, task, names, count):
    """Of the test split: p0, p2 and p4 have a PER and a LOC, p1 two PER, p3 two PER and a LOC."""
    arguments = parse_arguments(run_arguments(posts, tmp_path, balance_relations=task is MRE))
    data = prepare_data(task, arguments)
    model, processor = build_model(task, arguments, data)
    encoded = encode_data(task, arguments, data, processor)
    assert data.names == model.config.label_names == names and data.fields == {}
    assert encoded.truncation["test"]["posts"] == len(encoded.splits["test"]) == count
    assert encoded.pictures["test"] == (3 if task is MNER else 4)  # p1, p2, p4
    batch = I2SRMDataCollator(processor, label2id=model.config.label2id)(list(encoded.splits["test"]))
    assert model(**batch).loss.isfinite()


def saved(folder, model):
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("start", [I2SRMForTokenClassification, I2SRMForRelationClassification])
def test_a_joint_model_starts_from_another_head(tmp_path, start):
    names = TAGS if start is I2SRMForTokenClassification else RELATIONS
    weights = {} if start is I2SRMForTokenClassification else {"class_weights": [1.0, 2.0, 3.0]}
    config = tiny_config(text={"vocab_size": len(bert_tokenizer())}, id2label=dict(enumerate(names)), **weights)
    path = saved(tmp_path, start(config))
    fields = {"relation_labels": RELATIONS, "relation_types": TYPES}
    model, _ = model_of_checkpoint(JOINT, path, TAGS, fields)
    assert isinstance(model, I2SRMForJointExtraction) and model.config.label_names == TAGS
    assert model.config.class_weights is None and model.config.relation_types == TYPES
    old = start.from_pretrained(path)
    words = [one.base_model.text_encoder.embeddings.word_embeddings.weight for one in (model, old)]
    torch.testing.assert_close(*words)
    if start is I2SRMForTokenClassification:
        torch.testing.assert_close(model.classifier.weight, old.classifier.weight)
        with pytest.raises(ValueError, match="has the labels .*, the data set"):
            model_of_checkpoint(JOINT, path, TAGS[::-1], fields)


def test_a_joint_checkpoint_goes_on_and_is_a_start_for_tags(tmp_path):
    path = saved(tmp_path, tiny_joint())
    more = [["LOC", "peer", "LOC"], TYPES[0]]
    model, _ = model_of_checkpoint(JOINT, path, TAGS, {"relation_labels": RELATIONS, "relation_types": more})
    assert model.config.relation_types == [*TYPES, more[0]]
    model, _ = model_of_checkpoint(JOINT, path, TAGS, {"relation_labels": RELATIONS})  # of an evaluation
    assert model.config.relation_types == TYPES
    with pytest.raises(ValueError, match="has the relations .*, the data set"):
        model_of_checkpoint(JOINT, path, TAGS, {"relation_labels": ["None", "met"]})
    tags, _ = model_of_checkpoint(MNER, path, TAGS, {})
    torch.testing.assert_close(tags.classifier.weight, model.classifier.weight)
    with pytest.raises(ValueError, match="has the labels .*--new_head true"):
        model_of_checkpoint(MNER, path, TAGS[:3], {})
    new, _ = model_of_checkpoint(MNER, path, TAGS[:3], {}, new_head=True)
    assert new.config.label_names == TAGS[:3] and new.classifier.out_features == 3 and new.name_or_path == str(path)
    assert new.config.relation_labels is None
    for name, value in tags.base_model.state_dict().items():
        assert torch.equal(value, new.base_model.state_dict()[name]), name


def weights_after(folder, rows: Dataset, **settings) -> dict:
    trainer = build_trainer(folder, tiny_joint().double(), rows, train_sampling_strategy="sequential", **settings)
    trainer.train()
    logs = training_logs(trainer)
    parts = [[entry[name] for name in (*JOINT_LOSS_PARTS, "loss")] for entry in logs]
    assert all(
        entry["loss"] == pytest.approx(sum(entry[name] for name in JOINT_LOSS_PARTS), rel=1e-4) for entry in logs
    )
    return {"logs": parts, **{name: value.detach() for name, value in trainer.model.named_parameters()}}


def test_accumulated_batches_give_the_step_of_one_batch(tmp_path):
    """Rows with 2, 2, 2, 6 pairs, and without and with regions: the mean of the batches' means would be another."""
    rows = graph_rows(8)
    whole = weights_after(tmp_path, rows, per_device_train_batch_size=4)
    parts = weights_after(tmp_path, rows, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    np.testing.assert_allclose(parts.pop("logs"), whole.pop("logs"), rtol=1e-5, atol=1e-7)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-6, atol=1e-8, msg=name)


def test_the_denominators_make_the_loss_of_two_processes_that_of_one():
    processor, model = tiny_processor(), tiny_joint(class_weights=[0.5, 1.0, 2.0]).train()
    ids = [{name: i for i, name in enumerate(names)} for names in (TAGS, RELATIONS)]
    collator = I2SRMDataCollator(processor, label2id=ids[0], relation2id=ids[1])
    rows = list(graph_rows(8))
    parts, joint = [collator(rows[:3]), collator(rows[3:])], collator(rows)
    counts = [model.loss_counts(batch) for batch in parts]
    assert counts[0].shape == (4,) and not torch.equal(*counts)
    shares = [loss_shares(count, sum(counts), 2) for count in counts]
    outputs, expected = [model(**batch) for batch in parts], model(**joint)
    for name in ("task_loss", "semantic_loss", "relation_loss", "region_loss"):
        mean = sum(output[name] * share[DENOMINATORS[name]] for output, share in zip(outputs, shares, strict=True)) / 2
        torch.testing.assert_close(mean, expected[name])


def test_the_loss_of_an_evaluation_does_not_depend_on_the_batches(tmp_path):
    model = tiny_joint()
    losses = [
        build_trainer(tmp_path, model, per_device_eval_batch_size=size).evaluate()["eval_loss"] for size in (3, 7)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_joint_head_has_its_own_learning_rate(tmp_path):
    model = tiny_joint()
    rates = {"fusion_learning_rate": 3e-3, "pair_learning_rate": 2e-3, "head_learning_rate": 1e-2}
    optimizer = build_trainer(tmp_path, model, **rates).create_optimizer()
    names = {id(p): name for name, p in model.named_parameters()}
    pairs = {names[id(p)] for group in optimizer.param_groups if group["lr"] == 2e-3 for p in group["params"]}
    assert pairs == {name for name in names.values() if name.startswith("joint_head.")}
    assert parameter_part("module.joint_head.relation_output.weight") == "pair"


def test_predictions_are_graphs_in_any_batches(tmp_path):
    rows, model = graph_rows(7), tiny_joint(attn_mixup=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "classifier" in name or "joint_head" in name:
                parameter.normal_(std=0.3)
        model.joint_head.relation_output.bias[0] -= 4
    outputs = [build_trainer(tmp_path, model, per_device_eval_batch_size=size).predict(rows) for size in (2, 7)]
    graphs = [read_predictions(output.predictions, TAGS, RELATIONS) for output in outputs]
    for one, other in zip(*graphs, strict=True):
        assert [entity["start"] for entity in one["entities"]] == [entity["start"] for entity in other["entities"]]
        assert one["on_gold"] == other["on_gold"] and len(one["relations"]) == len(other["relations"])
    assert any(graph["relations"] for graph in graphs[0]) and any(graph["on_gold"]["relations"] for graph in graphs[0])
    first, second = (
        {name: value for name, value in output.metrics.items() if "time" not in name and "second" not in name}
        for output in outputs
    )
    assert first == pytest.approx(second, rel=1e-4)
    gold = read_labels(outputs[0].label_ids, outputs[0].predictions, TAGS, RELATIONS)
    expected = JOINT.convert_labels(DatasetDict(test=rows), "posts")["test"]
    for row, graph in zip(expected, gold, strict=True):
        assert graph["tags"] == [TAGS[tag] for tag in row["ner_tags"]]
        assert [entity["region"] for entity in graph["entities"]] == row["regions"]
        relations = sorted((one["head"], one["tail"], RELATIONS[one["label"]]) for one in row["relations"])
        assert [(one["head"], one["tail"], one["label"]) for one in graph["relations"]] == relations


def test_relations_with_other_ids_are_converted_by_their_names(tmp_path, caplog):
    rows, other = graph_rows(4), ["None", "peer", "lives_in"]
    relation = {**rows.features["relations"].feature, "label": ClassLabel(names=other)}
    swapped = rows.cast_column("relations", List(relation))
    trainer = build_trainer(tmp_path, rows=swapped)
    assert "ids of column 'relations' mean other relations than those of the model (peer, lives_in)" in caplog.text
    batch = trainer.data_collator(list(trainer.train_dataset))
    swap = torch.tensor([0, 2, 1, *[0] * 97])
    same = build_trainer(tmp_path, rows=rows)
    expected = same.data_collator(list(same.train_dataset))["relation_labels"]
    assert torch.equal(batch["relation_labels"], torch.where(expected > 0, swap[expected.clamp(min=0)], expected))


@pytest.mark.parametrize("kind", ["stream", "list"])
def test_rows_that_are_no_data_set_train_the_same(tmp_path, kind):
    rows = graph_rows(8)
    others = rows.to_iterable_dataset() if kind == "stream" else list(rows)
    settings = {"max_steps": 2, "per_device_train_batch_size": 4, "train_sampling_strategy": "sequential"}
    logs = []
    for data in (rows, others):
        trainer = build_trainer(tmp_path, rows=data, **settings)
        trainer.train()
        logs.append([[entry[name] for name in JOINT_LOSS_PARTS] for entry in training_logs(trainer)])
    assert len(logs[0]) == 2 and logs[0] == logs[1]


def test_posts_without_annotated_relations_train_what_they_have(tmp_path):
    trainer = build_trainer(tmp_path, rows=graph_rows(4, relations=[None] * 4, regions=[None] * 4))
    trainer.train()
    (*_, entry) = training_logs(trainer)
    assert entry["relation_loss"] == entry["region_loss"] == 0 and entry["task_loss"] > 0
    output = trainer.predict(trainer.train_dataset)
    assert "test_strict_f1" in output.metrics and "test_triple_f1" not in output.metrics


def test_a_metric_that_will_not_exist_is_refused_before_training():
    rows = Dataset.from_dict({"entity_spans": [[[0, 1]], [[0, 1], [1, 2]]], "relation_labels": [[], None]})
    JOINT.check_best_metric("strict_f1", rows)
    with pytest.raises(ValueError, match="--metric_for_best_model triple_f1: no post .* e.g. .* strict_f1"):
        JOINT.check_best_metric("triple_f1", rows)
    JOINT.check_best_metric(
        "triple_f1", Dataset.from_dict({"entity_spans": [[[0, 1], [1, 2]]], "relation_labels": [[]]})
    )
