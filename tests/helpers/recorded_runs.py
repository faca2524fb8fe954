"""Runs of a study as the disk has them."""

import json
from pathlib import Path


def recorded(folder: Path, setting: str, right: float, seed: int, reference: str | None = "full", **more) -> dict:
    """A run of relations whose first pairs are right, as it would be recorded."""
    place = folder / f"{setting}-{seed}"
    place.mkdir()
    lines = [{"gold": "peer", "predicted": "peer" if i < right * 50 else "member"} for i in range(50)]
    (place / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    posts = {split: {"posts": number} for split, number in (("train", 99), ("validation", 20), ("test", 50))}
    results = {"multimodal": {"micro_f1": right}, "truncation": posts, "data": {"warnings": ["crops leak"]}}
    about = {"study": "ablation", "setting": setting, "seed": seed, "reference": reference, "series": "", "x": None}
    return {**about, "key": place.name, "folder": str(place), "decisive": {}, "seconds": 7, "results": results, **more}
