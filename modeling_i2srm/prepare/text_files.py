"""Reads text files in the encodings that editors and spreadsheets write."""

import codecs
from collections import Counter
from pathlib import Path

BYTE_ORDER_MARKS = (  # the marks of UTF-32 begin with those of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
ZEROS = 0.4  # share of zero bytes at even or odd places by which UTF-16 without a mark is recognised


def read_text(path: Path, encoding: str | None = None, irregularities: Counter | None = None) -> str:
    """Return the text of a file: UTF-8, or UTF-16 or UTF-32 that begin with a byte order mark, or UTF-16 without one.

    Args:
        path: the file.
        encoding: the encoding, where it is known; anything that Python knows, e.g. "cp1252".
        irregularities: counts files of another encoding than UTF-8.

    Returns:
        The text without a byte order mark. Bytes that are not UTF-8 are lone surrogates in it; see `undecodable`.

    Raises:
        ValueError: the encoding is unknown, or the file is not in it.
    """
    content = path.read_bytes()
    mark, marked = next(((mark, name) for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), (b"", None))
    name = encoding or marked or (guess_utf16(content) if b"\x00" in content[:1000] else None) or "utf-8"
    try:
        if not encoding:
            content = content.removeprefix(mark)
        text = content.decode(name, "strict" if name != "utf-8" or encoding else "surrogateescape")
    except LookupError:
        raise ValueError(f"no encoding is called {name!r}; e.g. --encoding cp1252") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not in {name}: {error}; e.g. --encoding cp1252") from None
    if irregularities is not None and name != "utf-8":
        irregularities[f"files in {name}, read"] += 1
    return text.removeprefix("\ufeff")


def guess_utf16(content: bytes) -> str | None:
    """Return UTF-16 of a byte order if the zero bytes of ASCII characters show it, else `None`."""
    first, second = content[:1000:2].count(0), content[1:1000:2].count(0)
    least = ZEROS * len(content[:1000:2])
    name = "utf-16-be" if first > least and not second else "utf-16-le" if second > least and not first else None
    try:
        return name and (content.decode(name), name)[1]
    except UnicodeDecodeError:
        return None


def split_lines(text: str) -> list[str]:
    """Split a text into lines that end in LF, CR LF or, where there is no LF, in CR; no other character ends a line."""
    if "\n" not in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


def undecodable(line: str) -> str | None:
    """Return what is wrong with a line that holds bytes which are not UTF-8, else `None`."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        shown = line[max(error.start - 20, 0) : error.end + 20].encode(errors="surrogateescape")
        return f"not UTF-8: {shown!r}; if the file is in another encoding, name it, e.g. --encoding cp1252"
    return None
