"""What belongs beside every result is read from report.json, and nothing else is."""

import json

import pytest

from modeling_i2srm.data.dataset import read_data_report

SAID = {"edition": "UMT", "objects": "none", "warnings": ["train: no picture was found"]}


def test_a_folder(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({**SAID, "splits": {"train": {}}, "seed": 3}))
    assert read_data_report(str(tmp_path)) == SAID


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"edition": 3, "warnings": "x", "objects": ""}', b"\xff"])
def test_a_folder_without_a_report_that_can_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_data_report(str(tmp_path)) == {}


@pytest.mark.parametrize("dataset", ["user/posts", "no/such/folder", "../elsewhere"])
def test_what_cannot_be_reached(dataset):
    assert read_data_report(dataset) == {}
