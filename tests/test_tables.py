"""Data frames and other tables of posts: an answer a row."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tiny import assert_same, noise, tiny_pipeline

from modeling_i2srm import Extractor
from modeling_i2srm.tables import likely_column, read_rows

TEXTS = ["Kobe lands in Paris", "Amazon", "Nelson saw Chelsea"]


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities")


@pytest.fixture(scope="module")
def extractor(ner):
    return Extractor(ner)


class DataFrame:
    """A data frame as polars has it."""

    __module__ = "polars.dataframe.frame"
    columns = ("text", "image")

    def to_dicts(self):
        return [{"text": text, "image": None} for text in TEXTS]


class LazyFrame:
    """One that has to be computed first."""

    columns = ("text",)

    def __iter__(self):
        return iter(self.columns)


TABLES = [
    pd.DataFrame({"text": TEXTS, "image": [None] * 3}),
    pd.DataFrame({"text": TEXTS, "image": [np.nan] * 3, "objects": [np.nan] * 3, "id": [1, 2, 3]}, index=[7, 7, 9]),
    pd.DataFrame({"text": pd.array(TEXTS, dtype="string"), "image": pd.array([pd.NA] * 3, dtype="string")}),
    pd.DataFrame({"tokens": [text.split() for text in TEXTS], "text": [np.nan] * 3}),
    pd.Series(TEXTS, index=list("abc")),
    pa.table({"text": TEXTS, "image": pa.nulls(3, pa.string())}),
    pa.RecordBatch.from_pydict({"text": TEXTS}),
    pa.array(TEXTS),
    pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    DataFrame(),
]


@pytest.mark.parametrize("table", TABLES, ids=[f"{type(table).__name__}{n}" for n, table in enumerate(TABLES)])
def test_a_table_gives_an_answer_a_row(ner, extractor, table):
    assert_same(ner(table), ner(TEXTS))
    assert [extraction.entities for extraction in extractor(table)] == [one.entities for one in extractor(TEXTS)]


def test_pictures_of_a_table_are_read(ner):
    pictures = [noise(1), None, noise(2)]
    table = pd.DataFrame({"text": TEXTS, "image": pictures, "objects": [[noise(3)], None, []]})
    expected = [
        {"text": TEXTS[0], "image": pictures[0], "objects": [noise(3)]},
        TEXTS[1],
        {"text": TEXTS[2], "image": pictures[2]},
    ]
    assert_same(ner(table), ner(expected))
    row = table.iloc[0]
    assert_same(ner(row), ner(expected[0]))  # a row alone is a post
    assert_same(ner(table.iloc[0:0]), [])


def test_rows_of_pairs(ner):
    relate = tiny_pipeline("relations")
    rows = [{"text": TEXTS[0], "head": (0, 4), "tail": (14, 19)}, {"text": TEXTS[2], "head": (0, 6), "tail": (11, 18)}]
    assert_same(relate(pd.DataFrame(rows)), relate(rows))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (LazyFrame(), ["LazyFrame is not read", "collect()"]),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), ["columns of one name"]),
        (pd.DataFrame({"text": TEXTS, "picture": TEXTS}), ["no 'picture'", "'picture' meant to be 'image'?"]),
        (pd.DataFrame({"words": TEXTS}), ["no 'words'"]),
        ({"text": TEXTS, "image": [None] * 3}, ["is not a str", "dict(zip(columns, row))"]),
        ({"tokens": [["Kobe"], ["lands"]]}, ["not a list of words"]),
        (pd.DataFrame({"text": [1, 2]}), ["text=1 is not a str"]),
    ],
)
def test_what_is_no_table_of_posts_is_refused(ner, extractor, table, words):
    for call in (ner, extractor):
        with pytest.raises(ValueError) as caught:
            list(call(table))
        for word in words:
            assert word in str(caught.value)


def test_other_things_stay_as_they_are():
    for value in (None, "Kobe", TEXTS, {"text": "Kobe"}, (text for text in TEXTS), np.array(TEXTS)):
        assert read_rows(value) is value


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (
            "image",
            "picture pictures Picture pic img IMG imgs image_path imageFile image_url photo photos iamge jpg images",
        ),
        ("objects", "crops crop regions object_crops objcts Objects"),
        (
            None,
            "image objects object_boxes id text tokens topic epic subjects page usage message label date user region",
        ),
    ],
)
def test_columns_that_seem_to_hold_pictures(target, names):
    assert {name: likely_column(name) for name in names.split()} == dict.fromkeys(names.split(), target)
