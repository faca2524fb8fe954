"""What the visual posts may say and show, with the probability of each.

A [`Scene`] is a post without its words and drawings: the types of its entities, whether the words tell them, the
relations, and the kinds of pictograms. [`list_scenes`] lists all of them. Where the words leave something open, they
and the pictograms decide it together: of the scenes whose words and pictograms are the same only those are kept that
agree on the types and relations.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import TypeVar

from .pictograms import STICKERS
from .visual_words import CHATTER, COMMON, CONTEXT, CONTEXT_TAILS, LETTERS, NEUTRAL, STORIES, Story

T = TypeVar("T")
TYPES = ["PER", "LOC", "ORG", "MISC"]
RELATIONS = [
    "None",
    "/per/per/couple",
    "/per/per/peer",
    "/per/org/member_of",
    "/per/loc/place_of_residence",
    "/per/misc/present_in",
    "/org/loc/locate_at",
]
RELATION_TYPES = {label: tuple(label.upper().split("/")[1:3]) for label in RELATIONS[1:]}

# The probability of each kind of post
POSTS = (
    ("no entity", 0.05),
    ("type in the words", 0.04),
    ("relation in the words", 0.11),
    ("story in the words", 0.04),
    ("one name", 0.06),
    ("two names", 0.40),
    ("three names", 0.30),
)
SECOND_CLAUSE = {"none": 0.80, "tail": 0.10, "relation": 0.10}  # of posts with one or two names
PICTURES_OF_STORIES = {"relation": 0.40, "none": 0.25, "absent": 0.35}  # what the picture of a told relation shows

# Of neutral sentences with one, two and three names: how many the words leave open, what they tell of the others, how
# many relations there are, and how many types have their pictogram, each with its share
NAMES_OPEN = {1: {1: 1.0}, 2: {0: 0.05, 1: 0.70, 2: 0.25}, 3: {0: 0.04, 1: 0.50, 2: 0.43, 3: 0.03}}
TOLD_TYPES = {"none": 1.0, "a person": 4.0, "others": 1.5}
RELATIONS_OF_NEUTRAL = {1: {0: 1.0}, 2: {0: 0.1, 1: 0.9}, 3: {0: 0.05, 1: 0.1, 2: 0.50, 3: 0.35}}
TYPES_SHOWN = {0: 1.0, 1: 3.0, 2: 1.5, 3: 1.0}
LIKELIEST = 0.28  # how likely neutral words make a relation at most
Triple = tuple[int, str, int]  # head, relation, tail: positions of entities in the order of the words
TypedTriple = tuple[int, str, str, int, str]  # head and its type, relation, tail and its type


@dataclass(frozen=True)
class Clause:
    """A part of a post.

    Args:
        sentences: The words, with a slot for each name; one is drawn.
        types: The types of the names, in order.
        open: Whether the words leave the type of the name open, for each.
        triples: The relations of its names.
        told: Whether the words tell types and relations.
        tail: Whether it ends the clause before it.
    """

    sentences: tuple[str, ...]
    types: tuple[str, ...] = ()
    open: tuple[bool, ...] = ()
    triples: frozenset[Triple] = frozenset()
    told: bool = True
    tail: bool = False

    @property
    def words(self) -> Hashable:
        """What the words tell: the sentences, by the first of them, and each type, or None where it is open."""
        return self.sentences[0], tuple(None if o else type for o, type in zip(self.open, self.types, strict=True))


@dataclass(frozen=True)
class Scene:
    """The clauses of a post, in order, and the kinds of pictograms in its picture; None if it has no picture."""

    clauses: tuple[Clause, ...]
    kinds: frozenset[str] | None

    @functools.cached_property
    def types(self) -> tuple[str, ...]:
        """The types of all entities."""
        return tuple(type for clause in self.clauses for type in clause.types)

    @functools.cached_property
    def triples(self) -> frozenset[Triple]:
        """All relations."""
        triples, before = [], 0
        for clause in self.clauses:
            triples += [(before + head, label, before + tail) for head, label, tail in clause.triples]
            before += len(clause.types)
        return frozenset(triples)

    @functools.cached_property
    def words(self) -> Hashable:
        """What the words tell."""
        return tuple(clause.words for clause in self.clauses)


def typed_triples(scene: Scene) -> list[TypedTriple]:
    """Return the relations of a scene with the types of head and tail."""
    return [(head, scene.types[head], label, tail, scene.types[tail]) for head, label, tail in scene.triples]


Levels = Sequence[tuple[Callable[[Scene], Hashable], Mapping | None]]


def find_pairs(label: str, types: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the pairs that a relation fits; of two entities of one type the first in the text is the head."""
    head_type, tail_type = RELATION_TYPES[label]
    return [
        (head, tail)
        for head, tail in permutations(range(len(types)), 2)
        if (types[head], types[tail]) == (head_type, tail_type) and (head_type != tail_type or head < tail)
    ]


