"""Features on disk: the same results as without, nothing computed twice, nothing stale, nothing damaged."""

import errno
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import debug_launcher
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from tiny import RESNET, SIDE, noise, run_arguments, tiny_config, tiny_processor

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    VisualFeatureCache,
    cache_pictures,
)
from modeling_i2srm.data import feature_cache as cached_pictures
from modeling_i2srm.pictures import PictureError
from modeling_i2srm.processing_i2srm import resnet_image_processor
from modeling_i2srm.support.precision import bf16_is_fast
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import MNER, MRE

ROOT = Path(__file__).resolve().parents[2]
KIND = Image(decode=False)
FEATURES = Features(
    {
        "id": Value("string"),
        "tokens": List(Value("string")),
        "ner_tags": List(Value("int64")),
        "image": KIND,
        "objects": List(KIND),
    }
)


def png(seed: int) -> dict:
    buffer = io.BytesIO()
    noise(seed).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


BROKEN = {"bytes": b"no picture", "path": None}
GONE = {"bytes": None, "path": "/no/such.jpg"}


def posts(*pictures) -> Dataset:
    """Posts of (main picture, crops)."""
    rows = [
        {"id": f"p{i}", "tokens": ["Kobe", "lands"][: 1 + i % 2], "ner_tags": [1, 0][: 1 + i % 2]}
        | {"image": image, "objects": objects}
        for i, (image, objects) in enumerate(pictures)
    ]
    return Dataset.from_list(rows, features=FEATURES)


POSTS = [(png(1), [png(2), png(3)]), (None, []), (None, [png(2)]), (png(4), None), (png(1), [png(5)])]  # 5 distinct


def tiny_model(model_class=I2SRMForTokenClassification, **overrides):
    torch.manual_seed(1)
    return model_class(tiny_config(**overrides)).eval()


def cached(folder, split, model=None, processor=None, dtype="float32", **settings):
    """A cache, and the split that goes with it."""
    model, processor = model or tiny_model(), processor or tiny_processor()
    cache = VisualFeatureCache.for_model(folder, model, processor, dtype)
    splits = cache_pictures(cache, {"train": split}, model, processor, progress=False, **settings)
    return cache, splits["train"]


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """How many pictures each call of the backbone computes."""
    calls = []
    compute = cached_pictures.fill.__wrapped__

    def counting(cache, share, *arguments):
        calls.append(len(share))
        with torch.no_grad():
            return compute(cache, share, *arguments)

    monkeypatch.setattr(cached_pictures, "fill", counting)
    return calls


def shards(cache) -> list[Path]:
    return sorted(cache.folder.glob("*.safetensors"))


# The same batches


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_holds_the_features_of_its_pictures(tmp_path, workers):
    model, processor, split = tiny_model(), tiny_processor(num_objects=2), posts(*POSTS)
    cache, keyed = cached(tmp_path, split, model, processor, batch_size=2, num_workers=workers)
    assert len(cache) == 5 and not {"image", "objects"} & set(keyed.column_names)
    expected = I2SRMDataCollator(processor)(list(split))
    expected["visual_features"] = model.base_model.get_visual_features(
        expected.pop("pixel_values"), expected["image_mask"]
    )
    batch = I2SRMDataCollator(processor, feature_cache=cache)(list(keyed))
    assert batch.keys() == expected.keys() and batch["image_mask"].tolist()[1:4] == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    for name, values in expected.items():
        torch.testing.assert_close(batch[name], values, rtol=1e-4, atol=1e-5)  # batch-norm is folded


def test_posts_without_pictures_and_blanked_ones_get_no_features(tmp_path):
    cache, keyed = cached(tmp_path, posts(*POSTS))
    collator = I2SRMDataCollator(tiny_processor(), feature_cache=cache)
    assert "visual_features" not in collator([keyed[1]]) and "image_mask" not in collator([keyed[1]])
    collator.use_images = False
    assert "visual_features" not in collator(list(keyed))


