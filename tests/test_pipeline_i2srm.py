import itertools
import json
import logging
import time

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import example, given
from hypothesis import strategies as st
from odd_texts import INVISIBLE, ODD, PIECES
from pipelines import LONG, POST, assert_differ, emissions_of, post_of, quick
from seqeval.metrics.sequence_labeling import get_entities
from tiny import (
    SENTENCES,
    TAGS,
    assert_same,
    bert_tokenizer,
    noise,
    roberta_tokenizer,
    sentencepiece_tokenizer,
    tiny_pipeline,
)
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset
from transformers.pipelines.token_classification import AggregationStrategy

from modeling_i2srm.words import join_words, split_text


def entities_of(pipe, text, **options):
    """What the pipeline has to answer, from the parts of the package and seqeval."""
    words = split_text(text)
    emissions = emissions_of(pipe, [word for word, _, _ in words], **options)[None]
    mask = torch.ones(1, len(words))
    [tags] = pipe.model.decode(emissions, mask)
    spans = [(kind, first, last) for kind, first, last in get_entities([TAGS[tag] for tag in tags])]
    [scores] = pipe.model.span_scores(emissions, mask, [[(first, tags[first : last + 1]) for _, first, last in spans]])
    return [
        {"entity_group": kind, "score": score, "word": text[words[first][1] : words[last][2]]}
        | {"start": words[first][1], "end": words[last][2]}
        for (kind, first, last), score in zip(spans, scores, strict=True)
    ]


# Entities and their scores


@pytest.mark.parametrize(
    "options", [{}, {"use_crf": False}, {"dtype": torch.bfloat16}, {"constrained_decoding": False}]
)
def test_entities_are_those_of_the_model(options):
    pipe = tiny_pipeline("entities", **options)
    found = 0
    for text in SENTENCES:
        for pictures in ({}, {"images": noise()}, {"images": noise(), "objects": [noise(1), noise(2)]}):
            inputs = pipe.processor(text=text, return_word_offsets=True, **pictures)
            [offsets] = inputs.pop("word_offsets")
            assert inputs.pop("words") and inputs.pop("num_truncated_words") == [0]
            with torch.no_grad():
                logits = pipe.model(**inputs).logits
            [tags] = pipe.model.decode(logits, inputs["word_mask"])
            spans = get_entities([TAGS[tag] for tag in tags])
            asked = [[(first, tags[first : last + 1]) for _, first, last in spans]]
            [scores] = pipe.model.span_scores(logits, inputs["word_mask"], asked)
            post = {"text": text, "image": pictures.get("images"), "objects": pictures.get("objects")}
            answer = pipe(post)
            assert [entity["entity_group"] for entity in answer] == [kind for kind, _, _ in spans]
            places = [(offsets[first][0], offsets[last][1]) for _, first, last in spans]
            assert [(entity["start"], entity["end"]) for entity in answer] == places
            tolerance = 0.02 if options.get("dtype") else 1e-5
            assert [entity["score"] for entity in answer] == pytest.approx(scores, abs=tolerance)
            assert {tuple(entity) for entity in answer} == {("entity_group", "score", "word", "start", "end")}
            found += len(answer)
    assert found > 20


# Offsets


@pytest.fixture(scope="module")
def pipes():
    """Pipelines of three kinds of tokenizers."""
    tokenizers = {"BERT": bert_tokenizer, "RoBERTa": roberta_tokenizer, "sentencepiece": sentencepiece_tokenizer}
    return {name: tiny_pipeline("entities", tokenizer()) for name, tokenizer in tokenizers.items()}


def check_offsets(answer: list, text: str, words: list):
    starts, ends = ({word[side]: i for i, word in enumerate(words)} for side in (1, 2))
    end_before = -1
    for entity in answer:
        assert text[entity["start"] : entity["end"]] == entity["word"]
        assert starts[entity["start"]] <= ends[entity["end"]]
        assert entity["start"] > end_before or words[starts[entity["start"]]][0] == ""
        assert 0 <= entity["score"] <= 1
        end_before = entity["end"] - 1


