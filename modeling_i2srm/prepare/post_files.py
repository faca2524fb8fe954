"""Finds and reads the files of a user's posts: JSONL, JSON, CSV, TSV, Parquet and CoNLL."""

import ast
import csv
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from .annotation_tools import as_row
from .conll import Problem
from .conll_columns import read_conll_columns
from .post_rows import COLUMNS, EXAMPLE
from .text_files import read_text, split_lines, undecodable

STEMS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}
STEMS["test"] = "test"
JSON = (".jsonl", ".ndjson", ".json")
TABLES = (*JSON, ".csv", ".tsv", ".parquet")
CONLL = (".conll", ".txt", ".bio", ".iob", ".iob2", ".conllu")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
LISTS = ("tokens", "ner_tags", "objects", "head", "tail")

csv.field_size_limit(10_000_000)


@dataclass
class FileReader:
    """Reads the files of a data set, and collects what there is to say about them.

    Args:
        encoding: the encoding of the files, where it is known.
        tag_column: the number of the tags' column in CoNLL files, from 1, where it is known.
        problems: lines that cannot be read.
        notes: sentences for the report.
    """

    encoding: str | None = None
    tag_column: int | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: dict[int, tuple[int, str]] = field(default_factory=dict)  # number of columns -> that of the tags, and file

    def read(self, path: Path, irregularities: Counter) -> Iterator[tuple[int, dict]]:
        """Yield the raw rows of a file with their lines; add to problems, notes and irregularities.

        Raises:
            ValueError: the file as a whole cannot be read; names it and the reason.
        """
        suffix = path.suffix.lower()
        if suffix == ".parquet":
            yield from read_parquet(path, self.notes)
        elif suffix in JSON:
            yield from read_json(path, read_text(path, self.encoding, irregularities), self.problems)
        elif suffix in CONLL and not is_table(path, self.encoding):
            file = read_conll_columns(path, self.encoding, self.tag_column)
            self._check_columns(path.name, file.columns)
            self.problems += file.problems
            self.notes += file.notes
            irregularities.update(file.irregularities)
            for post in file.posts:
                image = post.image_id and (post.image_id if Path(post.image_id).suffix else f"{post.image_id}.jpg")
                yield post.line, {"tokens": post.tokens, "ner_tags": post.tags, "image": image}
        else:
            text = read_text(path, self.encoding, irregularities)
            yield from read_table(path, text, self.problems, irregularities)

    def _check_columns(self, name: str, columns: tuple[int, int] | None) -> None:
        """Raise a `ValueError` where the tags were recognised in another column than in an earlier, equal file."""
        if columns is None:
            return
        width, tag = columns
        first, other = self.columns.setdefault(width, (tag, name))
        if tag != first:
            raise ValueError(
                f"of {width} columns the tags seem to be column {first} in {other} and column {tag} in {name}; name "
                f"the column for all files, e.g. --tag_column {first}"
            )


def find_files(root: Path) -> dict[str, Path]:
    """Return the data file of each split; a single file may have any name, and is called "all" then."""
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES + CONLL and path.is_file())
    splits: dict[str, Path] = {}
    for path in files:
        split = STEMS.get(path.stem.lower())
        if split in splits:
            raise ValueError(f"{root}: both {splits[split].name} and {path.name} are the {split} split; remove one")
        if split:
            splits[split] = path
    if not splits:
        others = [path for path in files if path.suffix.lower() != ".json"]  # which often describes the others
        files = others if len(others) == 1 else files
    if not splits and len(files) == 1:
        return {"all": files[0]}
    if not splits:
        names = f", only {', '.join(path.name for path in files[:5])}" if files else ""
        raise FileNotFoundError(
            f"{root}: no train.jsonl, validation.jsonl or test.jsonl (.json, .csv, .tsv, .parquet, .conll, .txt)"
            f"{names}; e.g. with {EXAMPLE}"
        )
    return {split: splits[split] for split in ("train", "validation", "test") if split in splits}


