"""encoding.py: posts encoded in batches are those encoded one by one, and cached as long as nothing changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset
from encoded_files import POSTS, encode_files, entities
from tiny import (
    SENTENCES,
    bert_tokenizer,
    bertweet_tokenizer,
    roberta_tokenizer,
    sentencepiece_tokenizer,
    slow_tokenizer,
    tiny_config,
    tiny_processor,
)

from modeling_i2srm import I2SRMForTokenClassification, VisualFeatureCache
from modeling_i2srm.data.dataset import encode_split, posts_pieces
from modeling_i2srm.prepare.builder import mre_features
from modeling_i2srm.training.tasks import MNER, MRE

ROOT = Path(__file__).resolve().parents[2]
TOKENIZERS = [bert_tokenizer, roberta_tokenizer, sentencepiece_tokenizer, slow_tokenizer, bertweet_tokenizer]


@pytest.fixture
def data(tmp_path, monkeypatch) -> str:
    """A data set in a file, which datasets caches in this test's own folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    entities().remove_columns("length").to_parquet(tmp_path / "data" / "train.parquet")
    return str(tmp_path / "data")


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_pieces_of_many_posts_are_those_of_each(tokenizer):
    processor = tiny_processor(tokenizer())
    known = {}
    pieces = posts_pieces(processor, POSTS[:3], known) + posts_pieces(processor, POSTS[3:], known)
    assert pieces == [processor.sub_tokens(post) for post in POSTS]
    for post, known in zip(POSTS, pieces, strict=True):
        assert processor.encode_tokens(post, pieces=known) == processor.encode_tokens(post)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_split_is_encoded_as_its_rows_are(tokenizer):
    processor, data = tiny_processor(tokenizer()), entities()
    encoded, _ = encode_split(MNER, data, processor, 24, "test")
    for row, source in zip(encoded, data, strict=True):
        expected = processor.encode_tokens(source["tokens"], source["ner_tags"], max_length=24)
        assert {name: row[name] for name in expected} == expected
        assert row["length"] == len(expected["input_ids"])  # in the place of the column of this name


def test_a_split_of_pairs_is_encoded_as_its_rows_are():
    processor = tiny_processor()
    processor.add_entity_markers()
    rows = [
        {"tokens": post, "head": {"start": 0, "end": 1}, "tail": {"start": 2, "end": 3}, "relation": i % 2}
        for i, post in enumerate(map(str.split, SENTENCES))
    ]
    features = {name: mre_features(["None", "met"])[name] for name in ("tokens", "head", "tail", "relation")}
    data = Dataset.from_list(rows)
    for name, feature in features.items():
        data = data.cast_column(name, feature)
    encoded, _ = encode_split(MRE, data, processor, 40, "test", length_column="sub_tokens")
    for row, source in zip(encoded, rows, strict=True):
        expected = processor.encode_pair(*source.values(), max_length=40)
        assert {name: row[name] for name in expected} == expected
        assert row["sub_tokens"] == len(expected["input_ids"])


ANOTHER_PROCESS = """
import json, sys
sys.path[:0] = {paths!r}
import conftest
from encoded_files import encode_files
from modeling_i2srm import I2SRMForTokenClassification, I2SRMProcessor, VisualFeatureCache
model, processor = (kind.from_pretrained({saved!r}) for kind in (I2SRMForTokenClassification, I2SRMProcessor))
print("FILES", json.dumps(encode_files({data!r}, {saved!r})))
print("FOLDER", VisualFeatureCache.for_model({cache!r}, model, processor).folder.name)
"""


@pytest.mark.slow  # it imports everything once more
def test_encoded_text_and_features_are_found_again_in_another_process(data, tmp_path):
    processor = tiny_processor(max_length=40)
    (first,) = encode_files(data, processor)
    model = I2SRMForTokenClassification(tiny_config())
    for part in (model, processor):
        part.save_pretrained(tmp_path / "saved")
    written = Path(first).stat().st_mtime_ns
    paths = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/helpers")]
    cache = str(tmp_path / "features")
    script = ANOTHER_PROCESS.format(paths=paths, data=data, saved=str(tmp_path / "saved"), cache=cache)
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("FILES", "FOLDER")))
    assert json.loads(printed["FILES"]) == [first]
    assert printed["FOLDER"] == VisualFeatureCache.for_model(cache, model, processor).folder.name
    assert Path(first).stat().st_mtime_ns == written


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_processor_that_was_used_finds_the_encoded_text_again(tokenizer, data, tmp_path):
    processor = tiny_processor(tokenizer())
    files = encode_files(data, processor)
    processor(tokens=SENTENCES[0].split())
    processor.tokenizer(SENTENCES, padding=True, truncation=True, max_length=8)
    assert len(files) == 1 and encode_files(data, processor) == files
    processor.save_pretrained(tmp_path / "processor")
    assert encode_files(data, str(tmp_path / "processor")) == files


def test_what_changes_the_encoded_text_makes_a_new_file(data, monkeypatch):
    files = [encode_files(data, tiny_processor()), encode_files(data, tiny_processor(), max_length=20)]
    files.append(encode_files(data, tiny_processor(bert_tokenizer(lowercase=False))))
    marked = tiny_processor()
    marked.add_entity_markers()
    files.append(encode_files(data, marked))
    shorter = bert_tokenizer()
    shorter.model_max_length = 30
    files.append(encode_files(data, tiny_processor(shorter)))
    monkeypatch.setattr("modeling_i2srm.data.dataset.__version__", "0.0.1")
    files.append(encode_files(data, tiny_processor()))
    entities(POSTS[:3]).remove_columns("length").to_parquet(Path(data) / "train.parquet")
    files.append(encode_files(data, tiny_processor()))
    assert all(len(names) == 1 for names in files) and len({names[0] for names in files}) == len(files)
