"""The changes that pictures make in the answer to a post, one line per change."""

from dataclasses import dataclass

from ..checks import names_no_relation
from .answers import Extraction
from .explanation import ALL, Explanation, RelationWithout, Without, call, printable


@dataclass(frozen=True)
class Change:
    """A part of an answer that is another one without the pictures of the post.

    Args:
        words: of the entity, or of the head and the tail of the relation.
        before: the answer without any picture; `None`: no entity, or no relation.
        after: the answer with all pictures; `None` as for `before`.
        pictures: "image", "objects[0]" ...: each of them that changes the answer when it alone is masked. Empty where
            only several together do; "all" where `explain` does not know which.
    """

    words: tuple[str, ...]
    before: str | None
    after: str | None
    pictures: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The entity or the pair of entities, e.g. "Camelot" or "Kobe → Paris"."""
        return " → ".join(printable(word) for word in self.words)

    @property
    def reason(self) -> str:
        """The pictures, e.g. "because of crop 1"."""
        if not self.pictures or ALL in self.pictures:
            return f"because of the pictures{'' if self.pictures else ' together'}"
        *others, last = [call(name) for name in self.pictures]
        return f"because of {', '.join(others)} and {last}" if others else f"because of {last}"

    def describe(self) -> str:
        """One line, e.g. "Camelot: MISC -> PER because of crop 1"."""
        nothing = "no relation" if len(self.words) > 1 else "no entity"
        return f"{self.subject}: {self.before or nothing} -> {self.after or nothing} {self.reason}"


def find_changes(explanation: Explanation, without: Extraction | None = None) -> list[Change]:
    """List the entities and relations of a post that are different without its pictures.

    The answer without any picture is compared with the answer with all of them. A picture is a reason where masking it
    alone gives another answer than that with all pictures. Scores and regions are not compared.

    Args:
        explanation: of `explain`.
        without: the answer to the text alone, `extractor(text)`. It adds what is found without pictures only.

    Returns:
        Entities first, each in the order of the answer; nothing for a post without pictures.

    Example:

    >>> for change in find_changes(explain(extractor, post)):  # doctest: +SKIP
    ...     print(change.describe())
    Camelot: MISC -> PER because of crop 1
    """
    answer = explanation.extraction
    changes = []
    for entity, why in zip(answer.entities, explanation.entities, strict=True):

        def differs(masked: Without, kind: str = entity.entity) -> bool:
            return not masked.found or masked.entity != kind

        if why.without and differs(bare := why.without[-1]):
            before = bare.entity if bare.found else ", ".join(f"{e.entity} {e.word!r}" for e in bare.instead) or None
            reasons = tuple(one.picture for one in why.without if one.picture != ALL and differs(one))
            changes.append(Change((entity.word,), before, entity.entity, reasons))
    for relation, reason in zip(answer.relations, explanation.relations, strict=True):

        def changed(masked: RelationWithout, label: str = relation.label) -> bool:
            return masked.label != label

        if reason.without and changed(last := reason.without[-1]):
            before = None if names_no_relation(last.label) else last.label
            reasons = tuple(one.picture for one in reason.without if one.picture != ALL and changed(one))
            words = answer.entities[relation.head].word, answer.entities[relation.tail].word
            changes.append(Change(words, before, relation.label, reasons))
    if without is None or not explanation.pictures:
        return changes
    return changes + find_losses(
        answer, without, tuple(explanation.pictures) if len(explanation.pictures) == 1 else (ALL,)
    )


def find_losses(answer: Extraction, without: Extraction, pictures: tuple[str, ...]) -> list[Change]:
    """The entities and relations of an answer without pictures that the answer with them does not have."""
    losses = []
    for one in without.entities:
        if not any(one.start < other.end and other.start < one.end for other in answer.entities):
            losses.append(Change((one.word,), one.entity, None, pictures))
    spans = [(entity.start, entity.end) for entity in answer.entities]
    related = {(spans[one.head], spans[one.tail]) for one in answer.relations}
    for relation in without.relations:
        head, tail = without.entities[relation.head], without.entities[relation.tail]
        if ((head.start, head.end), (tail.start, tail.end)) not in related:
            losses.append(Change((head.word, tail.word), relation.label, None, pictures))
    return losses


__all__ = ["Change", "find_changes"]
