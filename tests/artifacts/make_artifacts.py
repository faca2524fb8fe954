"""Write this folder: what users have on disk after they used the package, and what it must still give.

    python tests/artifacts/make_artifacts.py

The files were written by version 0.2.0 at the layout of 0.1.0 (62 modules side by side). They are guards, so they are
not written anew when the package changes: a test that fails on them means that somebody's files no longer work.

    ner/ mre/ classification/   checkpoints with large random weights; ner/ carries its code
    answers.json                what pipelines answer with them
    posts/                      a data set of 12, 2 and 4 posts
    run/                        checkpoint-7 of 20 steps, in the middle of the third epoch
    losses.json                 the 20 steps, and what the last model gives on the test split
    features/                   the visual features of the data set
    onnx/                       an export of ner/
    corpus/                     posts.jsonl, and an unfinished run over it: one of three parts is done
    two_processes.json          20 steps in float64, the same in one process and in two
"""

import json
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "helpers"), str(HERE.parents[1])]

import conftest  # noqa: E402, F401  # offline, one thread
import torch  # noqa: E402
import transformers  # noqa: E402
from tiny import (  # noqa: E402  # noqa: E402
    RESNET,
    SENTENCES,
    bert_tokenizer,
    noise,
    run_arguments,
    text_config,
    tiny_config,
    tiny_pipeline,
    tiny_processor,
)
from tiny_detectors import save_sure_detector  # noqa: E402
from transformers import pipeline, set_seed  # noqa: E402
from two_processes import train as train_in_float64  # noqa: E402

from modeling_i2srm import I2SRMForSequenceClassification, VisualFeatureCache, cache_pictures  # noqa: E402
from modeling_i2srm.data.dataset import load_splits  # noqa: E402
from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus  # noqa: E402
from modeling_i2srm.onnx.export import export_checkpoint  # noqa: E402
from modeling_i2srm.prepare.builder import write_parquet  # noqa: E402
from modeling_i2srm.prepare.visual_posts import VisualPosts  # noqa: E402
from modeling_i2srm.training.arguments import parse_arguments  # noqa: E402
from modeling_i2srm.training.run import run_task  # noqa: E402
from modeling_i2srm.training.tasks import MNER  # noqa: E402

TASKS = {
    "ner": "multimodal-token-classification",
    "mre": "multimodal-relation-classification",
    "classification": "multimodal-text-classification",
}


