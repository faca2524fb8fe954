"""Explain the answers for a post: what the model attends to, and how the answers change without each picture.

    python examples/explain.py --model runs/quickstart --text "who else loves Camelot ?" --image post.jpg
    python examples/explain.py --ner runs/quickstart_mner --re runs/quickstart_mre --dataset data/visual_posts --row 82

Prints the explanation and draws the post as an HTML page. A post without crops gets those of the objects that
--detector detects.
"""

import argparse
from pathlib import Path

from ..inference.explanation import explain
from ..inference.extraction import Extractor
from ..inference.html import draw_post
from ..support.detectors import ObjectCropper, load_detector
from ..support.options import OptionParser

parser = OptionParser("explain.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", "--ner", dest="ner", required=True, help="a joint model, or one for entities")
parser.add_argument("--re", help="a model for relations, if --model is one for entities")
parser.add_argument("--text", help="text of the post")
parser.add_argument("--image", help="picture of the post, a path or URL")
parser.add_argument("--objects", nargs="*", help="crops of the picture, paths or URLs")
parser.add_argument("--detector", help="a detector (folder or Hub id) that makes crops if the post has none")
parser.add_argument("--dataset", help="take the post from a data set, a Parquet folder or Hub id, instead of --text")
parser.add_argument("--split", default="test", help="split of the data set (default %(default)s)")
parser.add_argument("--row", type=int, default=0, help="row of the split, counted from 0 (default %(default)s)")
parser.add_argument("--image_dir", help="folder of pictures that are paths in the data set (default: the data set's)")
parser.add_argument("-o", "--output", default="explanation.html", help="HTML page to write (default %(default)s)")


def read_post(arguments: argparse.Namespace) -> dict:
    """Read the post that the command line names."""
    if (arguments.text is None) == (arguments.dataset is None):
        raise ValueError('give a post: --text "..." and optionally --image, or --dataset and --row')
    if arguments.dataset is None:
        return {"text": arguments.text, "image": arguments.image, "objects": arguments.objects}
    if arguments.image is not None or arguments.objects is not None:
        raise ValueError("--image and --objects belong to --text; a row of a data set has its own pictures")
    from datasets import load_dataset  # of the extra train, which a post of --text does not need

    from ..data.dataset import check_picture_paths

    rows = load_dataset(arguments.dataset, split=arguments.split)
    if not 0 <= arguments.row < len(rows):
        raise ValueError(f"--row {arguments.row}: the {arguments.split} split has rows 0 to {len(rows) - 1}")
    check_picture_paths(arguments.dataset, {arguments.split: rows}, arguments.image_dir)
    return {"image": None, "objects": None, **rows[arguments.row]}


def main(arguments: list[str] | None = None) -> None:
    args = parser.parse_args(arguments)
    try:
        if Path(args.output).suffix.lower() != ".html":
            raise ValueError(f"--output {args.output} does not end in .html, e.g. --output post.html")
        post = read_post(args)
        extractor = Extractor.from_pretrained(args.ner, args.re)
        if args.detector is not None:
            extractor.cropper = ObjectCropper(load_detector(args.detector), num_objects=extractor.num_objects)
        explanation = explain(extractor, post)
        print(explanation.describe())
        crops = post["objects"] or explanation.extraction.crops(post["image"])
        draw_post(explanation, post["image"], crops, args.output)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(f"drawn: {args.output}")
