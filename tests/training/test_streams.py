"""The shares of a stream, on processes that are made up; `test_processes.py` starts two."""

import copy
from types import SimpleNamespace

import pytest
from accelerate.data_loader import IterableDatasetShard
from datasets.distributed import split_dataset_by_node
from tiny_rows import rows
from torch.utils.data import DataLoader

from modeling_i2srm.training.streams import CountedStream, check_stream, count_rows, set_remainder


def arguments(processes: int = 2, dispatch: bool = False) -> SimpleNamespace:
    return SimpleNamespace(world_size=processes, accelerator_config=SimpleNamespace(dispatch_batches=dispatch))


@pytest.mark.parametrize("length, remainder", [(23, 7), (16, 0), (3, 3)])
@pytest.mark.parametrize("process", [0, 1])
def test_the_rows_that_fill_up_the_last_batch_are_known_at_its_end(length, remainder, process):
    stream = rows(max(length, 1)).select(range(length)).to_iterable_dataset()
    loader = DataLoader(IterableDatasetShard(stream, 4, num_processes=2, process_index=process), 4, collate_fn=list)
    count_rows(loader)
    count_rows(loader)
    loader.remainder = -1
    state = SimpleNamespace(active_dataloader=loader, end_of_dataloader=False)
    for _ in range(2):
        batches = list(loader)
    set_remainder(state)
    assert loader.remainder == -1 and len(batches) == -(-length // 8)
    state.end_of_dataloader = True
    set_remainder(state)
    assert loader.remainder == remainder


def test_loaders_of_other_data_are_left_alone():
    loader = DataLoader(rows(3), 2, collate_fn=list)
    count_rows(loader)
    set_remainder(SimpleNamespace(active_dataloader=loader, end_of_dataloader=True))
    assert len(loader.dataset) == 3 and not hasattr(loader, "remainder")


def test_a_counted_stream_is_the_stream_otherwise():
    counted = copy.deepcopy(CountedStream(rows(3).to_iterable_dataset()))
    counted.set_epoch(2)
    assert counted.epoch == 2 and counted.column_names == rows(3).column_names and not hasattr(counted, "__len__")
    assert [row["id"] for row in counted] == ["0", "1", "2"] and counted.rows == 3


def test_streams_that_cannot_be_shared_are_refused():
    stream = rows(3).to_iterable_dataset()
    check_stream("eval_dataset", stream, arguments())
    check_stream("eval_dataset", rows(3), arguments(dispatch=True))
    check_stream("eval_dataset", stream, arguments(processes=1, dispatch=True))
    with pytest.raises(ValueError, match='eval_dataset is a stream.*{"dispatch_batches": False}'):
        check_stream("eval_dataset", stream, arguments(dispatch=True))
    with pytest.raises(ValueError, match="split_dataset_by_node.*eval_dataset=stream"):
        check_stream("eval_dataset", split_dataset_by_node(stream, 0, 2), arguments())
