"""Posts as HTML pages: what is on them, whatever the text of the post is."""

import base64
import io
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modeling_i2srm.inference import html as post_drawing
from modeling_i2srm.inference.answers import Entity, Extraction, FoundObject, Region, Relation
from modeling_i2srm.inference.changes import find_changes
from modeling_i2srm.inference.explanation import (
    EntityExplanation,
    Explanation,
    RelationExplanation,
    RelationWithout,
    Without,
)
from modeling_i2srm.inference.graph_drawing import RADIUS, find_box, place_nodes
from modeling_i2srm.inference.html import COLOURS, OTHER_COLOURS, cut_text, draw_post, draw_posts
from modeling_i2srm.pictures import PictureError
from modeling_i2srm.support.html_page import GREY, INK, PAPER

EVIL = "<script>alert(\"x\")</script> & <img src=x onerror=alert(1)> 'Kobe' in New York City </p></body>"
VOID = {"meta", "img"}
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 900, 3), dtype=np.uint8))
CROP = NOISE.crop((0, 0, 50, 100))


def entity(text: str, word: str, kind: str, score: float = 0.5) -> Entity:
    start = text.index(word)
    return Entity(kind, score, word, start, start + len(word))


def explained(text: str, entities: list[Entity], pictures=("image", "objects[0]"), relations=()) -> Explanation:
    """An explanation in which each picture gets a tenth more than the one before."""
    shares = {name: [0.1 + 0.1 * n, 0.2 + 0.1 * n] for n, name in enumerate(pictures)}
    attention = {"text": [1 - sum(s[layer] for s in shares.values()) for layer in (0, 1)]} | shares
    said = [Without("image", "MISC", 0.25, False, {"MISC": 0.25}, []), Without("all", "PER", 0.75, True, {}, [])]
    why = RelationExplanation([RelationWithout("image", "None", 0.625, 0.375)])
    return Explanation(
        Extraction(text, entities, list(relations), id="post <7>"),
        list(pictures),
        [EntityExplanation(attention, said) for _ in entities],
        [why for _ in relations],
    )


