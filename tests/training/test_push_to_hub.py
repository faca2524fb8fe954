"""--push_to_hub of the training scripts, against a Hub on the loopback interface."""

from pathlib import Path

import forked
import pytest
import transformers
from hub_server import HubServer
from huggingface_hub import ModelCard
from tiny import run_arguments

from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import VisualPosts

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("script", "posts", "pipeline", "metric", "pair"),
    [
        ("run_joint.py", VisualPosts, "multimodal-joint-extraction", "triple f1", {}),
        pytest.param(
            *("run_mner.py", VisualPosts, "multimodal-token-classification", "lenient f1", {}), marks=pytest.mark.slow
        ),
        pytest.param(
            *("run_mre.py", VisualPosts, "multimodal-relation-classification", "micro f1"),
            {"head": (0, 4), "tail": (14, 19)},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_is_pushed_with_its_card_and_used_from_there(tmp_path, script, posts, pipeline, metric, pair):
    write_parquet(posts, tmp_path / "posts", train=24, validation=8, test=8)
    settings = {"push_to_hub": True, "hub_model_id": "pushed", "num_train_epochs": 1, "save_strategy": "no"}
    arguments = run_arguments(str(tmp_path / "posts"), tmp_path / "out", **settings)
    with HubServer() as hub:
        done = hub.run(forked.script(ROOT / "examples" / script, *arguments), tmp_path / "pushed")
        assert done.returncode == 0, done.stderr[-3000:]
        files = hub.files("model", "user/pushed")
        assert {
            "model.safetensors",
            "config.json",
            "pipeline_i2srm.py",
            "tokenizer.json",
            "predictions.jsonl",
        } <= files.keys()
        assert not [name for name in files if name.startswith("checkpoint-") or name.endswith(".tmp")]
        card = ModelCard(files["README.md"].decode())
        assert f'pipeline("{pipeline}", model="user/pushed", trust_remote_code=True)' in card.text
        assert metric in {result.metric_name for result in card.data.eval_results}
        assert hub.unknown_requests == []
    (folder := tmp_path / "downloaded").mkdir()
    for name, content in files.items():  # such files are used without this package in tests/test_remote_code.py
        (folder / name).write_bytes(content)
        assert not name.endswith(".py") or content == (ROOT / "modeling_i2srm" / name).read_bytes()
    assert transformers.pipeline(pipeline, model=str(folder))({"text": "Kobe lands in Paris", **pair})
