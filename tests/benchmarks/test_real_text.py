"""The figures of the studies on real text are those of the runs that are kept."""

import torch

from benchmarks import real_text_page as page
from benchmarks.real_text import ALONE, FULL, OFF, attend_alone, few_arms, wanted_differences
from benchmarks.records import read_records
from benchmarks.run_tables import Side, read_runs
from modeling_i2srm.attn_mixup import AttnMixup


def test_the_records_are_made_of_the_runs():
    stored = read_records()
    made = page.page_records(*map(read_runs, page.FOLDERS))
    for name, records in made.items():
        for record in records:
            assert record | {"date": None} == stored[name][record["name"]] | {"date": None}


def test_each_arm_is_compared_with_one_of_the_same_steps_and_rates():
    arms = few_arms()
    (pairs,) = wanted_differences("mnre_1000", dict.fromkeys(arms, {})).values()
    assert len(pairs) == sum(settings.get("attn_mixup", True) for settings in arms.values())
    for _, one, other in pairs:
        mine, theirs = arms[one.arm], arms[other.arm]
        assert theirs["attn_mixup"] is False
        for name in ("num_train_epochs", "per_device_train_batch_size", "head_learning_rate"):
            assert mine.get(name) == theirs.get(name)
    assert (f"{FULL}, 10 epochs - {OFF}, 10 epochs", Side(f"{FULL}, 10 epochs"), Side(f"{OFF}, 10 epochs")) in pairs
    assert ALONE in arms


def test_rows_that_attend_alone_do_not_depend_on_their_mates():
    torch.manual_seed(0)
    layer, rows = AttnMixup(8, dropout=0.0).eval(), torch.randn(3, 8)
    alone = attend_alone(layer, rows)
    assert torch.allclose(alone[:1], layer.attend(rows[:1]), atol=1e-6)
    assert not torch.allclose(alone, layer.attend(rows), atol=1e-4)