class Reader(HTMLParser):
    """Collects elements, checks that they are closed in order, and the texts of labels and of the rest of the post."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.labels, self.post = [], [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes).get("class")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.texts.append(data)
        if ("p", "post") in self.open:
            if ("bdi", "label") in self.open:
                self.labels.append(data)
            else:
                self.post += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page_of(tmp_path, found, image=None, crops=None) -> Reader:
    draw_post(found, image, crops, tmp_path / "post.html")
    return Reader((tmp_path / "post.html").read_text(encoding="utf-8"))


ALTS = ["picture of the post, with boxes around its crops", "crop 1 of the post"]
EVIL_ENTITIES = [entity(EVIL, "'Kobe'", "PER", 0.98), entity(EVIL, "New York City", "LOC", 0.875)]


ATTACKS = [
    "<script>alert(1)</script>",
    "</p></body><script src=//evil.example/x.js></script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onfocus='alert(1)' autofocus '",
    "--><svg/onload=alert(1)>",
    "]]><iframe srcdoc='&lt;script&gt;'>",
    "&lt;b&gt; &amp;#60;script&#62;",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
]
KEPT = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "bdi", "mark", "div", "figure"}
KEPT |= {"img", "figcaption", "span", "ul", "li", "strong", "table", "tr", "th", "td", "details", "summary"}
KEPT |= {"svg", "path", "circle", "text", "image"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_page_shows_is_read_as_html(tmp_path, attack):
    """Texts, types, relations, ids, and messages with names of files, each wherever it stands."""
    text = f"{attack} and Kobe {attack}"
    found = explained(
        text, [entity(text, attack, attack), entity(text, "Kobe", attack)], relations=[Relation(0, 1, attack, 0.5)]
    )
    said = [Without("image", attack, 0.25, True, {attack: 0.25}, [])]
    for why in found.entities:
        why.without[:] = said
    found.relations[0].without[:] = [RelationWithout("image", attack, 0.6, 0.3)]
    found.extraction.id = attack
    found.extraction.image_errors = {"objects[0]": f"cannot load picture '{attack}.jpg': no such file"}
    page = page_of(tmp_path, found, NOISE, [CROP])
    assert {tag for tag, _ in page.elements} <= KEPT and page.post == text
    kept = {"lang", "charset", "name", "content", "http-equiv", "class", "style", "src", "alt", "dir", "scope"}
    kept |= {"role", "aria-label", "aria-hidden", "viewbox", "d", "cx", "cy", "r", "x", "y"}
    assert {name for _, attributes in page.elements for name in attributes} <= kept
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    shown = "".join(page.texts)
    assert f"'{attack}.jpg'" in shown and f"Post {attack}" in shown and shown.count(attack) > 10


def test_a_page_has_the_post_its_entities_pictures_and_reasons(tmp_path):
    found = explained(EVIL, EVIL_ENTITIES, relations=[Relation(0, 1, "/per/loc/<b>born</b>", 0.8)])
    page = page_of(tmp_path, found, NOISE, [CROP])
    assert page.post == EVIL
    assert page.labels == ["PER 0.98", "LOC 0.88"]
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "b", "link", "iframe", "object", "a"})
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert [attributes.get("alt") for attributes in page.all("img")] == ALTS
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    for line in (
        "post <7>",
        "without the picture: PER 0.98 -> no entity (MISC 0.25)",
        "without any picture: LOC 0.88 -> PER 0.75",
        "/per/loc/<b>born</b> 0.80",
        "without the picture: /per/loc/<b>born</b> 0.80 -> None 0.62 (/per/loc/<b>born</b> 0.38)",
        "attention: text 60 %, picture 15 %, crop 1 25 %",
    ):
        assert line in page.text, line
    bars = [div["style"] for div in page.all("div") if div.get("style", "").startswith("width")]
    assert bars == ["width:15.0%"] * 2 + ["width:25.0%"] * 2
    assert len(page.all("table")) == 2 and "70.0 %" in page.text and "50.0 %" in page.text  # the text, layers 1 and 2


def test_embedded_pictures_are_small_jpegs(tmp_path):
    found = explained("Kobe", [Entity("PER", 0.9, "Kobe", 0, 4)])
    page = page_of(tmp_path, found, NOISE, [CROP])
    pictures = []
    for image in page.all("img"):
        kind, data = image["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        pictures.append(Image.open(io.BytesIO(base64.b64decode(data))))
    assert [picture.size for picture in pictures] == [(640, 213), (50, 100)]
    assert {picture.format for picture in pictures} == {"JPEG"}
    difference = np.asarray(pictures[1].convert("L"), int) - np.asarray(CROP.convert("L"), int)
    assert np.abs(difference).mean() < 12


def test_crops_that_were_found_have_boxes(tmp_path):
    found = explained("Kobe", [Entity("PER", 0.9, "Kobe", 0, 4)])
    # CROP was cut out of NOISE, the other picture was not.
    grey = Image.new("RGB", (30, 40), "grey")
    (box,) = boxes_of(page_of(tmp_path, found, NOISE, [grey, CROP]))
    assert box.startswith("left:0.00%;top:0.00%;width:5.56%;height:33.33%")
    found.extraction.objects.append(FoundObject((90, 30, 450, 300), 0.9, EVIL))
    page = page_of(tmp_path, found, NOISE, [CROP])
    (box,) = boxes_of(page)
    assert box.startswith("left:10.00%;top:10.00%;width:40.00%;height:90.00%")
    found.extraction.objects.insert(0, "crop.png")
    assert [box[:10] for box in boxes_of(page_of(tmp_path, found, NOISE, [CROP, CROP]))] == ["left:0.00%", "left:10.00"]
    assert [image["alt"] for image in page.all("img")] == ALTS


def test_boxes_are_drawn_where_they_are_in_the_full_size(monkeypatch):
    file = io.BytesIO()
    NOISE.save(file, "JPEG")
    smaller = partial(post_drawing.load_picture, max_pixels=NOISE.width * NOISE.height - 1)
    monkeypatch.setattr(post_drawing, "load_picture", smaller)
    found = Extraction("Kobe", [], [], objects=[FoundObject((90, 30, 450, 300), 0.9, "dog")])
    shown = post_drawing.shown_pictures(found, file, None)
    assert shown[0].picture.width * 2 == NOISE.width and post_drawing.find_boxes(found, shown) == [(45, 15, 225, 150)]


def boxes_of(page: Reader) -> list[str]:
    return [span["style"] for span in page.all("span") if span.get("class") == "box"]


def test_a_crop_is_found_where_it_was_cut_out_also_after_jpeg():
    file = io.BytesIO()
    picture = NOISE.resize((150, 50)).resize((450, 150))
    picture.crop((200, 40, 290, 100)).save(file, "JPEG", quality=90)
    assert find_box(Image.open(file), picture) == (200, 40, 290, 100)
    assert find_box(picture.crop((200, 40, 290, 100)).resize((60, 40)), picture) is None
    assert find_box(NOISE, picture) is None  # larger


def test_the_graph_and_what_pictures_change_are_on_the_page(tmp_path):
    found = explained(
        TEXT, [entity(TEXT, "Kobe", "PER"), entity(TEXT, "Paris", "LOC")], relations=[Relation(1, 0, "/a/b/is_in", 1)]
    )
    found.entities[0].without[:] = [
        Without("image", "PER", 0.9, True, {}, []),
        Without("objects[0]", "ORG", 0.9, True, {}, []),
        Without("all", "MISC", 0.9, True, {}, []),
    ]
    found.entities[1] = replace(found.entities[1], without=[Without("image", "LOC", 0.9, True, {}, [])])
    found.relations[0].without[:] = [RelationWithout(name, "None", 0.9, 0.1) for name in ("image", "objects[0]", "all")]
    assert [change.describe() for change in find_changes(found)] == [
        "Kobe: MISC -> PER because of crop 1",
        "Paris → Kobe: no relation -> /a/b/is_in because of the picture and crop 1",
    ]
    page = page_of(tmp_path, found, NOISE, [CROP])
    assert "Kobe : MISC → PER because of crop 1" in page.text
    (graph,) = page.all("svg")
    assert graph["aria-label"] == "Graph of the post: Kobe is PER; Paris is LOC; Paris /a/b/is_in Kobe."
    places = {name: circle["cx"] for name, circle in zip(("Kobe", "Paris"), page.all("circle"), strict=True)}
    assert int(places["Paris"]) < int(places["Kobe"]) and "is in" in page.texts  # the arrow points to the right
    found.entities[0].without[:] = [Without("image", "PER", 0.9, True, {}, [])]
    found.relations[0].without[:] = [RelationWithout("image", "/a/b/is_in", 0.9, 0.9)]
    assert "the same" in page_of(tmp_path, found, NOISE, [CROP]).text


def test_what_only_the_text_alone_gives_is_a_change():
    found = explained(TEXT, [entity(TEXT, "Kobe", "PER"), entity(TEXT, "Paris", "LOC")])
    for why in found.entities:
        why.without[:] = []
    alone = Extraction(
        TEXT, [*found.extraction.entities, entity(TEXT, "Jordan", "PER")], [Relation(0, 1, "visits", 0.5)]
    )
    assert [change.describe() for change in find_changes(found, alone)] == [
        "Jordan: PER -> no entity because of the pictures",
        "Kobe → Paris: visits -> no relation because of the pictures",
    ]


@pytest.mark.parametrize("count", range(1, 13))
def test_nodes_of_a_graph_do_not_overlap(count):
    places, width, height = place_nodes(count)
    assert all(RADIUS <= x <= width - RADIUS and RADIUS <= y <= height - RADIUS for x, y in places)
    gaps = [np.hypot(x - to_x, y - to_y) for n, (x, y) in enumerate(places) for to_x, to_y in places[:n]]
    assert min(gaps, default=100) > 2 * RADIUS


def test_pictures_are_taken_as_the_pipelines_take_them(tmp_path):
    CROP.save(tmp_path / "crop.png")
    found = explained("Kobe", [Entity("PER", 0.9, "Kobe", 0, 4)], pictures=("objects[1]",))
    page = page_of(tmp_path, found, None, [None, tmp_path / "crop.png"])
    assert [image["alt"] for image in page.all("img")] == ["crop 2 of the post"]
    assert "not available" in page_of(tmp_path, found).text
    # A crop that the model did not see has no bars.
    page = page_of(tmp_path, found, None, [CROP, CROP])
    assert len(page.all("img")) == 2
    assert len([div for div in page.all("div") if "width" in div.get("style", "")]) == 1


def test_crops_that_are_boxes_are_cut_out_of_the_image(tmp_path):
    found = explained("Kobe", [Entity("PER", 0.9, "Kobe", 0, 4)])
    crops = [{"box": [90, 30, 450, 300], "score": 0.9, "label": "dog"}, {"path": None, "box": None}]
    by_box, by_picture = (page_of(tmp_path, found, NOISE, one) for one in (crops, [NOISE.crop((90, 30, 450, 300))]))
    assert by_box.all("img") == by_picture.all("img") and len(by_box.all("img")) == 2
    with pytest.raises(PictureError, match="in the image of the post, which has none"):
        page_of(tmp_path, found, None, crops)


def test_an_extraction_alone_is_drawn_too(tmp_path):
    found = Extraction(EVIL, EVIL_ENTITIES, [Relation(1, 0, "/loc/per/x", 0.8)], None, {"image": "no <file>"}, 3)
    text = page_of(tmp_path, found, None, [CROP]).text
    for words in ("/loc/per/x 0.80", "the picture could not be read: no <file>", "too far apart", "crop 1", "PER 0.98"):
        assert words in text, words
    assert "without" not in text and "attention" not in text
    assert page_of(tmp_path, Extraction("", [], [])).post == ""


NESTED = "in New York City Hall today"
SPANS = {
    "nested": [(3, 16, "LOC"), (3, 21, "ORG")],
    "overlapping": [(3, 11, "LOC"), (7, 16, "ORG")],
    "the same words": [(3, 11, "LOC"), (3, 11, "ORG")],
    "touching": [(3, 6, "LOC"), (6, 11, "ORG")],
    "three deep": [(0, 27, "MISC"), (3, 21, "ORG"), (3, 11, "LOC")],
}


@pytest.mark.parametrize("spans", SPANS.values(), ids=SPANS)
def test_entities_may_nest_and_overlap(tmp_path, spans):
    entities = [Entity(kind, 0.5, NESTED[start:end], start, end) for start, end, kind in spans]
    page = page_of(tmp_path, explained(NESTED, entities))
    assert page.post == NESTED
    assert sorted(page.labels) == sorted(f"{kind} 0.50" for *_, kind in spans)
    colours = {mark["style"] for mark in page.all("mark")}
    assert colours == {f"background:{COLOURS[kind]}" for *_, kind in spans}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), text=st.text(st.characters(), max_size=40))
def test_any_text_is_on_the_page_as_it_is(tmp_path_factory, data, text):
    cut = st.integers(0, len(text))
    spans = data.draw(st.lists(st.tuples(cut, cut).filter(lambda span: span[0] < span[1]), max_size=4))
    entities = [Entity("<&>", 0.5, text[start:end], start, end) for start, end in spans]
    page = page_of(tmp_path_factory.getbasetemp(), explained(text, entities))
    expected = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "\ufffd", text)
    expected = re.sub(r"[\ud800-\udfff]", "?", expected)
    assert page.post == expected
    assert len(page.labels) == len(entities)
    pieces = cut_text(text, entities)
    assert "".join(piece.text for piece in pieces) == text
    for n, (start, end) in enumerate(spans):
        assert "".join(piece.text for piece in pieces if n in piece.entities) == text[start:end]
        assert sum(n in piece.ending for piece in pieces) == 1


def luminance(colour: str) -> np.ndarray:
    """Linear red, green and blue."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """As WCAG defines it."""
    dark, light = sorted(float(luminance(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05 for colour in (a, b))
    return light / dark


def test_texts_can_be_read_on_their_colours():
    assert all(contrast(INK, colour) >= 7 for colour in (*COLOURS.values(), *OTHER_COLOURS, PAPER))
    assert contrast(GREY, PAPER) >= 7


# Machado, Oliveira and Fernandes (2009), full loss of one kind of cones.
SIGHTS = {
    "normal": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("sight", SIGHTS.values(), ids=SIGHTS)
def test_the_colours_of_types_can_be_told_apart(sight):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

    def lab(colour: str) -> np.ndarray:
        x, y, z = np.cbrt(to_xyz @ np.clip(np.array(sight) @ luminance(colour), 0.01, 1) / [0.9505, 1, 1.089])
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    colours = [lab(colour) for colour in COLOURS.values()]
    assert min(np.linalg.norm(a - b) for n, a in enumerate(colours) for b in colours[:n]) > 15  # 2 is just visible


def test_other_types_have_colours_of_their_own():
    entities = [Entity(kind, 0.5, "x", 0, 1) for kind in ("weapon", "PER", "virus", "weapon")]
    colours = post_drawing.colours_of(entities)
    assert colours[0] == colours[3] and len({*colours, *COLOURS.values()}) == 6


@pytest.mark.parametrize(
    ("found", "image", "path", "message"),
    [
        (Extraction("Kobe", [], []), None, "post.png", "'post.png' does not end in .html, e.g. path='post.html'"),
        (Extraction("Kobe", [], []), "none.jpg", "post.html", "cannot load picture 'none.jpg'"),
        ([], None, "post.html", "list is neither an Extraction nor an Explanation; e.g. draw_post"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, found, image, path, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        draw_post(found, image, None, path)
    assert list(tmp_path.iterdir()) == []


# Regions, and many posts on a page


def pointed(words: dict[str, tuple[str, int | None]], relations=(), name: str | None = None) -> Extraction:
    """An extraction from TEXT whose entities are shown by crops, or by none."""
    regions = {word: None if place is None else Region(place, None, 0.75) for word, (_, place) in words.items()}
    entities = [replace(entity(TEXT, word, kind), region=regions[word]) for word, (kind, _) in words.items()]
    return Extraction(TEXT, entities, list(relations), id=name, grounded=True)


TEXT = "Kobe lands in Paris with Jordan"
FOUND = pointed({"Kobe": ("PER", 1), "Paris": ("LOC", None)}, [Relation(0, 1, "visits", 0.5)], "a")


def figures_of(path) -> list[str]:
    return re.findall(r"<figure.*?</figure>", path.read_text(encoding="utf-8"))


def test_crops_are_marked_with_the_entities_that_they_show(tmp_path):
    page = page_of(tmp_path, FOUND, NOISE, [CROP, CROP])
    marks = [re.findall(r"<mark.*?<bdi>(\w+)</bdi>", one) for one in figures_of(tmp_path / "post.html")]
    assert marks == [[], [], ["Kobe"]] and "crop 2 0.75" in page.text
    page_of(tmp_path, replace(FOUND, entities=[replace(one, region=None) for one in FOUND.entities]), NOISE, [CROP])
    assert not any("<mark" in one for one in figures_of(tmp_path / "post.html"))


def test_posts_are_drawn_with_gold_beside_and_differences_bold(tmp_path):
    gold = pointed({"Kobe": ("PER", 0), "Paris": ("LOC", None)}, [Relation(0, 1, "visits", 1.0)])
    less = pointed({"Jordan": ("LOC", None), "Kobe": ("PER", 1), "Paris": ("LOC", None)}, [Relation(1, 0, "met", 1.0)])
    posts = [{"image": NOISE, "objects": [CROP, CROP]}, {"image": None, "objects": None, "tokens": ["x"]}]
    draw_posts(posts, [FOUND, replace(FOUND, id="b")], [gold, less], tmp_path / "posts.html", "Two <posts>")
    text = (tmp_path / "posts.html").read_text(encoding="utf-8")
    page = Reader(text)
    assert "Two <posts>" in page.texts and page.text.count("Post a") == page.text.count("Post b") == 1
    assert len(figures_of(tmp_path / "posts.html")) == 3 and page.post == TEXT * 4
    bold = []
    for items in re.findall(r"<ul>(.*?)</ul>", text):
        lines = re.findall(r"<li>(.*?)</li>", items)
        bold.append([re.sub("<.*?>", "", line) for line in lines if line.startswith("<strong>")])
    assert bold == [
        ["KobePER 0.50 crop 2"],  # the gold region is another one
        ["KobePER 0.50 crop 1"],
        ["KobePER 0.50 visits 0.50 → ParisLOC 0.50"],
        ["JordanLOC 0.50 no object", "KobePER 0.50 met 1.00 → JordanLOC 0.50"],
    ]


@pytest.mark.parametrize(
    ("gold", "path", "message"), [([], "a.html", "1 posts, 1 answers and 0"), ([FOUND], "a", "html")]
)
def test_bad_input_of_many_posts(tmp_path, gold, path, message):
    with pytest.raises(ValueError, match=f"{message}.* e.g. "):
        draw_posts([{}], [FOUND], gold, tmp_path / path)
