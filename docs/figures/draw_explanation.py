"""Draw docs/figures/explanation.png: why the model of the quickstart finds what it finds in a post.

Run it with `make figures`, or:

make quickstart
python docs/figures/draw_explanation.py        # needs playwright and Chromium
"""

import argparse
import sys
import tempfile
from pathlib import Path

from photograph import photograph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.inference.explanation import explain  # noqa: E402
from modeling_i2srm.inference.extraction import Extractor  # noqa: E402
from modeling_i2srm.inference.html import draw_post  # noqa: E402


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "runs" / "quickstart")
    parser.add_argument("--dataset", type=Path, default=ROOT / "data" / "visual_posts")
    parser.add_argument("--row", type=int, default=345, help="of its test split (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("explanation.png"))
    args = parser.parse_args(arguments)
    if absent := [str(folder) for folder in (args.model, args.dataset) if not folder.is_dir()]:
        print(f"{args.output} is not drawn again, as {', '.join(absent)} is missing: make quickstart")
        return
    from datasets import load_dataset

    post = load_dataset(str(args.dataset), split="test")[args.row]
    explanation = explain(Extractor.from_pretrained(str(args.model)), post)
    print(explanation.describe())
    with tempfile.TemporaryDirectory() as folder:
        draw_post(explanation, post["image"], post["objects"], page := Path(folder, "post.html"))
        photograph(page, args.output, scale=1.2)


if __name__ == "__main__":
    main()