def test_rows_with_keys_need_the_cache(tmp_path):
    _, keyed = cached(tmp_path, posts(*POSTS))
    with pytest.raises(ValueError, match=r"I2SRMDataCollator\(processor, feature_cache=cache\)"):
        I2SRMDataCollator(tiny_processor())(list(keyed))


def test_a_data_set_without_pictures(tmp_path):
    cache, keyed = cached(tmp_path, posts(*POSTS).select_columns(["tokens", "ner_tags"]))
    assert len(cache) == 0 and keyed["picture_keys"][:] == [[None]] * 5


def test_unreadable_pictures_are_absent_as_they_are_without_a_cache(tmp_path, caplog):
    split = posts((BROKEN, [png(2)]), (png(1), [GONE, png(3), BROKEN, png(4), png(5)]), (GONE, []))
    processor = tiny_processor(num_objects=2)
    cache, keyed = cached(tmp_path, split, processor=processor)
    for words in (
        ("post p0: image", "one of JPEG"),
        ("post p1: objects[0]", "/no/such.jpg"),
        ("post p1: objects[2]",),
    ):
        assert any(all(word in record.getMessage() for word in words) for record in caplog.records), words
    expected = I2SRMDataCollator(processor)(list(split))["image_mask"]
    batch = I2SRMDataCollator(processor, feature_cache=cache)(list(keyed))
    assert torch.equal(batch["image_mask"], expected) and len(cache) == 4  # the fifth picture has no room
    crops = keyed["picture_keys"][1][1:]
    alone, keys = cached(tmp_path / "alone", posts((None, [png(3), png(4)])))
    assert crops == keys["picture_keys"][0][1:]
    with pytest.raises(PictureError, match="such.jpg"):
        cached(tmp_path / "strict", posts((GONE, [])), strict_pictures=True)
    with pytest.raises(PictureError, match="expected one of JPEG"):
        cached(tmp_path / "strict", posts((BROKEN, [])), strict_pictures=True)


def test_crops_of_raw_graphs_keep_their_places_as_without_a_cache(tmp_path):
    processor, model = tiny_processor(), tiny_model(I2SRMForJointExtraction, relation_labels=["None", "peer"])
    split = posts((png(1), [BROKEN, png(2), png(3)])).add_column("regions", [[1]])
    cache, keyed = cached(tmp_path, split, model, processor)
    labels = {name: label for label, name in model.config.id2label.items()}
    options = {"label2id": labels, "relation2id": {"None": 0, "peer": 1}}
    expected = I2SRMDataCollator(processor, **options)(list(split))
    batch = I2SRMDataCollator(processor, feature_cache=cache, **options)(list(keyed))
    assert batch["image_mask"].tolist() == expected["image_mask"].tolist() == [[1, 0, 1, 1]]
    assert batch["region_labels"].tolist() == expected["region_labels"].tolist() == [[1]]


def test_pictures_of_every_kind_have_a_key(tmp_path, picture_server):
    path = tmp_path / "a.png"
    noise(1).save(path)
    processor = tiny_processor()
    key = lambda picture: cached_pictures.read_picture(picture, processor)[0]  # noqa: E731
    assert key(path) == key(str(path)) == key(path.read_bytes()) == key({"bytes": None, "path": str(path)})
    assert key(noise(1)) == key(torch.tensor(list(noise(1).tobytes()), dtype=torch.uint8).view(40, 50, 3))
    assert key(f"{picture_server.url}/kobe.png") == key(f"{picture_server.url}/kobe.png")
    turned = noise(1).transpose(PILImage.Transpose.ROTATE_90)
    keys = {key(path), key(noise(1)), key(noise(2)), key(turned), key(f"{picture_server.url}/kobe.png")}
    assert len(keys) == 5 and all(len(key) == 32 for key in keys)


# Nothing twice


