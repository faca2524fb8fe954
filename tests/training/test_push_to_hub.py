"""--push_to_hub of the training scripts, against a Hub on the loopback interface, and use without this package."""

import subprocess
import sys
from pathlib import Path

import pytest
from bare_site import bare_command, bare_site
from hub_server import HubServer
from huggingface_hub import ModelCard
from tiny import run_arguments

from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import VisualPosts

ROOT = Path(__file__).resolve().parents[2]

USING = """
from transformers import pipeline

pipe = pipeline(model="user/pushed", trust_remote_code=True)
post = {"text": "Kobe lands in Paris"}
print(pipe.task, pipe({**post, "head": (0, 4), "tail": (14, 19)} if "relation" in pipe.task else post))
"""


@pytest.mark.parametrize(
    ("script", "posts", "pipeline", "metric"),
    [
        ("run_mner.py", VisualPosts, "multimodal-token-classification", "lenient f1"),
        pytest.param(
            *("run_mre.py", VisualPosts, "multimodal-relation-classification", "micro f1"), marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_is_pushed_with_its_card_and_used_from_there(tmp_path, script, posts, pipeline, metric):
    write_parquet(posts, tmp_path / "posts", train=24, validation=8, test=8)
    settings = {"push_to_hub": True, "hub_model_id": "pushed", "num_train_epochs": 1, "save_strategy": "no"}
    arguments = run_arguments(str(tmp_path / "posts"), tmp_path / "out", **settings)
    with HubServer() as hub:
        command = [sys.executable, str(ROOT / "examples" / script), *arguments]
        done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True)
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
        (tmp_path / "using.py").write_text(USING)
        site = bare_site(tmp_path / "site", "torch", "transformers", "pillow")
        used = subprocess.run(
            bare_command(site, tmp_path / "using.py"), env=hub.environment("another"), capture_output=True, text=True
        )
        assert used.returncode == 0 and used.stdout.startswith(pipeline), used.stderr[-3000:]
        assert hub.unknown_requests == []
