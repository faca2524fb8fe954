"""Names that are swapped in training."""

import pytest
import torch
from tiny import bert_tokenizer, tiny_config, tiny_processor
from tiny_rows import rows

from modeling_i2srm import I2SRMForTokenClassification, I2SRMTrainer, I2SRMTrainingArguments
from modeling_i2srm.training.name_swapping import entities_of_tags, swap_names

NAMES = ["O", "B-PER", "I-PER", "B-LOC"]
# [CLS] Lake ##s Pla ##cid is [SEP] [PAD], and [CLS] x A B y [SEP] [PAD] [PAD]: B begins an entity of its own.
WORDS = {
    "input_ids": torch.tensor([[101, 11, 12, 13, 14, 15, 102, 0], [101, 21, 22, 23, 24, 102, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 7 + [0], [1] * 6 + [0] * 2]),
    "word_mask": torch.tensor([[0, 1, 0, 1, 0, 1, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0]]),
    "labels": torch.tensor([[-100, 1, -100, 2, -100, 0, -100, -100], [-100, 0, 3, 1, -100, -100, -100, -100]]),
}
PAIRS = {
    "input_ids": WORDS["input_ids"],
    "head_mask": torch.tensor([[0, 1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]]),
    "tail_mask": torch.tensor([[0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]]),
    "labels": torch.tensor([1, 0]),
}


def test_sub_tokens_belong_to_the_entity_of_their_word():
    expected = [[-1, 0, 0, 0, 0, -1, -1, -1], [-1, -1, 0, 1, -1, -1, -1, -1]]
    assert entities_of_tags(WORDS, NAMES).tolist() == expected


def test_all_names_become_sub_tokens_of_names_and_nothing_else_changes():
    torch.manual_seed(0)
    swapped, names = swap_names(WORDS, 1.0, NAMES), {11, 12, 13, 14, 22, 23}
    inside = entities_of_tags(WORDS, NAMES) >= 0
    assert set(swapped["input_ids"][inside].tolist()) <= names and inside.sum() == 6
    assert torch.equal(swapped["input_ids"][~inside], WORDS["input_ids"][~inside])
    assert not torch.equal(swapped["input_ids"], WORDS["input_ids"])
    assert all(swapped[name] is WORDS[name] for name in WORDS if name != "input_ids")


def test_no_name_is_swapped_at_rate_0():
    assert torch.equal(swap_names(WORDS, 0.0, NAMES)["input_ids"], WORDS["input_ids"])


def test_head_and_tail_of_a_pair_are_names():
    torch.manual_seed(0)
    swapped = swap_names(PAIRS, 1.0)["input_ids"]
    inside = (PAIRS["head_mask"] + PAIRS["tail_mask"]).bool()
    assert torch.equal(swapped[~inside], PAIRS["input_ids"][~inside])
    assert set(swapped[inside].tolist()) <= {11, 12, 15, 22, 23} and not torch.equal(swapped, PAIRS["input_ids"])


def test_the_rate_is_that_of_whole_entities():
    torch.manual_seed(0)
    ids = torch.arange(4000).view(1000, 4)  # a name of two words each; a draw hardly ever gives the same sub-token
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "word_mask": torch.tensor([[0, 1, 1, 0]] * 1000)}
    batch["labels"] = torch.tensor([[-100, 1, 2, -100]] * 1000)
    changed = (swap_names(batch, 0.3, NAMES)["input_ids"] != ids)[:, 1:3].sum(1)
    assert (changed == 1).sum() < 5 and 250 < (changed == 2).sum() < 350


def test_batches_without_entities_stay_and_those_of_posts_are_refused():
    outside = {**WORDS, "labels": torch.zeros_like(WORDS["labels"])}
    assert swap_names(outside, 1.0, NAMES)["input_ids"] is WORDS["input_ids"]
    with pytest.raises(ValueError, match="set name_swapping=0"):
        swap_names({**WORDS, "labels": torch.tensor([1, 0])}, 1.0, NAMES)


def test_the_trainer_swaps_names_in_training_only(tmp_path, monkeypatch):
    torch.manual_seed(0)
    processor = tiny_processor(bert_tokenizer())
    model = I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)}))
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 1}
    settings |= {"per_device_train_batch_size": 12, "per_device_eval_batch_size": 12}
    arguments = I2SRMTrainingArguments(str(tmp_path), name_swapping=1.0, **settings)
    seen, forward = {}, model.model.forward

    def spy(input_ids, *args, **kwargs):
        seen[model.training] = input_ids
        return forward(input_ids, *args, **kwargs)

    monkeypatch.setattr(model.model, "forward", spy)
    same = rows()
    trainer = I2SRMTrainer(model, arguments, train_dataset=same, eval_dataset=same, processing_class=processor)
    trainer.train()
    trainer.evaluate()
    trained, evaluated = (sorted(map(tuple, seen[training].tolist())) for training in (True, False))
    assert trained != evaluated
    texts = trainer.data_collator([same[i] for i in range(len(same))])["input_ids"]
    assert evaluated == sorted(map(tuple, texts.tolist()))


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_rates_that_are_not_shares_are_refused(tmp_path, rate):
    with pytest.raises(ValueError, match=f"--name_swapping {rate} must be from 0 to 1, e.g. 0.3"):
        I2SRMTrainingArguments(str(tmp_path), name_swapping=rate, use_cpu=True)
