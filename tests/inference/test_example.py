"""The model and the posts that come with the package."""

import json

import pytest
from PIL import Image
from safetensors import safe_open

from modeling_i2srm import Extractor, example_model, example_posts
from modeling_i2srm.inference.example import write_example


@pytest.fixture(scope="module")
def answers() -> dict[str, list[tuple]]:
    extractor = Extractor.from_pretrained(example_model())
    posts = example_posts()
    graphs = zip(posts, extractor(posts), strict=True)
    return {post["id"]: [triple[:3] for triple in graph.to_triples()] for post, graph in graphs}


def test_the_model_answers_its_posts(answers):
    right = 0
    for post in example_posts():
        words = [" ".join(post["tokens"][one["start"] : one["end"]]) for one in post["entities"]]
        gold = [(words[one["head"]], one["label"], words[one["tail"]]) for one in post["relations"]]
        right += answers[post["id"]] == gold
    assert right == 6 == len(answers)


def test_the_picture_decides():
    extractor, post = Extractor.from_pretrained(example_model()), example_posts()[1]
    whole, blanked = extractor(post), extractor({"tokens": post["tokens"]})
    assert [(one.word, one.entity, one.region.index) for one in whole.entities] == [
        ("Bristol", "PER", 0),
        ("Parsifal", "PER", 0),
    ]
    assert not any(one.region for one in blanked.entities)
    assert whole.relations and whole.relations[0].score > (blanked.relations[0].score if blanked.relations else 0)


def test_its_scores_are_calibrated_and_unsure_answers_can_be_withheld():
    extractor = Extractor.from_pretrained(example_model(), coverage=0.5)
    graphs = extractor(example_posts())
    assert any(graph.withheld.entities for graph in graphs) and any(graph.entities for graph in graphs)
    assert extractor.ner.model.config.temperatures.keys() == {"tags", "relations", "regions"}


def test_posts_have_pictures_and_gold():
    for post in example_posts():
        assert [Image.open(path).size for path in [post["image"], *post["objects"]]]
        assert post["relations"] and any(one["region"] >= 0 for one in post["entities"])


def test_the_model_is_small_and_has_no_code_of_its_own():
    with safe_open(f"{example_model()}/model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} <= {"F16", "I64"}  # noqa: SIM118
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        with open(f"{example_model()}/{name}", encoding="utf-8") as file:
            assert "auto_map" not in file.read()


def test_it_is_written_again(tmp_path):
    rows = [{**post, "split": "test"} for post in example_posts()]
    dataset = tmp_path / "data"
    write_rows(rows, dataset)
    write_example(example_model(), dataset, tmp_path / "example", count=2)
    posts = [json.loads(line) for line in (tmp_path / "example/posts.jsonl").read_text(encoding="utf-8").splitlines()]
    for post, original in zip(posts, example_posts(), strict=False):
        paths = zip([post["image"], *post["objects"]], [original["image"], *original["objects"]], strict=True)
        assert all((tmp_path / "example" / one).read_bytes() == open(other, "rb").read() for one, other in paths)
        assert (post["entities"], post["relations"]) == (original["entities"], original["relations"])
    with safe_open(f"{example_model()}/model.safetensors", "pt") as one:
        with safe_open(tmp_path / "example/model/model.safetensors", "pt") as other:
            assert {*one.keys()} == {*other.keys()}
            assert all((one.get_tensor(name) == other.get_tensor(name)).all() for name in one.keys())  # noqa: SIM118


def write_rows(posts: list[dict], folder) -> None:
    """Posts in the exchange format as the test split of a data set of the joint task."""
    from datasets import ClassLabel, Dataset, Features, Image, List, Value

    labels = sorted({one["label"] for post in posts for one in post["relations"]})
    kinds = sorted({one["label"] for post in posts for one in post["entities"]})
    tags = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]
    rows = []
    for post in posts:
        row_tags = ["O"] * len(post["tokens"])
        for one in post["entities"]:
            row_tags[one["start"] : one["end"]] = [f"B-{one['label']}"] + [f"I-{one['label']}"] * (
                one["end"] - one["start"] - 1
            )
        rows.append(
            {
                "id": post["id"],
                "tokens": post["tokens"],
                "ner_tags": row_tags,
                "relations": post["relations"],
                "regions": [one["region"] for one in post["entities"]],
                "image": {"bytes": open(post["image"], "rb").read(), "path": None},
                "objects": [{"bytes": open(path, "rb").read(), "path": None} for path in post["objects"]],
            }
        )
    relation = {"head": Value("int64"), "tail": Value("int64"), "label": ClassLabel(names=labels)}
    features = Features(
        {
            "id": Value("string"),
            "tokens": List(Value("string")),
            "ner_tags": List(ClassLabel(names=tags)),
            "relations": List(relation),
            "regions": List(Value("int64")),
            "image": Image(),
            "objects": List(Image()),
        }
    )
    (folder / "data").mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "data/test-00000-of-00001.parquet")
