"""A small trained model and a few posts that come with the package, for a first try: no download, no training.

The model is the joint one of `make quickstart`, trained twice as long. It knows the made-up posts of
`dataset_scripts/visual_posts.py` and nothing else. `make example-model` makes both again.
"""

import json
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "example"
MODEL, POSTS = FOLDER / "model", FOLDER / "posts.jsonl"


def example_model() -> str:
    """The folder of a small model for entities, regions and relations, for `Extractor.from_pretrained`.

    It was trained on made-up posts with pictograms in a few minutes. On other posts its answers mean nothing.

    Example:

    >>> from modeling_i2srm import Extractor, example_model, example_posts
    >>> extractor = Extractor.from_pretrained(example_model())
    >>> extractor(example_posts()[0]).to_triples()  # doctest: +SKIP
    """
    return str(MODEL)


def example_posts() -> list[dict]:
    """Made-up posts that the example model has not seen in training, in the exchange format.

    Returns:
        Dicts with id, tokens, image and objects (paths of JPEG files), and the right answer: entities and relations.
    """
    posts = [json.loads(line) for line in POSTS.read_text(encoding="utf-8").splitlines()]
    for post in posts:
        post["image"] = str(FOLDER / post["image"])
        post["objects"] = [str(FOLDER / name) for name in post["objects"]]
    return posts


def write_example(
    run: str | os.PathLike, dataset: str | os.PathLike, folder: str | os.PathLike, count: int = 6
) -> None:
    """Write the model of a joint run in float16, and posts of the test split.

    Args:
        run: folder of the run.
        dataset: its data set, a folder of Parquet files.
        folder: receives model/, posts.jsonl and pictures/.
        count: the first posts with a relation and an entity that a crop shows.
    """
    from datasets import Image, List, load_dataset

    from ..crf import find_entities
    from ..modeling_joint import I2SRMForJointExtraction
    from ..processing_i2srm import I2SRMProcessor

    target = Path(folder)
    # The projection of the semantic loss is for training alone.
    model = I2SRMForJointExtraction.from_pretrained(run, semantic_loss_weight=0.0)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(target / "model", state_dict=weights)
    I2SRMProcessor.from_pretrained(run).save_pretrained(target / "model")
    for path in (target / "model").glob("*.py"):  # the package itself
        path.unlink()
    for path in (target / "model").glob("*.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(without(settings, "auto_map"), indent=1, ensure_ascii=False), encoding="utf-8")

    pictures = target / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rows = load_dataset(str(dataset), split="test")
    tags = rows.features["ner_tags"].feature.names
    relations = rows.features["relations"].feature["label"].names
    rows = rows.cast_column("image", Image(decode=False)).cast_column("objects", List(Image(decode=False)))
    chosen = [row for row in rows if row["relations"] and max(row["regions"]) >= 0][:count]
    with open(target / "posts.jsonl", "w", encoding="utf-8") as file:
        for row in chosen:
            names = [f"{row['id']}.jpg", *(f"{row['id']}-crop{n}.jpg" for n in range(len(row["objects"])))]
            for name, picture in zip(names, [row["image"], *row["objects"]], strict=True):
                (pictures / name).write_bytes(picture["bytes"])
            spans = find_entities([tags[tag] for tag in row["ner_tags"]])
            post = {
                "id": row["id"],
                "tokens": row["tokens"],
                "image": f"pictures/{names[0]}",
                "objects": [f"pictures/{name}" for name in names[1:]],
                "entities": [
                    {"start": start, "end": end, "label": label, "region": region}
                    for (start, end, label), region in zip(spans, row["regions"], strict=True)
                ],
                "relations": [{**one, "label": relations[one["label"]]} for one in row["relations"]],
            }
            file.write(json.dumps(post, ensure_ascii=False) + "\n")


def without(settings: object, name: str) -> object:
    """JSON settings without a key, at any depth."""
    if isinstance(settings, dict):
        return {key: without(value, name) for key, value in settings.items() if key != name}
    return [without(value, name) for value in settings] if isinstance(settings, list) else settings


if __name__ == "__main__":
    _, run, dataset = sys.argv
    write_example(run, dataset, FOLDER)

__all__ = ["example_model", "example_posts"]
