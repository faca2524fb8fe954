import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from tiny import CHECKPOINTING, TAGS, bert_tokenizer, tiny_config, tiny_pipeline, tiny_processor
from tiny_rows import rows, training_logs
from transformers import Trainer

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForTokenClassification,
    I2SRMTrainer,
    I2SRMTrainingArguments,
    mner_compute_metrics,
)
from modeling_i2srm.crf import find_entities
from modeling_i2srm.training.trainer import LOSS_PARTS, free_cores, parameter_part
from modeling_i2srm.visual_prompt import PrefixCache

ROOT = Path(__file__).resolve().parents[2]


def build_trainer(output_dir, model=None, **settings) -> I2SRMTrainer:
    torch.manual_seed(0)
    defaults = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
    defaults |= {"per_device_train_batch_size": 3, "num_train_epochs": 1, "logging_nan_inf_filter": False}
    arguments = I2SRMTrainingArguments(str(output_dir), **{**defaults, **settings})
    processor = tiny_processor(bert_tokenizer())
    if model is None:
        model = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)}))
    return I2SRMTrainer(
        model=model,
        args=arguments,
        train_dataset=rows(),
        eval_dataset=rows(7),
        processing_class=processor,
        compute_metrics=mner_compute_metrics(TAGS),
    )


def test_collates_posts_by_default(tmp_path):
    assert isinstance(build_trainer(tmp_path).data_collator, I2SRMDataCollator)


# 12 rows in batches of 3: 4 batches; accumulating 3 of them leaves a last step of one batch.
@pytest.mark.parametrize("accumulation, logging_steps", [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2)])
def test_logged_loss_parts_add_up_to_the_logged_loss(tmp_path, accumulation, logging_steps):
    trainer = build_trainer(tmp_path, gradient_accumulation_steps=accumulation, logging_steps=logging_steps)
    trainer.train()
    logs = training_logs(trainer)
    assert logs
    for entry in logs:
        assert entry["loss"] == pytest.approx(sum(entry[name] for name in LOSS_PARTS), rel=1e-4)
        assert all(entry[name] > 0 for name in LOSS_PARTS)


def test_logged_parts_are_the_mean_over_the_accumulated_batches(tmp_path, monkeypatch):
    trainer = build_trainer(tmp_path, gradient_accumulation_steps=4)
    seen = []
    compute_loss = Trainer.compute_loss

    def record(self, *arguments, **keywords):
        loss, outputs = compute_loss(self, *arguments, **keywords)
        seen.append({name: float(outputs[name]) for name in LOSS_PARTS})
        return loss, outputs

    monkeypatch.setattr(Trainer, "compute_loss", record)
    trainer.train()
    (entry,) = training_logs(trainer)
    assert len(seen) == 4
    for name in LOSS_PARTS:
        assert entry[name] == pytest.approx(np.mean([parts[name] for parts in seen]), rel=1e-5)