def test_a_second_run_computes_nothing_and_reads_the_same(tmp_path, computed, caplog):
    cache, keyed = cached(tmp_path, posts(*POSTS))
    files = {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    with caplog.at_level(logging.INFO, "modeling_i2srm"):
        again, keyed_again = cached(tmp_path, posts(*POSTS))
    assert computed == [5] and {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()} == files
    keys = [key for post in keyed["picture_keys"] for key in post if key]
    assert (
        torch.equal(cache.read(keys), again.read(keys)) and keyed_again["picture_keys"][:] == keyed["picture_keys"][:]
    )
    assert "7 pictures, 5 distinct ones used: 5 found, 0 computed; 0 unreadable" in caplog.text
    assert f"in {cache.folder}: delete the folder to drop it" in caplog.text
    cached(tmp_path, posts(*POSTS, (png(9), None)))
    assert computed == [5, 1]


def test_the_tasks_share_a_folder(tmp_path, computed):
    entities = tiny_model()
    relations = tiny_model(I2SRMForRelationClassification, id2label={0: "None", 1: "met"}, prompt_length=2)
    relations.base_model.vision_encoder.load_state_dict(entities.base_model.vision_encoder.state_dict())
    processor = tiny_processor(num_objects=1, max_length=20)
    processor.add_entity_markers()
    first, _ = cached(tmp_path, posts(*POSTS), entities)
    second, _ = cached(tmp_path, posts(*POSTS), relations, processor)
    assert first.folder == second.folder and computed == [5]


def test_a_killed_run_is_taken_up_again(tmp_path, computed, monkeypatch):
    monkeypatch.setattr(cached_pictures, "SHARD_PICTURES", 2)
    write = VisualFeatureCache._write

    def killed(self, name, data):
        if len(shards(self)) == 2:
            (self.folder / "killed.tmp").write_bytes(data[:100])
            raise KeyboardInterrupt
        write(self, name, data)

    monkeypatch.setattr(VisualFeatureCache, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, posts(*POSTS), batch_size=1)
    monkeypatch.setattr(VisualFeatureCache, "_write", write)
    cache, _ = cached(tmp_path, posts(*POSTS), batch_size=1)
    assert computed == [5, 1] and len(cache) == 5 and len(shards(cache)) == 3
    leftover = cache.folder / "killed.tmp"
    assert leftover.exists()  # it may be that of a run that writes just now
    os.utime(leftover, (time.time() - 7200,) * 2)
    cached(tmp_path, posts(*POSTS))
    assert not leftover.exists() and len(shards(cache)) == 3


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    cache = VisualFeatureCache(tmp_path, 4)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.add(["ab" * 16], torch.ones(1, 4))
    assert not list(tmp_path.iterdir())


def test_computing_leaves_the_random_numbers_as_they_were(tmp_path):
    model, processor, state = tiny_model(), tiny_processor(), torch.get_rng_state()
    cached(tmp_path, posts(*POSTS), model, processor, num_workers=1)
    assert torch.equal(torch.get_rng_state(), state)


# Nothing stale


def test_a_changed_picture_is_computed_again(tmp_path, computed):
    path = tmp_path / "a.png"
    noise(1).save(path)
    split = posts(({"bytes": None, "path": str(path)}, [png(2)]))
    cache, before = cached(tmp_path / "cache", split)
    noise(7).save(path)
    cache, after = cached(tmp_path / "cache", split)
    assert computed == [2, 1]
    (old, crop), (new, same_crop) = before["picture_keys"][0], after["picture_keys"][0]
    assert old != new and crop == same_crop and not torch.equal(*cache.read([old, new]))


def test_a_picture_that_changes_meanwhile_is_not_stored_under_its_old_key(tmp_path, computed, caplog, monkeypatch):
    path = tmp_path / "a.png"
    noise(1).save(path)
    read_keys = cached_pictures.read_keys

    def change_then(*arguments):
        found = read_keys(*arguments)
        noise(7).save(path)
        return found

    monkeypatch.setattr(cached_pictures, "read_keys", change_then)
    cache, keyed = cached(tmp_path / "cache", posts(({"bytes": None, "path": str(path)}, [])))
    assert len(cache) == 0 and keyed["picture_keys"][0] == [None]
    assert "post p0: image is unreadable and counts as absent: it was changed" in caplog.text


def other_weights():
    model = tiny_model()
    model.base_model.vision_encoder.embedder.embedder.normalization.running_mean[0] += 1e-3
    return model


def other_decoding():
    processor = tiny_processor()
    processor.image_processor = resnet_image_processor(SIDE + 8)
    return processor


@pytest.mark.parametrize(
    "change",
    [
        {"model": other_weights},
        {"model": lambda: tiny_model(vision_config={**RESNET, "hidden_act": "gelu"})},
        {"processor": other_decoding},
        {"processor": lambda: tiny_processor(max_pixels=1000)},
        {"dtype": lambda: "bfloat16"},
    ],
)
def test_another_backbone_recipe_or_dtype_has_another_folder(tmp_path, computed, change):
    before, _ = cached(tmp_path, posts(*POSTS))
    after, _ = cached(tmp_path, posts(*POSTS), **{name: make() for name, make in change.items()})
    assert before.folder != after.folder and computed == [5, 5]


def test_another_version_of_the_format_has_another_folder(tmp_path, monkeypatch):
    before = VisualFeatureCache.for_model(tmp_path, tiny_model(), tiny_processor())
    monkeypatch.setattr("modeling_i2srm.data.feature_cache.FORMAT", 2)
    assert VisualFeatureCache.for_model(tmp_path, tiny_model(), tiny_processor()).folder != before.folder


def test_another_version_of_the_package_reads_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_i2srm.data.feature_cache.__version__", "0.1.0")
    before = VisualFeatureCache.for_model(tmp_path, tiny_model(), tiny_processor())
    monkeypatch.undo()
    assert VisualFeatureCache.for_model(tmp_path, tiny_model(), tiny_processor()).folder == before.folder


def test_a_saved_checkpoint_reads_the_folder_of_its_training(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    before = VisualFeatureCache.for_model(tmp_path / "features", model, processor)
    for one in (model, processor):
        one.save_pretrained(tmp_path / "model")
    saved = type(model).from_pretrained(tmp_path / "model"), type(processor).from_pretrained(tmp_path / "model")
    assert "auto_map" in saved[1].to_dict()["image_processor"]  # which names the code, and changes no feature
    assert VisualFeatureCache.for_model(tmp_path / "features", *saved).folder == before.folder


def test_a_backbone_that_is_trained_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"would go stale.*--cache_visual_features .* --freeze_vision true"):
        VisualFeatureCache.for_model(tmp_path, tiny_model(freeze_vision=False), tiny_processor())


# Nothing damaged


def spoil(cache, how: str):
    (shard,) = shards(cache)
    data = shard.read_bytes()
    if how == "other shape":
        save_file({"features": torch.zeros(5, 3), "keys": torch.zeros(5, 16, dtype=torch.uint8)}, shard)
    elif how == "other dtype":
        parts = load_file(shard)
        save_file({**parts, "features": parts["features"].half()}, shard)
    elif how == "no keys":
        save_file({"features": load_file(shard)["features"]}, shard)
    else:
        shard.write_bytes({"cut": data[:-100], "empty": b"", "foreign": b"<html>not found</html>"}[how])
    return shard


@pytest.mark.parametrize("how", ["cut", "empty", "foreign", "other shape", "other dtype", "no keys"])
def test_a_broken_shard_is_named_and_computed_again(tmp_path, computed, caplog, how):
    cache, keyed = cached(tmp_path, posts(*POSTS))
    keys = [key for post in keyed["picture_keys"] for key in post if key]
    whole = cache.read(keys)
    shard = spoil(cache, how)
    again, _ = cached(tmp_path, posts(*POSTS))
    assert computed == [5, 5] and torch.equal(again.read(keys), whole)
    assert f"{shard} is " in caplog.text and "delete it" in caplog.text


def test_a_shard_that_breaks_in_use_is_named(tmp_path):
    cache, keyed = cached(tmp_path, posts(*POSTS))
    shard = spoil(cache, "cut")
    unpickled = pickle.loads(pickle.dumps(cache))
    with pytest.raises(ValueError, match=f"{shard.name} is a damaged shard"):
        unpickled.read([keyed["picture_keys"][0][0]])


def test_two_writers_do_not_disturb_each_other(tmp_path, computed):
    first, keyed = cached(tmp_path, posts(*POSTS[:1]))
    second = VisualFeatureCache(first.folder, first.size, first.dtype)
    keys = keyed["picture_keys"][0]
    first.add(["ab" * 16, *keys], torch.ones(4, first.size))
    second.add(["ab" * 16, "cd" * 16], torch.ones(2, first.size))
    first.refresh()
    third = VisualFeatureCache(first.folder, first.size, first.dtype)
    assert len(first) == len(second) == len(third) == 5 and len(shards(first)) == 3
    assert torch.equal(first.read(["cd" * 16]), torch.ones(1, first.size))
    with pytest.raises(KeyError):
        first.read(["ef" * 16])


def share(folder, seen):
    """What one of two processes does."""
    compute = cached_pictures.fill

    def counting(cache, share, *arguments):
        Path(seen, f"{torch.distributed.get_rank()}").write_text(json.dumps([key for _, key in share]))
        return compute(cache, share, *arguments)

    cached_pictures.fill = counting
    cache, keyed = cached(folder, posts(*POSTS, (BROKEN, [])))
    assert len(cache) == 5 and keyed["picture_keys"][5] == [None]
    cache.read([key for post in keyed["picture_keys"] for key in post if key])


def test_two_processes_share_the_work(tmp_path):
    debug_launcher(share, (str(tmp_path / "cache"), str(tmp_path)), num_processes=2)
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("0", "1"))
    assert len(first) == len(second) == 3 and not set(first) & set(second)
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
def test_the_features_are_mapped_not_read(tmp_path):
    cache = VisualFeatureCache(tmp_path, 17408, "bfloat16")
    keys = [f"{i:032x}" for i in range(2000)]
    cache.add(keys, torch.ones(2000, 17408, dtype=torch.bfloat16))  # 70 MB

    def memory() -> int:
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1])  # KiB

    before = memory()
    cache = VisualFeatureCache(tmp_path, 17408)
    assert cache.read(keys[::500]).sum() == 4 * 17408
    assert memory() - before < 10_000


