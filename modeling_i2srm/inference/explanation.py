"""Why a model says what it says of a post: where its attention went, and what it says without each picture."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..crf import entity_types, tags_of
from ..crops import check_cropper
from ..joint_head import Graph
from ..joint_pipeline import MultimodalJointExtractionPipeline
from ..pipeline_i2srm import ROWS_TOGETHER, MultimodalTokenClassificationPipeline, PostPipeline, label_names
from ..posts import Post
from ..pretrained_model import I2SRMPreTrainedModel
from .answers import Entity, Extraction, Region, Relation
from .extraction import Extractor, read_entities, read_graph, spans_in_words

# Of a pipeline that its `Extractor` takes over.
SETTINGS = ("threshold", "relation_threshold", "on_image_error", "allow_private_addresses")
TEXT, ALL = "text", "all"  # beside the names of pictures: "image", "objects[0]", "objects[1]" ...


@dataclass(frozen=True)
class Without:
    """What the model says of the words of an entity when it does not see a picture.

    Args:
        picture: which one is masked: "image", "objects[0]" ..., or "all" of them.
        entity, score: the type that the words have then; where they are no entity, the most probable type.
        found: whether exactly these words are an entity then.
        scores: the probability of every type for these words.
        instead: the entities found then that share some of these words, if they are none themselves.
        region: of a joint model, the object that shows these words then.
    """

    picture: str
    entity: str
    score: float
    found: bool
    scores: dict[str, float]
    instead: list[Entity]
    region: Region | None = None

    def moves(self, before: Entity) -> bool:
        """Whether another object, or none, shows the entity then."""
        return (before.region and before.region.index) != (self.region and self.region.index)

    def differs(self, before: Entity) -> bool:
        """Whether the words are another entity then, or none, or another object shows them."""
        return not self.found or self.entity != before.entity or self.moves(before)

    def describe(self, before: Entity) -> str:
        """One line, e.g. "without the picture: ORG 0.51 -> no entity (PER 0.12)"."""
        after = f"{self.entity} {self.score:.2f}"
        if self.instead:
            after = ", ".join(f"{e.entity} {e.word!r} {e.score:.2f}" for e in self.instead) + f" ({after})"
        elif not self.found:
            after = f"no entity ({after})"
        shown = f", shown by {shown_by(before.region)} -> {shown_by(self.region)}" if self.moves(before) else ""
        return f"without {call_without(self.picture)}: {before.entity} {before.score:.2f} -> {after}{shown}"


@dataclass(frozen=True)
class RelationWithout:
    """What the model says of the two entities of a relation when it does not see a picture.

    Args:
        picture: which one is masked: "image", "objects[0]" ..., or "all" of them.
        label, score: the best relation then.
        own_score: the score that the relation found with all pictures has then.
    """

    picture: str
    label: str
    score: float
    own_score: float

    def describe(self, before: Relation) -> str:
        """One line, e.g. "without the picture: /per/per/peer 0.91 -> None 0.62 (/per/per/peer 0.30)"."""
        kept = "" if self.label == before.label else f" ({before.label} {self.own_score:.2f})"
        return (
            f"without {call_without(self.picture)}: {before.label} {before.score:.2f} -> {self.label} "
            f"{self.score:.2f}{kept}"
        )


@dataclass(frozen=True)
class EntityExplanation:
    """Why an entity was found.

    Args:
        attention: for "text", "image", "objects[0]" ... a share a layer, from the first layer to the last; the shares
            of a layer add up to 1.
        without: the answers without each picture and, of more than one, without all of them.
    """

    attention: dict[str, list[float]]
    without: list[Without]

    def mean_attention(self) -> dict[str, float]:
        """The shares averaged over the layers."""
        return {name: sum(shares) / len(shares) for name, shares in self.attention.items()}

    def describe_attention(self) -> str:
        """The mean shares as a line, e.g. "attention: text 57 %, picture 11 %, crop 1 33 %"."""
        shares = self.mean_attention().items()
        return "attention: " + ", ".join(f"{caption(name)} {percent(share)}" for name, share in shares)


@dataclass(frozen=True)
class RelationExplanation:
    """Why a relation was found: the answers without each picture and, of more than one, without all of them."""

    without: list[RelationWithout]


@dataclass(frozen=True)
class Explanation:
    """What was found in a post, and why.

    Args:
        extraction: what was found.
        pictures: those that the model of the entities saw: "image", "objects[0]" ...
        entities: one a piece for `extraction.entities`.
        relations: one a piece for `extraction.relations`.
    """

    extraction: Extraction
    pictures: list[str]
    entities: list[EntityExplanation]
    relations: list[RelationExplanation]

    def to_dict(self) -> dict:
        """As plain dicts and lists; the extraction in the exchange format, regions only of a joint model."""
        values = {**asdict(self), "extraction": self.extraction.to_dict()}
        if not self.extraction.grounded:
            for without in (without for why in values["entities"] for without in why["without"]):
                for answer in (without, *without["instead"]):
                    del answer["region"]
        return values

    def to_json(self) -> str:
        """As one line of JSON, in ASCII."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: dict) -> "Explanation":
        """Read what `to_dict` gave."""

        def pointed(answer: dict) -> dict:
            region = answer.get("region")
            if region is not None and region["box"] is not None:
                region = {**region, "box": tuple(region["box"])}
            return {**answer, "region": None if region is None else Region(**region)}

        def entity_without(without: dict) -> Without:
            return Without(**{**pointed(without), "instead": [Entity(**pointed(one)) for one in without["instead"]]})

        return cls(
            Extraction.from_dict(values["extraction"]),
            values["pictures"],
            [EntityExplanation(e["attention"], [entity_without(w) for w in e["without"]]) for e in values["entities"]],
            [RelationExplanation([RelationWithout(**w) for w in r["without"]]) for r in values["relations"]],
        )

    def describe(self) -> str:
        """Lines to read: each entity and relation, and below it what is said without each picture."""
        lines = []
        extraction = self.extraction
        for entity, why in zip(extraction.entities, self.entities, strict=True):
            shown = f", shown by {shown_by(entity.region)} {entity.region.score:.2f}" if entity.region else ""
            lines.append(f"{printable(entity.word)}: {entity.entity} {entity.score:.2f}{shown}")
            lines += [f"  {why.describe_attention()}"] if self.pictures else []
            lines += [f"  {without.describe(entity)}" for without in why.without]
        for relation, reasons in zip(extraction.relations, self.relations, strict=True):
            head, tail = (printable(extraction.entities[n].word) for n in (relation.head, relation.tail))
            lines.append(f"{head}, {tail}: {relation.label} {relation.score:.2f}")
            lines += [f"  {changed.describe(relation)}" for changed in reasons.without]
        return "\n".join(lines)