@pytest.mark.parametrize("name", ["BERT", "RoBERTa", "sentencepiece"])
@quick
@given(st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=()), max_size=4)).map("".join))
@example(text="".join(PIECES))
@example(text="\t".join(PIECES))
@example(text="Kobe\t\tlands  in 👨\u200d👩\u200d👧 #NWM7 e\u0301 مرحبا Paris\n")
def test_offsets_of_entities_are_whole_words_of_the_text(pipes, name, text):
    words = split_text(text)
    if not words:
        with pytest.raises(ValueError, match="no words"):
            pipes[name](text)
        return
    check_offsets(pipes[name](text), text, words)
    every = pipes[name](text, aggregation_strategy="none", ignore_labels=[])
    assert [(word["word"], word["start"], word["end"]) for word in every] == words
    assert [word["index"] for word in every] == list(range(len(words)))


@pytest.mark.parametrize("name", ["BERT", "RoBERTa"])
@quick
@given(st.lists(st.sampled_from(INVISIBLE + ODD + SENTENCES[0].split()), min_size=1, max_size=12))
@example(tokens=INVISIBLE)
@example(tokens=ODD)
def test_offsets_of_tokens_refer_to_the_text_that_they_make(pipes, name, tokens):
    text, words = join_words(tokens)
    check_offsets(pipes[name]({"tokens": tokens}), text, words)
    every = pipes[name](tokens=tokens, aggregation_strategy="none", ignore_labels=[])
    assert [(word["word"], word["start"], word["end"]) for word in every] == words


@pytest.mark.parametrize("form", [list, tuple, np.array, iter, lambda tokens: (token for token in tokens)])
def test_tokens_are_read_as_the_text_that_they_make(ner, form):
    text = "Kobe lands in Paris with Jordan"
    assert_same(ner({"tokens": form(text.split()), "image": noise()}), ner({"text": text, "image": noise()}))


# The same post, the same answer


def mixed_posts() -> list[dict]:
    return [
        {"text": SENTENCES[0]},
        {"text": SENTENCES[1], "image": noise()},
        {"text": LONG, "image": noise(1), "objects": [noise(2)]},
        {"text": SENTENCES[2], "image": None, "objects": [noise(3), None, noise(4)]},
        {"text": "Amazon", "image": noise(5), "objects": []},
        {"tokens": SENTENCES[3].split(), "objects": None},
        {"text": LONG[::-1]},
    ]


@pytest.mark.parametrize("options", [{}, {"aggregation_strategy": "none", "return_all_scores": True}])
def test_entities_do_not_depend_on_order_batch_or_mates(ner, options):
    posts = mixed_posts()
    alone = [ner(post, **options) for post in posts]
    for batch_size in (1, 3, 50):
        assert_same(ner(posts, batch_size=batch_size, **options), alone)
        assert_same(ner(posts[::-1], batch_size=batch_size, **options), alone[::-1])
        assert_same(ner([posts[3]] * 5 + posts, batch_size=batch_size, **options), [alone[3]] * 5 + alone)
    for post, answer in zip(posts, alone, strict=True):
        pictured = post.get("image") is not None or bool(post.get("objects"))
        text_only = ner({name: post[name] for name in ("text", "tokens") if name in post}, **options)
        (assert_differ if pictured else assert_same)(text_only, answer)


def mixed_pairs() -> list[dict]:
    return [
        POST,
        {**POST, "image": noise()},
        {"tokens": SENTENCES[0].split(), "head": (2, 5), "tail": {"start": 7, "end": 8}, "objects": [noise(1)]},
        {"text": LONG, "pairs": [((0, 2), (3, 8)), ((50, 60), (40, 55))], "image": noise(2)},
        {"text": SENTENCES[2], "pairs": []},
        {"text": SENTENCES[3], "pairs": [((0, 5), (6, 11))] * 40, "image": noise(3)},
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 50])
def test_relations_do_not_depend_on_order_batch_or_mates(relate, batch_size):
    posts = mixed_pairs()
    alone = [relate(post, top_k=None) for post in posts]
    assert_same(relate(posts, batch_size=batch_size, top_k=None), alone)
    assert_same(relate(posts[::-1], batch_size=batch_size, top_k=None), alone[::-1])
    assert_differ(alone[0], alone[1])


