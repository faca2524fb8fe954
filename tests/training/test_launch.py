"""The scripts under `accelerate launch`: several processes, two machines, sharded parameters."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from tiny import run_arguments, text_config

from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import VisualPosts

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "examples" / "configs" / "accelerate"
TASKS = ["mner", "mre"]


@pytest.mark.parametrize(
    "name, kind, processes, machines",
    [
        ("cpu", "NO", 1, 1),
        ("cpu_2_processes", "MULTI_GPU", 2, 1),
        ("gpu", "NO", 1, 1),
        ("gpus_8", "MULTI_GPU", 8, 1),
        ("gpus_2x8", "MULTI_GPU", 16, 2),
        ("fsdp", "FSDP", 8, 1),
        ("zero2", "DEEPSPEED", 8, 1),
    ],
)
def test_configurations_are_read(name, kind, processes, machines):
    path = CONFIGS / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert (str(config.distributed_type.value), config.num_processes, config.num_machines) == (
        kind,
        processes,
        machines,
    )
    given = yaml.safe_load(path.read_text())
    assert getattr(config, "fsdp_config", {}) == given.get("fsdp_config", {})
    assert getattr(config, "deepspeed_config", {}) == given.get("deepspeed_config", {})


def test_every_configuration_is_tested():
    assert len(list(CONFIGS.iterdir())) == 7


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    write_parquet(VisualPosts, folder / "posts", train=27, validation=9, test=11)
    return dict.fromkeys(TASKS, str(folder / "posts"))


def arguments(dataset: str, output_dir: Path, processes: int, **settings) -> list[str]:
    """The command line of a run whose result does not depend on the number of processes."""
    text = text_config(max_position_embeddings=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    settings = {"attn_mixup_dropout": 0, "attn_mixup_gather": True, "freeze_vision": True, **settings}
    size = {"per_device_train_batch_size": 8 // processes, "per_device_eval_batch_size": 3}
    settings = {"text_config": json.dumps(text), "save_strategy": "no", "num_train_epochs": 2, **size, **settings}
    return run_arguments(dataset, output_dir, **settings)


def finish(*processes: subprocess.Popen) -> list[str]:
    """What processes print until their end, which must be a good one."""
    try:
        printed = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in printed]


def start(*command, **environment) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(word) for word in command], text=True, env=environment, cwd=ROOT, **pipes)


def launch(config: str, *words) -> list:
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / f"{config}.yaml", *words]


def assert_same_run(found: Path, expected: Path):
    weights = [load_file(folder / "model.safetensors") for folder in (found, expected)]
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)
    records = [(folder / "predictions.jsonl").read_text().splitlines() for folder in (found, expected)]
    assert len(records[0]) == len(records[1]) >= 11  # posts; of relations there are more
    for one, other in zip(*(map(json.loads, lines) for lines in records), strict=True):
        assert {k: v for k, v in one.items() if "score" not in k} == {
            k: v for k, v in other.items() if "score" not in k
        }
    results = [json.loads((folder / "results.json").read_text()) for folder in (found, expected)]
    losses = [[result["multimodal"]["loss"], result["multimodal"]["validation"]["loss"]] for result in results]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_give_the_result_of_one(data, tmp_path, task):
    script = ROOT / "examples" / f"run_{task}.py"
    finish(start(*launch("cpu", script, *arguments(data[task], tmp_path / "1", 1))))
    finish(start(*launch("cpu_2_processes", script, *arguments(data[task], tmp_path / "2", 2))))
    assert_same_run(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
def test_fsdp_shards_the_parameters_and_gives_the_same_result(data, tmp_path):
    settings = {"num_train_epochs": 5, "calibrate": False}  # temperatures would need whole parameters
    finish(start(*launch("cpu", "examples/run_mner.py", *arguments(data["mner"], tmp_path / "1", 1, **settings))))
    sharded = ["--num_processes", "2", "--mixed_precision", "no", "--fsdp_transformer_layer_cls_to_wrap", "BertLayer"]
    script = arguments(data["mner"], tmp_path / "2", 2, **settings)
    (printed,) = finish(start(*launch("fsdp", *sharded, "tests/helpers/fsdp_on_cpu.py", *script)))
    sizes = re.findall(r"process (\d): (\d+) of (\d+) bytes", printed)
    assert sorted(rank for rank, _, _ in sizes) == ["0", "1"]
    for _, here, whole in sizes:
        assert int(here) < 0.52 * int(whole)
    assert_same_run(tmp_path / "2", tmp_path / "1")


@pytest.fixture
def machines():
    """Two network namespaces, joined by a cable: what to put before a command on each of them."""
    names, addresses = [f"i2srm-{os.getpid()}-{i}" for i in (1, 2)], ["10.231.77.1", "10.231.77.2"]
    commands = [["ip", "netns", "add", name] for name in names]
    commands += [["ip", "link", "add", "cable", "netns", names[0], "type", "veth", "peer", "cable", "netns", names[1]]]
    for name, address in zip(names, addresses, strict=True):
        inside = ["ip", "-n", name]
        commands += [[*inside, "addr", "add", f"{address}/24", "dev", "cable"]]
        commands += [[*inside, "link", "set", "dev", device, "up"] for device in ("cable", "lo")]
    try:
        for command in commands:
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"network namespaces are not allowed here: {getattr(error, 'stderr', error)}")
        yield [["ip", "netns", "exec", name] for name in names], addresses
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
def test_two_machines_give_the_result_of_one(data, tmp_path, machines):
    finish(start(*launch("cpu", "examples/run_mner.py", *arguments(data["mner"], tmp_path / "1", 1))))
    inside, (address, _) = machines
    script = arguments(data["mner"], tmp_path / "2", 2)
    started = []
    for rank in (0, 1):
        words = ["--num_processes", "2", "--machine_rank", str(rank), "--main_process_ip", address]
        command = launch("gpus_2x8", *words, "--mixed_precision", "no", "examples/run_mner.py", *script)
        started.append(start(*inside[rank], *command, GLOO_SOCKET_IFNAME="cable"))
    finish(*started)
    assert_same_run(tmp_path / "2", tmp_path / "1")
