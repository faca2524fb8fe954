import itertools

import numpy as np
import pytest
import torch
from pipelines import LONG, POST
from tiny import (
    RELATIONS,
    SENTENCES,
    assert_same,
    noise,
    tiny_pipeline,
)
from transformers import pipeline

from modeling_i2srm.words import EntityPairError, split_text

# Relations


@torch.no_grad()
def relations_of(pipe, **inputs) -> dict[str, float]:
    inputs = pipe.processor(**inputs, return_word_offsets=True)
    for name in ("words", "word_offsets", "num_truncated_words"):
        inputs.pop(name)
    return dict(zip(RELATIONS, pipe.model(**inputs).logits.float().softmax(-1)[0].tolist(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pictures", [{}, {"image": noise(), "objects": [noise(1)]}])
def test_relations_are_those_of_the_model(dtype, pictures):
    pipe = tiny_pipeline("relations", dtype=dtype)
    given_pictures = {"images": pictures.get("image"), "objects": pictures.get("objects")}
    text = SENTENCES[2]
    for head, tail in (((0, 4), (14, 19)), ((14, 19), (0, 4)), ((0, 10), (5, 19)), ((1, 3), (2, 17))):
        scores = relations_of(pipe, text=text, head=head, tail=tail, **given_pictures)
        ranked = [{"label": name, "score": scores[name]} for name in sorted(scores, key=scores.get, reverse=True)]
        tolerance = 0.02 if dtype == torch.bfloat16 else 1e-5
        for post in (
            {"text": text, "head": head, "tail": list(tail)},
            {"text": text, "head": {"start": head[0], "end": head[1]}, "tail": np.array(tail)},
        ):
            assert_same(pipe({**post, **pictures}), ranked[0], tolerance)
            assert_same(pipe(**post, **pictures, top_k=None), ranked, tolerance)
    words = {"tokens": text.split(), "head": (0, 1), "tail": (3, 4)}
    scores = relations_of(pipe, **words, **given_pictures)
    best = max(scores, key=scores.get)
    assert_same(pipe({**words, **pictures}), {"label": best, "score": scores[best]}, tolerance)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (6, 6), (100, 6), (None, 6), (-1, 6)])
def test_the_best_relations_come_first(relate, top_k, count):
    best, ranked = relate(POST), relate(POST, top_k=top_k)
    assert len(ranked) == count and ranked[0] == best
    scores = [relation["score"] for relation in ranked]
    assert scores == sorted(scores, reverse=True)
    assert count < 6 or sum(scores) == pytest.approx(1, abs=1e-5)
    assert {relation["label"] for relation in ranked} <= set(RELATIONS)
    pipe = pipeline(relate.task, model=relate.model, processor=relate.processor, top_k=top_k)
    assert pipe(POST) == ranked and pipe(POST, top_k=0) == best


def test_many_pairs_of_a_post_are_its_single_pairs(relate):
    text, spans = SENTENCES[2], [(0, 4), (14, 19), (14, 17), (25, 31), (1, 3), (5, 10), (0, 19)]
    pairs = list(itertools.permutations(spans, 2))
    assert len(pairs) > 32  # more than go through the model at once; and some cut words, some do not
    post = {"text": text, "image": noise(), "objects": [noise(1)]}
    expected = [relate({**post, "head": head, "tail": tail}) for head, tail in pairs]
    assert len({answer["label"] for answer in expected}) > 2
    assert_same(relate({**post, "pairs": pairs}), expected)
    assert_same(relate({**post, "pairs": (pair for pair in pairs)}), expected)
    assert_same(
        relate({**post, "pairs": pairs}, top_k=2), relate([{**post, "head": h, "tail": t} for h, t in pairs], top_k=2)
    )
    assert relate({**post, "pairs": []}) == []


def test_pairs_of_words(relate):
    tokens, pairs = SENTENCES[0].split(), [((0, 1), (2, 4)), ({"start": 2, "end": 4}, (0, 1))]
    expected = [relate(tokens=tokens, head=head, tail=tail) for head, tail in pairs]
    assert_same(relate(tokens=tokens, pairs=pairs), expected)
    assert_same(relate(tokens=iter(tokens), pairs=pairs), expected)


def test_the_words_of_a_long_post_outside_the_window_are_counted(relate):
    head, tail = (LONG.index("Paris"), LONG.index("Paris") + 5), (LONG.index("Jordan"), LONG.index("Jordan") + 6)
    post = {"text": LONG, "head": head, "tail": tail}
    words = len(split_text(LONG))
    inputs = relate.processor(text=LONG, head=head, tail=tail, return_word_offsets=True)
    assert 0 < len(inputs["words"][0]) < words
    answer = relate(post, top_k=2)
    assert [relation["words_left_out"] for relation in answer] == [words - len(inputs["words"][0])] * 2
    scores = relations_of(relate, text=LONG, head=head, tail=tail)
    assert answer[0]["score"] == pytest.approx(max(scores.values()), abs=1e-5)
    shorter = relate(post, max_length=30)
    assert shorter["words_left_out"] > answer[0]["words_left_out"]
    assert "words_left_out" not in relate(POST)


def test_pairs_that_are_too_long(relate):
    far = ((0, 2), (len(LONG) - 4, len(LONG)))
    with pytest.raises(EntityPairError, match="raise max_length"):
        relate({"text": LONG, "head": far[0], "tail": far[1]})
    near = ((0, 2), (3, 8))
    with pytest.raises(EntityPairError):
        relate({"text": LONG, "pairs": [near, far]})
    answer = relate({"text": LONG, "pairs": [far, near, far], "image": noise()}, skip_long_pairs=True)
    assert answer[0] is answer[2] is None
    assert_same(answer[1], relate({"text": LONG, "head": near[0], "tail": near[1], "image": noise()}))
    assert relate({"text": LONG, "head": far[0], "tail": far[1]}, skip_long_pairs=True) is None
    assert relate([{"text": LONG, "pairs": [far]}] * 2, batch_size=2, skip_long_pairs=True, top_k=3) == [[None]] * 2


def test_pictures_are_encoded_once_a_post_however_many_pairs(relate, monkeypatch):
    seen = []
    encode = relate.model.base_model.get_visual_features

    def record(pixel_values, image_mask):
        seen.append(image_mask.sum().item())
        return encode(pixel_values, image_mask)

    monkeypatch.setattr(relate.model.base_model, "get_visual_features", record)
    relate({"text": POST["text"], "pairs": [((0, 4), (14, 19))] * 70, "image": noise()})
    assert seen == [1]


def test_a_long_post_with_many_pairs_is_cut_into_sub_tokens_once(relate, monkeypatch):
    text, cut = " ".join(SENTENCES * 20), []
    sub_tokens = relate.processor.sub_tokens
    monkeypatch.setattr(relate.processor, "sub_tokens", lambda words: cut.append(len(words)) or sub_tokens(words))
    spans = [(start, end) for _, start, end in split_text(text)[::100]]
    relate({"text": text, "pairs": list(itertools.permutations(spans, 2))}, skip_long_pairs=True)
    assert cut == [len(split_text(text))]