def call(picture: str) -> str:
    """A picture's name for people: "objects[0]" is crop 1."""
    if picture.startswith("objects["):
        return f"crop {int(picture[8:-1]) + 1}"
    return {TEXT: "the text", "image": "the picture", ALL: "all pictures"}[picture]


def caption(picture: str) -> str:
    return call(picture).removeprefix("the ")


def shown_by(region: Region | None) -> str:
    """Which object shows an entity, for people."""
    return "no object" if region is None else call(f"objects[{region.index}]")


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def printable(text: str) -> str:
    """Text of a post on one line, without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def call_without(picture: str) -> str:
    return "any picture" if picture == ALL else call(picture)


@torch.no_grad()
def explain(
    extractor: Extractor | MultimodalTokenClassificationPipeline,
    post: str | dict,
    cropper: Callable | bool | None = None,
) -> Explanation:
    """Find the entities and relations of a post and explain each of them.

    **Attention** is that of an entity's words, each by its first sub-token, the one that the tagger reads: averaged
    over these and over the heads of a layer, the share that went to the prompt slots of each picture, and to the text.
    In a post of several windows it is read in the window that owns the entity's first word. It says where the model
    looked, not what made the answer. **Without** a picture, the post is read again with that one masked and all the
    others in place; the words of each entity, and the two entities of each relation, stay those of the full answer. Of
    a joint model types, relations and objects of these words are decoded together, as in the full answer. Thresholds
    apply to the full answer alone.

    With K pictures 1 + K + 1 passes through the text encoder of each model (without all pictures is left out where K is
    1 or 0), and one through the vision backbone. For the first pass the attention of the NER model is "eager", one
    window at a time; what it was before is put back, also after an error.

    Args:
        extractor: of entities and relations, or the pipeline of entities alone.
        post: one post, as for `Extractor`.
        cropper: instead of the extractor's, `False` for none. "objects[0]" is then the crop of `extraction.objects[0]`.

    Returns:
        The same entities and relations as `extractor(post)`, with scores that agree to rounding, and the explanations.

    Raises:
        ValueError: as the extractor; more than one post.

    Example:

    >>> extractor = Extractor.from_pretrained("runs/quickstart")  # doctest: +SKIP
    >>> print(explain(extractor, load_dataset("data/visual_posts", split="test")[82]).describe())  # doctest: +SKIP
    Camelot: PER 0.99
      attention: text 67 %, picture 2 %, crop 1 30 %
      without the picture: PER 0.99 -> PER 0.99
      without crop 1: PER 0.99 -> LOC 0.67
      without any picture: PER 0.99 -> MISC 0.53
    """
    if isinstance(extractor, MultimodalTokenClassificationPipeline):
        options = {**extractor._preprocess_params, **extractor._postprocess_params}
        settings = {name: options[name] for name in SETTINGS if name in options}
        extractor = Extractor(extractor, **settings)
    if not isinstance(extractor, Extractor):
        raise ValueError(
            f"{type(extractor).__name__} is neither an Extractor nor a pipeline of entities; e.g. "
            'explain(Extractor.from_pretrained("runs/quickstart"), {"text": "Kobe lands in Paris"})'
        )
    if not isinstance(post, (str, Mapping)):
        raise ValueError(f'{post!r} is not one post; e.g. explain(extractor, {{"text": "Kobe lands in Paris"}})')
    check_cropper(cropper)
    if cropper is not None:
        extractor = copy.copy(extractor)
        extractor.cropper = cropper if callable(cropper) else None
    loaded = extractor.load(post)
    [extraction] = extractor.start([loaded])
    if isinstance(extractor.ner, MultimodalJointExtractionPipeline):
        return explain_graph(extractor, loaded, extraction)
    entities, pictures = explain_entities(extractor, loaded, extraction)
    relations = explain_relations(extractor, loaded, extraction)
    return Explanation(extraction, pictures, entities, relations)


def explain_entities(
    extractor: Extractor, loaded: Post, extraction: Extraction
) -> tuple[list[EntityExplanation], list[str]]:
    """Fill in the entities of a loaded post; return why they are some, and the names of the pictures seen."""
    ner = extractor.ner
    with ner.device_placement():
        full, masked = mask_each(ner, ner.preprocess(loaded, **preprocessing(ner))["post"])
        calls, shares = [], []
        with eager_attention(ner.model):
            # One window at a time: the weights of all layers and heads are large.
            for rows, batch in ner.batches([full], together=1):
                outputs = ner.model(**batch, output_attentions=True)
                calls.append((rows, outputs.logits.float(), batch["word_mask"]))
                shares.append(picture_shares(ner.model, outputs.attentions).cpu())
        ner.read([full], *ner.collect([full], calls))
        # What the pipeline leaves out is left out here.
        options = {**ner._postprocess_params, "aggregation_strategy": "simple", "threshold": extractor.threshold}
        extraction.entities = read_entities(ner.postprocess({"post": full}, **options))
        extractor.withhold(extraction)
        spans = spans_in_words(full, extraction.entities)
        without = without_pictures(ner, list(masked.values()), spans)
    names = [name for name in masked if name != ALL]
    explanations = []
    for number, attention in enumerate(attention_of(full, names, spans, shares)):
        answers = zip(masked, without, strict=True)
        explanations.append(EntityExplanation(attention, [Without(name, **answer[number]) for name, answer in answers]))
    return explanations, names


def attention_of(
    post: Post, names: list[str], spans: list[tuple[int, int]], shares: list[torch.Tensor]
) -> Iterator[dict[str, list[float]]]:
    """Yield the `EntityExplanation.attention` of spans of words.

    Args:
        names: of the pictures of the post.
        shares: (L, 1+K, T) of each row of the post, as of `picture_shares`.
    """
    slots = [1 + int(slot) for slot in post.pictures["image_mask"].nonzero()] if post.pictures else []
    for first, last in spans:
        window = post.owners[first]
        row = post.rows[window] or {}
        positions = [position for position, is_first in enumerate(row["word_mask"]) if is_first]
        positions = positions[first - row["first_word"] : last - row["first_word"]]
        share = shares[window][:, :, positions].mean(-1)  # (L, 1+K)
        yield {name: share[:, slot].tolist() for name, slot in zip([TEXT, *names], [0, *slots], strict=True)}


def explain_graph(extractor: Extractor, loaded: Post, extraction: Extraction) -> Explanation:
    """Fill in what a joint model says of a loaded post, and why."""
    pipe: Any = extractor.ner
    with pipe.device_placement():
        full, masked = mask_each(pipe, pipe.preprocess(loaded, **preprocessing(pipe))["post"])
        chunks, shares = [], []
        with eager_attention(pipe.model):
            for chunk in pipe.chunks([full], together=1, output_attentions=True):
                shares.append(picture_shares(pipe.model, chunk.outputs.attentions).cpu())
                chunk.outputs.attentions = None
                chunks.append(chunk)
        [scores] = pipe.put_together([full], chunks)
        full.answers = list(pipe.decode([scores])[0])
        thresholds = {"threshold": extractor.threshold, "relation_threshold": extractor.relation_threshold}
        read_graph(extraction, pipe.postprocess({"post": full}, **thresholds))
        extractor.withhold(extraction)
        spans = spans_in_words(full, extraction.entities)
        entities, relations = graph_without(pipe, masked, scores.spans, spans, extraction.relations)
    names = [name for name in masked if name != ALL]
    attention = attention_of(full, names, spans, shares)
    explanations = [EntityExplanation(*why) for why in zip(attention, entities, strict=True)]
    return Explanation(extraction, names, explanations, list(map(RelationExplanation, relations)))


def graph_without(
    pipe: MultimodalJointExtractionPipeline,
    masked: dict[str, Post],
    spans: torch.Tensor,
    kept: list[tuple[int, int]],
    relations: list[Relation],
) -> tuple[list[list[Without]], list[list[RelationWithout]]]:
    """What a joint model says without each picture of the entities and relations of the full answer.

    Args:
        spans: (E, 2) of all its entities.
        kept: those that no threshold leaves out; the relations are between these.
    """
    posts, config = list(masked.values()), pipe.model.config
    chunks = list(pipe.chunks(posts)) if posts else []
    names, labels = label_names(pipe.model), config.relation_labels or []
    types = entity_types(list(names.values()))
    requests = [(first, tags_of(kind, last - first, names)) for first, last in kept for kind in types]
    places = [spans.tolist().index(list(span)) for span in kept]
    of_entities: list[list[Without]] = [[] for _ in kept]
    of_relations: list[list[RelationWithout]] = [[] for _ in relations]
    both = pipe.put_together(posts, chunks), pipe.put_together(posts, chunks, [spans] * len(posts))
    decoded = (pipe.decode(scores) for scores in both)
    for name, post, now, same, free, (graph, _) in zip(masked, posts, *both, *decoded, strict=True):
        mask = torch.ones(1, len(post.words), dtype=torch.bool)
        [probabilities] = pipe.model.span_scores(now.emissions[None], mask, [requests])
        instead = entities_of(pipe, post, free)
        words = entities_of(pipe, post, (graph, 0))
        for number, span in enumerate(kept):
            entity = instead.get(span, words[span])
            scores = dict(zip(types, probabilities[number * len(types) :], strict=False))
            others = [one for (start, end), one in instead.items() if start < span[1] and span[0] < end]
            others = [] if span in instead else others
            of_entities[number].append(
                Without(name, entity.entity, entity.score, span in instead, scores, others, entity.region)
            )
        said = {(relation.head, relation.tail): relation.label for relation in graph.relations}
        for number, relation in enumerate(relations):
            pair = places[relation.head], places[relation.tail]
            odds, label = same.relations[pair].softmax(-1).tolist(), said.get(pair, labels[0])
            before = odds[labels.index(relation.label)]
            of_relations[number].append(RelationWithout(name, label, odds[labels.index(label)], before))
    return of_entities, of_relations


def entities_of(
    pipe: MultimodalJointExtractionPipeline, post: Post, answer: tuple[Graph, int]
) -> dict[tuple[int, int], Entity]:
    """The entities of a graph of a post, by their words."""
    post.answers = list(answer)
    entities = read_entities(pipe.postprocess({"post": post})["entities"])
    return dict(zip([(one.start, one.end) for one in answer[0].entities], entities, strict=True))


def explain_relations(extractor: Extractor, loaded: Post, extraction: Extraction) -> list[RelationExplanation]:
    """Fill in the relations of a loaded post whose entities are known; return why they are some."""
    pairs = extractor.candidates(extraction.entities)
    if extractor.re is None or not pairs:
        return []
    re = extractor.re
    with re.device_placement():
        question = extractor.with_pairs(loaded, extraction.entities, pairs)
        prepared = re.preprocess(question, **preprocessing(re), skip_long_pairs=True)
        full, masked = mask_each(re, prepared["post"])
        re.answer([full, *masked.values()], ROWS_TOGETHER)
    extractor.add_relations(extraction, pairs, re.postprocess({"post": full}))
    extractor.withhold(extraction)
    names, explanations = label_names(re.model), []
    ids = {label: i for i, label in names.items()}
    for relation in extraction.relations:
        row = pairs.index((relation.head, relation.tail))
        without = []
        for name, post in masked.items():
            scores = post.answers[row]
            best = int(scores.argmax())
            before = float(scores[ids[relation.label]])
            without.append(RelationWithout(name, names[best], float(scores[best]), before))
        explanations.append(RelationExplanation(without))
    return explanations


def preprocessing(pipe: PostPipeline) -> dict:
    """The options with which a pipeline reads posts, but for those that are set here."""
    return {name: value for name, value in pipe._preprocess_params.items() if name != "skip_long_pairs"}


@contextmanager
def eager_attention(model: I2SRMPreTrainedModel) -> Iterator[None]:
    """Let a model's text encoder compute its attention weights one by one, the only way to see them."""
    base: Any = model.base_model
    config = base.text_encoder.config
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def picture_shares(model: I2SRMPreTrainedModel, attentions: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Sum attention weights over the text and over the prompt slots of each picture.

    Which slots are a picture's differs from head to head, as of `VisualPrompt.prefix_mask`.

    Args:
        model: any I2SRM model.
        attentions: of one post, (1, h, T, S+T) a layer, with the S prefix positions first.

    Returns:
        (L, 1+K, T) for each layer the shares of the text and of K = S/P pictures, averaged over the heads; they add up
        to 1.
    """
    base: Any = model.base_model
    prompt = base.visual_prompt
    _, heads, length, width = attentions[0].shape
    pictures = (width - length) // prompt.prompt_length
    each = torch.eye(pictures, device=attentions[0].device)  # (K, K): one picture at a time
    of_picture = prompt.prefix_mask(each).view(pictures, heads, width - length)
    layers = []
    for weights in attentions:
        prefix, text = weights[0].float().split([width - length, length], dim=-1)
        shares = torch.einsum("hts,khs->kt", prefix, of_picture.float()) / heads  # (K, T)
        layers.append(torch.cat([text.sum(-1).mean(0, keepdim=True), shares]))
    return torch.stack(layers)


def mask_each(pipe: PostPipeline, post: Post) -> tuple[Post, dict[str, Post]]:
    """A post with the features of its pictures, and copies of it without each and, of more than one, without all."""
    pipe.model.eval()  # before the features are computed
    if not post.pictures:
        return post, {}
    pictures = {name: tensor[None].to(pipe.device) for name, tensor in post.pictures.items()}
    features = pipe.model.get_visual_features(**pictures)[0]
    mask = post.pictures["image_mask"]
    present = [int(slot) for slot in mask.nonzero()]
    masks = {}
    for slot in present:
        masks[f"objects[{slot - 1}]" if slot else "image"] = mask.index_fill(0, torch.tensor([slot]), 0)
    if len(present) > 1:
        masks[ALL] = torch.zeros_like(mask)
    full, *masked = (
        replace(post, pictures={"visual_features": features, "image_mask": seen}, answers=[])
        for seen in (mask, *masks.values())
    )
    return full, dict(zip(masks, masked, strict=True))


def without_pictures(
    ner: MultimodalTokenClassificationPipeline, posts: list[Post], spans: list[tuple[int, int]]
) -> list[list[dict]]:
    """What the model says of the words of spans in each of the posts, as the fields of `Without`."""
    if not posts:
        return []
    emissions, mask = ner.collect(posts, ner.run_rows(posts))
    ner.read(posts, emissions, mask)
    names = label_names(ner.model)
    types = entity_types(list(names.values()))
    requests = [(first, tags_of(kind, last - first, names)) for first, last in spans for kind in types]
    answers: list[list[dict]] = []
    for post, probabilities in zip(posts, ner.model.span_scores(emissions, mask, [requests] * len(posts)), strict=True):
        words = [entity["words"] for entity in post.answers]
        entities = read_entities(ner.postprocess({"post": post}))
        answers.append([])
        for number, (first, last) in enumerate(spans):
            scores = dict(zip(types, probabilities[number * len(types) :], strict=False))
            best = max(scores, key=lambda kind: scores[kind])
            instead: list[Entity] = []
            answer = {"entity": best, "score": scores[best], "found": False, "scores": scores, "instead": instead}
            for (start, end), entity in zip(words, entities, strict=True):
                if (start, end) == (first, last):
                    answer |= {"entity": entity.entity, "score": entity.score, "found": True}
                elif start < last and first < end:
                    instead.append(entity)
            answers[-1].append(answer)
    return answers


__all__ = [
    "EntityExplanation",
    "Explanation",
    "RelationExplanation",
    "RelationWithout",
    "Without",
    "explain",
]
