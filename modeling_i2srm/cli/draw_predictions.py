"""Draw the test posts of a joint training run on an HTML page, with the gold graph beside each predicted one.

    python examples/draw_predictions.py runs/quickstart --dataset data/visual_posts

Reads the run's predictions.jsonl, and the pictures from the test split of its data set.
"""

import argparse
import json
from pathlib import Path

from ..data.dataset import check_picture_paths
from ..inference.answers import Extraction
from ..inference.html import draw_posts
from ..support.options import OptionParser

PREDICTIONS, PAGE = "predictions.jsonl", "posts.html"

parser = OptionParser("draw_predictions.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("output_dir", help="folder of the run")
parser.add_argument("--dataset", required=True, help="the data set of the run, a Parquet folder or Hub id")
parser.add_argument("--image_dir", help="folder of pictures that are paths in the data set (default: the data set's)")
parser.add_argument("--count", type=int, default=20, help="number of posts, evenly spaced (default %(default)s)")


def draw_run(output_dir: str | Path, dataset: str, count: int = 20, image_dir: str | None = None) -> Path:
    """Draw posts of the test split with what a joint run predicted for them and what people found.

    Args:
        output_dir: folder of the run, with predictions.jsonl: posts in the exchange format, with "gold", the entities
            and relations of people.
        dataset: Parquet folder or Hub id; the posts are found by id in its test split.
        count: most posts; of more they are evenly spaced.
        image_dir: folder of pictures that are paths in the data set, if they lead out of it.

    Returns:
        The page, posts.html in `output_dir`.

    Raises:
        ValueError: a count below 1, predictions of another task or of other posts; `OSError` for files that are not
            there.
    """
    if count < 1:
        raise ValueError(f"count={count} must be 1 or more, e.g. count=20")
    path = Path(output_dir) / PREDICTIONS
    with open(path, encoding="utf-8") as file:
        lines = list(file)
    records = [json.loads(lines[n]) for n in sorted({n * len(lines) // count for n in range(count)}) if lines]
    from datasets import load_dataset

    from ..training.tasks import row_ids

    rows = load_dataset(dataset, split="test")
    check_picture_paths(dataset, {"test": rows}, image_dir)
    places = {str(name): n for n, name in enumerate(row_ids(rows))}
    posts, answers, gold = [], [], []
    for number, record in enumerate(records, 1):
        if not {"entities", "gold"} <= record.keys():
            raise ValueError(f"{path} has no entities and gold in record {number}: it is not of a joint model")
        if str(record["id"]) not in places:
            raise ValueError(f"{path}: post {record['id']!r} is not a test post of {dataset}: name the run's data")
        post = {name: record[name] for name in ("id", "text", "tokens") if name in record}
        posts.append(rows[places[str(record["id"])]])
        answers.append(Extraction.from_dict({**post, **graph_of(record)}))
        gold.append(Extraction.from_dict({**post, **graph_of(record["gold"])}))
    page = Path(output_dir) / PAGE
    draw_posts(posts, answers, gold, page, f"{len(posts)} test posts of {Path(output_dir).name}")
    return page


def graph_of(record: dict) -> dict:
    """The entities and relations of a record."""
    return {name: record.get(name) or [] for name in ("entities", "relations")}


def main(arguments: list[str] | None = None) -> None:
    args = parser.parse_args(arguments)
    try:
        page = draw_run(args.output_dir, args.dataset, args.count, args.image_dir)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(f"drawn: {page}")
