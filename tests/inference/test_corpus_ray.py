"""A corpus on a Ray cluster. Tests that need Ray are skipped where it is not installed: the extra dev leaves it out."""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from corpora import arguments, errors, lines, results, strays, write_jsonl

from modeling_i2srm import example_model, example_posts
from modeling_i2srm.inference.corpus import CorpusArguments, ShardWorker, extract_corpus
from modeling_i2srm.inference.corpus_files import describe_inputs, make_shards, read_manifest
from modeling_i2srm.inference.corpus_inputs import prepare_inputs
from modeling_i2srm.inference.corpus_ray import MOST_LOST, Job, ShardActor, find_picture
from modeling_i2srm.support.faults import RunError

pytestmark = pytest.mark.filterwarnings("ignore:::ray[.]")  # Ray uses what it has deprecated itself


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, models, extractor) -> Path:
    """The folder of a run over 23 rows, one of them no post: two of its five parts are missing, but not in whole/."""
    folder = tmp_path_factory.mktemp("unfinished")
    with contextlib.chdir(folder):
        path = write_jsonl(Path("in"), 22)
        path.write_text(path.read_text() + "[]\n")
        extract_corpus(arguments(path, "out", models), extractor)
        shutil.copytree("out", "whole")
        for part in (1, 4):
            Path(f"out/part-0000{part}.jsonl").unlink()
            Path(f"out/done/part-0000{part}.json").unlink()
    return folder


@pytest.fixture
def job(tmp_path, unfinished, models, monkeypatch) -> Job:
    shutil.copytree(unfinished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    given = arguments("in/posts.jsonl", "out", models)
    return Job(given, read_manifest(Path("out")), str(tmp_path), ["in/pictures/1.png"], gpu=False)


def test_an_actor_writes_what_the_local_engine_writes(job, tmp_path, monkeypatch):
    actor = ShardActor(job)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where Ray starts an actor; paths are those of the job's folder
    done = (tmp_path / "out" / "part-00000.jsonl").stat().st_mtime_ns
    assert actor({"shard": [4, 1]}) == {"shard": [4, 1], "fault": ["", ""]}
    assert actor({"shard": [0]}) == {"shard": [0], "fault": [""]}
    assert (tmp_path / "out" / "part-00000.jsonl").stat().st_mtime_ns == done  # its receipt is there: not done again
    assert results(tmp_path / "out") == results(tmp_path / "whole") and strays(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"folder": "/nowhere"}, "the folder /nowhere, in which the run began,"),
        ({"pictures": ["in/pictures/1.png", "in/gone.png"]}, "the picture in/gone.png"),
        ({"manifest": 1}, "--input in/posts.jsonl, of 1 bytes,"),
        ({"manifest": None}, "the manifest of this run in --output out"),
    ],
)
def test_a_node_that_does_not_see_the_files_says_which(job, changes, missing):
    if "manifest" in changes:
        entry = {**job.manifest["inputs"][0]} | ({"size": 1} if changes["manifest"] else {"sha256": "0"})
        changes = {"manifest": {**job.manifest, "inputs": [entry]}}
    [fault] = ShardActor(replace(job, **changes))({"shard": [1]})["fault"]
    assert re.search(f"on node .*: {re.escape(missing)} is not there.* a file system that all nodes share", fault)
    assert not Path("out/done/part-00001.json").exists()


def test_a_shard_over_which_workers_are_lost_ends_the_run(job):
    for number in range(MOST_LOST):
        Path(f"out/done/.part-00001.json.0000000{number}.tmp").touch()
    [fault] = ShardActor(job)({"shard": [1]})["fault"]
    assert f"{MOST_LOST} workers were lost over part-00001.jsonl, rows 6 to 10: " in fault
    assert ShardActor(job)({"shard": [4]})["fault"] == [""]


def test_the_picture_that_nodes_have_to_see_is_a_file_of_a_post(tmp_path, extractor):
    path = write_jsonl(tmp_path, 0)
    rows = [[], {"text": "a"}, {"text": "a", "image": "http://127.0.0.1:9/x.png"}, {"text": "a", "image": "none.png"}]
    rows += [{"text": "a", "image": "../x.png"}, {"text": "a", "image": "pictures/2.png"}]
    path.write_text("{\n" + "".join(json.dumps(row) + "\n" for row in rows))
    inputs = describe_inputs(prepare_inputs([str(path)], tmp_path), 4, [])
    worker = ShardWorker(extractor, inputs, arguments(path, tmp_path / "out"))
    shards = make_shards(inputs, 4)
    assert [find_picture(worker, shard) for shard in shards] == [None, str(tmp_path / "pictures" / "2.png")]
    worker.close()


