"""Recognises the scheme of entity tags (IOB1, BIO, IOBES, BILOU and others) and converts them to BIO, that is IOB2.

All schemes name the words of an entity by letters: B and I in BIO, where B begins every entity; B, I, E and S in IOBES;
B, I, L and U in BILOU; B, M, E and S or W in BMES and BMEWO. In IOB1 I begins an entity, and B only one that directly
follows another entity of its type.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import datasets
from datasets import ClassLabel, DatasetDict

logger = logging.getLogger(__name__)

OUTSIDE = ("O", "o")
LETTERS = "BIESLUMW"
BEGIN, END = frozenset("BSUW"), frozenset("ESLUW")
MIXTURE = 1 / 3  # a larger share of entities that break the scheme of the others is a mixture of schemes
# The letters of an entity, in the order of preference: some data fit several schemes, which then convert alike.
PATTERNS = {
    "BIO": re.compile("BI*"),
    "IOB1": re.compile("I+"),
    "IOBES": re.compile("S|BI*E"),
    "BILOU": re.compile("U|BI*L"),
    "BMES": re.compile("S|BM*E"),
    "BMEWO": re.compile("W|BM*E"),
    "IOE2": re.compile("I*E"),
    "bare": re.compile("I+"),
}
SCHEMES = tuple(PATTERNS)
TYPE = re.compile(r"(?=\S*[^\W\d_])[^\s_-]\S*(?<![_-])")  # has a letter; no hyphen at its ends


@dataclass(frozen=True)
class TagForm:
    """The form of a tag: its letter before or after its type, or a type alone.

    Args:
        name: for messages, "" for the usual form.
        pattern: matches a tag; has the groups letter and type. `None` for types alone.
        letters: letters that show the form even where no type has two of them.
    """

    name: str
    pattern: re.Pattern | None
    letters: str = ""

    def read(self, tag: str, strict: bool = True) -> tuple[str, str] | None:
        """Return letter and type of a tag, or `None` if it has another form.

        Args:
            strict: Refuse types alone that look like a prefix and a type.
        """
        if self.pattern is None:
            fits = TYPE.fullmatch(tag) and not LOOKS_PREFIXED.fullmatch(tag) and tag not in ("B", "I")
            return ("I", tag) if fits or not strict and re.fullmatch(r"\S+", tag) else None
        match = self.pattern.fullmatch(tag)
        return (match["letter"].upper(), match["type"]) if match else None

    def is_certain(self, tags: Iterable[str]) -> bool:
        """Whether the letters are prefixes or suffixes, and not a part of types, as in e-mail."""
        letters: dict[str, set[str]] = {}
        for letter, type in filter(None, map(self.read, tags)):
            letters.setdefault(type, set()).add(letter)
        return any(len(used) > 1 for used in letters.values()) or set().union(*letters.values()) <= set(self.letters)


LOOKS_PREFIXED = re.compile(rf"(?:[{LETTERS}]|[bi])-\S+")
FORMS = (
    TagForm("", re.compile(rf"(?P<letter>[{LETTERS}])-(?P<type>\S+)"), LETTERS),
    TagForm("lower-case prefixes", re.compile(rf"(?P<letter>[{LETTERS.lower()}])-(?P<type>\S+)"), "BI"),
    TagForm("underscores", re.compile(rf"(?P<letter>[{LETTERS}])_(?P<type>\S+)"), "BI"),
    TagForm("lower-case prefixes and underscores", re.compile(rf"(?P<letter>[{LETTERS.lower()}])_(?P<type>\S+)")),
    TagForm("suffixes", re.compile(rf"(?P<type>\S+)-(?P<letter>[{LETTERS}])"), "BI"),
    TagForm("lower-case suffixes", re.compile(rf"(?P<type>\S+)-(?P<letter>[{LETTERS.lower()}])")),
    TagForm("suffixes after underscores", re.compile(rf"(?P<type>\S+)_(?P<letter>[{LETTERS}])")),
)
BARE = TagForm("types without prefixes", None)


@dataclass(frozen=True)
class Segment:
    """The tags of an entity, and whether they are as the scheme says."""

    tags: tuple[str, ...]
    is_right: bool


@dataclass(frozen=True)
class TagScheme:
    """A scheme of tags.

    Args:
        name: one of `SCHEMES`; "bare" for types without letters.
        form: how the tags are written.
        strict: Refuse bare types that look like a prefix and a type.

    Example:

    >>> TagScheme("IOBES").to_bio(["S-PER", "O", "B-LOC", "E-LOC"])
    ['B-PER', 'O', 'B-LOC', 'I-LOC']
    """

    name: str
    form: TagForm = FORMS[0]
    strict: bool = True

    @property
    def is_bio(self) -> bool:
        """Whether the tags are BIO already, written as B-PER."""
        return self.name == "BIO" and self.form == FORMS[0]

    def __str__(self) -> str:
        if self.name == "bare":
            return "types without prefixes (IO)"
        return f"{self.name} with {self.form.name}" if self.form.name else self.name

    def read(self, tag: str) -> tuple[str, str] | None:
        """Return letter and type of a tag, ("O", "") outside of entities, or `None` if it is not of this scheme."""
        if tag in OUTSIDE:
            return "O", ""
        read = self.form.read(tag, self.strict)
        return read if read and read[0] in ALPHABETS[self.name] else None

    def to_bio(self, tags: Sequence[str]) -> list[str]:
        """Convert the tags of a post to BIO; an entity that breaks the scheme stays an entity.

        Raises:
            ValueError: a tag is not of this scheme.
        """
        read = [self.read(tag) for tag in tags]
        for tag, parts in zip(tags, read, strict=True):
            if parts is None:
                raise ValueError(f"the tag {tag!a:.80} does not fit the other tags, which are {self}")
        known = [parts for parts in read if parts is not None]
        if self.name == "BIO":
            return [letter if letter == "O" else f"{letter}-{type}" for letter, type in known]
        return [
            "O" if letter == "O" else f"{'B' if start else 'I'}-{type}"
            for (letter, type), start in zip(known, begins(known), strict=True)
        ]

    def segments(self, tags: Sequence[str]) -> Iterator[Segment]:
        """Yield the entities of a post; a tag that is not of this scheme is an entity that is wrong."""
        read = [self.read(tag) for tag in tags]
        parts = [("O", "") if part is None else part for part in read]
        starts = [*begins(parts), True]
        before: tuple[int, str] = (-1, "")
        for start, (letter, type) in enumerate(parts):
            if read[start] is None:
                yield Segment((tags[start],), False)
            elif letter != "O" and starts[start]:
                end = start + 1
                while end < len(parts) and parts[end][0] != "O" and not starts[end]:
                    end += 1
                follows, before = before == (start, type), (end, type)
                letters = "".join(letter for letter, _ in parts[start:end])
                pattern = PATTERNS["BIO" if self.name == "IOB1" and follows else self.name]
                yield Segment(tuple(tags[start:end]), bool(pattern.fullmatch(letters)))

    def count_faults(self, tags: Sequence[str]) -> int:
        """Count the entities of a post that break the scheme, such as I- without B- in BIO."""
        return sum(not segment.is_right for segment in self.segments(tags))


ALPHABETS = {name: {"O", *re.sub("[^A-Z]", "", pattern.pattern)} for name, pattern in PATTERNS.items()}
ALPHABETS["IOB1"].add("B")


def begins(parts: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether each word begins an entity, from letters and types; the rule holds for every scheme."""
    result, last = [], ("O", "")
    for letter, type in parts:
        result.append(letter != "O" and (letter in BEGIN or last[0] in ("O", *END) or last[1] != type))
        last = letter, type
    return result


