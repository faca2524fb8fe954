"""Where a picture may come from beside files and URLs: data: URIs, opened files, lists; and what is never read."""

import base64
import io
import logging
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pandas as pd
import pytest
import torch
from odd_pictures import assert_picture, assert_refused, encode, noise
from PIL import Image
from tiny import assert_same, tiny_pipeline

from modeling_i2srm.pictures import PictureError, is_absent, load_picture, read_bytes, single_picture
from modeling_i2srm.remote_pictures import AddressError, decode_data_uri

PNG = encode(Image.fromarray(noise()), "PNG")
BASE64 = base64.b64encode(PNG).decode()


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities")


class Stream(io.BytesIO):
    """A stream that can be read once, as that of a download."""

    def seekable(self):
        return False


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{BASE64}",
        f"DATA:image/PNG;BASE64,{BASE64}",
        f"data:;base64,{BASE64}",
        f"data:image/png;name=a.png;base64,{BASE64.replace('=', '%3D').replace('+', '%2B')}",
        "data:image/png;base64," + "\n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76)),
        "data:image/png," + quote_from_bytes(PNG),
        {"bytes": None, "path": f"data:image/png;base64,{BASE64}"},
    ],
)
def test_data_uris_hold_their_picture(uri):
    assert_picture(load_picture(uri), noise())


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("data:image/png;base64,iVBORw0KGgo=!", ["base64 is broken"]),
        ("data:image/png;base64,iVBORw0KGgoAA", ["base64 is broken"]),
        ("data:image/png;base64", ["without a comma"]),
    ],
)
def test_broken_data_uris_are_never_read(uri, words):
    assert_refused(uri, *words, "'data:image/png;base64,")
    with pytest.raises(AddressError):
        decode_data_uri(uri, 1000)


@pytest.mark.parametrize("uri", [f"data:;base64,{BASE64}", "data:," + quote_from_bytes(PNG)])
def test_data_uris_are_bounded(uri, monkeypatch):
    assert decode_data_uri(uri, len(PNG)) == PNG
    for least in (len(PNG) - 1, len(PNG) // 4):
        assert_refused(uri, f"max_bytes={least}", max_bytes=least)
    assert_refused("data:image/png;base64,", "it is empty")
    monkeypatch.setattr(base64, "b64decode", None)  # the bound is looked at first
    assert_refused(f"data:;base64,{BASE64}", "max_bytes=100", max_bytes=100)


@pytest.mark.parametrize("open_file", [io.BytesIO, Stream])
def test_opened_files_are_read(tmp_path, open_file):
    assert_picture(load_picture(open_file(PNG)), noise())
    with pytest.raises(PictureError, match="max_bytes=100"):
        load_picture(open_file(PNG), max_bytes=100)


def test_opened_files_are_read_from_their_start_and_left_where_they_stood(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    written = io.BytesIO()
    Image.fromarray(noise()).save(written, "PNG")  # as one has it after saving: it stands at its end
    with open(path, "rb") as file:
        file.seek(3)
        for stream in (file, written):
            position = stream.tell()
            for _ in range(2):
                assert_picture(load_picture(stream), noise())
            assert stream.tell() == position > 0
    assert_refused(file, "closed file")
    with open(path, encoding="latin-1") as file:
        assert_refused(file, "opened as text", "'rb'")
    assert_refused(io.StringIO("a"), "opened as text")


@pytest.mark.parametrize(
    "picture", [BASE64, BASE64.encode(), base64.b64encode(encode(Image.new("RGB", (9, 9)), "JPEG"))]
)
def test_bare_base64_is_not_guessed(picture):
    assert_refused(picture, "looks like base64", "b64decode", "data:image/png;base64,")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("file:///home/me/kobe.jpg", ["file: addresses", "give the path itself"]),
        ("file:kobe.jpg", ["file: addresses"]),
        ("s3://bucket/kobe.jpg", ["s3: addresses", "its bytes"]),
        ("gs://bucket/kobe.jpg", ["gs: addresses"]),
        ("ftp://host/kobe.jpg", ["ftp: addresses"]),
        ("hf://datasets/a/b.jpg", ["hf: addresses"]),
        ("zip://a.jpg::https://host/b.zip", ["zip: addresses"]),
    ],
)
def test_other_addresses_are_never_read(ner, address, words):
    assert_refused(address, *words, "only http and https")
    with pytest.raises(PictureError) as caught:  # unlike a download that fails, of which the post is read without
        ner({"text": "Kobe", "image": address})
    assert caught.value.kind == "address"
    assert ner({"text": "Kobe", "image": address}, on_image_error="warn") is not None


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        ("no/such.jpg", "missing"),
        ("x" * 5000, "missing"),
        (BASE64, "address"),
        ("data:,", "unreadable"),
        ("data:image/png;base64,?", "address"),
        (b"no picture", "unreadable"),
        (3, "unreadable"),
        ("http://no host/", "download"),
    ],
)
def test_faults_have_a_kind(picture, kind):
    for read in (load_picture, read_bytes):
        if read is read_bytes and isinstance(picture, (bytes, str)) and kind == "unreadable":
            continue
        with pytest.raises(PictureError) as caught:
            read(picture)
        assert caught.value.kind == kind


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, "", {"bytes": None, "path": None}, {"path": float("nan")}],
)
def test_absent_pictures(ner, value):
    assert is_absent(value)
    alone = ner({"text": "Kobe lands in Paris"})
    assert_same(ner({"text": "Kobe lands in Paris", "image": value, "objects": [value]}), alone)
    inputs = ner.processor(text=["Kobe"], images=[value], objects=[[value]])
    assert "pixel_values" not in inputs


