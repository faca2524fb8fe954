"""The known text files: where they are published, on what terms, and how they are recognised."""

from typing import NamedTuple

TWEETS = """\
None is stated. The texts and pictures are tweets: their rights stay with their authors, and Twitter's terms apply.
The data set is for research; do not publish what you are not allowed to."""

UMT = "https://raw.githubusercontent.com/jefferyYu/UMT/f478ee65564b5532319a6cc643203149acfc5eed/data"
MNRE = "https://raw.githubusercontent.com/thecharm/MNRE/354211ed7b8d066f989ade6fa6c4a387e3c6de81/mnre_txt"


class KnownFile(NamedTuple):
    """A text file of a split.

    Args:
        url: Where it is published.
        path: Its path in HVPNeT's layout.
        sha256: Of its bytes.
        texts: Of its posts without their labels, for Twitter; line ends do not matter.
        labels: Of its posts with their labels, likewise.
    """

    url: str
    path: str
    sha256: str
    texts: str = ""
    labels: str = ""


KNOWN_FILES = {
    "twitter2015": {
        "train": KnownFile(
            f"{UMT}/twitter2015/train.txt",
            "NER_data/twitter2015/train.txt",
            "a6246e37aa1c8acd738747fa8257e01775f2a1cc0d4f36f82f9d41d6246ad6fa",
            "62640074ccf43fd6",
            "9be3e4afc777c9ac",
        ),
        "validation": KnownFile(
            f"{UMT}/twitter2015/valid.txt",
            "NER_data/twitter2015/valid.txt",
            "9dcc7f9df7331de3c9cdf67a3450e041c41c6254b5e43925c576e2dfaaabe2ad",
            "e2e00d4f2082e550",
            "a41a8f2c2b48b84c",
        ),
        "test": KnownFile(
            f"{UMT}/twitter2015/test.txt",
            "NER_data/twitter2015/test.txt",
            "edb2665b89bfe58bca06a2c10b9b31cbfa95456135b6a4cbf55c872e48d9b8f9",
            "33e346a178ce810f",
            "bc9a29fa54fbc978",
        ),
    },
    "twitter2017": {
        "train": KnownFile(
            f"{UMT}/twitter2017/train.txt",
            "NER_data/twitter2017/train.txt",
            "801e149e8635b19d66b4ec1212c329be340ada501b35c5fa55455fb6f53633be",
            "34d56dd60a14c040",
            "92716c1ee6335c4d",
        ),
        "validation": KnownFile(
            f"{UMT}/twitter2017/valid.txt",
            "NER_data/twitter2017/valid.txt",
            "41b5db90cb32059c14c2c3ccd50845fb77f1e3d3e4f7d0c210a61bc507d8a73e",
            "2da6237c2f514f5f",
            "74712666338c6566",
        ),
        "test": KnownFile(
            f"{UMT}/twitter2017/test.txt",
            "NER_data/twitter2017/test.txt",
            "a7d9e172ae85bd3e35276eb2b01ce223321bdc92a47b234e24305d72e7a05243",
            "d97f52e20d79b71e",
            "02d369197c1dfdcf",
        ),
    },
    "mnre": {
        "train": KnownFile(
            f"{MNRE}/mnre_train.txt",
            "RE_data/txt/ours_train.txt",
            "1cc34438a00e2a2db73e4eba297820f926f62abd1fddc693caa13c58b62428b7",
        ),
        "validation": KnownFile(
            f"{MNRE}/mnre_val%20.txt",  # the published name has a space in it
            "RE_data/txt/ours_val.txt",
            "c76865179b5678167b164c21fd25ed31f9a1416da393ac93ce70f32b00352b75",
        ),
        "test": KnownFile(
            f"{MNRE}/mnre_test.txt",
            "RE_data/txt/ours_test.txt",
            "f53c2f9b7739bea7d08aee4a91bfd6ec7432e1d0eeb83debf10f5d3291bc5215",
        ),
    },
}
