"""What the tests of pipelines share."""

import pytest
import torch
from hypothesis import settings
from tiny import (
    SENTENCES,
    assert_same,
)

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
POST = {"text": "Kobe lands in Paris", "head": (0, 4), "tail": (14, 19)}
LONG = " ".join(SENTENCES * 4)  # three windows or more


def assert_differ(one, other):
    with pytest.raises(AssertionError):
        assert_same(one, other)


@torch.no_grad()
def emissions_of(pipe, words, max_length=None, stride=None, **pictures):
    """The emissions (W, N) of the words of a post, each window by itself, from the processor and the model."""
    pictures = pipe.processor(text="Kobe", **pictures)
    pictures = {name: pictures[name] for name in ("pixel_values", "image_mask") if name in pictures}
    rows, owners = pipe.processor.encode_windows(words, max_length, stride)
    emissions = {}
    for number, row in enumerate(rows):
        first = row.pop("first_word")
        inputs = pipe.processor.pad([row])
        logits = pipe.model(**inputs, **pictures).logits[0, inputs["word_mask"][0].bool()]
        emissions |= {first + i: word for i, word in enumerate(logits) if owners[first + i] == number}
    return torch.stack([emissions[word] for word in range(len(words))])


def post_of(pipe, **parts) -> dict:
    return {**POST, **parts} if "head" in pipe.keys else {"text": POST["text"], **parts}


def text_only(pipe, **notes):
    """The answer to POST without pictures, with notes."""
    answer = pipe(post_of(pipe))
    return [entity | notes for entity in answer] if isinstance(answer, list) else answer | notes
