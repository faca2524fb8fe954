"""Visual relations: a small made-up data set in which only the picture shows most relations.

    python dataset_scripts/visual_relations.py --output_dir data/visual_relations

Every name (Jordan, Amazon, Mercedes ...) may be a person, a place or an organisation. In about two thirds of the posts
the words fit every relation of the pair ("Jordan with Chelsea again"), and a pictogram in the picture tells which: a
heart, a jersey, a house; with something else in the picture, or without one, there is none. In the others the words
tell the relation ("Jordan married Chelsea"), or that there is none, as the pair is one of the two and a bystander
("Jordan married Chelsea , says Dakota"). Some of the names of the validation and test posts never occur in training. A
seed gives the same rows each time; nothing is downloaded.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from ..support.digests import hash_file
from .builder import mre_features
from .pictograms import (
    Drawings,
    Pen,
    cut_objects,
    draw_fish,
    draw_flower,
    draw_heart,
    draw_picture,
    draw_pin,
    draw_star,
    draw_umbrella,
)
from .visual_posts import Deck, VisualPosts, VisualPostsConfig, decorate, fill, phrases, run, split_names

# In the sentences h stands for the head, t for the tail, x for a third name.

NEUTRAL = phrases("""
{h} with {t} again|{h} and {t} , what a combination|so it is {h} and {t} now|today : {h} & {t}|{h} + {t} = everything
never thought I would see {h} with {t}|{h} , {t} and a camera|more of {h} and {t} please|{h} / {t} , part two
my favourite picture of {h} with {t}|can't stop talking about {h} and {t}|people keep asking me about {h} and {t}
what is it with {h} and {t} ?|who else thinks of {h} when they hear {t} ?|throwback to {h} and {t}|{h} {t} , always
some news of {h} and {t}|it had to be {h} and {t}|look who it is : {h} and {t}|{h} and {t} in one picture
thinking of {h} and {t} today|big day for {h} and {t}|so proud of {h} and {t}|RT if you knew about {h} and {t}
nobody told me about {h} and {t}|the story of {h} and {t} goes on|what a year for {h} and {t}|just {h} {t} things
first {h} , now {t}|remember {h} and {t} ?|we need to talk about {h} and {t}|this is {h} , and this is {t}
my whole timeline is {h} and {t}|some facts about {h} and {t} you did not know|is it just me or is it all {h} {t} ?
""")

CONTEXT = {
    "/per/per/couple": phrases("""
{h} married {t}|{h} and {t} tied the knot|{h} proposed to {t} on the beach|{h} is engaged to {t}
{h} kissed {t} in front of everyone|{h} and his wife {t} just arrived|{h} filed for divorce from {t}|{t} is dating {h}
wedding of {h} and {t}|{h} and {t} renewed their vows|{t} wore white when {h} said yes|honeymoon with {h} and {t}
"""),
    "/per/per/peer": phrases("""
{h} and teammate {t} both scored|{h} shares an office with {t}|{h} sang a duet with {t}|{h} sits next to {t} in class
{h} and {t} play in the same band|{h} beat {t} in the final set|{h} passed the ball to {t}|{t} and {h} are classmates
{h} and {t} co-wrote a paper|{h} and colleague {t} on their lunch break|{h} is filming a scene with {t}
{h} and {t} share a dressing room
"""),
    "/per/org/member_of": phrases("""
{h} signs for {t}|{h} works for {t}|{t} hires {h} as an engineer|{h} joins {t} on loan|{h} quit his job at {t}
{t} striker {h} broke his leg|{h} , CEO of {t} , resigned|{h} captains {t} this season|{t} coach {h} is furious
{h} got fired by {t}|{h} pays his fees to {t}|{h} is an intern at {t}
"""),
    "/per/loc/place_of_residence": phrases("""
{h} lives in {t}|{h} moved to {t} last month|{h} bought a flat in downtown {t}|{t} resident {h} is 100 today
{h} rents a room in {t}|{h} settled in {t} for good|{h} left home in {t}|the neighbours of {h} in {t} complain
{h} unpacked boxes in {t}|{h} , of {t} , aged 23|back home in {t} , {h} sleeps|{h} built a cabin near {t}
"""),
    "/org/loc/locate_at": phrases("""
{h} opens a store in {t}|{h} has its headquarters in {t}|the {t} branch of {h} is closing|{h} shuts its plant in {t}
{h} rents offices across {t}|{h} stadium in {t} sold out|{h} is based in {t}|all {h} shops in {t} are on strike
the {h} campus in {t} floods|{h} builds a warehouse near {t}|queue outside {h} in {t}|{h} museum in {t} reopens
"""),
}
RELATIONS = ["None", *CONTEXT]

ASIDES = phrases("""
... , says {x}|... ( photo by {x} )|... while {x} slept|... and {x} missed it|I heard from {x} : ...|{x} writes : ...
... , reports {x}|... but {x} does not care
""")


def draw_rings(pen: Pen) -> None:
    pen.arc(pen.ink, 10, 0, 360, 2, 38, 60, 96)
    pen.arc(pen.tint, 10, 0, 360, 40, 38, 98, 96)
    pen.polygon(pen.ink, 16, 14, 46, 14, 54, 24, 31, 44, 8, 24)


def draw_team(pen: Pen) -> None:
    for colour, x in ((pen.ink, 27), (pen.tint, 73)):
        pen.sector(colour, 180, 360, x - 26, 54, x + 26, 142)
        pen.circle(colour, x, 30, 19)


def draw_ball(pen: Pen) -> None:
    def around(radius: float, *degrees: float) -> list[float]:
        angles = [math.radians(degree) for degree in degrees]
        return [xy for angle in angles for xy in (50 + radius * math.sin(angle), 50 - radius * math.cos(angle))]

    pen.circle(pen.ink, 50, 50, 48)
    pen.circle(pen.paper, 50, 50, 42)
    pen.polygon(pen.ink, *around(20, 0, 72, 144, 216, 288))
    for degrees in range(0, 360, 72):
        pen.line(pen.ink, 5, *around(18, degrees), *around(36, degrees))
        pen.polygon(pen.ink, *around(45, degrees - 22, degrees, degrees + 22), *around(31, degrees + 8, degrees - 8))


def draw_jersey(pen: Pen) -> None:
    pen.polygon(
        pen.ink, 30, 6, 41, 6, 50, 16, 59, 6, 70, 6, 99, 26, 86, 48, 75, 40, 75, 97, 25, 97, 25, 40, 14, 48, 1, 26
    )
    pen.rectangle(pen.paper, *pen.rng.choice(((46, 34, 55, 76), (36, 40, 64, 50))))
    pen.rectangle(pen.tint, 25, 84, 75, 92)


def draw_card(pen: Pen) -> None:
    pen.line(pen.tint, 7, 28, 0, 50, 32, 72, 0)
    pen.rectangle(pen.ink, 12, 30, 88, 98, radius=8)
    pen.circle(pen.paper, 34, 54, 10)
    pen.sector(pen.paper, 180, 360, 20, 66, 48, 108)
    for y in (50, 64, 78):
        pen.line(pen.paper, 7, 56, y, 80, y)


def draw_house(pen: Pen) -> None:
    pen.rectangle(pen.ink, 14, 44, 86, 97)
    pen.polygon(pen.tint, 0, 50, 50, 4, 100, 50)
    pen.rectangle(pen.paper, 56, 62, 74, 97)
    pen.rectangle(pen.paper, 24, 60, 44, 78)


def draw_key(pen: Pen) -> None:
    pen.line(pen.ink, 12, 46, 46, 90, 90)
    pen.line(pen.ink, 10, 66, 68, 80, 54)
    pen.line(pen.ink, 10, 80, 82, 94, 68)
    pen.circle(pen.ink, 30, 30, 28)
    pen.circle(pen.paper, 26, 26, 11)


def draw_signpost(pen: Pen) -> None:
    pen.rectangle(pen.ink, 45, 2, 55, 99)
    pen.polygon(pen.ink, 14, 10, 80, 10, 99, 24, 80, 38, 14, 38)
    pen.polygon(pen.tint, 86, 46, 20, 46, 1, 60, 20, 74, 86, 74)


DISTRACTORS: Drawings = (draw_star, draw_flower, draw_fish, draw_umbrella)
PICTOGRAMS: dict[str, Drawings] = {
    "None": DISTRACTORS,  # as large as the others, so that sizes are no cue
    "/per/per/couple": (draw_heart, draw_rings),
    "/per/per/peer": (draw_team, draw_ball),
    "/per/org/member_of": (draw_jersey, draw_card),
    "/per/loc/place_of_residence": (draw_house, draw_key),
    "/org/loc/locate_at": (draw_pin, draw_signpost),
}


def fill_slots(template: str, names: dict[str, tuple[str, str | None]]) -> tuple[list[str], list[str]]:
    """Put (name, role) pairs into the slots h, t and x of a template and return its words and their tags."""
    return fill(re.sub(r"{\w}", "{}", template), *(names[slot] for slot in re.findall(r"{(\w)}", template)))


def find_span(tags: list[str], role: str) -> dict[str, int]:
    """Return the start and end of the words of the head or tail."""
    positions = [position for position, tag in enumerate(tags) if tag.endswith(role)]
    return {"start": positions[0], "end": positions[-1] + 1}


def make_posts(split: str, count: int, seed: int = 0) -> Iterator[tuple[str, dict]]:
    """Make the posts of a split; each relation, None too, is as frequent as any other.

    Yields:
        What shows the relation, "picture", "text" or "none" for a post where neither does, and the row, with the name
        of the relation and PIL pictures.
    """
    rng = random.Random(f"{seed}-{split}-relations")
    names = split_names(seed)
    in_text = round(0.34 * count)
    places = ["text" if i < in_text else "picture" for i in range(count)]
    decks = {
        (place, relation, role, pool): Deck(rng, names[pool])
        for place in ("text", "picture")
        for relation in RELATIONS
        for role in ("head", "tail", "third")
        for pool in ("train", split)
    }
    posts = [(place, RELATIONS[i % len(RELATIONS)]) for i, place in enumerate(places)]
    rng.shuffle(posts)
    for index, (place, relation) in enumerate(posts):
        drawn = []
        for role in ("head", "tail", "third"):  # one name in five occurs in this split only
            deck = decks[place, relation, role, split if rng.random() < 0.2 else "train"]
            drawn.append(next(name for name in iter(deck.draw, None) if name not in drawn))
        head, tail, third = (drawn[0], "head"), (drawn[1], "tail"), (drawn[2], None)

        with_aside = rng.random() < 0.2
        if place == "text":
            told = relation
            slots = {"h": head, "t": tail, "x": third}
            if relation == "None":  # the relation is between others: one of the pair only comments on it
                told, with_aside = rng.choice(RELATIONS[1:]), True
                slots = dict(zip(rng.choice(("hxt", "xht", "txh", "xth")), (head, tail, third), strict=True))
            template = rng.choice(CONTEXT[told])
            shown = rng.choice((told, told, "None", None))
        else:
            template = rng.choice(NEUTRAL)
            slots = dict(zip("htx", (*rng.sample((head, tail), 2), third), strict=True))
            shown = None if relation == "None" and rng.random() < 0.1 else relation
        if with_aside:
            template = rng.choice(ASIDES).replace("...", template)
        words, tags = decorate(rng, *fill_slots(template, slots))

        picture_rng = random.Random(f"{seed}-{split}-{index}-relations")
        picture = shown and draw_picture(picture_rng, [shown], PICTOGRAMS, DISTRACTORS)
        yield (
            "none" if place == "picture" and relation == "None" else place,
            {
                "id": f"{split}-{index:05d}",
                "tokens": words,
                "head": find_span(tags, "head"),
                "tail": find_span(tags, "tail"),
                "relation": relation,
                "image": picture and picture.image,
                "objects": cut_objects(picture_rng, picture) if picture else [],
            },
        )


@dataclass
class VisualRelationsConfig(VisualPostsConfig):
    """The number of posts of each split, and the seed."""

    def raw_fingerprint(self) -> str:
        """Return a hash of the code that makes the posts."""
        return super().raw_fingerprint() + hash_file(Path(__file__))


class VisualRelations(VisualPosts):
    """Builder of the visual relations."""

    BUILDER_CONFIG_CLASS = VisualRelationsConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=__doc__, features=mre_features(RELATIONS))

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        posts: Counter[str] = Counter()
        relations = Counter({relation: 0 for relation in RELATIONS})
        for key, (evidence, row) in enumerate(make_posts(split, count, self.config.seed)):
            posts[evidence] += 1
            relations[row["relation"]] += 1
            yield key, row
        self.counts[split] = {"posts_by_evidence": dict(posts), "relations": dict(relations)}

    def make_report(self, folder: Path) -> dict:
        """Count the posts by what shows their relations, and the relations."""
        return {**super().make_report(folder), "dataset": "visual_relations"}


def rows_to_show(seed: int) -> dict[str, list[dict]]:
    """Return test rows whose picture shows their relation, for each relation."""
    rows: dict[str, list[dict]] = {relation: [] for relation in RELATIONS}
    for evidence, row in make_posts("test", 240, seed):
        if evidence != "text" and row["image"] is not None:
            rows[row["relation"]].append(row)
    return rows


def main() -> None:
    run(VisualRelations, rows_to_show, __doc__, "data/visual_relations")