@pytest.mark.parametrize("pipe", ["ner", "relate"])
def test_a_model_that_is_being_trained_answers_as_ever(pipe, request):
    pipe = request.getfixturevalue(pipe)
    post = {**POST, "image": noise()} if "head" in pipe.keys else {"text": POST["text"], "image": noise()}
    expected = pipe(post)
    pipe.model.train()
    assert_same(pipe(post), expected)
    assert_same(pipe(post), expected)


@pytest.mark.parametrize("options", [{}, {"use_crf": False}])
def test_answers_leave_the_random_numbers_alone(options):
    pipe = tiny_pipeline("entities", **options)
    before = torch.random.get_rng_state()
    pipe(LONG)
    assert torch.equal(torch.random.get_rng_state(), before)


# Long texts


@pytest.mark.parametrize("options", [{}, {"max_length": 12}, {"max_length": 20, "stride": 0}, {"stride": 40}])
def test_a_long_text_is_read_in_windows_and_decoded_as_a_whole(ner, options):
    post = {"text": LONG, "image": noise(), "objects": [noise(1)]}
    expected = entities_of(ner, LONG, images=noise(), objects=[noise(1)], **options)
    assert len(expected) > 20
    assert_same(ner(post, **options), expected)
    assert_same(ner([SENTENCES[0], post, "Kobe"], batch_size=3, **options)[1], expected)


def test_windows_with_other_settings_give_other_answers(ner):
    answers = [ner(LONG, **options) for options in ({}, {"max_length": 12}, {"stride": 0}, {"stride": 40})]
    for one, other in itertools.combinations(answers, 2):
        assert_differ(one, other)


def test_windows_equal_one_long_input_where_the_context_suffices():
    """A model whose attention is switched off sees no context: windows must not change anything."""
    pipe = tiny_pipeline("entities", max_length=512)
    with torch.no_grad():
        pipe.model.classifier.bias.zero_()
        for name, parameter in pipe.model.named_parameters():
            if "position_embeddings" in name or "attention.output.dense" in name:
                parameter.zero_()
    expected = pipe(LONG)
    assert len(expected) > 20
    for max_length, stride in ((10, 0), (10, 4), (17, None), (100, 50)):
        assert_same(pipe(LONG, max_length=max_length, stride=stride), expected)


def test_the_processors_own_limit_is_the_window(ner):
    expected = ner(LONG, max_length=30)
    ner.processor.max_length = 30
    try:
        assert_same(ner(LONG), expected)
    finally:
        ner.processor.max_length = None


def test_three_thousand_words(ner):
    text, start = "  ".join(["Kobe", "lands", "in", "#Paris", "😀"] * 600), time.process_time()
    words = ner({"text": text, "image": noise()}, aggregation_strategy="none", ignore_labels=[])
    assert [(word["word"], word["start"], word["end"]) for word in words] == split_text(text)
    entities = ner(text)
    check_offsets(entities, text, split_text(text))
    assert len(entities) > 300 and entities[-1]["end"] > len(text) - 40
    assert time.process_time() - start < 30


def test_a_word_that_is_longer_than_a_window_is_told_and_answered(ner, caplog):
    text = f"Kobe {'x' * 100} in Paris"
    with caplog.at_level(logging.WARNING):
        words = ner(text, aggregation_strategy="none", ignore_labels=[])
    assert "1 words are longer than the 62 sub-tokens" in caplog.text and "'xxx" in caplog.text
    assert [word["word"] for word in words] == ["Kobe", "x" * 100, "in", "Paris"]
    assert_same(ner(text), entities_of(ner, text))


# Options


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max", "none"])
def test_aggregation_strategies(ner, strategy):
    answer = ner(SENTENCES[2], aggregation_strategy=strategy)
    assert_same(ner(SENTENCES[2], aggregation_strategy=AggregationStrategy(strategy)), answer)
    if strategy != "none":
        assert_same(answer, ner(SENTENCES[2]))
        return
    words = split_text(SENTENCES[2])
    emissions, mask = emissions_of(ner, [word for word, _, _ in words])[None], torch.ones(1, len(words))
    [tags], [marginals] = ner.model.decode(emissions, mask), ner.model.marginals(emissions, mask)
    expected = [
        {"entity": TAGS[tag], "score": float(marginals[i, tag]), "index": i}
        | {"word": words[i][0], "start": words[i][1], "end": words[i][2]}
        for i, tag in enumerate(tags)
    ]
    assert_same(answer, [word for word in expected if word["entity"] != "O"])
    assert 0 < len(answer) < len(words)
    assert_same(ner(SENTENCES[2], aggregation_strategy="none", ignore_labels=[]), expected)


