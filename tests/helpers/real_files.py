"""Checks of what the benchmark scripts make of the real files."""

from pathlib import Path

from raw_files import (
    TEXT_FILES,
    load,
)

from modeling_i2srm.prepare.builder import NER_TAGS


def check_real_files(report: dict, texts: Path, output: Path, cache: Path, expected: dict[str, tuple]):
    """Compare a data set with its raw files, which are read here in another way."""
    assert report["edition"] == "UMT (github.com/jefferyYu/UMT)" and report["unparsed_lines"] == []
    for split, counts in report["splits"].items():
        entities = [counts[name]["all"] for name in ("strict_entities", "lenient_entities")]
        assert (counts["posts"], counts["tokens"], *entities) == expected[split]
        rows = load(output, cache, split).select_columns(["id", "tokens", "ner_tags"])
        blocks = (texts / TEXT_FILES[split]).read_bytes().decode().split("IMGID:")[1:]
        raw = [[line.rpartition("\t")[::2] for line in block.split("\n") if "\t" in line] for block in blocks]
        assert rows["tokens"][:] == [[token for token, _ in post] for post in raw]
        tags = [[NER_TAGS[tag] for tag in post] for post in rows["ner_tags"]]
        assert tags == [[tag.replace("OTHER", "MISC") for _, tag in post] for post in raw]
        names = [block.partition("\n")[0] for block in blocks]
        assert [id.partition("#")[0] for id in rows["id"]] == names and len(set(rows["id"])) == len(names)
