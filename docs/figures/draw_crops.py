"""Draw docs/figures/crops.png: made-up posts with the crops that YOLOv3-tiny finds in their pictures.

Run it with `make figures`; needs playwright and Chromium.

The real pictures of the benchmarks are not ours to show. A detector of photographs finds little in drawings: of the
test posts the first four in which it finds something are shown, and the first two in which it finds nothing.
"""

import argparse
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from photograph import photograph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.prepare.crop_shards import encode  # noqa: E402
from modeling_i2srm.prepare.crop_sheet import write_sheet  # noqa: E402
from modeling_i2srm.prepare.visual_posts import make_posts  # noqa: E402
from modeling_i2srm.support.detectors import ObjectCropper, load_detector  # noqa: E402

THRESHOLD = 0.05
SHOWN = {True: 4, False: 2}


def posts(count: int) -> list[dict]:
    """Crop the pictures of posts until there are enough with an object and without one, and return those."""
    cropper = ObjectCropper(load_detector(f"{ROOT / 'examples/own_detector.py'}:YoloTiny", THRESHOLD))
    chosen = {True: [], False: []}
    for _, row in make_posts("test", count):
        if row["image"] is None or all(len(chosen[kind]) == number for kind, number in SHOWN.items()):
            continue
        (crops,) = cropper([row["image"]])
        if len(chosen[bool(crops)]) < SHOWN[bool(crops)]:
            picture = BytesIO()
            row["image"].save(picture, "PNG")
            post = {"text": " ".join(row["tokens"]), "image": picture.getvalue()}
            post["objects"] = [encode(crop, "crop", jpeg=False) for crop in crops]
            post["boxes"] = [{"box": crop.box, "score": crop.score, "label": crop.label} for crop in crops]
            chosen[bool(crops)].append(post)
    return chosen[True] + chosen[False]


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/figures/crops.png")
    args = parser.parse_args(arguments)
    title = f"YOLOv3-tiny saw the pictures alone; score {THRESHOLD} or more. Made-up posts."
    with tempfile.TemporaryDirectory() as folder:
        write_sheet(posts(400), title, page := Path(folder, "sheet.html"))
        photograph(page, args.output)


if __name__ == "__main__":
    main()
