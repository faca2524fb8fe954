"""Answer posts with an exported model, without torch: the files beside this one are all that it reads.

    python OUT/extract.py post.json              # a post, a list of posts, or JSON Lines; prints a line for each
    python OUT/extract.py posts.jsonl --threads 1

    from extract import OnnxExtractor            # with OUT in sys.path
    print(OnnxExtractor("OUT")({"text": "Kobe lands in Paris", "image": "kobe.jpg"}).to_triples())

Needs onnxruntime, tokenizers, numpy and pillow. Keys of a post are text or tokens, image and objects (crops); paths are
relative to the folder of the file. URLs are not read, and no detector looks for crops.
"""

import argparse
import json
import logging
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..crf import find_entities
from ..inference.answers import Entity, Extraction, FoundObject, Region, Relation, objects_of, picture_names
from ..joint_pipeline import IMPOSSIBLE, MAX_ENTITIES
from ..posts import Post, find_pairs, read_post
from ..words import EntityPairError
from .inputs import PictureReader, TextEncoder
from .session import OnnxSession, check_finite, log_softmax

MODEL, SETTINGS, TOKENIZER, CHARACTERS = "model.onnx", "settings.json", "tokenizer.json", "characters.json"
FORMAT = 1  # of the settings
EXAMPLE = 'extractor({"text": "Kobe lands in Paris", "image": "kobe.jpg"})'
PAIR_EXAMPLE = 'extractor({"text": "Kobe lands in Paris", "head": (0, 4), "tail": (14, 19), "image": "kobe.jpg"})'


class Classes(dict):
    """The symbol of the class of each character, as `str.translate` reads it (see patterns.py)."""

    def __missing__(self, code: int) -> str | int:
        table = read_characters()
        place = bisect_right(table["starts"], code) - 1
        self[code] = code if code < table["starts"][0] else table["symbols"][place]
        return self[code]


CLASSES = Classes()


@cache
def read_characters() -> dict:
    return json.loads(Path(__file__).with_name(CHARACTERS).read_text(encoding="utf-8"))


class ClassPattern:
    """A word pattern, which matches texts whose characters are replaced by the symbols of their classes."""

    def __init__(self, name: str, place: int = 0):
        self.name, self.place = name, place

    @property
    def compiled(self) -> re.Pattern:
        return re.compile(read_characters()["patterns"][self.name][self.place])  # `re` keeps what it has compiled

    def finditer(self, text: str) -> Iterable[re.Match]:
        return self.compiled.finditer(text.translate(CLASSES))

    def search(self, text: str) -> re.Match | None:
        return self.compiled.search(text.translate(CLASSES))

    def match(self, text: str) -> re.Match | None:
        return self.compiled.match(text.translate(CLASSES))


# In extract.py these stand for what the package makes with packages that are not there (see bundle.py).
logger = logging.getLogger("extract")
HAS_UNSPACED, ENDS_UNSPACED = ClassPattern("has_unspaced"), ClassPattern("ends_unspaced")
SPLITTINGS = {
    name: (ClassPattern(name), ClassPattern(name, 1))
    for name in ("spaces", "words", "multilingual", "hashtags_apart", "signs_apart")
}


def download(url: str, *options: object) -> bytes:
    raise ValueError(f"{url[:300]!r} is a URL, and nothing is read from the network here")