def test_scores_of_all_types_and_tags(ner):
    answer = ner(SENTENCES, return_all_scores=True)
    assert_same(
        [[{**e, "scores": None} for e in post] for post in answer],
        [[{**e, "scores": None} for e in post] for post in ner(SENTENCES)],
    )
    for text, entities in zip(SENTENCES, answer, strict=True):
        words = split_text(text)
        emissions, mask = emissions_of(ner, [word for word, _, _ in words])[None], torch.ones(1, len(words))
        starts, ends = ({word[side]: i for i, word in enumerate(words)} for side in (1, 2))
        for entity in entities:
            assert entity["scores"][entity["entity_group"]] == entity["score"]
            first, length = starts[entity["start"]], ends[entity["end"]] - starts[entity["start"]]
            of_types = [
                (first, [TAGS.index(f"B-{kind}"), *[TAGS.index(f"I-{kind}")] * length])
                for kind in ("PER", "LOC", "ORG", "MISC")
            ]
            [expected] = ner.model.span_scores(emissions, mask, [of_types])
            assert_same(entity["scores"], dict(zip(("PER", "LOC", "ORG", "MISC"), expected, strict=True)))
    for word in ner(SENTENCES[0], return_all_scores=True, aggregation_strategy="none", ignore_labels=[]):
        assert list(word["scores"]) == TAGS
        assert sum(word["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert word["scores"][word["entity"]] == word["score"]


@pytest.mark.parametrize("strategy", ["simple", "none"])
def test_threshold_leaves_out_what_scores_less(ner, strategy):
    options = {"aggregation_strategy": strategy}
    answer = ner(SENTENCES[1], **options)
    scores = sorted(entity["score"] for entity in answer)
    for threshold in (0, scores[0], scores[2], 0.999, 1):
        kept = [entity for entity in answer if entity["score"] >= threshold]
        assert_same(ner(SENTENCES[1], threshold=threshold, **options), kept)
    assert_same(ner(SENTENCES[1], threshold=np.float32(0.5), **options), ner(SENTENCES[1], threshold=0.5, **options))


def test_ignored_labels_are_types_or_tags(ner):
    answer, words = ner(SENTENCES[0]), ner(SENTENCES[0], aggregation_strategy="none")
    assert {"PER", "ORG"} < {entity["entity_group"] for entity in answer}
    kept = [entity for entity in answer if entity["entity_group"] not in ("PER", "ORG")]
    assert_same(ner(SENTENCES[0], ignore_labels=["PER", "ORG"]), kept)
    kept = [word for word in words if word["entity"] != "B-PER"]
    assert_same(ner(SENTENCES[0], aggregation_strategy="none", ignore_labels=["O", "B-PER"]), kept)


def test_options_of_the_pipeline_and_of_the_call(ner):
    pipe = pipeline(
        ner.task, model=ner.model, processor=ner.processor, threshold=1, aggregation_strategy="none", max_length=20
    )
    assert pipe(LONG) == []
    assert_same(pipe(LONG, threshold=0, aggregation_strategy="simple"), ner(LONG, max_length=20))


# Forms of posts


def test_forms_of_one_post_and_of_several(ner):
    text, image = SENTENCES[0], noise()
    answer, plain = ner({"text": text, "image": image}), ner({"text": text})
    assert_same(ner(text=text, image=image), answer)
    assert_same(ner(text), plain)
    assert_same(ner([text, {"text": text, "image": image}]), [plain, answer])
    assert_same(ner(({"text": text, "image": None, "objects": None}, text)), [plain, plain])
    assert_same(ner([{"text": text}]), [plain])
    assert ner([]) == ner(()) == []


@pytest.mark.parametrize("batch_size", [1, 3])
def test_generators_are_read_as_answers_are_taken(ner, batch_size):
    taken = []

    def posts():
        for number in range(10):
            taken.append(number)
            yield {"text": SENTENCES[number % 4], "image": noise(number)}

    answers = ner(posts(), batch_size=batch_size)
    assert len(taken) <= 1
    first = next(answers)
    assert len(taken) <= batch_size + 1
    expected = [ner({"text": SENTENCES[number % 4], "image": noise(number)}) for number in range(10)]
    assert_same([first, *answers], expected)
    assert len(taken) == 10
    assert list(ner(post for post in [])) == []


def rows_of_relations() -> list[dict]:
    return [
        {"id": str(i), "tokens": text.split(), "head": {"start": 0, "end": 1}, "tail": {"start": 2, "end": 4}}
        | {"relation": 1, "image": noise(i) if i else None, "objects": [noise(9)] * i}
        for i, text in enumerate(SENTENCES[:3])
    ]


def rows_of_entities() -> list[dict]:
    return [
        {"id": str(i), "tokens": text.split(), "ner_tags": [0] * len(text.split())}
        | {"image": noise(i) if i else None, "objects": [noise(9)] * i}
        for i, text in enumerate(SENTENCES[:3])
    ]


@pytest.mark.parametrize(("pipe", "rows"), [("ner", rows_of_entities), ("relate", rows_of_relations)])
def test_rows_of_our_data_sets(request, pipe, rows):
    pipe, rows = request.getfixturevalue(pipe), rows()
    expected = [pipe(row) for row in rows]
    dataset = Dataset.from_list(rows)
    assert dataset[1]["image"] is not None
    streamed = pipe(dataset, batch_size=2)
    assert not isinstance(streamed, list)
    assert_same(list(streamed), expected)
    assert_same(list(pipe(dataset.to_iterable_dataset())), expected)
    assert_same(pipe(dataset[1]), expected[1])
    mapped = dataset.map(lambda row: {"answer": json.dumps(pipe(row))})  # rows of map are no dicts
    assert_same([json.loads(answer) for answer in mapped["answer"]], expected)


def test_columns_and_torch_data_sets(ner):
    dataset = Dataset.from_dict({"text": SENTENCES, "other": [0] * 4})
    expected = ner(SENTENCES)
    assert_same(list(ner(dataset["text"])), expected)
    answers = ner(KeyDataset(dataset, "text"), batch_size=3)
    assert len(answers) == 4 and not isinstance(answers, list)
    assert_same(list(answers), expected)


# Saving and loading


@pytest.mark.parametrize("name", ["ner", "relate"])
@pytest.mark.parametrize("options", [{}, {"trust_remote_code": True}])
def test_saved_pipelines_load_by_their_task(request, tmp_path, name, options):
    """Where the package is installed its own classes are taken; tests/test_remote_code.py is for where it is not."""
    pipe = request.getfixturevalue(name)
    post = post_of(pipe, image=noise(), objects=[noise(1)])
    expected = pipe(post)
    pipe.save_pretrained(tmp_path / "first")
    assert (tmp_path / "first" / "pipeline_i2srm.py").is_file()
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    [(task, about)] = config["custom_pipelines"].items()
    assert task == pipe.task and about["impl"] == f"pipeline_i2srm.{type(pipe).__name__}"
    loaded = pipeline(task, model=str(tmp_path / "first"), device="cpu", **options)
    assert type(loaded) is type(pipe) and type(loaded.model) is type(pipe.model)
    assert_same(loaded(post), expected)
    loaded.save_pretrained(tmp_path / "second")
    again = pipeline(task, model=str(tmp_path / "second"), device="cpu", **options)
    assert_same(again([post, post_of(pipe)], batch_size=2), [expected, pipe(post_of(pipe))])


# Errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({}, ["give a post", 'pipe({"text"']),
        ({"inputs": None}, ["give a post"]),
        ({"inputs": "Kobe", "text": "Kobe"}, ["give a post"]),
        ({"inputs": 3}, ["3 is not a post", 'pipe({"text"']),
        ({"inputs": b"Kobe"}, ["b'Kobe' is not a post"]),
        ({"inputs": ["Kobe", None]}, ["None is not a post", "text, tokens, image, objects", 'pipe({"text"']),
        ({"inputs": [["Kobe", "lands"]]}, ["['Kobe', 'lands'] is not a post"]),
        ({"inputs": {"text": "Kobe", "img": "a.jpg"}}, ["no 'img'", "text, tokens, image, objects"]),
        ({"inputs": {"image": None}}, ["text=None, tokens=None", "one of them", 'pipe({"text"']),
        ({"text": "Kobe lands", "tokens": ["Kobe", "la"]}, ["text continues with 'nds'", "leave out one of"]),
        ({"text": "Kobe lands", "tokens": ["Kobe", "flies"]}, ["tokens[1]='flies' is not", "'lands'"]),
        ({"text": "Kobe", "tokens": ["Kobe", ""]}, ["tokens[1]='' is not"]),
        ({"text": "", "tokens": ["Kobe"]}, ["tokens[0]='Kobe' is not what text continues with, ''"]),
        ({"text": 3}, ["text=3 is not a str", 'pipe({"text"']),
        ({"text": ["Kobe", "lands"]}, ["text=['Kobe', 'lands'] is not a str"]),
        ({"text": ""}, ["text='' has no words", 'pipe({"text"']),
        ({"text": " \n\u00a0"}, ["no words"]),
        ({"tokens": []}, ["tokens=[] has no words"]),
        ({"tokens": "Kobe lands"}, ["tokens='Kobe lands' is not a list of words", 'tokens=["Kobe"']),
        ({"tokens": 3}, ["tokens=3 is not a list of words"]),
        ({"tokens": ["Kobe", None]}, ["tokens=['Kobe', None]", "not a list of words"]),
        ({"tokens": [["Kobe"], ["lands"]]}, ["[['Kobe'], ['lands']] is not a list of words"]),
        ({"tokens": [["Kobe"]]}, ["tokens=[['Kobe']] is not a list of words"]),
        ({"text": "Kobe", "image": "/no/such.jpg"}, ["'/no/such.jpg'"]),
        ({"text": "Kobe", "image": 3}, ["expected a PIL image"]),
        ({"text": "Kobe", "objects": "crop.jpg"}, ["objects='crop.jpg'", "objects=['crop.jpg']"]),
        ({"text": "Kobe", "objects": noise()}, ["objects=<PIL", "objects=['crop.jpg']"]),
        ({"text": "Kobe", "objects": [3]}, ["expected a PIL image"]),
        ({"text": "Kobe", "threshold": 2}, ["threshold=2", "between 0 and 1", "threshold=0.5"]),
        ({"text": "Kobe", "threshold": float("nan")}, ["threshold=nan"]),
        ({"text": "Kobe", "threshold": True}, ["threshold=True"]),
        ({"text": "Kobe", "threshold": [0.5]}, ["threshold=[0.5]"]),
        ({"text": "Kobe", "aggregation_strategy": "mean"}, ["'mean' must be one of none, simple, first, average, max"]),
        ({"text": "Kobe", "ignore_labels": "PER"}, ["ignore_labels='PER'", 'ignore_labels=["PER"]']),
        ({"text": "Kobe", "stride": 62}, ["stride=62", "between 0 and 61"]),
        ({"text": "Kobe", "stride": -1}, ["stride=-1"]),
        ({"text": "Kobe", "stride": "8"}, ["stride='8'", "stride=32"]),
        ({"text": "Kobe", "max_length": 1.5}, ["max_length=1.5", "max_length=32"]),
        ({"text": "Kobe", "max_length": 65}, ["max_length=65", "between 3 and", "64"]),
        ({"text": "Kobe", "on_image_error": "ignore"}, ["on_image_error='ignore'", "None, 'warn', 'raise'"]),
    ],
)
def test_errors_of_entities_name_the_value_and_show_a_right_call(ner, call, words):
    with pytest.raises(ValueError) as error:
        ner(**call)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"text": "Kobe"}, ["head=None, tail=None, pairs=None", "head and tail, or pairs", '"head": (0, 4)']),
        ({"text": "Kobe", "head": (0, 4)}, ["head=(0, 4), tail=None"]),
        ({"text": "Kobe", "tail": (0, 4)}, ["head=None, tail=(0, 4)"]),
        ({**POST, "pairs": []}, ["pairs=[]", "head and tail, or pairs"]),
        ({"text": "Kobe", "head": (0, 4), "pairs": []}, ["tail=None, pairs=[]"]),
        ({"text": "Kobe", "pairs": 5}, ["pairs=5", "pairs=[((0, 4), (14, 19))]"]),
        ({"text": "Kobe", "pairs": [(0, 4, 5)]}, ["pairs=[(0, 4, 5)]"]),
        ({"text": "Kobe", "pairs": ["a"]}, ["pairs=['a']"]),
        ({**POST, "tail": (14, 20)}, ["tail=(14, 20)", "19 characters", "tail=(14, 19)"]),
        ({**POST, "head": (4, 4)}, ["head=(4, 4) is empty", "head=(0, 4)"]),
        ({**POST, "head": (4, 5)}, ["head=(4, 5) holds no word"]),
        ({**POST, "head": -1}, ["head=-1", "characters"]),
        ({**POST, "head": "Kobe"}, ["head='Kobe'", "characters"]),
        ({"text": POST["text"], "pairs": [((0, 4), (5, 99))]}, ["(5, 99)", "19 characters"]),
        ({"tokens": ["a", "b"], "head": (0, 1), "tail": (1, 3)}, ["tail=(1, 3)", "2 words"]),
        ({**POST, "text": "  "}, ["has no words"]),
        ({**POST, "objects": "crop.jpg"}, ["objects='crop.jpg'"]),
        ({**POST, "top_k": "2"}, ["top_k='2'", "top_k=3"]),
        ({**POST, "top_k": True}, ["top_k=True"]),
        ({**POST, "top_k": -2}, ["top_k=-2"]),
        ({**POST, "max_length": "9"}, ["max_length='9'"]),
        ({**POST, "on_image_error": 0}, ["on_image_error=0"]),
        ({"inputs": {**POST, "spans": []}}, ["no 'spans'", "head, tail, pairs"]),
        ({"inputs": "Kobe"}, ["head=None, tail=None"]),
    ],
)
def test_errors_of_relations_name_the_value_and_show_a_right_call(relate, call, words):
    with pytest.raises(ValueError) as error:
        relate(**call)
    assert [word for word in words if word not in str(error.value)] == []


