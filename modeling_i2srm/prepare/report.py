"""Counts the rows, labels and pictures of a finished data set, and prints the report."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from ..support.markdown import markdown_table
from .conll import count_entities
from .parquet import read_columns
from .picture_files import PictureFolder, has_another_format

if TYPE_CHECKING:
    from .builder import RawData

NAMED = 20  # lines and pictures that are printed; report.json names all
ABSENT = 1000  # absent pictures that report.json names


def make_report(raw: "RawData", features: datasets.Features, folder: Path) -> dict:
    """Count the rows of the Parquet files in `folder`, and compare their pictures with the raw files.

    Args:
        raw: The `RawData` they were made from.

    Returns:
        A dict for report.json: the entries of `raw.about`; `splits` with the counts of each; `unparsed_lines`; and
        `unused_pictures`, every existing picture and crop that could not be used, and why.
    """
    splits, unused, absent = {}, [], []
    for split, posts in raw.splits.items():
        text = "tokens" if "tokens" in features else "text"
        labels = [column for column in ("ner_tags", "relation", "label") if column in features]
        labels += ["relations.list.element.label"] if "relations" in features else []
        rows = read_columns(folder, split, [text, *labels, "image.path", "objects.list.element.path"])
        counts: dict[str, Any] = {"posts": len(rows)}
        if text == "tokens":
            counts["tokens"] = sum(len(row["tokens"]) for row in rows)
        else:
            counts["words"] = sum(len(row["text"].split()) for row in rows)
        if "ner_tags" in features:
            names = features["ner_tags"].feature.names
            strict: Counter[str] = Counter()
            lenient: Counter[str] = Counter()
            for row in rows:
                for total, entities in zip(
                    (strict, lenient), count_entities([names[t] for t in row["ner_tags"]]), strict=True
                ):
                    total.update(entities)
            counts["strict_entities"] = {"all": strict.total(), **dict(sorted(strict.items()))}
            counts["lenient_entities"] = {"all": lenient.total(), **dict(sorted(lenient.items()))}
        for column in [column for column in ("relation", "label") if column in features]:
            numbers = Counter(features[column].names[row[column]] for row in rows)
            counts[f"{column}s"] = {name: numbers[name] for name in features[column].names}
        if "relations" in features:
            names = features["relations"].feature["label"].names
            numbers = Counter(names[one["label"]] for row in rows for one in row["relations"] or ())
            counts["relations"] = {name: numbers[name] for name in names}
            if unknown := sum(row["relations"] is None for row in rows):
                counts["posts whose relations are not annotated"] = unknown
        counts["pictures"], counts["crops"] = count_pictures(posts, rows)
        irregularities = Counter(raw.irregularities[split])
        irregularities.update(picture_irregularities(posts, rows, raw.pictures[split]))
        counts["irregularities"] = dict(sorted((+irregularities).items()))
        splits[split] = counts
        unused += unused_pictures(split, posts, rows, raw.pictures[split], raw.reasons)
        absent += [{"split": split, "file": name} for name in absent_pictures(posts, raw.pictures[split])]
    return {
        **raw.about,
        "splits": splits,
        "unparsed_lines": [vars(problem) for problem in raw.problems],
        "unused_pictures": unused,
        "absent_pictures": {"total": len(absent), "first": absent[:ABSENT]},
    }


def count_pictures(posts: list, rows: list[dict]) -> tuple[dict, dict]:
    """Count posts by whether their picture is stored, absent or unreadable; the picture files; and crops likewise."""
    pictures = Counter(present=0, absent=0, unreadable=0, files=0)
    crops = Counter(present=0, absent=0, unreadable=0)
    files = set()
    for post, row in zip(posts, rows, strict=True):
        if row["image"] is not None:
            pictures["present"] += 1
            files.add(post.image)
        else:
            pictures["unreadable" if post.image_file else "absent"] += 1
        existing, stored = sum(path is not None for path in post.crop_files), len(row["objects"])
        named = sum(bool(name) for name in post.crops)  # null is absent on purpose
        crops.update(present=stored, absent=named - existing, unreadable=existing - stored)
    pictures["files"] = len(files)
    return dict(pictures), dict(crops)


def picture_irregularities(posts: list, rows: list[dict], folder: PictureFolder) -> dict[str, int]:
    """Count the irregularities of the pictures of a split."""
    shared = Counter(post.image for post in posts if post.image is not None)
    files = {post.image_file for post, row in zip(posts, rows, strict=True) if row["image"] is not None}
    return {
        "pictures that several posts share": sum(count > 1 for count in shared.values()),
        "pictures under another name, not used": sum(bool(folder.other_names(name)) for name in shared),
        "pictures of another format than their name says, used": sum(map(has_another_format, files)),
    }


def unused_pictures(split: str, posts: list, rows: list[dict], folder: PictureFolder, reasons: dict) -> list[dict]:
    """List each existing picture and crop that is not in the rows, with the reason."""
    unused = {}
    for post, row in zip(posts, rows, strict=True):
        if row["image"] is None and post.image_file:
            unused[post.image] = reasons.get(post.image_file, "removed before it was read")
        elif row["image"] is None and (others := folder.other_names(post.image)):
            unused[post.image] = f"absent under this name, found as {', '.join(others[:3])}"
        crops = zip(post.crops, post.crop_files, strict=True)
        unused |= {name: reasons[path] for name, path in crops if path in reasons}
    return [{"split": split, "file": name, "reason": reason} for name, reason in unused.items()]


def absent_pictures(posts: list, folder: PictureFolder) -> list[str]:
    """Return the names of pictures and crops that do not exist, also under another name."""
    names = [post.image for post in posts if post.image_file is None and not folder.other_names(post.image)]
    for post in posts:
        names += [name for name, path in zip(post.crops, post.crop_files, strict=True) if path is None]
    return list(dict.fromkeys(name for name in names if name))


def print_report(report: dict) -> None:
    """Print a report: layout and edition, the counts of the splits side by side, problems and warnings."""
    source = ("dataset", "layout", "edition", "labels", "split", "texts")
    for name in (*source, "image folders", "objects", "captions", "phrases"):
        if name in report:
            value = report[name]
            print(f"{name}: {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}")
    splits = report["splits"]
    print(table(splits))
    for what, key in (("lines that could not be read", "unparsed_lines"), ("pictures not used", "unused_pictures")):
        if report[key]:
            print(f"{what}: {len(report[key])}")
            for entry in report[key][:NAMED]:
                print("  " + ", ".join(f"{v}" for v in entry.values()))
            if len(report[key]) > NAMED:
                print(f"  and {len(report[key]) - NAMED} more, see report.json")
    if absent := report.get("absent_pictures", {}).get("total"):
        first = ", ".join(entry["file"] for entry in report["absent_pictures"]["first"][:3])
        print(f"absent pictures: {absent}, e.g. {first}; see report.json")
    for warning in report["warnings"]:
        print(f"WARNING: {warning}")


def flatten(counts: dict, prefix: str = "") -> dict[str, int]:
    """Return nested counts as one level, e.g. `pictures, absent`."""
    flat = {}
    for name, value in counts.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name.replace('_', ' ')}, "))
        else:
            flat[prefix + name] = value
    return flat


def table(splits: dict[str, dict], markdown: bool = False) -> str:
    """Return a table of counts, one line per count and one column per split."""
    columns = {split: flatten(counts) for split, counts in splits.items()}
    names = list(dict.fromkeys(name for counts in columns.values() for name in counts))
    groups = list(dict.fromkeys(name.partition(",")[0] for name in names))
    names.sort(key=lambda name: groups.index(name.partition(",")[0]))
    rows = [["", *columns], *([name, *(str(counts.get(name, 0)) for counts in columns.values())] for name in names)]
    if markdown:
        return markdown_table(rows[0], rows[1:])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )
