"""Readers that know all scenes of the visual posts and their probabilities, and see only a part of a post.

What the best of them reach is the ceiling of a model that sees as much: `text` reads the words and sees no picture,
`crops` sees the pictograms and knows only where the names stand, `both` has all. Each figure is the best there is for
it alone: types, relations and regions are decided one without the other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from .visual_scenes import POSTS, Scene, TypedTriple, list_scenes, typed_triples


@dataclass
class Belief:
    """What a reader thinks after what it has seen: the probability of everything, times that of what it has seen."""

    probability: float = 0.0
    types: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    regions: dict[int, Counter[str | None]] = field(default_factory=lambda: defaultdict(Counter))
    triples: Counter[TypedTriple] = field(default_factory=Counter)


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
        self.sees, self.beliefs = SEES[sees], defaultdict[Hashable, Belief](Belief)
        for scene, probability in zip(*list_scenes(POSTS), strict=True):
            belief = self.beliefs[self.sees(scene)]
            belief.probability += probability
            for position, (type, kind) in enumerate(zip(scene.types, shown_kinds(scene), strict=True)):
                belief.types[position][type] += probability
                belief.regions[position][kind if sees != "text" else None] += probability
            for triple in typed_triples(scene):
                belief.triples[triple] += probability
        self.least = self.choose_threshold()

    def choose_threshold(self) -> float:
        """Return how probable a relation has to be for the largest F1."""
        candidates = [
            (joint / belief.probability, joint, belief.probability)
            for belief in self.beliefs.values()
            for joint in belief.triples.values()
        ]
        candidates.sort(reverse=True)
        gold, right, said, best = sum(joint for _, joint, _ in candidates), 0.0, 0.0, (0.0, 1.0)
        for chance, joint, probability in candidates:
            right, said = right + joint, said + probability
            best = max(best, (2 * right / (said + gold), chance))
        return best[1]

    def read(self, scene: Scene) -> tuple[list[str], set[TypedTriple], list[str | None]]:
        """Return the types, the relations, and the kinds of the pictograms that show the entities."""
        belief = self.beliefs[self.sees(scene)]
        positions = range(len(scene.types))
        types = [belief.types[position].most_common(1)[0][0] for position in positions]
        regions = [belief.regions[position].most_common(1)[0][0] for position in positions]
        least = (self.least - 1e-9) * belief.probability
        return types, {triple for triple, joint in belief.triples.items() if joint >= least}, regions


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


def find_ceilings(scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Score all readers on posts, by what they see."""
    return {sees: score_reader(Reader(sees), scenes) for sees in SEES}