class OnnxExtractor:
    """Answer posts with a model that `i2srm export --output FOLDER` has written, as the package does with torch.

    Rows go through the model one at a time, so that no post changes the answer of another.

    Args:
        folder: the exported folder; default that of this file.
        threads: most threads per operation; by default onnxruntime chooses.
        threshold, relation_threshold: leave out entities and relations with a lower score.
        on_image_error: `None` raises for a picture that cannot be read; "warn" leaves it out, and image_errors names
            it.

    Raises:
        ValueError: a folder that is not an exported one.

    Example:

    >>> extractor = OnnxExtractor("OUT")  # doctest: +SKIP
    >>> extractor({"text": "Kobe lands in Paris", "image": "kobe.jpg"}).to_triples()  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        threads: int | None = None,
        threshold: float = 0.0,
        relation_threshold: float = 0.0,
        on_image_error: str | None = None,
    ):
        if on_image_error not in (None, "warn", "raise"):
            raise ValueError(f"on_image_error={on_image_error!r} must be one of None, 'warn', 'raise'")
        for name, value in (("threshold", threshold), ("relation_threshold", relation_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value!r} must be between 0 and 1, e.g. {name}=0.5")
        path = Path(__file__).parent if folder is None else Path(folder)
        if not (path / SETTINGS).is_file():
            raise ValueError(
                f"{str(path)!r} holds no {SETTINGS}: write it with i2srm export --model MODEL --output OUT"
            )
        self.settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        if self.settings["format"] != FORMAT:
            raise ValueError(
                f"{str(path)!r} has format {self.settings['format']}, not {FORMAT}: use its own extract.py"
            )
        self.head: str = self.settings["head"]
        self.text = TextEncoder((path / TOKENIZER).read_text(encoding="utf-8"), self.settings["text"])
        self.pictures = PictureReader(self.settings["pictures"])
        self.session = OnnxSession(path / MODEL, threads)
        self.threshold, self.relation_threshold = threshold, relation_threshold
        self.on_image_error = on_image_error

    def __call__(self, posts: object) -> "Extraction | dict | list":
        """Answer a post or a list of posts.

        Args:
            posts: a text, or a dict of text or tokens, image, objects and id; of a model of relations also head and
                tail, or pairs.

        Returns:
            The `Extraction` of each post, whose `to_dict()` is in the exchange format. Of a model of relations the
            answer {"label", "score"}, or a list of them for pairs, `None` where a pair does not fit; of one of whole
            posts {"label", "score"}. words_left_out and image_errors stand where there are any.

        Raises:
            ValueError: not a post, a URL; `PictureError` and `EntityPairError` (of head and tail) are such errors.
        """
        if isinstance(posts, (str, Mapping)):
            return self.answer(posts, self.read(posts))
        if isinstance(posts, bytes) or not isinstance(posts, Iterable):
            raise ValueError(f"{posts!r:.200} is not a post; e.g. {self.example}")
        posts, read = list(posts), []
        for place, post in enumerate(posts):  # all are checked before the first is answered
            try:
                read.append(self.read(post))
            except ValueError as error:
                raise ValueError(f"post {place}: {error}") from None
        return [self.answer(*pair) for pair in zip(posts, read, strict=True)]

    @property
    def example(self) -> str:
        return PAIR_EXAMPLE if self.head == "mre" else EXAMPLE

    def read(self, post: object) -> Post:
        keys = ("text", "tokens", "image", "objects", *(("head", "tail", "pairs") if self.head == "mre" else ()))
        return read_post(cast(Any, post), keys, self.example, self.settings["word_splitting"])

    def answer(self, given: str | Mapping, post: Post) -> Extraction | dict | list:
        """The answer to a post as it is given and as it is read."""
        post.load_pictures(cast(Any, self.pictures), self.on_image_error)
        reads = self.settings.get("reads_pictures", True)
        pictures = self.pictures.encode(post.image, list(post.objects or [])) if reads else {}
        if self.head in ("mre", "classification"):
            answers: list[dict | None] = [self.answer_label(post, pictures)] if self.head == "classification" else []
            if self.head == "mre":
                answers = self.answer_pairs(post, pictures)
            if post.image_errors:
                answers = [one and {**one, "image_errors": dict(post.image_errors)} for one in answers]
            return cast(dict, answers[0]) if post.pairs is None else answers
        answer = Extraction(post.text, [], [], post.id, dict(post.image_errors), tokens=post.tokens)
        if isinstance(given, Mapping):
            answer.image, post.crop_names = picture_names(given)
        answer.objects = objects_of(post, self.pictures.settings["num_objects"], self.head == "joint")
        rows, windows, owners = self.text.encode_windows([word.text for word in post.words])
        if self.head == "joint":
            self.fill_graph(answer, post, [self.session.encode(**row, **pictures) for row in rows], windows, owners)
        else:
            logits = [self.session(**row, **pictures)[0] for row in rows]
            emissions = collect(logits, [row["word_mask"][0] for row in rows], windows, owners)
            [tags] = self.session.decode(emissions[None], np.ones((1, len(owners))))
            found = find_entities([self.session.labels[tag] for tag in tags])
            scores = self.session.span_scores(emissions, [(start, tags[start:end]) for start, end, _ in found])
            for (start, end, kind), score in zip(found, scores.tolist(), strict=True):
                if score >= self.threshold:
                    answer.entities.append(entity_of(post, start, end, kind, score))
        return answer

    def answer_label(self, post: Post, pictures: dict) -> dict:
        """The label of a post."""
        words = [word.text for word in post.words]
        row, count = self.text.encode_words(self.text.sub_tokens(words[: self.text.room]))
        return self.best_label({**row, **pictures}, len(words) - count)

    def answer_pairs(self, post: Post, pictures: dict) -> list[dict | None]:
        """The relation of each pair of a post."""
        answers = list[dict | None]()
        for words, head, tail in find_pairs(post, self.example, self.settings["word_splitting"]):
            try:
                row, left_out = self.text.encode_pair(self.text.sub_tokens([word.text for word in words]), head, tail)
            except EntityPairError:
                if post.pairs is None:
                    raise
                answers.append(None)
                continue
            answers.append(self.best_label({**row, **pictures}, left_out))
        return answers

    def best_label(self, inputs: dict, left_out: int) -> dict:
        logits = self.session(**inputs)[0].astype(np.float64)
        best = int(logits.argmax())
        notes = {"words_left_out": left_out} if left_out else {}
        return {"label": self.session.labels[best], "score": float(np.exp(log_softmax(logits)[best])), **notes}

    def fill_graph(
        self,
        answer: Extraction,
        post: Post,
        states: list[dict[str, np.ndarray]],
        windows: list[tuple[int, int]],
        owners: list[int],
    ) -> None:
        """Fill in the entities, regions and relations of a post from the states of its windows.

        Each entity is read from the window that shows most of what stands around it, and a pair likewise.
        """
        logits, masks = ([state[name][0] for state in states] for name in ("logits", "word_mask"))
        emissions = collect(logits, masks, windows, owners)
        [ids] = self.session.decode(emissions[None], np.ones((1, len(owners))))
        tags = [self.session.labels[tag] for tag in ids]
        spans = [(start, end) for start, end, _ in find_entities(tags)]
        relations, regions, seen = self.score_windows(spans, states, windows)
        found, triples = list[dict](), list[dict]()
        left_out = ~seen
        for start in range(0, len(spans), MAX_ENTITIES):
            part = slice(start, start + MAX_ENTITIES)
            scores, unseen = relations[part, part].copy(), ~seen[part, part]
            scores[unseen] = IMPOSSIBLE
            scores[unseen, 0] = 0.0
            graph = self.session.graph(tags, spans[part], emissions, scores, regions[part])
            found += graph["entities"]
            triples += [{**one, "head": one["head"] + start, "tail": one["tail"] + start} for one in graph["relations"]]
            left_out[part, :start] = left_out[part, start + MAX_ENTITIES :] = True
        answer.pairs_left_out, answer.grounded = self.count_allowed(found, left_out), True
        places = {
            n: place for place, n in enumerate(n for n, one in enumerate(found) if one["score"] >= self.threshold)
        }
        for n in places:
            one = found[n]
            shown = answer.objects[one["region"]] if one["region"] >= 0 else None
            box = shown.box if isinstance(shown, FoundObject) else None
            region = None if one["region"] < 0 else Region(one["region"], box, one["region_score"])
            answer.entities.append(entity_of(post, one["start"], one["end"], one["label"], one["score"], region))
        answer.relations += [
            Relation(places[one["head"]], places[one["tail"]], one["label"], one["score"])
            for one in triples
            if one["score"] >= self.relation_threshold and {one["head"], one["tail"]} <= places.keys()
        ]

    def score_windows(
        self, spans: list[tuple[int, int]], states: list[dict[str, np.ndarray]], windows: list[tuple[int, int]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The logits of the relations (E, E, R) and regions (E, M+1) of spans, and whether a window shows both."""
        count, length, bounds = len(spans), windows[-1][1], np.array(spans, float).reshape(-1, 2)
        relations = np.zeros((count, count, len((self.session.joint or {})["relations"])))
        regions = np.full((count, self.session.max_pictures), IMPOSSIBLE)
        regions[:, -1] = 0.0
        margin = np.full((count, count), -1.0)  # words between a pair and the nearer edge of the best window
        for (first, last), state in zip(windows, states, strict=True):
            inside = [n for n, (start, end) in enumerate(spans) if first <= start and end <= last]
            if not inside:
                continue
            shifted = [(spans[n][0] - first, spans[n][1] - first) for n in inside]
            of_pairs, of_spans = (scores[0] for scores in self.session.score_spans(state, [shifted]))
            starts, ends = bounds[inside].T
            left = np.minimum(starts[:, None], starts) - first if first else np.inf
            right = last - np.maximum(ends[:, None], ends) if last < length else np.inf
            nearer = np.broadcast_to(np.minimum(left, right), (len(inside), len(inside)))
            pairs = np.ix_(inside, inside)
            better = nearer > margin[pairs]
            relations[pairs] = np.where(better[..., None], of_pairs, relations[pairs])
            regions[inside] = np.where(better.diagonal()[:, None], of_spans, regions[inside])
            margin[pairs] = np.where(better, nearer, margin[pairs])
        return relations, regions, margin >= 0

    def count_allowed(self, entities: list[dict], pairs: np.ndarray) -> int:
        """How many of the pairs (E, E) are of two entities with types that some relation allows."""
        triples = (self.session.joint or {})["types"]
        kinds = [one["label"] for one in entities]
        allowed = None if triples is None else {(head, tail) for head, _, tail in triples}
        chosen = [(kinds[head], kinds[tail]) for head, tail in np.argwhere(pairs).tolist() if head != tail]
        return sum(allowed is None or pair in allowed for pair in chosen)