def test_parts_have_their_own_learning_rates(tmp_path):
    model = I2SRMForTokenClassification(tiny_config(freeze_vision=False))
    rates = {"learning_rate": 1e-5, "vision_learning_rate": 2e-5, "fusion_learning_rate": 3e-4}
    trainer = build_trainer(tmp_path, model, **rates, head_learning_rate=5e-2, weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    names = {id(p): name for name, p in model.named_parameters()}
    covered = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(names.values())
    expected = {"text": 1e-5, "vision": 2e-5, "fusion": 3e-4, "head": 5e-2}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == expected[parameter_part(name)], name
            assert (group["weight_decay"] == 0) == name.endswith("bias") or "norm" in name.lower(), name
    parts = {parameter_part(name) for name in names.values()}
    assert parts == set(expected)
    assert {name.split(".")[0] for name in names.values() if parameter_part(name) == "head"} == {"classifier", "crf"}


def test_a_frozen_backbone_is_not_optimised(tmp_path):
    trainer = build_trainer(tmp_path)
    optimizer = trainer.create_optimizer()
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert count == sum(p.numel() for name, p in trainer.model.named_parameters() if "vision_encoder" not in name)


def test_the_checkpointing_option_checkpoints_the_text_layers_and_keeps_the_prompts(tmp_path, monkeypatch):
    read, update = [], PrefixCache.update
    monkeypatch.setattr(
        PrefixCache, "update", lambda cache, *args, **kwargs: read.append(args[2]) or update(cache, *args, **kwargs)
    )
    build_trainer(tmp_path, max_steps=1, **{CHECKPOINTING: True}).train()
    assert read == [0, 1, 1, 0]  # forward, then once more in the backward pass


def test_label_smoothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label_smoothing_factor=0.1"):
        build_trainer(tmp_path, label_smoothing_factor=0.1)


def test_columns_are_kept(tmp_path):
    trainer = build_trainer(tmp_path, remove_unused_columns=True)
    assert "image" in next(iter(trainer.get_train_dataloader().dataset))
    assert "pixel_values" in next(iter(trainer.get_train_dataloader()))


EVALUATED = {
    "a CRF": ("entities", {}),
    "cross-entropy": ("entities", {"use_crf": False}),
    "AttnMixup that gathers": ("entities", {"attn_mixup_gather": True}),
    "relations": ("relations", {"class_weights": [0.5, 1.0, 2.0, 1.0, 1.0, 3.0]}),
}


@pytest.mark.parametrize("case", EVALUATED)
def test_the_loss_of_an_evaluation_does_not_depend_on_the_batch_size(tmp_path, case):
    """Two of the four posts have no picture, and they differ in their words and in the weights of their labels."""
    task, settings = EVALUATED[case]
    pipe = tiny_pipeline(task, **settings)
    data = rows(8).select([0, 1, 5, 6])
    if task == "relations":
        ends = [{"head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}, "relation": i} for i in (0, 2, 5, 1)]
        data = Dataset.from_list([{**row, **more} for row, more in zip(data, ends, strict=True)])
        data = data.remove_columns("ner_tags")
    losses = {}
    for size in (1, 3):  # in threes, the fourth post is a batch of its own
        arguments = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "per_device_eval_batch_size": size}
        arguments = I2SRMTrainingArguments(str(tmp_path), **arguments)
        trainer = I2SRMTrainer(pipe.model, arguments, eval_dataset=data, processing_class=pipe.processor)
        losses[size] = trainer.evaluate()["eval_loss"]
    assert trainer.predict(data).metrics["test_loss"] == losses[3]
    with torch.no_grad():
        whole = pipe.model.eval()(**trainer.data_collator(list(data)))
    assert whole.semantic_loss > 0.01
    assert losses == {size: pytest.approx(float(whole.loss), rel=1e-5) for size in losses}


@pytest.mark.parametrize("task", ["entities", "relations"])
def test_predictions_without_finite_logits_name_the_post(tmp_path, task):
    pipe = tiny_pipeline(task)
    data = rows(8).select([0, 1])
    if task == "relations":
        ends = {"head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}, "relation": 0}
        data = Dataset.from_list([{**row, **ends} for row in data]).remove_columns("ner_tags")
    with torch.no_grad():  # a word of the second post alone
        pieces = pipe.processor.tokenizer("in", add_special_tokens=False)["input_ids"]
        pipe.model.get_input_embeddings().weight[pieces[0]] = torch.nan
    arguments = I2SRMTrainingArguments(str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = I2SRMTrainer(pipe.model, arguments, eval_dataset=data, processing_class=pipe.processor)
    with pytest.raises(ValueError, match="posts '.*kobe.*lands.*in.*' are NaN or infinite"):
        trainer.predict(data)


@pytest.mark.parametrize("eval_batch_size", [1, 3, 7])
def test_predictions_are_decoded_tags_and_scores_aligned_with_the_labels(tmp_path, eval_batch_size):
    trainer = build_trainer(tmp_path, per_device_eval_batch_size=eval_batch_size)
    output = trainer.predict(rows(7))
    tags, scores, entity_scores = output.predictions
    words = output.label_ids != -100
    assert tags.shape == scores.shape == entity_scores.shape == output.label_ids.shape
    for i, row in enumerate(rows(7)):
        count = len(row["tokens"])
        batch = trainer.data_collator([row])
        trainer.model.eval()
        with torch.no_grad():
            logits = trainer.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        expected = trainer.model.decode(logits, batch["word_mask"])[0]
        marginals = trainer.model.marginals(logits, batch["word_mask"])[0]
        assert tags[i][words[i]].tolist() == expected and len(expected) == count
        path = torch.tensor(expected)[:, None]
        np.testing.assert_allclose(scores[i][words[i]], marginals[:count].gather(1, path)[:, 0], atol=1e-5)
        names = trainer.model.config.label_names
        entities = [(start, end) for start, end, _ in find_entities([names[tag] for tag in expected])]
        spans = [[(start, expected[start:end]) for start, end in entities]]
        [probabilities] = trainer.model.span_scores(logits, batch["word_mask"], spans)
        of_words = np.full(count, -100.0)
        of_words[[start for start, _ in entities]] = probabilities
        np.testing.assert_allclose(entity_scores[i][words[i]], of_words, atol=1e-5)
    assert (tags[~words] == -100).all()
    assert 0 <= output.metrics["test_lenient_f1"] <= 1


@pytest.mark.parametrize("kind", ["tokens", "input_ids", "length", "list"])
def test_batches_are_of_about_one_length_and_no_picture_is_read_for_it(tmp_path, kind, monkeypatch):
    trainer = build_trainer(tmp_path, per_device_train_batch_size=4, dataloader_num_workers=0)
    data = rows(96)  # of fewer than 8 batches transformers makes no groups
    lengths = [len(tokens) for tokens in data["tokens"]]
    if kind == "list":
        data = list(data)
    elif kind == "length":
        data = data.add_column("length", lengths).remove_columns("tokens")
    elif kind == "input_ids":
        columns = zip(data["tokens"], data["ner_tags"], strict=True)
        encoded = [trainer.processing_class.encode_tokens(*values) for values in columns]
        lengths = [len(row["input_ids"]) for row in encoded]
        pictures = data.select_columns(["image", "objects"])
        data = concatenate_datasets([Dataset.from_list(encoded), pictures], axis=1)
    if kind != "list":
        read = []
        data = data.with_transform(lambda batch: read.append(1) or batch)
    trainer.train_dataset = data
    sampler = trainer._get_train_sampler()
    assert sampler.lengths == lengths
    assert kind == "list" or not read
    order = list(sampler)
    assert sorted(order) == list(range(96)) and order == list(sampler)
    sampler.set_epoch(1)
    assert order != list(sampler)
    spread = [max(batch) - min(batch) for batch in np.array([lengths[i] for i in order]).reshape(-1, 4)]
    random = np.random.default_rng(0).permutation(lengths).reshape(-1, 4)
    assert np.mean(spread) < np.mean(random.max(1) - random.min(1)) / 2


class Posts(torch.utils.data.Dataset):
    def __init__(self, posts):
        self.posts = list(posts)

    def __len__(self):
        return len(self.posts)

    def __getitem__(self, index):
        return self.posts[index]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(list(rows()))


@pytest.mark.parametrize("data", [Posts(rows()), Stream()])
def test_data_of_unknown_lengths_are_trained_on_too(tmp_path, data, monkeypatch):
    warnings = []
    monkeypatch.setattr("modeling_i2srm.training.trainer.logger.warning", warnings.append)
    trainer = build_trainer(tmp_path, max_steps=4)
    trainer.train_dataset = data
    trainer.train()
    assert trainer.state.global_step == 4
    assert [message for message in warnings if "Posts" in message and "random" in message] or isinstance(data, Stream)


def test_predictions_are_in_the_order_of_the_data_when_training_is_grouped(tmp_path):
    trainer = build_trainer(tmp_path, per_device_eval_batch_size=2)
    assert trainer.args.train_sampling_strategy == "group_by_length"
    output = trainer.predict(rows())
    assert [row[row != -100].tolist() for row in output.label_ids] == rows()["ner_tags"][:]


def test_each_data_set_is_evaluated_itself_with_workers_that_stay(tmp_path):
    trainer = build_trainer(tmp_path, dataloader_num_workers=1)
    assert trainer.args.dataloader_persistent_workers
    sizes = [trainer.num_examples(trainer.get_eval_dataloader(data)) for data in (None, rows(5), None, rows(3))]
    assert sizes == [7, 5, 7, 3]
    assert trainer.get_eval_dataloader() is trainer.get_eval_dataloader(trainer.eval_dataset)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # none is started
def test_workers_are_there_where_pictures_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_i2srm.training.trainer.free_cores", lambda device: 3)
    trainer = build_trainer(tmp_path, dataloader_prefetch_factor=4)
    arguments = trainer.args

    def settings():
        loader = trainer.get_test_dataloader(rows())
        return loader.num_workers, loader.persistent_workers, loader.prefetch_factor

    assert arguments.dataloader_num_workers == 3 and arguments.dataloader_pin_memory is False
    assert settings() == (3, True, 4)
    trainer.data_collator.use_images = False
    assert settings() == (0, False, None) and trainer.get_train_dataloader().num_workers == 0
    trainer.data_collator.use_images = True
    assert settings() == (3, True, 4) and trainer.get_train_dataloader().num_workers == 3
    trainer.data_collator.feature_cache = object()
    assert settings() == (0, False, None)
    assert build_trainer(tmp_path, dataloader_num_workers=2).args.dataloader_num_workers == 2


def test_the_arguments_of_the_caller_stay_open(tmp_path):
    arguments = I2SRMTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = I2SRMTrainer(I2SRMForTokenClassification(tiny_config()), arguments)
    assert arguments.dataloader_num_workers == -1 and trainer.args.dataloader_num_workers >= 0


@pytest.mark.parametrize(
    "device, threads, cores, processes, expected",
    [
        ("cuda", 1, 1, 1, 1),
        ("cuda", 8, 4, 1, 3),
        ("cuda", 8, 16, 1, 4),
        ("cuda", 8, 16, 8, 1),
        ("cpu", 2, 2, 1, 0),  # every core trains
        ("cpu", 1, 2, 1, 1),
        ("cpu", 4, 2, 1, 0),
        ("cpu", 1, 16, 1, 4),
        ("cpu", 2, 16, 4, 2),
    ],
)
def test_workers_get_the_cores_on_which_nothing_is_trained(device, threads, cores, processes, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert free_cores(torch.device(device)) == expected


def test_learns_a_small_data_set_by_heart(tmp_path):
    trainer = build_trainer(
        tmp_path, num_train_epochs=12, learning_rate=5e-3, head_learning_rate=4e-2, logging_steps=200
    )
    trainer.train()
    assert trainer.evaluate(rows())["eval_lenient_f1"] == 1.0


def test_zero3_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_i2srm.training.trainer.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ValueError, match="ZeRO-3 is not supported; FSDP shards parameters too"):
        I2SRMTrainingArguments(str(tmp_path))
