"""Draw docs/figures/explanation.png: why a model finds what it finds in a post. Run it with `make figures`, or:

    python docs/figures/draw_explanation.py        # with the model of the package; needs playwright and Chromium

The post is a row of the test split of the made-up posts whose picture carries the answer.
"""

import argparse
import io
import itertools
import sys
import tempfile
from pathlib import Path

from photograph import photograph
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.inference.example import example_model  # noqa: E402
from modeling_i2srm.inference.explanation import explain  # noqa: E402
from modeling_i2srm.inference.extraction import Extractor  # noqa: E402
from modeling_i2srm.inference.html import draw_post  # noqa: E402
from modeling_i2srm.prepare.visual_posts import encode_pictures, make_posts  # noqa: E402


def read_row(number: int) -> dict:
    """A row of the test split of data/visual_posts, with its pictures as they are stored there."""
    _, row = next(itertools.islice(make_posts("test", 500), number, None))
    row = encode_pictures(row)
    image, *objects = (Image.open(io.BytesIO(one["bytes"])) for one in (row["image"], *row["objects"]))
    return {"id": row["id"], "tokens": row["tokens"], "image": image, "objects": objects}


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=example_model(), help="joint model (default: that of the package)")
    parser.add_argument("--row", type=int, default=155, help="of the test split (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("explanation.png"))
    args = parser.parse_args(arguments)
    post = read_row(args.row)
    explanation = explain(Extractor.from_pretrained(args.model), post)
    print(explanation.describe())
    with tempfile.TemporaryDirectory() as folder:
        draw_post(explanation, post["image"], post["objects"], page := Path(folder, "post.html"))
        photograph(page, args.output, width=540, scale=1.4, until="h2")


if __name__ == "__main__":
    main()