def collect(
    logits: list[np.ndarray], word_masks: list[np.ndarray], windows: list[tuple[int, int]], owners: list[int]
) -> np.ndarray:
    """The emissions (W, N) of the words of a post, each from the window that owns it.

    Raises:
        ValueError: some are NaN or infinite.
    """
    owned = np.array(owners)
    emissions = np.empty((len(owners), logits[0].shape[-1]), np.float32)
    for n, (scores, mask, (first, last)) in enumerate(zip(logits, word_masks, windows, strict=True)):
        mine = owned[first:last] == n
        emissions[first:last][mine] = scores[np.flatnonzero(mask)][mine]
    check_finite(emissions[None])
    return emissions


def entity_of(post: Post, start: int, end: int, kind: str, score: float, region: Region | None = None) -> Entity:
    """An entity from its words."""
    first, last = post.words[start].start, post.words[end - 1].end
    return Entity(kind, score, post.text[first:last], first, last, region)


def read_posts(path: Path) -> list:
    """The posts of a file: JSON, a post or a list of posts, or JSON Lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    posts = json.loads(text)
    return posts if isinstance(posts, list) else [posts]


def in_folder(post: object, folder: Path) -> object:
    """A post whose paths of pictures are relative to a folder."""
    if not isinstance(post, dict):
        return post

    def resolve(picture: object) -> object:
        local = (
            isinstance(picture, str) and picture and not re.match(r"[a-z][a-z0-9+.-]+://|data:|file:", picture, re.I)
        )
        return str(folder / str(picture)) if local else picture

    post = {**post, "image": resolve(post.get("image"))}
    crops = post.get("objects")
    return {**post, "objects": [resolve(one) for one in crops]} if isinstance(crops, list) else post


def main(arguments: list[str] | None = None) -> None:
    """Answer the posts of a file; an error ends the process with code 2 and a sentence."""
    parser = argparse.ArgumentParser(
        "extract.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("posts", type=Path, help="a file of posts, .json or .jsonl")
    parser.add_argument("--threads", type=int, help="most threads per operation; by default onnxruntime chooses")
    parser.add_argument("--folder", type=Path, help="the exported folder (default that of this file)")
    parser.add_argument(
        "--on_image_error", choices=["warn", "raise"], help="warn: read posts without pictures that cannot be read"
    )
    chosen = parser.parse_args(arguments)
    try:
        extractor = OnnxExtractor(chosen.folder, chosen.threads, on_image_error=chosen.on_image_error)
        for place, post in enumerate(read_posts(chosen.posts)):
            try:
                answer = extractor(in_folder(post, chosen.posts.parent))
            except ValueError as error:
                raise ValueError(f"post {place}: {error}") from None
            if isinstance(answer, Extraction):
                answer.image, names = picture_names(post) if isinstance(post, dict) else (None, [])
                answer.objects = [names[n] if isinstance(one, str) else one for n, one in enumerate(answer.objects)]
                answer = answer.to_dict()
            print(json.dumps(answer))
    except (ValueError, OSError) as error:
        print(f"extract.py: {error}", file=sys.stderr)
        sys.exit(2)


__all__ = ["OnnxExtractor"]

if __name__ == "__main__":
    main()
