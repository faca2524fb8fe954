"""Report and card: they say what the Parquet files hold, the same everywhere, and nothing of the machine."""

import json
import re
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard
from raw_files import (
    frames,
    jpeg,
    names_in,
    picture,
    read_report,
    read_stored,
    write,
    write_hvpnet_mnre,
    write_hvpnet_twitter,
    write_posts,
)

from modeling_i2srm.prepare import mnre, posts, report, twitter2015, twitter2017
from modeling_i2srm.prepare.report import flatten, print_report, table

SCRIPTS = {"twitter2015": twitter2015, "twitter2017": twitter2017, "mnre": mnre, "posts": posts}


def make(name: str, folder: Path, *arguments: str) -> Path:
    """Run a script on a small raw folder whose first training line cannot be read."""
    raw, output = folder / "raw", folder / "out"
    if name == "mnre":
        text = write_hvpnet_mnre(raw) / "RE_data/txt/ours_train.txt"
    elif name == "posts":
        text = write_posts(raw) / "train.jsonl"
    else:
        text = write_hvpnet_twitter(raw, name) / "NER_data" / name / "train.txt"
    text.write_bytes(b"broken\n" + text.read_bytes())
    SCRIPTS[name].main(["--data_dir", str(raw), "--output_dir", str(output), *arguments])
    return output


@pytest.fixture(params=SCRIPTS)
def made(request, tmp_path, capsys) -> tuple[str, Path, str]:
    """A data set: its name, its folder and what its script printed."""
    arguments = [] if request.param == "posts" else ["--objects", "released"]
    output = make(request.param, tmp_path, *arguments)
    return request.param, output, capsys.readouterr().out


def test_card_and_report_say_what_the_rows_are(made, tmp_path):
    name, output, printed = made
    assert names_in(output) == ["README.md", "data", "dataset_info.json", "report.json"]
    card, said = DatasetCard.load(output / "README.md"), read_report(output)
    loaded = datasets.load_dataset(
        str(output), cache_dir=str(tmp_path / "cache"), verification_mode=datasets.VerificationMode.ALL_CHECKS
    )
    rows = {split: read_stored(output, split) for split in loaded}
    assert list(said["splits"]) == list(loaded) == ["train", "validation", "test"]

    data = card.data.to_dict()
    assert {entry["name"]: entry["num_examples"] for entry in data["dataset_info"]["splits"]} == {
        split: len(rows[split]) for split in rows
    }
    features = datasets.Features._from_yaml_list(data["dataset_info"]["features"])
    assert features == loaded["train"].features == datasets.DatasetInfo.from_directory(str(output)).features
    assert data["task_categories"] == ["text-classification" if name == "mnre" else "token-classification"]
    assert all(f"- `{column}`: " in card.text for column in features)

    for split, counts in said["splits"].items():
        assert counts["posts"] == len(rows[split]) == 3
        assert counts["tokens"] == sum(len(row["tokens"]) for row in rows[split])
        assert counts["pictures"]["present"] == sum(row["image"] is not None for row in rows[split]) > 0
        assert sum(counts["pictures"][kind] for kind in ("present", "absent", "unreadable")) == 3
        assert counts["crops"]["present"] == sum(len(row["objects"]) for row in rows[split]) > 0
    lines = [line.strip("| ").split(" | ") for line in card.text.splitlines() if line.startswith("| ")]
    assert lines[0] == ["train", "validation", "test"]
    numbers = {line[0]: [int(cell) for cell in line[1:]] for line in lines[2:]}
    flat = {split: flatten(counts) for split, counts in said["splits"].items()}
    assert numbers == {key: [flat[split].get(key, 0) for split in flat] for key in numbers}
    assert set(numbers) == {key for counts in flat.values() for key in counts}
    for key, counts in numbers.items():
        assert re.search(rf"^{re.escape(key)} +{' +'.join(map(str, counts))}$", printed, re.MULTILINE)


def test_rows_that_are_not_as_the_card_says_do_not_load(tmp_path):
    card = make("posts", tmp_path) / "README.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("num_examples: 3", "num_examples: 4", 1), encoding="utf-8")
    with pytest.raises(datasets.exceptions.NonMatchingSplitsSizesError):
        datasets.load_dataset(str(card.parent), cache_dir=str(tmp_path / "cache"))


def test_lines_that_cannot_be_read_are_named(made):
    name, output, printed = made
    file = {"mnre": "ours_train.txt", "posts": "train.jsonl"}.get(name, "train.txt")
    [entry] = read_report(output)["unparsed_lines"]
    assert (entry["file"], entry["line"]) == (file, 1) and entry["reason"]
    assert f"lines that could not be read: 1\n  {file}, 1, {entry['reason']}" in printed
    assert "Lines that could not be read: 1." in (output / "README.md").read_text(encoding="utf-8")


def test_warnings_stand_in_report_card_and_output(made):
    name, output, printed = made
    warnings = read_report(output)["warnings"]
    assert len(warnings) == {"posts": 0, "mnre": 2}.get(name, 1)
    card = (output / "README.md").read_text(encoding="utf-8")
    for warning in warnings:
        assert f"- **{warning}**" in card and f"WARNING: {warning}\n" in printed


def test_nothing_of_the_machine_is_in_the_result(made, tmp_path):
    _, output, printed = made
    for file in ("README.md", "report.json", "dataset_info.json"):
        content = (output / file).read_text(encoding="utf-8")
        assert "0x" not in content and str(tmp_path) not in content and "/tmp" not in content
    assert str(tmp_path) not in printed.replace(f"wrote {output}", "")