@pytest.mark.parametrize("value", [0.0, 0, False, b"", [], {}, {"start": 1}, "a.jpg", np.zeros(3), torch.zeros(3)])
def test_what_is_there_is_not_absent(value):
    assert not is_absent(value)


def test_of_several_pictures_the_first_is_read_with_a_warning(ner, caplog):
    first, second = (Image.fromarray(noise(seed=seed)) for seed in (1, 2))
    text = "Kobe lands in Paris"
    expected = ner({"text": text, "image": first})
    several = np.empty(2, dtype=object)
    several[:] = [first, second]
    with caplog.at_level(logging.WARNING, "modeling_i2srm"):
        for pictures in ([first, second], (first, second), [None, first, second], several):
            caplog.clear()
            assert_same(ner({"text": text, "image": pictures}), expected)
            assert "image holds 2 pictures: the first is read" in caplog.text
            inputs = ner.processor(text=[text], images=[pictures])
            assert torch.equal(inputs["pixel_values"], ner.processor(text=[text], images=[first])["pixel_values"])
        caplog.clear()
        assert_same(ner({"text": text, "image": [first]}), expected)
        assert_same(ner({"text": text, "image": [None]}), ner(text))
        assert_same(ner({"text": text, "image": []}), ner(text))
        assert "the first is read" not in caplog.text
    assert single_picture(noise()) is not None  # an array is one picture
    with pytest.raises(PictureError, match="of type list"):
        ner({"text": text, "image": [[0, 1], [2, 3]]})


@pytest.mark.parametrize(
    "make", [lambda: f"data:image/png;base64,{BASE64}", lambda: io.BytesIO(PNG), lambda: Stream(PNG)]
)
def test_pipelines_and_croppers_read_them_as_bytes(ner, make):
    post = {"text": "Kobe lands in Paris", "image": PNG}
    assert_same(ner({**post, "image": make()}), ner(post))
    seen = []

    def cropper(pictures, texts):
        seen.extend(pictures)
        return [[] for _ in pictures]

    ner({**post, "image": make()}, cropper=cropper)
    assert_picture(seen[0], noise())


def test_a_path_object_is_read(tmp_path, ner):
    path = Path(tmp_path / "a b.png")
    path.write_bytes(PNG)
    assert_same(
        ner({"text": "Kobe", "image": path, "objects": [path]}), ner({"text": "Kobe", "image": PNG, "objects": [PNG]})
    )
