"""Reads the files of a user's posts: JSONL, CSV, TSV and CoNLL."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .annotation_tools import as_row
from .conll import ConllFile, Problem, read_conll
from .post_rows import EXAMPLE

STEMS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}
STEMS["test"] = "test"
TABLES = (".jsonl", ".csv", ".tsv")
CONLL = (".conll", ".txt", ".bio")

csv.field_size_limit(10_000_000)


def find_files(root: Path) -> dict[str, Path]:
    """Return the data file of each split; if there is a single file, it may have any name and is the train split."""
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES + CONLL and path.is_file())
    splits = {}
    for path in files:
        split = STEMS.get(path.stem.lower())
        if split in splits:
            raise ValueError(f"{root}: both {splits[split].name} and {path.name} are the {split} split; remove one")
        if split:
            splits[split] = path
    if not splits and len(files) == 1:
        splits = {"train": files[0]}
    if not splits:
        raise FileNotFoundError(
            f"{root}: no train.jsonl, validation.jsonl or test.jsonl (.csv, .tsv, .conll, .txt), e.g. with {EXAMPLE}"
        )
    return {split: splits[split] for split in ("train", "validation", "test") if split in splits}


def read_file(path: Path, problems: list[Problem], irregularities: Counter) -> Iterator[tuple[int, dict]]:
    """Yield the raw rows of a file with their lines; add to problems and irregularities."""
    if path.suffix.lower() in CONLL:
        file: ConllFile = read_conll(path, columns=True)
        problems += file.problems
        irregularities.update(file.irregularities)
        for post in file.posts:
            image = post.image_id and (post.image_id if Path(post.image_id).suffix else f"{post.image_id}.jpg")
            yield post.line, {"tokens": post.tokens, "ner_tags": post.tags, "image": image}
    elif path.suffix.lower() == ".jsonl":
        for number, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            if raw.strip():
                try:
                    yield number, as_row(json.loads(raw.decode()))
                except (ValueError, RecursionError) as error:
                    problems.append(Problem(path.name, number, f"{type(error).__name__}: {error}"))
    else:
        yield from read_table(path, problems)


def read_table(path: Path, problems: list[Problem]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a CSV or TSV file with their first lines; add to problems."""
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f'{error}; quote a cell that holds quotes, and double these: "so ""big"" a cat"'
            if reader.line_num > line:
                reason = f"lines {line} to {reader.line_num} are one row: {reason}"
            if header is None:
                raise ValueError(f"{path.name}, line {line}: no names of columns: {reason}") from None
            problems.append(Problem(path.name, line, reason))
            continue
        if not cells or len(cells) == 1 and cells[0].isspace():
            continue
        if header is None:
            header = cells
            if repeated := sorted(name for name, count in Counter(header).items() if count > 1):
                raise ValueError(
                    f"{path.name}, line {line}: several columns are called {', '.join(map(ascii, repeated))}"
                )
        elif len(cells) != len(header):
            problems.append(Problem(path.name, line, f"expected {len(header)} cells, got {len(cells)}"))
        else:
            yield line, {name: parse_cell(name, cell) for name, cell in zip(header, cells, strict=True)}


def parse_cell(name: str, cell: str):
    """Return the value of a CSV cell: JSON if it looks like JSON, else for lists and spans its words."""
    if name in ("tokens", "ner_tags", "objects", "head", "tail"):
        if cell[:1] in ("[", "{"):
            try:
                return json.loads(cell)
            except (ValueError, RecursionError):
                return cell  # refused later, with its line
        words = cell.split()
        if name in ("head", "tail") and len(words) == 2 and all(word.isdecimal() and len(word) < 10 for word in words):
            return {"start": int(words[0]), "end": int(words[1])}
        return words
    return cell