def test_the_same_raw_files_give_the_same_bytes(made, tmp_path):
    name, output, _ = made
    arguments = [] if name == "posts" else ["--objects", "released"]
    again = make(name, tmp_path / "again", *arguments)
    for path in output.rglob("*.*"):
        assert (again / path.relative_to(output)).read_bytes() == path.read_bytes()


KINDS = {
    "good": jpeg(),
    "mpo": frames("MPO"),
    "png": picture("PNG"),
    "cut": jpeg()[:-150],
    "empty": b"",
    "html": b"<html>404</html>",
    "gif": frames("GIF"),
    "webp": frames("WEBP"),
}


def make_posts(folder: Path, rows: list[dict], *arguments: str) -> Path:
    write(folder / "raw/train.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    posts.main(["--data_dir", str(folder / "raw"), "--output_dir", str(folder / "out"), *arguments])
    return folder / "out"


def test_every_picture_that_is_not_used_is_named_with_its_reason(tmp_path, capsys):
    for name, content in KINDS.items():
        write(tmp_path / f"raw/{name}.jpg", content)
    output = make_posts(tmp_path, [{"text": name, "image": f"{name}.jpg"} for name in [*KINDS, "cut", "gone"]])
    said = read_report(output)
    counts = said["splits"]["train"]
    assert counts["pictures"] == {"present": 3, "absent": 1, "unreadable": 6, "files": 3}
    assert counts["irregularities"]["pictures of another format than their name says, used"] == 1
    assert counts["irregularities"]["pictures that several posts share"] == 1
    reasons = {entry["file"]: entry["reason"] for entry in said["unused_pictures"]}
    assert list(reasons) == ["cut.jpg", "empty.jpg", "html.jpg", "gif.jpg", "webp.jpg"]
    assert reasons["gif.jpg"] == reasons["webp.jpg"] == "animated, 2 frames"
    printed = capsys.readouterr().out
    assert "pictures not used: 5" in printed and f"  train, cut.jpg, {reasons['cut.jpg']}" in printed
    stored = {row["tokens"][0]: row["image"] for row in read_stored(output)}
    for name in [*KINDS, "gone"]:
        used = name in ("good", "mpo", "png")
        assert stored[name] == ({"bytes": KINDS[name], "path": f"{name}.jpg"} if used else None)


def test_crops_that_cannot_be_used_are_dropped_counted_and_named_by_their_folder(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"raw/{number}.jpg", jpeg())
        for crop, content in {"3": picture("PNG", (3, 3)), "10": b"", "11": picture("PNG", (11, 3))}.items():
            write(tmp_path / f"own/{number}/{crop}.png", content)
    rows = [{"text": "a", "image": f"{number}.jpg"} for number in (1, 2, 2)]
    output = make_posts(tmp_path, rows, "--objects", str(tmp_path / "own"))
    said = read_report(output)
    assert said["splits"]["train"]["crops"] == {"present": 6, "absent": 0, "unreadable": 3}
    assert [entry["file"] for entry in said["unused_pictures"]] == ["1/10.png", "2/10.png"]
    assert [[crop["path"] for crop in row["objects"]] for row in read_stored(output)] == [["3.png", "11.png"]] * 3


def test_names_that_are_no_text_do_not_stop_the_report(tmp_path):
    write(tmp_path / "raw/train.jsonl", '{"text": "a", "\\ud800 odd": 1}\n')
    posts.main(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")])
    assert "columns that are not used: ? odd" in read_report(tmp_path / "out")["warnings"]
    assert "columns that are not used: ? odd" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


def test_long_lists_are_cut_in_the_output_alone(tmp_path, capsys):
    text = "".join(f'{{"text": "post {number}"}}\nbroken\n' for number in range(25))
    write(tmp_path / "raw/train.jsonl", text)
    posts.main(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")])
    said = read_report(tmp_path / "out")
    assert [entry["line"] for entry in said["unparsed_lines"]] == list(range(2, 51, 2))
    printed = capsys.readouterr().out
    assert "lines that could not be read: 25\n" in printed and "\n  and 5 more, see report.json\n" in printed
    assert printed.count("  train.jsonl, ") == report.NAMED == 20


def test_table_shows_splits_side_by_side():
    splits = {
        "train": {"posts": 3, "relations": {"None": 2}, "crops": {"present": 0}},
        "test": {"posts": 10, "relations": {"None": 1, "part_of": 4}, "crops": {"present": 1}},
    }
    assert table(splits).splitlines() == [
        "                    train  test",
        "posts                   3    10",
        "relations, None         2     1",
        "relations, part_of      0     4",
        "crops, present          0     1",
    ]
    assert table(splits, markdown=True).splitlines()[:3] == [
        "|  | train | test |",
        "| --- | --- | --- |",
        "| posts | 3 | 10 |",
    ]


def test_a_report_is_printed_with_how_the_data_was_understood(capsys):
    print_report(
        {
            "dataset": "mnre",
            "layout": "HVPNeT",
            "texts": {"train": "a.txt", "test": "b.txt"},
            "sha256": {"train": "not printed"},
            "splits": {"train": {"posts": 1}},
            "unparsed_lines": [],
            "unused_pictures": [],
            "warnings": ["beware"],
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "dataset: mnre",
        "layout: HVPNeT",
        "texts: train a.txt, test b.txt",
        "       train",
        "posts      1",
        "WARNING: beware",
    ]