def read_parquet(path: Path, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a Parquet file with their numbers, from 1; class labels become their names.

    A note names the columns that are not read.

    Raises:
        ValueError: the file is damaged, or holds pictures instead of their names.
    """
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        features = datasets.Features.from_arrow_schema(schema)
        names = [name for name in COLUMNS if name in schema.names]
        if others := sorted(set(schema.names) - set(names)):
            notes.append(f"{path.name}: columns that are not used: {', '.join(others)}")
        table = file.read(columns=names).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as Parquet: {error!s:.200}") from None
    for name in ("image", "objects"):
        if name in schema.names and "binary" in str(schema.field(name).type):
            raise ValueError(
                f"{path.name}: the column {name} holds pictures; expected paths of pictures. A data set with pictures "
                f"needs no script, e.g. examples/run_mner.py ... --dataset {path.parent.name}"
            )
    for number, row in enumerate(table, start=1):
        yield number, {name: name_labels(features[name], value) for name, value in row.items()}


def name_labels(feature: object, value: object) -> object:
    """Replace the numbers of class labels by their names."""
    if isinstance(feature, datasets.ClassLabel) and isinstance(value, int) and 0 <= value < feature.num_classes:
        return feature.int2str(value)
    if isinstance(feature, datasets.List) and isinstance(value, list):
        return [name_labels(feature.feature, item) for item in value]
    return value


def read_json(path: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, dict]]:
    """Yield the objects of a file with their first lines: one per line, an array, or objects over several lines."""
    lines = split_lines(text)
    start = text if text.lstrip()[:1] == "[" else next(filter(str.strip, lines), "")
    if re.match(r"\s*\[\s*(\{|\[\s*\"|\]\s*$)|\s*\{\s*$", start):  # also of spaCy's pairs [text, {...}]
        yield from read_json_values(path, text, problems)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                line.encode()
                yield number, as_row(json.loads(line))
            except UnicodeEncodeError as error:
                reason = undecodable(line) if "\udc80" <= line[error.start] <= "\udcff" else str(error)
                problems.append(Problem(path.name, number, f"{reason}"))
            except (ValueError, RecursionError) as error:
                problems.append(Problem(path.name, number, f"{type(error).__name__}: {error}"))


def read_json_values(path: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, dict]]:
    """Yield the objects of an array, or objects that follow each other; what is after an error cannot be read."""
    decoder, place, line = json.JSONDecoder(), 0, 1
    while True:
        space = re.compile(r"\s*\[?[\s\]]*" if place == 0 else r"[\s\],]*").match(text, place)
        before, place = place, space.end() if space else place
        line += text.count("\n", before, place)
        if place >= len(text):
            return
        try:
            value, end = decoder.raw_decode(text, place)
            if reason := undecodable(text[place:end]):
                raise ValueError(reason)
            yield line, as_row(value)
        except json.JSONDecodeError as error:
            problems.append(Problem(path.name, error.lineno, f"{error}; nothing after this place can be read"))
            return
        except RecursionError as error:
            problems.append(Problem(path.name, line, f"RecursionError: {error}; nothing after this place can be read"))
            return
        except ValueError as error:
            problems.append(Problem(path.name, line, f"ValueError: {error}"))
        line += text.count("\n", place, end)
        place = end


def is_table(path: Path, encoding: str | None) -> bool:
    """Whether the first line of a file holds names of columns, as spreadsheets save tables in .txt files."""
    header = split_lines(read_text(path, encoding)[:10_000])[0].strip().split("\t")
    return len(header) > 1 and set(header) <= set(COLUMNS) and bool({"text", "tokens"} & set(header))


def find_delimiter(path: Path, text: str) -> tuple[str, str]:
    """Return what parts the cells of a table, by the known names of columns in its first line, and the text to read.

    Excel's first line `sep=;` names it; it becomes an empty line.
    """
    lines = split_lines(text[:100_000])
    if match := re.fullmatch(r'"?sep=(.)"?', lines[0], re.IGNORECASE):
        return match[1], text[len(lines[0]) :]
    default = "," if path.suffix.lower() == ".csv" else "\t"
    header = next(filter(str.strip, lines), "")

    def known(delimiter: str) -> int:
        return len(set(COLUMNS) & {cell.strip(' "') for cell in header.split(delimiter)})

    return max((default, *DELIMITERS), key=known), text


def read_table(
    path: Path, text: str, problems: list[Problem], irregularities: Counter | None = None
) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a CSV or TSV file with their first lines; add to problems and irregularities."""
    irregularities = Counter() if irregularities is None else irregularities
    delimiter, text = find_delimiter(path, text)
    if delimiter != ("," if path.suffix.lower() == ".csv" else "\t"):
        irregularities[f"tables whose cells are separated by {DELIMITERS.get(delimiter, ascii(delimiter))}"] += 1
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
            header = check_header(path, line, cells)
            continue
        cells = cells[: len(header)] if not any(cells[len(header) :]) else cells  # Excel adds empty cells
        encoding = undecodable(delimiter.join(cells))
        if len(cells) != len(header):
            problems.append(Problem(path.name, line, f"expected {len(header)} cells, got {len(cells)}"))
        elif encoding:
            problems.append(Problem(path.name, line, encoding))
        else:
            values = {name: parse_cell(name, cell, irregularities) for name, cell in zip(header, cells, strict=True)}
            yield line, values


def check_header(path: Path, line: int, cells: list[str]) -> list[str]:
    """Return the names of the columns, without empty ones at the end; raise `ValueError` where names repeat."""
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    if repeated := sorted(name for name, count in Counter(cells).items() if count > 1):
        raise ValueError(f"{path.name}, line {line}: several columns are called {', '.join(map(ascii, repeated))}")
    return [name.strip() if name.strip() in COLUMNS and name.strip() not in cells else name for name in cells]


def parse_cell(name: str, cell: str, irregularities: Counter | None = None) -> object:
    """Return the value of a CSV cell: JSON or a Python list if it looks like one, else for lists and spans its words.

    A value that is neither is returned as it is; `check_row` refuses it with its line.
    """
    if name not in LISTS:
        return cell
    if cell[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            value = parse_literal(cell)
        if value is not None and irregularities is not None:
            irregularities["cells that hold a Python list, read"] += 1
        return cell if value is None else value
    words = cell.split()
    if name in ("head", "tail") and len(words) == 2 and all(word.isdecimal() and len(word) < 10 for word in words):
        return {"start": int(words[0]), "end": int(words[1])}
    return words


def parse_literal(cell: str) -> list | dict | None:
    """Return the list or dict that Python wrote, e.g. `['a', 'b']`; `None` for anything else.

    An array as numpy prints it, `['a' 'b']`, is refused: without the comma Python joins the texts.
    """
    try:
        value = ast.literal_eval(cell)
        tokens = list(tokenize.generate_tokens(io.StringIO(cell).readline))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    strings = [token.type == tokenize.STRING for token in tokens if token.type != tokenize.NL]
    joined = any(first and second for first, second in zip(strings, strings[1:], strict=False))
    return value if isinstance(value, (list, dict)) and not joined else None