def test_a_folder_that_is_not_shared_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(VisualFeatureCache, "add", lambda *_: None)
    with pytest.raises(RuntimeError, match="5 pictures .* are not in .* all machines of the run share"):
        cached(tmp_path, posts(*POSTS))


# Precision and size


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_the_dtype_decides_the_size_and_the_rounding(tmp_path, dtype, size):
    exact, keyed = cached(tmp_path, posts(*POSTS))
    cache, _ = cached(tmp_path, posts(*POSTS), dtype=dtype)
    keys = keyed["picture_keys"][0]
    assert cache.bytes_per_picture == cache.size * size + 16
    stored = cache.read(keys)
    assert stored.dtype == getattr(torch, dtype)
    expected, tolerance = exact.read(keys), {"bfloat16": 2e-2, "float16": 5e-4, "float32": 0.0}[dtype]
    assert (stored.float() - expected).norm() <= tolerance * expected.norm()
    manifest = json.loads((cache.folder / "manifest.json").read_text())
    assert (manifest["dtype"], manifest["feature_size"]) == (dtype, cache.size)
    model = tiny_model().to(torch.bfloat16 if size == 2 else torch.float32)
    batch = I2SRMDataCollator(tiny_processor(), feature_cache=cache)([{**keyed[0], "picture_keys": keys}])
    assert torch.isfinite(model(**batch).loss)


