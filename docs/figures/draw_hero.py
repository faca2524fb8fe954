"""Draw docs/figures/hero.png: a post of the package, and what its model answers. Run it with `make figures`.

The answer is that of `example_model()` to one of `example_posts()`; needs playwright and Chromium.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from photograph import photograph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from modeling_i2srm.inference import html  # noqa: E402
from modeling_i2srm.inference.changes import find_changes  # noqa: E402
from modeling_i2srm.inference.example import example_model, example_posts  # noqa: E402
from modeling_i2srm.inference.explanation import explain  # noqa: E402
from modeling_i2srm.inference.extraction import Extractor  # noqa: E402
from modeling_i2srm.inference.graph_drawing import draw_graph  # noqa: E402
from modeling_i2srm.support.html_page import write_page  # noqa: E402

POST = "test-00014"  # two objects of its picture carry the answer
STYLE = """
body { max-width: none; padding: 0; }
main { display: grid; grid-template-columns: 21rem 1fr; gap: 0 1.8rem; padding: 1rem; align-items: center; }
.card { border: 2px solid #d5dbe1; border-radius: 1.2rem; padding: .8rem 1.1rem 1.1rem; grid-row: span 2; }
.author { display: flex; gap: .7rem; align-items: center; font-size: 1.2rem; color: #595959; }
.author b { color: #1a1a1a; display: block; line-height: 1.2; }
.avatar { width: 3rem; height: 3rem; border-radius: 50%; background: #56b4e9; }
.card .post { font-size: 1.4rem; line-height: 1.6; margin: .5rem 0; }
.card .label { font-size: .75em; }
.card .boxed { width: 100% !important; border-radius: .8rem; overflow: hidden; }
.card .box { border-width: 4px; } .card .box span { font-size: 1.35rem; }
.card figure { width: 100% !important; } figcaption, figure > div:not(.boxed) { display: none; }
h2 { font-size: 1.3rem; margin: .8rem 0 0; color: #595959; font-weight: normal; }
.graph { max-width: none; margin: .8rem 0; } .graph text { font-size: 17px; }
.changes { font-size: 1.45rem; margin: 0; } .changes li { margin: .6rem 0; line-height: 1.6; }
"""


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("hero.png"))
    args = parser.parse_args(arguments)
    post = next(post for post in example_posts() if post["id"] == POST)
    post = {name: post[name] for name in ("tokens", "image", "objects")}
    answer = explain(Extractor.from_pretrained(example_model()), post)
    found = answer.extraction
    colours = html.colours_of(found.entities)
    pictures = html.shown_pictures(found, post["image"], post["objects"])
    body = [
        '<div class="card"><div class="author"><div class="avatar"></div>',
        "<div><b>A made-up post</b>@someone</div></div>",
        html.post_paragraph(found, colours),
        html.figure(pictures[0], found, html.find_boxes(found, pictures)),
        "</div><div><h2>The graph of the post</h2>",
        draw_graph(found, colours, html.crops_of(pictures)),
        "</div><div><h2>What the picture changes</h2>",
        html.change_list(find_changes(answer)),
        "</div>",
    ]
    with tempfile.TemporaryDirectory() as folder:
        (page := Path(folder, "hero.html")).write_bytes(write_page("A post and its graph", html.STYLE + STYLE, body))
        photograph(page, args.output, width=960, scale=1.5)


if __name__ == "__main__":
    main()
