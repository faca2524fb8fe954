"""The figures of docs/measured/real-photos.md are those of the runs that are kept."""

import json

import numpy as np
import pytest

from benchmarks import real_pictures_page as page
from benchmarks.records import read_records
from benchmarks.run_tables import pack, unpack


def test_counts_survive_packing():
    counts = np.random.default_rng(0).integers(0, 79, (50, 3))
    packed = pack(counts)
    assert [len(column) for column in packed] == [50, 50, 50] and json.loads(json.dumps(packed)) == packed
    assert np.array_equal(unpack(packed), counts)
    with pytest.raises(ValueError, match="a post has a count of 79"):
        pack(counts + 79 - counts.max())


def test_the_records_are_made_of_the_runs(monkeypatch):
    monkeypatch.setattr(page, "draw", lambda *_: None)
    records = page.page_records(page.read_runs("real_pictures")) + page.region_records(page.read_runs("photo_regions"))
    made = {record["name"]: record for record in records}
    stored = read_records()["real-photos"]
    assert {"real-mvsa", "real-mvsa-differences", "real-invented-names-types", "photo-regions-whole"} <= made.keys()
    for name, record in made.items():
        assert record | {"date": None} == stored[name] | {"date": None}


def test_a_table_names_model_and_photos():
    rows = [["text", "2", "1"], ["text and photo", "2", "2"], ["text and photo, shuffled:25", "2", "3"]]
    rows += [["AttnMixup and KL, as published", "1", "4"], ["AttnMixup and KL, as published, blanked:100", "1", "5"]]
    assert page.arms_table("mvsa", rows) == [
        ["accuracy, by the photos of the test posts", "seeds", "their own", "25 % exchanged", "none"],
        ["text", "2", "1", "-", "-"],
        ["text and photo", "2", "2", "3", "-"],
        ["AttnMixup and KL, as published", "1", "4", "-", "5"],
    ]
    assert page.arms_table("whole", rows)[0][0] == "F1, by the photos of the test posts"
