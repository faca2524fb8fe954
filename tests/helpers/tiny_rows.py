"""Rows with entities and pictures, and the logs of training on them."""

import numpy as np
from datasets import Dataset
from PIL import Image


def rows(count: int = 12) -> Dataset:
    """Posts of different lengths, some without a picture."""
    posts = []
    for i in range(count):
        tokens = ["Kobe", "lands", "in", "Paris", "with", "Jordan"][: 2 + i % 5]
        tags = [1, 0, 0, 3, 0, 5][: len(tokens)]
        picture = None if i % 3 == 0 else np.full((40, 40, 3), 2 * i, dtype=np.uint8)
        posts.append({"id": str(i), "tokens": tokens, "ner_tags": tags, "image": picture, "objects": []})
    return Dataset.from_list(
        [{**post, "image": None if post["image"] is None else to_png(post["image"])} for post in posts]
    )


def to_png(array) -> dict:
    import io

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def training_logs(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]
