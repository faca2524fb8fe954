"""The pipeline of joint models: a post in, its entities, the objects that show them, and the relations between them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from .checks import check_on_image_error, check_sub_tokens, check_threshold
from .crf import find_entities
from .crops import describe_crop
from .joint_head import Graph, GraphEntity, GraphRelation, I2SRMJointOutput
from .modeling_joint import I2SRMForJointExtraction
from .pipeline_i2srm import (
    ROWS_TOGETHER,
    MultimodalTokenClassificationPipeline,
    label_names,
    options,
)
from .posts import Post

MAX_ENTITIES = 100  # of a long post that are decoded together: all pairs of them are scored
# The logit of a relation of two entities that no window shows together, and of a crop for an entity that none shows.
IMPOSSIBLE = -1e4


@dataclass
class Chunk:
    """Rows that went through the model together: (post, number of the row), its outputs, and the mask of the words."""

    rows: list[tuple[Post, int]]
    outputs: Any  # an `I2SRMJointOutput`, all of whose tensors are there
    word_mask: torch.Tensor


@dataclass
class PostScores:
    """What a model says of the W words of a post and of E spans of them, put together from its windows.

    Args:
        emissions: (W, N) of each word.
        spans: (E, 2), first word and last word + 1.
        relations: (E, E, R) logits, head x tail.
        regions: (E, M+1) logits, those of "none" last.
        seen: (E, E), whether a window shows both entities.
    """

    emissions: torch.Tensor
    spans: torch.Tensor
    relations: torch.Tensor
    regions: torch.Tensor
    seen: torch.Tensor


class MultimodalJointExtractionPipeline(MultimodalTokenClassificationPipeline):
    """Find the entities of posts, the objects that show them, and the relations between them, in one pass.

    `pipeline("multimodal-joint-extraction", model=..., trust_remote_code=True)`. Posts, windows, croppers and batches
    are those of `MultimodalTokenClassificationPipeline`. In a post of several windows each entity is read from the
    window that shows most of what stands around it, and a pair likewise, if any window holds both.

    Args:
        threshold: leave out entities with a lower score, and their relations; default 0.
        relation_threshold: leave out relations with a lower score; default 0.
        stride, max_length, on_image_error, allow_private_addresses, cropper, batch_size: as for
            `MultimodalTokenClassificationPipeline`.

    Returns:
        For each post {"entities": [{"entity_group": type, "score", "word", "start", "end": characters, "region"}],
        "relations": [{"head", "tail": places in entities, "label", "score"}]}. "region" is `None` where no object shows
        the entity, else {"index": place in objects, "box": (left, top, right, bottom) of an object that a cropper has
        found, else `None`, "score"}. `Graph` says which probabilities the scores are. "pairs_left_out" says how many
        pairs of a long post have no window that holds both; "objects" and "image_errors" are as of entities.

    Raises:
        ValueError: as for `MultimodalTokenClassificationPipeline`.

    Example:

    >>> from transformers import pipeline
    >>> extract = pipeline("multimodal-joint-extraction", model="runs/quickstart")  # doctest: +SKIP
    >>> extract({"text": "Kobe lands in Paris", "image": "kobe.jpg", "objects": ["crop.jpg"]})  # doctest: +SKIP
    {'entities': [{'entity_group': 'PER', 'score': 0.98, 'word': 'Kobe', 'start': 0, 'end': 4,
                   'region': {'index': 0, 'box': None, 'score': 0.99}},
                  {'entity_group': 'LOC', 'score': 0.97, 'word': 'Paris', 'start': 14, 'end': 19, 'region': None}],
     'relations': [{'head': 0, 'tail': 1, 'label': 'visits', 'score': 0.9}]}
    """

    model: I2SRMForJointExtraction

    def _sanitize_parameters(  # type: ignore[override]  # fewer and named, as Pipeline allows
        self,
        threshold=None,
        relation_threshold=None,
        stride=None,
        max_length=None,
        on_image_error=None,
        allow_private_addresses=None,
    ):
        thresholds = options(threshold=threshold, relation_threshold=relation_threshold)
        for name, value in thresholds.items():
            check_threshold(name, value)
        check_sub_tokens(stride=stride, max_length=max_length)
        check_on_image_error(on_image_error)
        reading = {"on_image_error": on_image_error, "allow_private_addresses": allow_private_addresses}
        return options(stride=stride, max_length=max_length, **reading), {}, thresholds

    def answer(self, posts, together):  # type: ignore[override]  # fewer and named, as Pipeline allows
        """Fill in the graph of each post, and how many of its pairs are left out."""
        long: list[Chunk] = []
        for chunk in self.chunks(posts, together):
            whole = [n for n, (post, _) in enumerate(chunk.rows) if len(post.rows) == 1]
            if whole:
                outputs, mask = chunk.outputs, chunk.word_mask
                if len(whole) < len(chunk.rows):
                    long.append(chunk)
                    outputs, mask = take(outputs, whole), mask[whole]
                for n, graph in zip(whole, self.model.decode_graphs(outputs, mask), strict=True):
                    chunk.rows[n][0].answers = [graph, 0]
            else:
                long.append(chunk)
        windowed = [post for post in posts if len(post.rows) > 1]
        for post, answers in zip(windowed, self.decode(self.put_together(windowed, long)), strict=True):
            post.answers = list(answers)

    def chunks(self, posts: list[Post], together: int = ROWS_TOGETHER, **options: object) -> Iterable[Chunk]:
        """Yield the rows of posts after they have gone through the model.

        Args:
            together: as of `batches`.
            options: of the model's `forward`.
        """
        for rows, batch in self.batches(posts, together):
            try:
                outputs = self.model(**batch, **cast(Any, options))
            except ValueError as error:  # scores that are not finite: it names places in the batch
                texts = ", ".join(f"{post.text!r:.60}" for post, _ in rows)
                raise ValueError(f"{error}. The posts of the batch: {texts}") from None
            yield Chunk(rows, outputs, batch["word_mask"])

    def put_together(
        self, posts: list[Post], chunks: Iterable[Chunk], spans: list[torch.Tensor] | None = None
    ) -> list[PostScores]:
        """The scores of posts from those of their windows, by `score_spans`: nothing is encoded again.

        Args:
            chunks: all rows of the posts; those of other posts are ignored.
            spans: (E, 2) of each post, as of `PostScores`; default the entities of the best tag sequence.
        """
        if not posts:
            return []
        chunks = list(chunks)
        calls = ((chunk.rows, chunk.outputs.logits.float(), chunk.word_mask) for chunk in chunks)
        emissions, mask = self.collect(posts, calls)
        if spans is None:
            names = label_names(self.model)
            tags = [[names[tag] for tag in post] for post in self.model.decode(emissions, mask)]
            entities = [[entity[:2] for entity in find_entities(post)] for post in tags]
            spans = [torch.tensor(post, dtype=torch.long).view(-1, 2) for post in entities]
        widths = len(self.model.config.relation_labels or []), 1 + self.model.config.num_objects
        scores = {
            id(post): PostScores(
                emissions[n, : len(post.words)],
                of_post,
                torch.zeros(len(of_post), len(of_post), widths[0]),
                torch.tensor([*[IMPOSSIBLE] * (widths[1] - 1), 0.0]).repeat(len(of_post), 1),
                torch.zeros(len(of_post), len(of_post), dtype=torch.bool),
            )
            for n, (post, of_post) in enumerate(zip(posts, spans, strict=True))
        }
        margins = {key: torch.full(post.seen.shape, -1.0) for key, post in scores.items()}
        for chunk in chunks:
            self.read_windows(chunk, scores, margins)
        return list(scores.values())

    def read_windows(self, chunk: Chunk, scores: dict[int, PostScores], margins: dict[int, torch.Tensor]) -> None:
        """Take from each window the scores of the pairs of which it shows most of what stands around them.

        Args:
            scores: of each post by its id; they are filled in.
            margins: of each post (E, E), the words between a pair and the nearer edge of the best window until now.
        """
        held = []
        for post, number in chunk.rows:
            first, last = window_of_row(post, number)
            spans = scores[id(post)].spans if id(post) in scores else torch.zeros(0, 2, dtype=torch.long)
            inside = ((spans[:, 0] >= first) & (spans[:, 1] <= last)).nonzero()[:, 0]
            held.append((inside, spans[inside] - first))
        if not sum(len(inside) for inside, _ in held):
            return
        padded = torch.nn.utils.rnn.pad_sequence([spans for _, spans in held], batch_first=True, padding_value=-1)
        outputs = self.model.score_spans(chunk.outputs, chunk.word_mask, padded.to(chunk.word_mask.device))
        relations, regions = (logits.float().cpu() for logits in outputs)
        for n, ((post, number), (inside, _)) in enumerate(zip(chunk.rows, held, strict=True)):
            if not len(inside):
                continue
            of_post, margin, count = scores[id(post)], margins[id(post)], len(inside)
            first, last = window_of_row(post, number)
            starts, ends = of_post.spans[inside].float().unbind(1)
            left = torch.minimum(starts[:, None], starts) - first if first else torch.full((count, count), torch.inf)
            right = last - torch.maximum(ends[:, None], ends)
            right = right if last < len(post.words) else torch.full((count, count), torch.inf)
            pairs = inside[:, None], inside[None, :]
            better = torch.minimum(left, right) > margin[pairs]
            of_post.relations[pairs] = torch.where(
                better[..., None], relations[n, :count, :count], of_post.relations[pairs]
            )
            alone = better.diagonal()
            of_post.regions[inside] = torch.where(alone[:, None], regions[n, :count], of_post.regions[inside])
            margin[pairs] = torch.where(better, torch.minimum(left, right), margin[pairs])
            of_post.seen[pairs] = True

    def decode(self, posts: list[PostScores]) -> list[tuple[Graph, int]]:
        """The graph of each post, and how many pairs are left out: of types that some relation allows, and not seen."""
        parts = [
            (n, slice(start, start + MAX_ENTITIES))
            for n, post in enumerate(posts)
            for start in range(0, len(post.spans), MAX_ENTITIES)
        ]
        graphs, seen = [Graph([], []) for _ in posts], [post.seen.clone() for post in posts]
        for (n, part), one in zip(parts, self.decode_parts([(posts[n], part) for n, part in parts]), strict=True):
            graphs[n].entities.extend(one.entities)
            graphs[n].relations.extend(move(relation, part.start) for relation in one.relations)
            seen[n][part, : part.start] = seen[n][part, part.stop :] = False
        return [(graph, self.count_unseen(graph, of_post)) for graph, of_post in zip(graphs, seen, strict=True)]

    def decode_parts(self, parts: list[tuple[PostScores, slice]]) -> list[Graph]:
        """The graphs of some entities of posts, in one call."""
        if not parts:
            return []
        words = max(len(post.emissions) for post, _ in parts)
        entities = max(len(post.spans[part]) for post, part in parts)
        emissions = torch.zeros(len(parts), words, parts[0][0].emissions.shape[-1])
        spans = torch.full((len(parts), entities, 2), -1)
        relations = torch.zeros(len(parts), entities, entities, parts[0][0].relations.shape[-1])
        regions = torch.zeros(len(parts), entities, parts[0][0].regions.shape[-1])
        mask = torch.zeros(len(parts), words, dtype=torch.long)
        for n, (post, part) in enumerate(parts):
            length, count = len(post.emissions), len(post.spans[part])
            emissions[n, :length], mask[n, :length] = post.emissions, 1
            spans[n, :count], regions[n, :count] = post.spans[part], post.regions[part]
            relations[n, :count, :count] = post.relations[part, part]
            unseen = (~post.seen[part, part]).nonzero(as_tuple=True)
            relations[n][unseen] = IMPOSSIBLE
            relations[n, ..., 0][unseen] = 0.0
        outputs = I2SRMJointOutput(
            logits=emissions.to(self.device),
            entity_spans=spans.to(self.device),
            relation_logits=relations.to(self.device),
            region_logits=regions.to(self.device),
        )
        return self.model.decode_graphs(outputs, mask.to(self.device))

    def count_unseen(self, graph: Graph, seen: torch.Tensor) -> int:
        """How many ordered pairs of entities are not seen (E, E) though some relation allows their types."""
        triples = self.model.config.relation_types
        types = [entity.label for entity in graph.entities]
        pairs = [(head, tail) for head, tail in (~seen).nonzero().tolist() if head != tail]
        if triples is None:
            return len(pairs)
        allowed = {(head, tail) for head, _, tail in triples}
        return sum((types[head], types[tail]) in allowed for head, tail in pairs)

    def postprocess(self, model_outputs, threshold=0.0, relation_threshold=0.0):  # type: ignore[override]  # fewer and named, as Pipeline allows
        post = model_outputs["post"]
        graph, left_out = post.answers
        places: dict[int, int] = {}
        entities: list[dict] = []
        for n, entity in enumerate(graph.entities):
            if entity.score < threshold:
                continue
            places[n] = len(entities)
            start, end = post.words[entity.start].start, post.words[entity.end - 1].end
            answer = {"entity_group": entity.label, "score": entity.score, "word": post.text[start:end]}
            entities.append({**answer, "start": start, "end": end, "region": self.region(entity, post)})
        relations = [
            {"head": places[one.head], "tail": places[one.tail], "label": one.label, "score": one.score}
            for one in graph.relations
            if one.score >= relation_threshold and {one.head, one.tail} <= places.keys()
        ]
        notes = {"pairs_left_out": left_out} if left_out else {}
        return self.note_pictures({"entities": entities, "relations": relations, **notes}, post)

    @staticmethod
    def region(entity: GraphEntity, post: Post) -> dict | None:
        """The object that shows an entity, as the answer says it."""
        if entity.region < 0:
            return None
        crop = None if post.crops is None else post.crops[entity.region]
        box = None if crop is None else describe_crop(crop)["box"]
        return {"index": entity.region, "box": box, "score": entity.region_score}


def take(outputs: I2SRMJointOutput, rows: list[int]) -> I2SRMJointOutput:
    """The outputs of some rows of a batch."""
    tensors: dict[str, Any] = {}  # as the fields of the class have other types, too
    for name, value in outputs.items():
        if isinstance(value, torch.Tensor) and value.dim():
            tensors[name] = value[rows]
    return I2SRMJointOutput(**tensors)


def window_of_row(post: Post, number: int) -> tuple[int, int]:
    """First word and last word + 1 of a row of a post."""
    row = post.rows[number] or {}
    return row["first_word"], row["first_word"] + sum(row["word_mask"])


def move(relation: GraphRelation, places: int) -> GraphRelation:
    """A relation whose entities stand so many places further on."""
    return replace(relation, head=relation.head + places, tail=relation.tail + places)


__all__ = ["MultimodalJointExtractionPipeline"]