def test_the_engine_is_refused_where_it_cannot_run(tmp_path, extractor, monkeypatch):
    path = write_jsonl(tmp_path / "in", 2)
    given = arguments(path, tmp_path / "out", engine="ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"--engine ray needs Ray \(.*\): pip install 'modeling-i2srm\[ray\]'"):
        extract_corpus(given)
    monkeypatch.setitem(sys.modules, "ray", type(sys)("ray"))  # the checks below come before it is used
    monkeypatch.setitem(sys.modules, "ray.data", type(sys)("ray.data"))
    with pytest.raises(ValueError, match="leave out extractor="):
        extract_corpus(given, extractor)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were launched; --engine ray starts its own"):
        extract_corpus(given)
    for settings, said in (
        ({"engine": "spark"}, "--engine spark must be local or ray"),
        ({"ray_workers": 2}, "--ray_workers 2: .* with --engine ray"),
        ({"engine": "ray", "ray_workers": 0}, "--ray_workers 0: 1 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            arguments(path, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


# With Ray


SETTINGS = {"raylet_start_wait_time_s": 60, "agent_register_timeout_ms": 60_000, "USAGE_STATS_ENABLED": 0}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each; this process is on the first."""
    os.environ.update({f"RAY_{name}": str(value) for name, value in SETTINGS.items()})
    pytest.importorskip("ray", reason="--engine ray needs Ray: pip install '.[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 10**8, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    cluster.connect()
    yield cluster
    import ray

    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a corpus of 200 posts, some with pictures, some rows without post, and of the local answers."""
    folder = tmp_path_factory.mktemp("corpus")
    posts, rows = example_posts(), []
    (folder / "pictures").mkdir()
    for i in range(200):
        post = posts[i % len(posts)]
        row = {"tokens": post["tokens"][: 2 + i % 40]} | ({"id": f"own {i}"} if i % 5 == 0 else {})
        if i % 3:
            for path in (post["image"], *post["objects"]):
                shutil.copy(path, folder / "pictures")
            row["image"] = f"pictures/{Path(post['image']).name}"
            row["objects"] = [f"pictures/{Path(crop).name}" for crop in post["objects"]]
        rows.append(json.dumps(row))
    rows[50:50] = ['{"text": ""}', "", '{"text": "a", "image": "pictures/none.png"}']
    (folder / "posts.jsonl").write_text("\n".join(rows) + "\n")
    extract_corpus(corpus_of(folder, "local"))
    return folder


def corpus_of(folder: Path, output: str, **settings) -> CorpusArguments:
    given = {"use_cpu": True, "disable_tqdm": True, "shard_size": 10, **settings}
    return CorpusArguments([str(folder / "posts.jsonl")], str(folder / output), example_model(), **given)


def check_same(folder: Path, output: str, summary: dict):
    assert results(folder / output) == results(folder / "local") and strays(folder / output) == []
    expected = json.loads((folder / "local" / "summary.json").read_text())
    unlike = ("processes", "seconds", "posts_per_second", "posts_in_this_run")
    assert {n: v for n, v in summary.items() if n not in unlike} == {
        n: v for n, v in expected.items() if n not in unlike
    }
    assert (summary["posts"], summary["errors"], summary["empty_lines"]) == (200, 2, 1)
    assert len(lines(folder / output)) + len(errors(folder / output)) == 202


@pytest.mark.slow
def test_two_nodes_give_the_files_of_the_local_engine_and_each_resumes_the_other(cluster, whole):
    summary = extract_corpus(corpus_of(whole, "ray", engine="ray"))
    check_same(whole, "ray", summary)
    assert summary["processes"] == 2 and summary["posts_in_this_run"] == 200
    for engine, part in (("local", 3), ("ray", 7)):
        (whole / "ray" / "done" / f"part-0000{part}.json").unlink()
        summary = extract_corpus(corpus_of(whole, "ray", engine=engine))
        check_same(whole, "ray", summary)
        assert summary["posts_in_this_run"] == 10
    assert extract_corpus(corpus_of(whole, "ray", engine="ray"))["posts_in_this_run"] == 0
    with pytest.raises(ValueError, match="--shard_size 10 there, 9 here.*--overwrite true"):
        extract_corpus(corpus_of(whole, "ray", engine="ray", shard_size=9))


@contextlib.contextmanager
def in_the_middle(output: Path, disturb: Callable[[Path], bool]) -> Iterator[None]:
    """Disturb a run once its first part is done and a worker is at the next, until that has worked."""
    over = threading.Event()

    def watch():
        while not over.wait(0.002):
            marks = list(output.glob("done/.part-*.tmp"))
            if marks and list(output.glob("done/part-*.json")) and disturb(marks[0]):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_workers_that_are_killed_cost_no_post(cluster, whole):
    killed = []

    def kill(mark: Path) -> bool:
        try:
            process = int(mark.read_text().split()[1])
            os.kill(process, signal.SIGKILL)
        except (OSError, IndexError, ValueError):  # it has just ended, or this is the receipt itself
            return False
        killed.append(process)
        return True

    with in_the_middle(whole / "killed", kill):
        summary = extract_corpus(corpus_of(whole, "killed", engine="ray"))
    assert len(killed) == 1
    check_same(whole, "killed", summary)


@pytest.mark.slow
def test_an_input_that_changes_during_the_run_ends_it(cluster, whole):
    path, text = whole / "posts.jsonl", (whole / "posts.jsonl").read_bytes()
    shorten = in_the_middle(whole / "fault", lambda mark: not os.truncate(path, len(text) - 1))
    try:
        with shorten, pytest.raises(RunError, match=r"on node .*posts.jsonl, of [\d,]+ bytes, is not there"):
            extract_corpus(corpus_of(whole, "fault", engine="ray"))
    finally:
        path.write_bytes(text)


@pytest.mark.slow
def test_a_node_that_leaves_costs_no_post(cluster, whole):
    (node,) = cluster.worker_nodes
    left = []

    def leave(mark: Path) -> bool:
        cluster.remove_node(node, allow_graceful=False)
        left.append(node)
        return True

    with in_the_middle(whole / "left", leave):
        summary = extract_corpus(corpus_of(whole, "left", engine="ray"))
    assert left == [node]
    check_same(whole, "left", summary)