def to_bio(tags: Sequence[str], scheme: str) -> list[str]:
    """Convert the tags of a post, written as S-PER, from one of `SCHEMES` to BIO.

    Raises:
        ValueError: the scheme is unknown, or a tag is not of it.

    Example:

    >>> to_bio(["I-PER", "I-PER", "B-PER", "O", "I-LOC"], "IOB1")
    ['B-PER', 'I-PER', 'B-PER', 'O', 'B-LOC']
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no tag scheme {scheme!r}; choose one of {', '.join(SCHEMES)}")
    return TagScheme(scheme, BARE if scheme == "bare" else FORMS[0], strict=False).to_bio(tags)


@dataclass
class TagRuns:
    """The different runs of tags between two O of a data set: how often each occurs in a part, and where first."""

    counts: dict[tuple[str, ...], Counter] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)
    tags: Counter = field(default_factory=Counter)

    def add(self, part: str, place: str, tags: Sequence[str]) -> None:
        """Add the tags of a post.

        Args:
            part: the split; no part may have another scheme than the others.
            place: where the post is, for messages.
        """
        run: list[str] = []
        for tag in (*tags, "O"):
            if tag not in OUTSIDE:
                run.append(tag)
            elif run:
                self.counts.setdefault(tuple(run), Counter())[part] += 1
                self.places.setdefault(tuple(run), place)
                self.tags.update(run)
                run = []


ALL = [TagScheme(name, form) for form in FORMS for name in SCHEMES if name != "bare"] + [TagScheme("bare", BARE)]


def candidates(runs: TagRuns, name: str | None) -> list[TagScheme]:
    """Return the schemes that come into question; a name leaves only those of that name."""
    if name == "bare":
        return [TagScheme("bare", BARE, strict=False)]
    forms = [FORMS[0], *([BARE] if name is None else [])]
    for form in FORMS[1:]:
        fitting = sum(count for tag, count in runs.tags.items() if form.read(tag))
        if 2 * fitting >= runs.tags.total() and form.is_certain(runs.tags):
            forms.append(form)
    return [scheme for scheme in ALL if scheme.form in forms and name in (None, scheme.name)]


def recognise_scheme(
    posts: Iterable[tuple[str, str, Sequence[str]]], name: str | None = None, remedy: str = "correct one of them"
) -> TagScheme:
    """Return the scheme that the fewest entities break; without any entity it is BIO.

    A few entities may break it, as those of Twitter-2015 do that begin with I-.

    Args:
        posts: part, place and tags of each post, see `TagRuns.add`.
        name: The name of the scheme where it is known, one of `SCHEMES`; then nothing is refused.
        remedy: What the message advises where the tags are refused; {scheme} in it becomes the best scheme's name.

    Raises:
        ValueError: more than a third of the entities of a part break the scheme; names both schemes and places.
    """
    runs = TagRuns()
    for part, place, tags in posts:
        runs.add(part, place, tags)
    if not runs.counts:
        return TagScheme("BIO")
    wrong: dict[TagScheme, Counter] = {}
    entities: dict[TagScheme, Counter] = {}
    for scheme in candidates(runs, name):
        wrong[scheme], entities[scheme] = Counter(), Counter()
        for run, counts in runs.counts.items():
            segments = list(scheme.segments(run))
            faults = sum(not segment.is_right for segment in segments)
            for part, count in counts.items():
                wrong[scheme][part] += count * faults
                entities[scheme][part] += count * len(segments)
    best = min(wrong, key=lambda scheme: wrong[scheme].total())
    worst = max(wrong[best], key=lambda part: wrong[best][part] / entities[best][part])
    if name is None and wrong[best][worst] > MIXTURE * entities[best][worst]:
        raise ValueError(f"{describe_mixture(runs, best, worst)}; {remedy.format(scheme=best.name)}")
    return best


def describe_mixture(runs: TagRuns, scheme: TagScheme, part: str) -> str:
    """Return a sentence about an entity of a part that breaks the scheme, its own scheme, and one that does not."""
    tags, place = next(examples(runs, scheme, False, part))
    shown, right = f"{' '.join(tags)!a:.80} in {place}", next(examples(runs, scheme, True), None)
    other = next((other for other in ALL if other != scheme and not other.count_faults(tags)), None)
    if right is None or other is None:
        hint = f" ({tags[0]} names no type: write {tags[0]}-TYPE)" if tags[0] in ("B", "I") else ""
        return f"the tags fit no known scheme: {shown}{hint}"
    first = f"{' '.join(right[0])!a:.80} in {right[1]}"
    return f"the tags are a mixture of {scheme} and {other}: {first} is {scheme}, {shown} is {other}"


def examples(
    runs: TagRuns, scheme: TagScheme, is_right: bool, part: str | None = None
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the entities that are as the scheme says, or those that are not, and where they are."""
    for run, counts in runs.counts.items():
        for segment in scheme.segments(run):
            if segment.is_right == is_right and (part is None or counts[part]):
                yield segment.tags, runs.places[run]