def write_json(path: Path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_pictures(folder: Path):
    folder.mkdir(exist_ok=True)
    for seed in range(3):
        noise(seed, 24, 30).save(folder / f"{seed}.png")


def posts_of(name: str, folder: Path) -> list[dict]:
    """Posts for the model of that name: with pictures, without, and with a crop too."""
    posts = [
        {"text": SENTENCES[0], "image": str(folder / "0.png")},
        {"text": SENTENCES[1]},
        {"text": SENTENCES[2], "image": str(folder / "1.png"), "objects": [str(folder / "2.png")]},
    ]
    if name == "mre":
        for post in posts:
            post |= {"tokens": post.pop("text").split(), "head": [0, 1], "tail": [1, 3]}
    return posts


def write_checkpoints():
    entities = tiny_pipeline("entities")
    relations = tiny_pipeline("relations")
    set_seed(0)
    text = {"vocab_size": len(bert_tokenizer())}
    labels = {"id2label": {0: "negative", 1: "neutral", 2: "positive"}}
    model = I2SRMForSequenceClassification(tiny_config(text=text, **labels)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    classes = pipeline(TASKS["classification"], model=model, processor=tiny_processor(), device="cpu")
    answers = {}
    for name, pipe in (("ner", entities), ("mre", relations), ("classification", classes)):
        pipe.save_pretrained(name)
        answers[name] = pipe(posts_of(name, Path("pictures")))
        if name != "ner":
            for path in Path(name).glob("*.py"):
                path.unlink()
    write_json(Path("answers.json"), answers)


def command_line(output_dir: str, **settings) -> list[str]:
    """The command of the run, from the folder that holds the data set and the output folder."""
    return run_arguments(
        "posts",
        output_dir,
        text_config=json.dumps(text_config(hidden_size=16, intermediate_size=16, max_position_embeddings=128)),
        vision_config=json.dumps(RESNET),
        freeze_vision=True,
        max_steps=20,
        per_device_train_batch_size=4,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=7,
        save_strategy="steps",
        save_steps=7,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        head_learning_rate=1e-3,
        seed=3,
        **settings,
    )


def run_losses(output_dir: str, results: dict) -> dict:
    """The losses of a run, step by step, and the metrics of its test split."""
    history = json.loads(Path(output_dir, "trainer_state.json").read_text())["log_history"]
    names = ("step", "loss", "grad_norm", "task_loss", "mixup_loss", "semantic_loss", "eval_loss")
    steps = [{name: entry[name] for name in names if name in entry} for entry in history]
    test = {name: results["multimodal"][name] for name in ("loss", "lenient_f1", "strict_f1")}
    return {"steps": [entry for entry in steps if len(entry) > 1], "test": test}


def write_run():
    results = run_task(MNER, parse_arguments(command_line("whole_run")))
    write_json(Path("losses.json"), run_losses("whole_run", results))
    Path("run").mkdir()
    shutil.move("whole_run/checkpoint-7", "run/checkpoint-7")
    for path in Path("run/checkpoint-7").glob("*.py"):
        path.unlink()
    files = json.loads(Path("run/checkpoint-7/checkpoint_files.json").read_text())
    files["files"] = {name: size for name, size in files["files"].items() if not name.endswith(".py")}
    Path("run/checkpoint-7/checkpoint_files.json").write_text(json.dumps(files))
    shutil.rmtree("whole_run")


def load_for_features():
    """A model with a frozen backbone, its processor and the data set."""
    pipe = pipeline(TASKS["ner"], model="ner", device="cpu")
    pipe.model.base_model.vision_encoder.requires_grad_(False)
    return pipe.model, pipe.processor, load_splits("posts", ("tokens", "ner_tags"))


def write_features():
    model, processor, splits = load_for_features()
    cache = VisualFeatureCache.for_model("features", model, processor, "float32")
    cache_pictures(cache, dict(splits), model, processor, progress=False)


def corpus_arguments(**settings) -> CorpusArguments:
    settings = {"use_cpu": True, "disable_tqdm": True, "shard_size": 4, "batch_size": 2, **settings}
    return CorpusArguments(["posts.jsonl"], "output", "../ner", "../mre", detector="detector", **settings)


def write_corpus():
    Path("corpus").mkdir()
    shutil.copytree("pictures", "corpus/pictures")
    os.chdir("corpus")
    posts = [post for _ in range(4) for post in posts_of("ner", Path("pictures"))][:11]
    lines = [json.dumps({**post, "id": f"post {i}"}) for i, post in enumerate(posts)]
    lines[6] = '{"id": "a bad one", "image": "pictures/0.png"}'
    Path("posts.jsonl").write_text("\n".join(lines) + "\n")
    save_sure_detector("detector")
    extract_corpus(corpus_arguments())
    shutil.copytree("output", "finished", ignore=shutil.ignore_patterns("manifest.json", "done"))
    for name in ("part-00002.jsonl", "done/part-00001.json", "done/part-00002.json", "errors.jsonl", "summary.json"):
        Path("output", name).unlink()
    os.chdir(HERE)


def write_two_processes():
    weights, log, predictions, loss = train_in_float64("entities, 20 steps", HERE, processes=1)
    parts = ("loss", "grad_norm", "task_loss", "mixup_loss", "semantic_loss")
    write_json(Path("two_processes.json"), {"steps": [[entry[part] for part in parts] for entry in log], "loss": loss})
    shutil.rmtree("out", ignore_errors=True)


def main():
    os.chdir(HERE)
    for path in HERE.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    torch.set_num_threads(1)
    write_pictures(HERE / "pictures")
    write_checkpoints()
    write_parquet(VisualPosts, Path("posts"), train=12, validation=2, test=4)
    write_run()
    write_features()
    Path("onnx").mkdir()
    export_checkpoint("ner", "onnx/ner.onnx")
    write_corpus()
    write_two_processes()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    write_json(Path("versions.json"), versions)


if __name__ == "__main__":
    main()
