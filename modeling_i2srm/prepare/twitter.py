"""The common part of Twitter-2015 and Twitter-2017: finds their files and builds posts from them."""

import hashlib
from collections import Counter
from pathlib import Path

import datasets

from ..support.digests import hash_file
from .builder import MNER_FEATURES, NER_TAGS, PostsBuilder, RawData, RawPost, add_crops, add_own_crops, unique
from .conll import ConllPost, read_conll
from .known_files import KNOWN_FILES, TWEETS
from .picture_files import find_picture_folder, folders_below

TEXT_NAMES = {"train": ("train.txt",), "validation": ("valid.txt", "val.txt", "dev.txt"), "test": ("test.txt",)}
INDEX_NAMES = {"train": "train", "validation": "val", "test": "test"}
UMT = "UMT (github.com/jefferyYu/UMT)"
UMT_CITATION = """
@inproceedings{yu2020improving,
  title = {Improving Multimodal Named Entity Recognition via Entity Span Detection with Unified Multimodal Transformer},
  author = {Yu, Jianfei and Jiang, Jing and Yang, Li and Xia, Rui},
  booktitle = {Proceedings of the 58th Annual Meeting of the Association for Computational Linguistics},
  year = {2020}
}"""
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"


def digests(posts: list[ConllPost]) -> tuple[str, str]:
    """Return digests of posts without and with their tags; line ends do not change them."""
    texts, labels = hashlib.sha256(), hashlib.sha256()
    for post in posts:
        for digest, rows in ((texts, post.tokens), (labels, zip(post.tokens, post.tags, strict=True))):
            digest.update(repr((post.image_id, list(rows))).encode(errors="backslashreplace"))
    return texts.hexdigest()[:16], labels.hexdigest()[:16]


class TwitterBuilder(PostsBuilder):
    """Builder of a Twitter data set; a subclass sets its name."""

    TITLE: str
    CITATION: str

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=f"{self.TITLE}: named entities in tweets with pictures.",
            features=MNER_FEATURES,
            citation=self.CITATION + UMT_CITATION,
            license=TWEETS,
        )

    def read_raw(self) -> RawData:
        root, folder = self.config.root, self.find_texts()
        raw = RawData(splits={}, problems=[], irregularities={}, pictures={}, about={})
        editions, sha256, index, warnings = {}, {}, {}, []
        for split, names in TEXT_NAMES.items():
            path = next(folder / name for name in names if (folder / name).is_file())
            file = read_conll(path, NER_TAGS)
            sha256[split] = hash_file(path)
            editions[split] = self.edition_of(split, path, sha256[split], file.posts)
            posts = raw.splits[split] = [RawPost(columns={}) for _ in file.posts]
            raw.irregularities[split] = file.irregularities + Counter(count_irregularities(file.posts))
            raw.problems += file.problems

            image_names = [post.image_id and f"{post.image_id}.jpg" for post in file.posts]
            named = set(filter(None, image_names))
            if self.config.image_dir:
                pictures = find_picture_folder(Path(self.config.image_dir), named)
            else:
                pictures = find_picture_folder(root, named, data_set=self.NAME)
            raw.pictures[split] = pictures
            if pictures.refused:
                other = self.config.relative(pictures.refused)
                warnings.append(
                    f"{split}: {other} holds less than half of the pictures and is not called {self.NAME}: not used; "
                    f"if they belong to this data set, give --image_dir {pictures.refused}"
                )
            ids = unique([post.image_id or f"{split}-{i:05d}" for i, post in enumerate(file.posts)])
            for post, id, name, row in zip(posts, ids, image_names, file.posts, strict=True):
                post.columns = {"id": id, "tokens": row.tokens, "ner_tags": row.tags}
                post.image, post.image_file = name, pictures.file(name)

            index[split] = folder / f"{self.NAME}_{INDEX_NAMES[split]}_dict.pth"
            if self.config.objects == "released":
                if not index[split].is_file():
                    raise FileNotFoundError(f"no index of the released crops {index[split]}; leave out --objects")
                raw.irregularities[split] += add_crops(posts, image_names, index[split], root)
            elif self.config.objects != "none":
                add_own_crops(posts, Path(self.config.objects))

        edition = UMT
        if set(editions.values()) != {UMT}:
            edition = "; ".join(f"{split}: {name}" for split, name in editions.items())
        if not all(name.startswith(UMT) for name in editions.values()):
            warnings.append(f"not the edition of {UMT}, with which figures can be compared ({edition})")
        hvpnet = any(path.is_file() for path in index.values()) or folder.parent.name == "NER_data"
        raw.about = {
            "layout": "HVPNeT" if hvpnet else "UMT (texts and one picture folder)",
            "edition": edition,
            "texts": self.config.relative(folder),
            "image folders": {split: self.config.relative(pictures.path) for split, pictures in raw.pictures.items()},
            "objects": self.config.objects_said,
            "sha256": sha256,
            "warnings": warnings,
        }
        return raw

    def find_texts(self) -> Path:
        """Return the folder of the three text files: one named like the data set, or `data_dir`."""
        root = self.config.root
        candidates = [
            folder
            for folder, files in folders_below(root)
            if all(set(names) & set(files) for names in TEXT_NAMES.values())
        ]
        named = [folder for folder in candidates if folder.name == self.NAME]
        if not named:
            named = [root] if root in candidates else [one for one in candidates if one.name not in KNOWN_FILES]
        if len(named) != 1:
            folders = ", ".join(map(str, named or candidates)) or "no folder with such files"
            raise FileNotFoundError(
                f"{root}: expected one folder {self.NAME} with train.txt, valid.txt and test.txt, found {folders}; "
                f"e.g. --data_dir RAW where RAW/NER_data/{self.NAME}/train.txt exists, or --download to fetch the texts"
            )
        return named[0]

    def edition_of(self, split: str, path: Path, sha256: str, posts: list[ConllPost]) -> str:
        """Return the edition of a text file, by its digests."""
        known = KNOWN_FILES[self.NAME][split]
        if sha256 == known.sha256:
            return UMT
        texts, labels = digests(posts)
        for name, files in KNOWN_FILES.items():
            if name != self.NAME and texts in {file.texts for file in files.values()}:
                raise ValueError(f"{path} is a file of {name}, not of {self.NAME}: run {name}.py")
        if labels == known.labels:
            return f"{UMT}, but for line ends or lines left out"
        if texts == known.texts:
            return "relabelled (the same posts with other tags; HVPNeT's download is such an edition)"
        return "unknown"


def count_irregularities(posts: list[ConllPost]) -> dict[str, int]:
    """Count the irregularities of the tokens and tags of a split."""
    tokens = [token for post in posts for token in post.tokens]
    orphans = 0
    for post in posts:
        for before, tag in zip(["O", *post.tags[:-1]], post.tags, strict=True):
            orphans += tag.startswith("I-") and before[2:] != tag[2:]
    names = Counter(post.image_id for post in posts if post.image_id)
    texts = Counter(tuple(post.tokens) for post in posts)
    return {
        "I- tags without their B-, kept": orphans,
        "tokens of white space alone": sum(not token.strip() for token in tokens),
        "tokens with invisible characters": sum(any(c in token for c in INVISIBLE) for token in tokens),
        "tokens with replacement characters (U+FFFD)": sum("\ufffd" in token for token in tokens),
        "posts whose picture name repeats, id made unique": sum(names.values()) - len(names),
        "posts whose tokens repeat": sum(texts.values()) - len(texts),
    }
