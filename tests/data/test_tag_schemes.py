"""Tag schemes: each is recognised from the data, and converted to the BIO tags of the same entities."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_i2srm.data.tag_schemes import SCHEMES, TagScheme, convert_tag_column, recognise_scheme, to_bio


def recognise(*posts: str, **options) -> TagScheme:
    return recognise_scheme(
        (("train", f"line {number}", post.split()) for number, post in enumerate(posts, start=1)), **options
    )


def convert(*posts: str) -> tuple[str, list[str]]:
    scheme = recognise(*posts)
    return str(scheme), [" ".join(scheme.to_bio(post.split())) for post in posts]


@pytest.mark.parametrize(
    ("post", "name", "bio"),
    [
        ("I-PER I-PER O I-LOC", "IOB1", "B-PER I-PER O B-LOC"),
        ("I-PER I-PER B-PER O I-LOC I-ORG", "IOB1", "B-PER I-PER B-PER O B-LOC B-ORG"),
        ("B-PER I-PER B-PER O B-LOC", "BIO", "B-PER I-PER B-PER O B-LOC"),
        ("S-PER O B-LOC I-LOC E-LOC S-LOC", "IOBES", "B-PER O B-LOC I-LOC I-LOC B-LOC"),
        ("O B-LOC E-LOC", "IOBES", "O B-LOC I-LOC"),
        ("U-PER O B-LOC I-LOC L-LOC U-LOC", "BILOU", "B-PER O B-LOC I-LOC I-LOC B-LOC"),
        ("S-PER O B-LOC M-LOC E-LOC", "BMES", "B-PER O B-LOC I-LOC I-LOC"),
        ("W-PER O B-LOC M-LOC M-LOC E-LOC", "BMEWO", "B-PER O B-LOC I-LOC I-LOC I-LOC"),
        ("I-LOC E-LOC E-LOC O E-PER", "IOE2", "B-LOC I-LOC B-LOC O B-PER"),
        ("PER PER O LOC ORG", "types without prefixes (IO)", "B-PER I-PER O B-LOC B-ORG"),
        ("b-per i-per o b-loc", "BIO with lower-case prefixes", "B-per I-per O B-loc"),
        ("s-per o b-loc e-loc", "IOBES with lower-case prefixes", "B-per O B-loc I-loc"),
        ("PER-B PER-I O LOC-B", "BIO with suffixes", "B-PER I-PER O B-LOC"),
        ("PER-S O LOC-B LOC-E", "IOBES with suffixes", "B-PER O B-LOC I-LOC"),
        ("B_PER I_PER O B_LOC", "BIO with underscores", "B-PER I-PER O B-LOC"),
        ("O O", "BIO", "O O"),
        ("o O", "BIO", "O O"),
    ],
)
def test_schemes_are_recognised_and_converted(post, name, bio):
    assert convert(post) == (name, [bio])


@pytest.mark.parametrize(
    ("post", "name", "bio"),
    [
        ("B-LOC-city I-LOC-city O B-X_y", "BIO", "B-LOC-city I-LOC-city O B-X_y"),  # types with hyphens
        ("B-S I-S O B-E B-I", "BIO", "B-S I-S O B-E B-I"),  # types called like letters
        ("S O E E", "types without prefixes (IO)", "B-S O B-E I-E"),
        ("S-B S-I O L-B", "BIO with suffixes", "B-S I-S O B-L"),
        ("e-mail O u-boat", "types without prefixes (IO)", "B-e-mail O B-u-boat"),
        ("E_MAIL O", "types without prefixes (IO)", "B-E_MAIL O"),
        ("PER PER O VITAMIN-B", "types without prefixes (IO)", "B-PER I-PER O B-VITAMIN-B"),
        ("B-Bank I-Bank O Ort O O B-Ort B-Ort B-Ort", None, None),
    ],
)
def test_names_of_types_are_not_mistaken_for_letters(post, name, bio):
    if name is None:  # a single tag of another form is a fault of its post
        with pytest.raises(ValueError, match="the tag 'Ort' does not fit the other tags, which are BIO"):
            convert(post)
    else:
        assert convert(post) == (name, [bio])


def test_a_scheme_is_that_of_all_posts_together():
    assert convert("I-PER O", "I-LOC B-LOC")[0] == "IOB1"
    assert convert("B-PER O", "O B-PER", "S-PER B-PER E-PER", "S-PER O S-LOC", "B-LOC E-LOC S-LOC")[0] == "IOBES"
    assert recognise("B-PER O B-LOC", "B-PER", "O I-LOC").is_bio  # as in Twitter-2015


def test_a_few_i_tags_without_b_stay():
    scheme = recognise(*["B-PER I-PER O"] * 5, "I-LOC I-LOC B-LOC")
    assert scheme.is_bio
    assert scheme.to_bio("I-LOC I-LOC B-LOC".split()) == ["I-LOC", "I-LOC", "B-LOC"]
    assert [scheme.count_faults(post.split()) for post in ("I-LOC I-LOC B-LOC", "B-PER I-LOC", "B-X I-X")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("posts", "message"),
    [
        (["B-PER O", "S-LOC"], r"mixture of BIO and IOBES: 'B-PER' in line 1 is BIO, 'S-LOC' in line 2 is IOBES"),
        (["S-PER O U-LOC"], r"mixture of IOBES and BILOU: 'S-PER' in line 1 is IOBES, 'U-LOC' in line 1 is BILOU"),
        (["B-LOC I-LOC", "O I-PER"], r"'B-LOC I-LOC' in line 1 is BIO, 'I-PER' in line 2 is IOB1; .*scheme BIO$"),
        (["I-LOC O I-PER I-ORG", "B-PER O B-X"], r"mixture of IOB1 and BIO: 'I-LOC' in line 1"),
        (["B-PER", "LOC"], r"mixture of BIO and types without prefixes \(IO\): .*'LOC' in line 2"),
        (["I-95 O", "PER"], r"mixture of .* and types without prefixes"),
        (["B-PER", "b-per"], r"mixture of BIO and BIO with lower-case prefixes"),
        (["B-PER", "B_LOC"], r"mixture of BIO and BIO with underscores"),
        (["B-PER O B-LOC", "W-X S-X"], r"mixture of BIO and BMEWO"),
        (["B I O"], r"fit no known scheme: 'B' in line 1 \(B names no type: write B-TYPE\)"),
        (["0 0 -"], r"fit no known scheme: '0' in line 1"),
    ],
)
def test_a_mixture_is_refused_with_both_places(posts, message):
    with pytest.raises(ValueError, match=message):
        recognise(*posts, remedy="name the scheme {scheme}")


def test_a_part_of_another_scheme_is_a_mixture():
    posts = [("train", f"a.txt, line {number}", ["B-PER", "O", "B-LOC"]) for number in range(50)]
    with pytest.raises(ValueError, match=r"'B-PER' in a\.txt, line 0 is BIO, 'I-PER I-PER' in b\.txt, line 1 is IOB1"):
        recognise_scheme([*posts, ("test", "b.txt, line 1", ["I-PER", "I-PER"])])


def test_a_named_scheme_is_not_doubted():
    assert recognise("B-PER O I-PER", name="BIO").is_bio
    scheme = recognise("I-PER O B-PER", name="IOB1")
    assert (scheme.to_bio(["I-PER", "O", "B-PER"]), scheme.count_faults(["B-PER"])) == (["B-PER", "O", "B-PER"], 1)
    assert recognise("I-95 O PER", name="bare").to_bio(["I-95", "O", "PER"]) == ["B-I-95", "O", "B-PER"]
    assert str(recognise("PER-B O LOC-I", name="BIO")) == "BIO with suffixes"
    with pytest.raises(ValueError, match="no tag scheme 'IOBS'; choose one of BIO, IOB1"):
        to_bio(["O"], "IOBS")


def write_tags(entities: list[tuple[int, str]], scheme: str) -> list[str]:
    """Write entities as tags, from lengths and types; a type of "" is words outside of entities."""
    tags, last = [], ""
    for length, type in entities:
        middle = {"BMES": "M", "BMEWO": "M"}.get(scheme, "I")
        letters = ["B", *[middle] * (length - 1)]
        if scheme == "IOB1" and type != last:
            letters[0] = "I"
        if scheme not in ("BIO", "IOB1", "bare"):
            letters[-1] = "L" if scheme == "BILOU" else "E"
            if scheme == "IOE2":
                letters = ["I"] * (length - 1) + ["E"]
            elif length == 1:
                letters = [{"BILOU": "U", "BMEWO": "W"}.get(scheme, "S")]
        written = [type if scheme == "bare" else f"{letter}-{type}" for letter in letters]
        tags += written if type else ["O"] * length
        last = type
    return tags


ENTITIES = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "PER", "LOC", "S", "a-b"])), min_size=1)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(posts=st.lists(ENTITIES, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_entities_survive_any_scheme(scheme, posts):
    if scheme == "bare":  # which cannot tell neighbours of one type
        posts = [[pair for i, pair in enumerate(post) if not i or pair[1] != post[i - 1][1]] for post in posts]
    bio = [write_tags(post, "BIO") for post in posts]
    tags = [write_tags(post, scheme) for post in posts]
    assert [to_bio(post, scheme) for post in tags] == bio
    read = recognise_scheme(("train", "", post) for post in tags)
    assert [read.to_bio(post) for post in tags] == bio


def data_set(names: list[str], **splits: list[str]) -> DatasetDict:
    features = Features({"ner_tags": List(ClassLabel(names=names)), "id": Value("string")})
    rows = {
        split: [{"ner_tags": [names.index(tag) for tag in post.split()], "id": str(i)} for i, post in enumerate(posts)]
        for split, posts in splits.items()
    }
    return DatasetDict({split: Dataset.from_list(posts, features=features) for split, posts in rows.items()})


def tags_of(rows: Dataset) -> list[str]:
    return [" ".join(rows.features["ner_tags"].feature.int2str(tags)) for tags in rows["ner_tags"]]


def test_the_tags_of_a_data_set_are_converted(caplog):
    names = ["B-LOC", "O", "I-LOC", "I-PER", "B-PER"]
    splits = data_set(names, train=["I-PER O I-LOC I-LOC", "I-LOC B-LOC"], test=["I-PER"])
    converted = convert_tag_column(splits, "ner_tags", "posts")
    assert tags_of(converted["train"]) == ["B-PER O B-LOC I-LOC", "B-LOC B-LOC"] and converted["train"]["id"][:] == [
        "0",
        "1",
    ]
    assert tags_of(converted["test"]) == ["B-PER"]
    assert converted["test"].features["ner_tags"].feature.names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert "posts: tags are IOB1: 4 changed to BIO" in caplog.text


def test_bio_data_and_other_columns_stay_as_they_are():
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    splits = data_set(names, train=["B-PER O I-LOC B-PER"])
    assert convert_tag_column(splits, "ner_tags", "posts") is splits
    with_other = data_set([*names, "[PAD]"], train=["B-PER O I-LOC B-PER"])
    assert convert_tag_column(with_other, "ner_tags", "posts") is with_other  # label_names refuses the name
    texts = DatasetDict(train=Dataset.from_dict({"ner_tags": [["O"]]}))
    assert convert_tag_column(texts, "ner_tags", "posts") is texts
    moved = convert_tag_column(data_set(["B-PER", "O"], train=["B-PER O"]), "ner_tags", "posts")["train"]
    assert moved.features["ner_tags"].feature.names == ["O", "B-PER", "I-PER"] and tags_of(moved) == ["B-PER O"]


def test_a_mixture_in_a_data_set_is_refused():
    splits = data_set(["O", "B-PER", "S-PER"], train=["B-PER O", "B-PER"], test=["O", "S-PER"])
    message = (
        r"posts, column 'ner_tags': .* 'S-PER' in row 1 of test is IOBES; convert the rows .*to_bio\(tags, 'BIO'\)"
    )
    with pytest.raises(ValueError, match=message):
        convert_tag_column(splits, "ner_tags", "posts")
    few = data_set(["O", "I-PER", "PER"], train=["I-PER O I-PER O I-PER O PER"])
    with pytest.raises(ValueError, match=r"posts, split 'train', row 0: the tag 'PER' does not fit"):
        convert_tag_column(few, "ner_tags", "posts")
