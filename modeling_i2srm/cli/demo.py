"""Answer the made-up posts that come with the package: triples beside those of people, and a page.

    i2srm demo
    i2srm demo --model runs/quickstart -o posts.html

The model that comes with the package knows these made-up posts and nothing else. In a clone `make demo` opens a page to
try other posts.
"""

import argparse
from typing import cast

from ..inference.answers import Extraction
from ..inference.example import example_model, example_posts
from ..inference.extraction import Extractor
from ..inference.html import draw_posts
from ..support.options import OptionParser

parser = OptionParser("demo.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", help="another joint model, folder or Hub id")
parser.add_argument("-o", "--output", default="demo.html", help="the page to draw (default %(default)s)")


def main(arguments: list[str] | None = None) -> None:
    args = parser.parse_args(arguments)
    try:
        posts = example_posts()
        extractor = Extractor.from_pretrained(args.model or example_model())
        answers = cast(list[Extraction], extractor([unlabelled(post) for post in posts]))
        gold = [Extraction.from_dict({**post, "objects": None}) for post in posts]
        for post, answer, right in zip(posts, answers, gold, strict=True):
            print(f"{' '.join(post['tokens'])}\n  model:  {triples(answer)}\n  people: {triples(right)}")
        draw_posts(posts, answers, gold, args.output, "Made-up posts")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(f"drawn: {args.output}")
    if args.model is None:
        print("This model knows made-up posts like these and nothing else. Your own: i2srm prepare posts --help")


def unlabelled(post: dict) -> dict:
    """A post without its answer."""
    return {name: value for name, value in post.items() if name not in ("entities", "relations")}


def triples(answer: Extraction) -> str:
    """The relations of an answer, in words."""
    return "; ".join(" | ".join(triple[:3]) for triple in answer.to_triples()) or "no relation"
