"""Readers that know all scenes of the visual posts and their probabilities, and see only a part of a post.

What the best of them reach is the ceiling of a model that sees as much: `text` reads the words and sees no picture,
`crops` sees the pictograms and knows only where the names stand, `both` has all. Each figure is the best there is for
it alone: types, relations and regions are decided one without the other.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from .visual_scenes import POSTS, TYPES, Scene, TypedTriple, list_scenes, typed_triples


def shown_kinds(scene: Scene) -> list[str | None]:
    """Return the kind of the pictogram that shows each entity, or None."""
    return [type if scene.kinds and type in scene.kinds else None for type in scene.types]


SEES: dict[str, Callable[[Scene], Hashable]] = {
    "text": lambda scene: scene.words,
    "crops": lambda scene: (len(scene.types), scene.kinds),
    "both": lambda scene: (scene.words, scene.kinds),
}


class Reader:
    """Answers with what is most probable after what it sees; a relation is named where that is best for the F1.

    Args:
        sees: What it sees of a post, a key of `SEES`.
    """

    def __init__(self, sees: str):
        self.sees = SEES[sees]
        # After each of what it sees: the probability of that, and of that together with each answer
        self.chances: dict[Hashable, float] = defaultdict(float)
        self.beliefs: dict[Hashable, dict[tuple, float]] = defaultdict(lambda: defaultdict(float))
        for scene, probability in zip(*list_scenes(POSTS), strict=True):
            view = self.sees(scene)
            self.chances[view] += probability
            belief = self.beliefs[view]
            for place, (type, kind) in enumerate(zip(scene.types, shown_kinds(scene), strict=True)):
                belief["type", place, type] += probability
                belief["region", place, kind if sees != "text" else None] += probability
            for triple in typed_triples(scene):
                belief[triple] += probability
        self.least = self.choose_threshold()

    def relations(self, view: Hashable) -> dict[TypedTriple, float]:
        """Return the probability of each relation after what is seen."""
        return {key: joint / self.chances[view] for key, joint in self.beliefs[view].items() if len(key) == 5}

    def choose_threshold(self) -> float:
        """Return how probable a relation has to be for the largest F1."""
        candidates = [(chance, self.chances[view]) for view in self.beliefs for chance in self.relations(view).values()]
        candidates.sort(reverse=True)
        gold = sum(chance * probability for chance, probability in candidates)
        right, said, best = 0.0, 0.0, (0.0, 1.0)
        for chance, probability in candidates:
            right, said = right + chance * probability, said + probability
            best = max(best, (2 * right / (said + gold), chance))
        return best[1]

    def read(self, scene: Scene) -> tuple[list[str], set[TypedTriple], list[str | None]]:
        """Return the types, the relations, and the kinds of the pictograms that show the entities."""
        view = self.sees(scene)
        belief = self.beliefs[view]

        def best(what: str, answers: Sequence[str | None]) -> list:
            """Return the likeliest answer for each entity, of equally likely ones the first."""
            return [
                max(answers, key=lambda answer: round(belief.get((what, place, answer), 0.0), 12))
                for place in range(len(scene.types))
            ]

        triples = {triple for triple, chance in self.relations(view).items() if chance >= self.least - 1e-9}
        return best("type", TYPES), triples, best("region", [None, *TYPES])


def score_reader(reader: Reader, scenes: Iterable[Scene]) -> dict[str, float]:
    """Score a reader on posts.

    Returns:
        `entity_f1` (spans are known to it), `triple_f1` (strict: both entities with their types, and the label),
        `region_accuracy` of all entities, and `pointed_region_accuracy` of those that a crop shows; from 0 to 1.
    """
    numbers: Counter[str] = Counter()
    for scene in scenes:
        types, triples, regions = reader.read(scene)
        gold = set(typed_triples(scene))
        numbers["entities"] += len(types)
        numbers["types"] += sum(map(str.__eq__, types, scene.types))
        numbers["triples"] += len(gold) + len(triples)
        numbers["right triples"] += 2 * len(gold & triples)
        for region, kind in zip(regions, shown_kinds(scene), strict=True):
            numbers["regions"] += region == kind
            numbers["pointed"] += kind is not None
            numbers["pointed regions"] += region == kind is not None
    return {
        "entity_f1": numbers["types"] / max(numbers["entities"], 1),
        "triple_f1": numbers["right triples"] / max(numbers["triples"], 1),
        "region_accuracy": numbers["regions"] / max(numbers["entities"], 1),
        "pointed_region_accuracy": numbers["pointed regions"] / max(numbers["pointed"], 1),
    }


make_reader = functools.cache(Reader)


def find_ceilings(scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Score all readers on posts, by what they see."""
    return {sees: score_reader(make_reader(sees), scenes) for sees in SEES}