def test_what_float16_cannot_hold_is_an_error(tmp_path):
    cache = VisualFeatureCache(tmp_path, 4, "float16")
    with pytest.raises(ValueError, match=r"features of up to 7e\+04 do not fit.*--visual_cache_dtype bfloat16"):
        cache.add(["ab" * 16], torch.full((1, 4), 7e4))
    with pytest.raises(ValueError, match="not finite: are its weights damaged"):
        cache.add(["ab" * 16], torch.full((1, 4), float("nan")))
    assert len(cache) == 0 and not list(cache.folder.iterdir())
    with pytest.raises(ValueError, match="dtype='int8' must be one of bfloat16, float16, float32"):
        VisualFeatureCache(tmp_path, 4, "int8")


def test_resnet_50_takes_34_832_bytes_per_picture(tmp_path):
    assert VisualFeatureCache(tmp_path, 17408).bytes_per_picture == 34_816 + 16


def test_where_bfloat16_is_fast(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert bf16_is_fast("cpu") and not bf16_is_fast("meta")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_tile": True})
    assert not bf16_is_fast(torch.device("cpu"))
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # torch 2.7
    assert not bf16_is_fast("cpu")


# The scripts


def train(task, data, output_dir, **settings) -> tuple[dict, list, list]:
    """Results, predictions and the history of losses."""
    defaults = {"num_train_epochs": 1, "logging_steps": 1, "freeze_vision": True, "save_strategy": "no"}
    arguments = run_arguments(data, output_dir, **{**defaults, **settings})
    results = run_task(task, parse_arguments(arguments))
    records = [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return results, records, [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("task", [MNER, pytest.param(MRE, marks=pytest.mark.slow)], ids=lambda task: task.name)
def test_a_run_with_the_cache_is_the_run_without_it(posts, tmp_path, computed, task):
    settings = {"cache_visual_features": tmp_path / "cache", "visual_cache_dtype": "float32"}
    expected, predicted, losses = train(task, posts, tmp_path / "without")
    results, records, cached_losses = train(task, posts, tmp_path / "with", **settings)
    assert len(computed) == 1 and cached_losses == pytest.approx(losses, abs=1e-5)
    again, same_records, same_losses = train(task, posts, tmp_path / "again", **settings)
    assert len(computed) == 1 and same_losses == cached_losses and same_records == records
    labels = [[record.get("predicted") or record.get("relation") for record in run] for run in (records, predicted)]
    assert labels[0] == labels[1]
    for name in ("multimodal", "pictures_blanked"):
        for metric, value in expected[name].items():
            if metric in task.main_metrics or metric == "loss":
                assert results[name][metric] == pytest.approx(value, abs=1e-5), metric


def test_a_text_only_run_leaves_the_cache_alone(posts, tmp_path):
    train(MNER, posts, tmp_path / "out", use_images=False, cache_visual_features=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_run_that_trains_the_backbone_is_refused(posts, tmp_path):
    with pytest.raises(ValueError, match="--freeze_vision true, or leave --cache_visual_features out"):
        train(MNER, posts, tmp_path / "out", freeze_vision=False, cache_visual_features=tmp_path / "cache")


def test_a_resumed_run_takes_the_features_of_its_checkpoint(posts, tmp_path, computed):
    settings = {"cache_visual_features": tmp_path / "cache", "save_strategy": "epoch"}
    train(MNER, posts, tmp_path / "out", **settings)
    train(MNER, posts, tmp_path / "out", **settings, num_train_epochs=2, resume_from_checkpoint="last", seed=5)
    assert len(computed) == 1 and len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_the_script_shares_the_work_under_torchrun(posts, tmp_path):
    settings = {"freeze_vision": True, "cache_visual_features": tmp_path / "cache", "num_train_epochs": 1}
    for processes, found in ((2, "0 found, 87 computed"), (1, "87 found, 0 computed")):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
        command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", str(ROOT / "examples" / "run_mner.py")]
        command += run_arguments(posts, tmp_path / str(processes), **settings)
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
        assert done.returncode == 0 and found in done.stderr, done.stderr[-2000:]
