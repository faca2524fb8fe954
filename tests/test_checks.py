"""The names for no relation: which labels count as one, and which do not."""

import pytest

from modeling_i2srm.checks import no_relation_labels


@pytest.mark.parametrize(
    "name",
    [
        "no_relation",
        "No Relation",
        "no-relation",
        "NA",
        "N/A",
        "n.a.",
        "none",
        "NONE",
        "null",
        "",
        " ",
        "nil",
        "/no/rel",
    ],
)
def test_names_for_no_relation_are_recognised(name):
    assert no_relation_labels(["peer", name, "Other", "parent"]) == {name}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["None", "NA", "peer"], {"None"}),  # what is called None is it alone, as it always was
        (["NA", "no_relation", "peer"], {"NA", "no_relation"}),
        (["Other", "peer"], {"Other"}),
        (["other", "NA", "peer"], {"NA"}),
        (["peer", "nationality", "mother", "---", "'"], set()),
        ([], set()),
    ],
)
def test_other_is_one_only_where_no_label_is(names, expected):
    assert no_relation_labels(names) == expected


def test_a_label_can_be_named():
    assert no_relation_labels(["None", "rest"], "rest") == {"rest"}
    with pytest.raises(ValueError, match=r"none_label 'x' is not one of the labels \['rest'\]"):
        no_relation_labels(["rest"], "x")