def describe_conversion(scheme: TagScheme, changed: int, has_begin: bool) -> str:
    """Return the sentence that reports a conversion, e.g. "tags are IOB1: 1,204 changed to BIO".

    Args:
        has_begin: whether the tags have a letter B; without, IOB1 and IO look alike.
    """
    name = f"{scheme} or IO (none begins with B-)" if scheme.name == "IOB1" and not has_begin else f"{scheme}"
    joined = "; neighbouring words of one type are one entity" if scheme.name == "bare" else ""
    return f"tags are {name}: {changed:,} changed to BIO{joined}"


def convert_tag_column(splits: DatasetDict, column: str, dataset: str) -> DatasetDict:
    """Convert the tags of a data set to BIO, with O as the first name, and log it; BIO stays as it is.

    Args:
        splits: the splits. Other columns than lists of ClassLabel are left as they are.
        column: the column of the tags.
        dataset: the name of the data set, for messages.

    Raises:
        ValueError: the tags are a mixture of schemes, or some fit none.
    """
    names = {}
    for split, rows in splits.items():
        label = getattr(rows.features[column], "feature", None)
        if not isinstance(label, ClassLabel):
            return splits
        names[split] = label.names
    posts = (
        (split, f"row {row} of {split}", [names[split][tag] for tag in tags])
        for split, rows in splits.items()
        for row, tags in enumerate(rows[column])
    )
    remedy = (
        "convert the rows of one of them, e.g. with modeling_i2srm.data.tag_schemes.to_bio(tags, {scheme!r}), "
        "and give the column the feature List(ClassLabel(names=['O', 'B-PER', 'I-PER', ...]))"
    )
    try:
        scheme = recognise_scheme(posts, remedy=remedy)
    except ValueError as error:
        raise ValueError(f"{dataset}, column {column!r}: {error}") from None
    parts = [scheme.read(name) for used in names.values() for name in used]
    if scheme.is_bio and (None in parts or all(used[:1] == ["O"] for used in names.values())):
        return splits
    types = dict.fromkeys(part[1] for part in parts if part is not None and part[0] != "O")
    new = ["O", *(f"{letter}-{type}" for type in types for letter in "BI")]
    converted, changed = DatasetDict(), 0
    for split, rows in splits.items():
        tags = convert_ids(rows.select_columns([column]), names[split], new, scheme, f"{dataset}, split {split!r}")
        pairs = zip(rows[column], tags[column], strict=True)
        changed += sum(
            names[split][old] != new[id] for before, after in pairs for old, id in zip(before, after, strict=True)
        )
        # joining columns does not write the pictures again
        converted[split] = datasets.concatenate_datasets([rows.remove_columns(column), tags], axis=1)
    has_begin = any(part is not None and part[0] == "B" for part in parts)
    if changed:
        logger.warning(f"{dataset}: {describe_conversion(scheme, changed, has_begin)}")
    return converted


def convert_ids(
    rows: datasets.Dataset, old: Sequence[str], new: Sequence[str], scheme: TagScheme, where: str
) -> datasets.Dataset:
    """Convert the tags of the only column of a split from ids of old names to ids of new ones."""
    [column] = rows.column_names
    ids = {name: number for number, name in enumerate(new)}

    def convert(row: dict, number: int) -> dict:
        try:
            return {column: [ids[tag] for tag in scheme.to_bio([old[tag] for tag in row[column]])]}
        except ValueError as error:
            raise ValueError(f"{where}, row {number}: {error}; correct it or leave it out") from None

    feature = datasets.List(ClassLabel(names=list(new)))
    return rows.map(convert, with_indices=True, features=datasets.Features({column: feature}), desc="converting tags")
