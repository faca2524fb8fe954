"""Posts with entities, from any form that posts.py reads, as CoNLL, as tasks of Label Studio or in the exchange format.

    python dataset_scripts/convert.py --input out --to label_studio --output tasks.json
    python dataset_scripts/convert.py --input data/my_posts --split test --to conll --output test.conll
    python dataset_scripts/convert.py --input project.json --to exchange --output train.jsonl

--input is a JSONL file of posts with entities (answers of examples/extract.py, or an export of Label Studio, Prodigy,
doccano or spaCy; .json for a list of them), a folder of answers (part-00000.jsonl ...), or a data set that a script of
dataset_scripts wrote, of which --split is read. The formats of --to:

  conll          a word and its tag (IOB2) per line, an empty line after each post, IMGID:NAME before one with a picture
  label_studio   a JSON list of tasks; the labels are predictions, which a person corrects (--as annotations: finished
                 work). The script prints the labelling interface that shows them
  exchange       {"id", "text" or "tokens", "image", "entities": [{"start", "end", "label"}], "relations"} per line

A row that cannot be converted is left out and listed. Offsets of Label Studio are UTF-16 units: it runs in a browser.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets

from ..data.tag_schemes import recognise_scheme
from ..pipeline_i2srm import find_entities
from ..support.atomic_files import replacing
from ..support.options import OptionParser
from ..support.parquet_rows import ParquetRows
from .annotation_tools import to_exchange, to_task
from .conll import Problem
from .exchange import LABELS, NO_REGION, Row, items, read_labels
from .picture_files import is_plain_name
from .post_files import FileReader
from .post_rows import ANSWERS

UNKNOWN = "posts whose relations are not annotated, which the format cannot say"
NOT_IN_CONLL = "relations, which CoNLL does not hold"
COLUMNS = ("id", "tokens", "ner_tags", "relations", "regions", "image", "objects")
READ_ERRORS = (ValueError, TypeError, KeyError, RecursionError)


def read_rows(path: Path, split: str, problems: list[Problem], counts: Counter[str]) -> Iterator[tuple[str, int, Row]]:
    """Yield the posts of an input, each with its file and its line there.

    Args:
        problems, counts: lines that cannot be read, and irregularities of the files, are added.

    Raises:
        ValueError: an input of another kind.
        FileNotFoundError: no such file, or no such split.
    """
    if (path / "dataset_info.json").is_file():
        yield from read_data_set(path, split)
        return
    files = sorted(path.glob("part-*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path}: neither dataset_info.json nor part-*.jsonl; give a file of posts")
    reader = FileReader(problems=problems)
    rows = [(file.name, line, row) for file in files for line, row in reader.read(file, counts)]
    yield from in_bio(rows, problems, counts)


def in_bio(
    rows: list[tuple[str, int, Row]], problems: list[Problem], counts: Counter[str]
) -> Iterator[tuple[str, int, Row]]:
    """Yield rows with their tags converted to BIO from the scheme that fits all of them; list those that break it.

    Raises:
        ValueError: tags of more than one scheme.
    """
    tags = [list(map(str, tags)) if isinstance(tags := row.get("ner_tags"), list) else None for *_, row in rows]
    posts = ((file, f"line {line}", one) for (file, line, _), one in zip(rows, tags, strict=True) if one is not None)
    scheme = recognise_scheme(posts, remedy="convert the posts of each scheme by themselves")
    for (file, line, row), one in zip(rows, tags, strict=True):
        if one is not None:
            try:
                changed = scheme.to_bio(one)
            except ValueError as error:
                problems.append(Problem(file, line, f"ner_tags: {error}"[:300]))
                continue
            row = {**row, "ner_tags": changed}
            counts[f"tags converted from {scheme} to BIO"] += sum(a != b for a, b in zip(one, changed, strict=True))
        yield file, line, row


def read_data_set(folder: Path, split: str) -> Iterator[tuple[str, int, Row]]:
    """Yield the posts of a split of a data set with tags, in the exchange format, pictures by name."""
    features = datasets.DatasetInfo.from_directory(str(folder)).features or {}
    files = sorted(folder.glob(f"data/{split}-*.parquet"))
    if not files:
        raise FileNotFoundError(f"{folder}: no data/{split}-*.parquet; choose another --split")
    if "ner_tags" not in features:
        raise ValueError(f"{folder} has no column ner_tags, only {', '.join(features)}; pairs have no types to write")
    tags = features["ner_tags"].feature.names
    names = features["relations"].feature["label"].names if "relations" in features else []
    for path in files:
        rows = ParquetRows(path, COLUMNS)
        for number, row in rows.read(0, rows.file.metadata.num_rows):
            post = with_entities({**row, "ner_tags": [tags[tag] for tag in row["ner_tags"]]})
            entities = items(post, "entities")
            for entity, region in zip(entities, row.get("regions") or [], strict=False):
                entity |= {"region": region} if region is not None and region >= NO_REGION else {}
            places = {(one["start"], one["end"]): place for place, one in enumerate(entities)}
            post.pop("regions", None)
            relations = [
                {name: find_entity(one[name], places) for name in ("head", "tail")} | {"label": names[one["label"]]}
                for one in row.get("relations") or []
            ]
            post["relations"] = None if row.get("relations") is None else relations
            post["image"] = (row.get("image") or {}).get("path")
            post["objects"] = [one["path"] for one in row.get("objects") or [] if one["path"]]
            kept = {"entities", *(["relations"] if names else [])}  # relations that are null are not annotated
            yield path.name, number, {name: value for name, value in post.items() if value or name in kept}
        rows.close()


def find_entity(end: object, places: dict[tuple[object, object], int]) -> object:
    """The position of the entity that is head or tail of a relation; earlier data sets store its words instead."""
    return places[end["start"], end["end"]] if isinstance(end, dict) else end


def with_entities(row: Row) -> Row:
    """A row with BIO tags as one with entities; any other row as it is."""
    tags = row.get("ner_tags")
    if not isinstance(tags, list) or row.get("entities") is not None:
        return row
    spans = find_entities([str(tag) for tag in tags])
    entities = [{"start": start, "end": end, "label": label} for start, end, label in spans]
    left = {name: value for name, value in row.items() if name != "ner_tags"}
    tokens = row.get("tokens") or str(row.get("text") or "").split()
    if not isinstance(tokens, list) or len(tokens) != len(tags):
        raise ValueError(f"{len(tags)} tags, but not as many words: {tokens!a:.80}")
    return {**left, "text": None, "tokens": tokens, "entities": entities}


def to_conll(row: Row, counts: Counter[str], overlaps: str) -> str:
    """The lines of a post; raises `ValueError` for a word that a line cannot hold."""
    post = read_labels(row, counts, overlaps)
    counts[NOT_IN_CONLL] += len(post.relations)
    image, lines = row.get("image"), []
    if isinstance(image, str) and image:
        name = image.replace("\\", "/").rpartition("/")[2]
        counts["pictures in folders, of which CoNLL holds the name"] += name != image
        if not is_plain_name(name) or not name.isprintable():
            raise ValueError(f"{image!a:.80} cannot be the name of a picture in a CoNLL file")
        lines.append(f"IMGID:{name}")
    for word, tag in zip(post.tokens, post.tags(), strict=True):
        if word != "".join(word.split()):
            raise ValueError(f"the word {word!a:.80} holds white space, which separates the columns of CoNLL")
        lines.append(f"{word}\t{tag}")
    return "\n".join(lines) + "\n\n"


def convert(row: Row, form: str, kind: str, counts: Counter[str], overlaps: str = "refuse") -> str | None:
    """A post as text of a file of a format, `None` if its annotator left it out.

    Args:
        row: of any form that posts.py reads, with entities or BIO tags.
        form: "conll", "label_studio" or "exchange".
        kind: of the labels in Label Studio: "predictions" or "annotations".
        counts: what is converted or left out is added to it.
        overlaps: as of `read_labels`.

    Raises:
        ValueError: the post cannot be read, or not be written in this format.
    """
    post = to_exchange(with_entities(row), counts)
    if post is None:
        return None
    unknown = "relations" in post and post["relations"] is None
    post = {name: value for name, value in post.items() if value is not None and name not in ANSWERS}
    counts[UNKNOWN] += unknown and form != "exchange"
    if post.get("entities") in (None, ""):
        raise ValueError(f"no entities, only {', '.join(map(str, post))}")
    if form == "conll":
        return to_conll(post, counts, overlaps)
    trial: Counter[str] = Counter()  # offsets of a text stay as they are: these formats hold any
    read_labels(post, trial, "longest")
    post |= {"entities": items(post, "entities"), "relations": items(post, "relations")}
    if unknown and form == "exchange":
        post["relations"] = None
    for entity in items(post, "entities"):
        entity["label"] = next(entity.pop(name) for name in LABELS if entity.get(name) is not None)
    return json.dumps(post if form == "exchange" else to_task(post, kind), ensure_ascii=False)


def write(texts: Iterable[str], path: Path, form: str) -> None:
    """Write the texts of posts to a file, which replaces an earlier one when it is complete."""
    with replacing(path) as file:
        if form == "label_studio":
            file.write("[" + ",\n".join(texts) + "]\n")
        else:
            file.writelines(text if form == "conll" else f"{text}\n" for text in texts)


def interface(tasks: list[dict]) -> str:
    """The labelling interface of Label Studio for these tasks."""
    results = [one for task in tasks for kind in ("predictions", "annotations") for one in task.get(kind, [])]
    values = [result["value"]["labels"][0] for one in results for result in one["result"] if "value" in result]
    arrows = [label for one in results for result in one["result"] for label in result.get("labels", [])]
    picture = '\n  <Image name="image" value="$image"/>' if any("image" in task["data"] for task in tasks) else ""
    labels = "".join(f"\n    <Label value={json.dumps(name, ensure_ascii=False)}/>" for name in sorted(set(values)))
    names = "".join(f"\n    <Relation value={json.dumps(name, ensure_ascii=False)}/>" for name in sorted(set(arrows)))
    relations = f"\n  <Relations>{names}\n  </Relations>" if names else ""
    body = f'{picture}\n  <Labels name="label" toName="text">{labels}\n  </Labels>{relations}'
    return f'<View>{body}\n  <Text name="text" value="$text"/>\n</View>'


def main(arguments: list[str] | None = None) -> None:
    parser = OptionParser(
        "convert.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--input", type=Path, required=True, help="posts: a file, a folder of answers, or a data set")
    parser.add_argument(
        "--split", default="train", help="the split to convert, if the input is a data set (default: train)"
    )
    parser.add_argument(
        "--to", choices=("conll", "label_studio", "exchange"), required=True, help="the format to write"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--as",
        dest="kind",
        choices=("predictions", "annotations"),
        default="predictions",
        help="what entities become in Label Studio",
    )
    parser.add_argument(
        "--overlaps",
        choices=("refuse", "longest"),
        default="refuse",
        help="overlapping entities, in CoNLL: leave the post out and list it, or keep the longest",
    )
    args = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    texts: list[str] = []
    problems: list[Problem] = []
    try:
        for file, line, row in read_rows(args.input, args.split, problems, counts):
            try:
                text = convert(row, args.to, args.kind, counts, args.overlaps)
                texts += [] if text is None else [text]
            except READ_ERRORS as error:
                problems.append(Problem(file, line, str(error)[:300]))
        if not texts:
            raise ValueError("; ".join([f"{args.input}: no post can be converted", *map(str, problems[:3])]))
        write(texts, args.output, args.to)
    except (ValueError, OSError, RecursionError) as error:
        sys.exit(f"{parser.prog}: {error}")
    if args.to == "label_studio":
        print(interface([json.loads(text) for text in texts]))
    for name, number in sorted((+counts).items()):
        print(f"{name}: {number}")
    for problem in problems[:20]:
        print(f"left out: {problem}")
    print(f"wrote {args.output} ({len(texts)} posts; {len(problems)} left out)")


__all__ = ["convert"]
