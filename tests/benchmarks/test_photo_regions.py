"""Pointers to the boxes of phrases, and what a second look at a crop tells of a type."""

import io

import pytest
import torch
from PIL import Image

from benchmarks.photo_regions import (
    EXCHANGED,
    PLACE,
    POINTED,
    SCORES,
    Phrases,
    describe_boxes,
    overlapping_boxes,
    photo_interval,
    second_look,
    train_pointer,
)


def phrases(count: int, seed: int, boxes: int = 4, size: int = 6) -> Phrases:
    """Phrases whose vector is that of the right crop, whose type is the sign of its last feature, and whose box is the
    leftmost; a model that knows where to look but not the type."""
    generator = torch.Generator().manual_seed(seed)
    crops = torch.randn(count, boxes, size, generator=generator)
    regions = torch.randint(boxes, (count,), generator=generator)
    places = torch.rand(count, boxes, PLACE, generator=generator) + 1
    rows = torch.arange(count)
    places[rows, regions, 0] = 0
    return Phrases(
        photos=rows // 3,
        types=(crops[rows, regions, -1] > 0).long(),
        regions=regions,
        overlapping=torch.nn.functional.one_hot(regions, boxes).bool(),
        vectors=crops[rows, regions],
        type_scores=torch.full((count, 2), 0.5).log(),
        region_scores=torch.nn.functional.one_hot(regions, boxes + 1).float(),
        crops=crops,
        places=places,
        present=torch.ones(count, boxes, dtype=torch.bool),
    )


@pytest.mark.parametrize("kinds", [(True, False), (False, True), (True, True)])
def test_a_pointer_learns_from_the_crops_or_from_their_places(kinds):
    splits = {
        name: phrases(count, seed)
        for seed, (name, count) in enumerate({"train": 1500, "validation": 200, "test": 200}.items())
    }
    assert train_pointer(splits, *kinds, seed=0)[0] > 0.8
    splits["train"].regions = splits["train"].regions[torch.randperm(1500)]
    assert train_pointer(splits, *kinds, seed=0)[0] < 0.5


def test_a_second_look_tells_the_type_and_that_of_another_phrase_does_not():
    accuracy = second_look(phrases(600, 0), phrases(300, 1), seed=0)
    shares, (gain, low, high) = accuracy["accuracy"], accuracy["gain"]
    assert shares[POINTED] > 0.95 and shares[SCORES] < 0.6 and shares[EXCHANGED] < 0.6
    assert gain == pytest.approx(shares[POINTED] - shares[SCORES], abs=1e-4) and 0 < low < gain < high


def test_boxes_are_described_in_the_frame_of_all_of_them():
    first, second = describe_boxes([(0, 0, 50, 50), (25, 0, 100, 200)]).tolist()
    assert first == pytest.approx([0, 0, 0.5, 0.25, 0.5, 0.25, 0.125, torch.tensor(2.0).log().item(), 0])
    assert second == pytest.approx([0.25, 0, 1, 1, 0.75, 1, 0.75, torch.tensor(0.75).log().item(), 0.5])


def test_candidates_that_overlap_a_box_by_half_are_right():
    file = io.BytesIO()
    Image.new("RGB", (200, 100)).save(file, "PNG")
    boxes = [(0, 0, 100, 100), (0, 0, 49, 100), (100, 0, 200, 50), (90, 0, 200, 60)]
    entities = [[[0, 0, 0.5, 1]], [[0, 0, 0.5, 1], [0.5, 0, 1, 0.5]], []]
    row = {"image": {"bytes": file.getvalue()}, "object_boxes": [{"box": box} for box in boxes]}
    found = overlapping_boxes(row | {"entity_boxes": entities})
    assert [[place for place, right in enumerate(row) if right] for row in found] == [[0], [0, 2, 3], []]
    one = phrases(3, 0)
    one.regions, one.overlapping = torch.tensor([0, 2, 0]), torch.tensor(found)
    assert one.right(torch.tensor([1, 3, 0])) == [0.33333, 0.33333]
    assert one.right(torch.tensor([0, 3, 0])) == [0.66667, 0.66667]


def test_the_interval_is_that_of_photos_and_not_of_phrases():
    values = torch.tensor([1.0, 0.0]).repeat(20).repeat_interleave(10)  # each photo has ten equal phrases
    wide = photo_interval(values, torch.arange(40).repeat_interleave(10))
    narrow = photo_interval(values, torch.arange(400))
    assert wide[0] == narrow[0] == 0.5 and wide[2] - wide[1] > 2 * (narrow[2] - narrow[1])