def subsets(items: list[str], most: int) -> Iterator[frozenset[str]]:
    """Yield all subsets of so many items at most."""
    for size in range(min(most, len(items)) + 1):
        yield from map(frozenset, combinations(items, size))


def told_types(clause: Clause) -> str:
    """Say whether the words tell the type of a person, of others, or of none."""
    told = [type for type, open in zip(clause.types, clause.open, strict=True) if not open]
    return "none" if not told else "a person" if "PER" in told else "others"


def spread(
    items: list[T], levels: Sequence[tuple[Callable[[T], Hashable], Mapping | None]], total: float = 1.0
) -> Iterator[tuple[T, float]]:
    """Divide a probability among items, level by level.

    Args:
        items: What is drawn.
        levels: For each level a function of an item, and the shares of its values; without shares, equal ones.
        total: The probability of all.
    """
    if not levels:
        yield from ((item, total / len(items)) for item in items)
        return
    (value_of, shares), groups = levels[0], defaultdict(list)
    for item in items:
        groups[value_of(item)].append(item)
    parts = {value: 1.0 if shares is None else shares[value] for value in groups}
    for value, group in groups.items():
        yield from spread(group, levels[1:], total * parts[value] / sum(parts.values()))


def relate(types: tuple[str, ...], labels: frozenset[str]) -> list[Triple]:
    """Return a triple for every pair that one of the relations fits."""
    return [(head, label, tail) for label in sorted(labels) for head, tail in find_pairs(label, types)]


def list_neutral_scenes(size: int) -> list[Scene]:
    """List the scenes of a neutral sentence with so many names.

    The pictogram of a relation relates every pair that it fits, the pictogram of a type shows every entity of it, and
    each name whose type is open is shown by one or the other.
    """
    readings = defaultdict(list)
    for types in product(TYPES, repeat=size):
        fitting = [label for label in RELATION_TYPES if find_pairs(label, types)]
        for labels in subsets(fitting, STICKERS):
            triples = relate(types, labels)
            if len({(head, tail) for head, _, tail in triples}) < len(triples):
                continue  # a pair has one relation
            if types.count("PER") > 2 and labels & {"/per/per/couple", "/per/per/peer"}:
                continue  # couples and peers are two
            related = {position for head, _, tail in triples for position in (head, tail)}
            for shown in subsets(sorted(set(types)), STICKERS - len(labels)):
                for open in product((False, True), repeat=size):
                    if all(not o or i in related or types[i] in shown for i, o in enumerate(open)):
                        clause = Clause(tuple(NEUTRAL[size]), types, open, frozenset(triples), told=False)
                        readings[clause.words, labels | shown].append(Scene((clause,), labels | shown))
    scenes = [scenes[0] for scenes in readings.values() if len(scenes) == 1]
    without = [
        Scene(scene.clauses, None) for scene in scenes if not scene.kinds and not any(scene.clauses[0].open)
    ]  # the words tell the types, and that is all
    return scenes + without


def neutral_posts(size: int) -> list[tuple[Scene, float]]:
    """Return the scenes of a neutral sentence, with probabilities; the words of one name leave its type open."""
    scenes = [scene for scene in list_neutral_scenes(size) if size > 1 or scene.clauses[0].open[0]]
    levels: Levels = [
        (lambda scene: sum(scene.clauses[0].open), NAMES_OPEN[size]),
        (lambda scene: told_types(scene.clauses[0]), TOLD_TYPES),
        (lambda scene: len(scene.triples), RELATIONS_OF_NEUTRAL[size]),
        (lambda scene: (scene.kinds or frozenset()) & set(RELATIONS), None),
        (lambda scene: len((scene.kinds or frozenset()) & set(TYPES)), TYPES_SHOWN),
    ]
    return hide_relations(list(spread(scenes, levels)))


def hide_relations(posts: list[tuple[Scene, float]]) -> list[tuple[Scene, float]]:
    """Return scenes with other probabilities, so that after the same words no relation is likelier than `LIKELIEST`."""
    groups = defaultdict(list)
    for scene, probability in posts:
        groups[scene.words].append((scene, probability))
    result = []
    for group in groups.values():
        total = sum(probability for _, probability in group)
        weights = [probability / total for _, probability in group]
        typed = [typed_triples(scene) for scene, _ in group]
        for _ in range(50):
            chances: dict[TypedTriple, float] = defaultdict(float)
            for triples, weight in zip(typed, weights, strict=True):
                for triple in triples:
                    chances[triple] += weight
            if max(chances.values(), default=0) <= LIKELIEST + 1e-9:
                break
            weights = [
                weight * min([1.0, *(LIKELIEST / chances[triple] for triple in triples)])
                for triples, weight in zip(typed, weights, strict=True)
            ]
            weights = [weight / sum(weights) for weight in weights]
        result += [(scene, total * weight) for (scene, _), weight in zip(group, weights, strict=True)]
    return result