def test_unknown_options_are_refused(ner, relate):
    for pipe in (ner, relate):
        with pytest.raises(TypeError, match="treshold"):
            pipe(post_of(pipe), treshold=0.5)


def test_an_error_in_a_batch_is_that_of_its_post(ner):
    with pytest.raises(ValueError, match="post 1: text='  ' has no words"):
        ner(["Kobe", "  "], batch_size=2)


@pytest.mark.parametrize("post", ["", {"tokens": []}, {"tokens": iter(())}, None])
def test_an_invalid_post_among_several_is_named_by_its_place_before_any_is_read(ner, post):
    broken = {"text": "Kobe", "image": "/no/such.jpg"}
    with pytest.raises(ValueError, match=r"^post 2: (text=''|tokens=\[\]|None)"):
        ner(["Kobe", broken, post])
    answers = ner(post for post in ["Kobe", {"tokens": iter(["Kobe"])}, post])
    assert_same(next(answers), next(answers))
    with pytest.raises(ValueError, match="^post 2: "):
        next(answers)


def spoil(pipe, word: str):
    """Make the embeddings of a word NaN, so that what a model says of posts with it is not a number."""
    ids = pipe.processor.tokenizer(word, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        pipe.model.get_input_embeddings().weight[ids[0]] = torch.nan


@pytest.mark.parametrize("task", ["entities", "relations"])
def test_a_post_whose_logits_are_not_finite_is_an_error_that_names_it(task):
    pipe = tiny_pipeline(task)
    spoil(pipe, "cross")
    spans = {} if task == "entities" else {"pairs": [((0, 4), (5, 10))]}
    posts = [{"text": text, **spans} for text in ("Kobe lands in Paris", "Kobe lands, don't cross")]
    assert len(pipe(posts[:1])) == 1
    with pytest.raises(ValueError, match='posts "Kobe lands, don\'t cross" are NaN or infinite: check their pictures'):
        pipe(posts, batch_size=2)