def tell(story: Story) -> list[tuple[Clause, float]]:
    """Return a clause for each order of the names in the sentences of a story, with its probability."""
    orders = defaultdict(list)
    for sentence in story.sentences:
        orders[tuple(re.findall(r"{(\w)}", sentence))].append(re.sub(r"{\w}", "{}", sentence))
    clauses = []
    for letters, sentences in orders.items():
        types = tuple(LETTERS[letter] for letter in letters)
        triples = [(letters.index(head), label, letters.index(tail)) for head, label, tail in story.triples]
        for place, (head, label, tail) in enumerate(triples):
            if types[head] == types[tail]:
                triples[place] = (min(head, tail), label, max(head, tail))
        clause = Clause(tuple(sentences), types, (False,) * len(types), frozenset(triples))
        clauses.append((clause, len(sentences) / len(story.sentences)))
    return clauses


def told_posts(stories: list[Story]) -> list[tuple[Scene, float]]:
    """Return the scenes of sentences that tell relations; the picture shows them, or not, or is absent."""
    posts = []
    for clause, probability in [part for story in stories for part in tell(story)]:
        labels = frozenset(label for _, label, _ in clause.triples)
        pictures = [
            (what, labels | shown if what == "relation" else shown)
            for what in ("relation", "none")
            for shown in subsets(sorted(set(clause.types)), min(1, STICKERS - len(labels)))
        ]
        scenes = [(what, Scene((clause,), kinds)) for what, kinds in [*pictures, ("absent", None)]]
        for (_, scene), part in spread(scenes, [(lambda item: item[0], PICTURES_OF_STORIES)], probability):
            posts.append((scene, part / len(stories)))
    return posts


def typed_posts() -> list[tuple[Scene, float]]:
    """Return the scenes of sentences that tell the type of one name."""
    kinds: list[Callable[[str], frozenset | None]] = [
        lambda type: frozenset([type]),
        lambda type: frozenset([type]),
        lambda type: frozenset(),
        lambda type: None,
    ]
    clauses = [Clause(tuple(CONTEXT[type]), (type,), (False,)) for type in TYPES]
    return [
        (Scene((clause,), shown(clause.types[0])), 1 / len(clauses) / len(kinds))
        for clause in clauses
        for shown in kinds
    ]


def empty_posts() -> list[tuple[Scene, float]]:
    """Return the scenes without entities: chatter, and neutral sentences about things; the picture shows anything."""
    things = tuple(sentence.replace("{}", thing) for sentence in NEUTRAL[1] for thing in COMMON)
    pictures = [None, frozenset(), *(frozenset([type]) for type in TYPES)]
    scenes = [Scene((Clause(sentences),), kinds) for sentences in (tuple(CHATTER), things) for kinds in pictures]
    levels: Levels = [
        (lambda scene: scene.clauses, None),
        (lambda scene: "absent" if scene.kinds is None else len(scene.kinds), None),
    ]
    return list(spread(scenes, levels))


def add_second_clauses(posts: list[tuple[Scene, float]]) -> Iterator[tuple[Scene, float]]:
    """Yield posts as they are, with a tail that mentions another name, and with a clause that tells a relation."""
    tails = [(Clause(tuple(CONTEXT_TAILS[type]), (type,), (False,), tail=True), 1 / len(TYPES)) for type in TYPES]
    stories = [story for story in STORIES if len(story.triples) == 1]
    others = [(clause, part / len(stories)) for story in stories for clause, part in tell(story)]
    for scene, probability in posts:
        yield scene, probability * SECOND_CLAUSE["none"]
        for tail, part in tails:
            yield Scene((*scene.clauses, tail), scene.kinds), probability * SECOND_CLAUSE["tail"] * part
        for other, part in others:
            for clauses in ((*scene.clauses, other), (other, *scene.clauses)):
                yield Scene(clauses, scene.kinds), probability * SECOND_CLAUSE["relation"] * part / 2


@functools.cache
def list_scenes(shares: tuple[tuple[str, float], ...]) -> tuple[list[Scene], list[float]]:
    """Return all scenes and the probability of each, from the names and shares of the kinds of posts."""
    told = [story for story in STORIES if len(story.triples) == 1]
    kinds: dict[str, Callable[[], Iterable[tuple[Scene, float]]]] = {
        "no entity": empty_posts,
        "type in the words": typed_posts,
        "relation in the words": lambda: add_second_clauses(told_posts(told)),
        "story in the words": lambda: told_posts([story for story in STORIES if len(story.triples) > 1]),
        "one name": lambda: add_second_clauses(neutral_posts(1)),
        "two names": lambda: add_second_clauses(neutral_posts(2)),
        "three names": lambda: neutral_posts(3),
    }
    weighted = [(scene, part * share) for name, share in shares for scene, part in kinds[name]()]
    return [scene for scene, _ in weighted], [weight for _, weight in weighted]
