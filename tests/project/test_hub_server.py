"""Data sets and models that travel to a Hub and back, each client in a process of its own."""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
import torch
import transformers
from hub_server import HubServer
from huggingface_hub import HfApi, HfFileSystem
from transformers import BertConfig, BertModel

from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.push import push_folder
from modeling_i2srm.prepare.visual_posts import VisualPosts


def plain(rows) -> list[dict]:
    """Return rows with the hash of the stored bytes in place of each picture."""
    undecoded = datasets.Image(decode=False)
    rows = rows.cast_column("image", undecoded).cast_column("objects", datasets.List(undecoded))
    return json.loads(json.dumps(list(rows), default=lambda content: hashlib.sha256(content).hexdigest()))


def write(first: Path, second: Path) -> dict:
    """What a client does that pushes."""
    urls = [push_folder(first, "user/posts"), push_folder(second, "posts"), push_folder(second, "user/posts")]
    push_folder(second, "user/hidden", private=True)
    datasets.load_dataset(str(first)).push_to_hub("user/other")
    datasets.load_dataset(str(first)).push_to_hub("user/other", revision="draft")
    return {
        "urls": urls,
        "hidden": datasets.load_dataset("user/hidden", split="test").num_rows,
        "branches": [branch.name for branch in HfApi().list_repo_refs("user/other", repo_type="dataset").branches],
    }


def load(*arguments, **options) -> dict:
    loaded = datasets.load_dataset(*arguments, **options)
    return {split: [plain(rows), str(rows.features)] for split, rows in loaded.items()}


def read_all(revision: str) -> dict:
    """What a client does that has neither a cache nor a token."""
    with pytest.raises(datasets.exceptions.DatasetNotFoundError) as hidden:
        load("user/hidden")
    return {
        "new": load("user/posts"),
        "streamed": load("user/posts", streaming=True),
        "old": load("user/posts", revision=revision),
        "other": load("user/other"),
        "draft": load("user/other", revision="draft"),
        "found": HfFileSystem().find("datasets/user/posts/data"),
        "hidden": str(hidden.value),
    }


def push_in_vain(folder: Path, repo_id: str, private: bool) -> list:
    with pytest.raises((OSError, ValueError)) as raised:
        push_folder(folder, repo_id, private=private)
    return [isinstance(raised.value, ValueError), isinstance(raised.value, OSError), str(raised.value)]


def push_models() -> list[bool]:
    """Whether each revision of a model is loaded as it was pushed."""
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    same = []
    models = [BertModel(config) for _ in range(2)]
    commits = [model.push_to_hub("user/bert", private=True).oid for model in models]
    models[0].push_to_hub("user/bert", revision="draft")
    for model, revision in zip([*models, models[1], models[0]], [*commits, "main", "draft"], strict=True):
        loaded = BertModel.from_pretrained("user/bert", revision=revision)
        same.append(all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)))
    return same


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory) -> Callable:
    """Calls a function in a client of the Hub and returns what it returns."""

    def run(work: Callable, *arguments, **client):
        output = tmp_path_factory.mktemp("client") / "printed"
        done = hub.run(lambda: print("\n" + json.dumps(work(*arguments))), output, **client)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def hub():
    transformers.utils.hub.hf_api()  # the client of this process, which a fork inherits
    with HubServer() as server:
        yield server
        assert server.unknown_requests == []


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Return two finished data sets; the first has more rows, and its training split has two files."""
    folders = [tmp_path_factory.mktemp("data") / name for name in ("first", "second")]
    for folder, count in zip(folders, (6, 4), strict=True):
        write_parquet(VisualPosts, folder, train=count, validation=3, test=3, seed=count)
    whole = folders[0] / "data" / "train-00000-of-00001.parquet"
    table = pyarrow.parquet.read_table(whole)
    for shard in range(2):
        pyarrow.parquet.write_table(table[3 * shard :][:3], whole.with_name(f"train-0000{shard}-of-00002.parquet"))
    whole.unlink()
    return folders


@pytest.fixture(scope="module")
def expected(folders, tmp_path_factory) -> list[dict]:
    """Return what is loaded from the folders themselves."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return [load(str(folder), cache_dir=cache) for folder in folders]


@pytest.fixture(scope="module")
def written(run, folders) -> dict:
    """Return what the client saw that pushed."""
    return run(write, *folders)


@pytest.fixture(scope="module")
def read(run, written) -> dict:
    """Return what a client loads that has neither a cache nor a token."""
    return run(read_all, written["urls"][0].split("/")[-1], home="reader", signed_in=False)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_pushed_folder_is_loaded_as_it_was(read, expected):
    assert [len(rows) for rows, _ in read["new"].values()] == [4, 3, 3]
    assert sum(row["image"] is not None for rows, _ in read["new"].values() for row in rows) > 3
    assert read["new"] == read["streamed"] == expected[1]


def test_a_push_replaces_all_files_in_one_commit(hub, written, read, folders, expected):
    commits = hub.repositories["dataset", "user/posts"].history()
    assert [len(commit.files) - 1 for commit in commits] == [len(files(folder)) for folder in folders[::-1]] + [0]
    for commit, folder, url in zip(commits, folders[::-1], written["urls"][1::-1], strict=False):
        pushed = hub.files("dataset", "user/posts", commit.oid)
        assert {name: content for name, content in pushed.items() if name != ".gitattributes"} == files(folder)
        assert url == f"{hub.endpoint}/datasets/user/posts/commit/{commit.oid}"
    assert written["urls"][2] == written["urls"][1]
    assert read["old"] == expected[0] and len(expected[0]["train"][0]) == 6
    names = ["test-00000-of-00001", "train-00000-of-00001", "validation-00000-of-00001"]
    assert read["found"] == [f"datasets/user/posts/data/{name}.parquet" for name in names]


def test_push_to_hub_of_datasets(written, read, expected):
    assert read["other"] == read["draft"] == expected[0]
    assert written["branches"] == ["main", "draft"]


def test_a_private_data_set_is_hidden(hub, written, read):
    assert hub.repositories["dataset", "user/hidden"].private and written["hidden"] == 3
    assert "'user/hidden' doesn't exist on the Hub or cannot be accessed" in read["hidden"]


def test_models(run, hub):
    assert run(push_models) == [True] * 4
    blobs = hub.repositories["model", "user/bert"].at("main").files
    assert blobs["model.safetensors"].lfs and not blobs["config.json"].lfs


FAILURES = [
    ("user/posts", {"signed_in": False}, "`hf auth login`, or set HF_TOKEN"),
    ("user/posts", {"HF_TOKEN": "hf_wrong"}, "`hf auth login`, or set HF_TOKEN"),
    ("other/posts", {}, "a token that may write to other/posts"),
    ("user/posts", {"HF_HUB_OFFLINE": "1"}, "unset it"),
    ("user/posts", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
]


@pytest.mark.parametrize(("repo_id", "client", "advice"), FAILURES)
def test_a_push_that_fails_says_what_to_do(run, hub, written, folders, repo_id, client, advice):
    before = len(hub.repositories["dataset", "user/posts"].commits)
    _, is_os_error, message = run(push_in_vain, folders[0], repo_id, False, **client)
    assert is_os_error and message.startswith(f"{repo_id} was not pushed") and advice in message
    assert len(hub.repositories["dataset", "user/posts"].commits) == before


def test_a_push_that_makes_no_sense_is_refused(run, written, folders, tmp_path):
    is_value_error, _, message = run(push_in_vain, folders[0], "user/posts", True)
    assert is_value_error and "user/posts is public" in message
    with pytest.raises(ValueError, match="'my posts' cannot be the name of a data set, write user/name"):
        push_folder(folders[0], "my posts")
    with pytest.raises(ValueError, match="is not a finished data set"):
        push_folder(tmp_path, "user/posts")


def test_the_server_refuses_what_the_hub_refuses():
    def ask(method: str, path: str, body=None, token: str = "hf_testing", **headers):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        try:
            return urllib.request.urlopen(
                urllib.request.Request(hub.endpoint + path, data=data, headers=headers, method=method)
            )
        except urllib.error.HTTPError as error:
            return error

    def commit(*lines, token: str = "hf_testing"):
        body = b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in lines)
        return ask("POST", "/api/datasets/user/data/commit/main", body, token)

    with HubServer() as hub:
        assert (
            ask("POST", "/api/repos/create", {"name": "data", "organization": "user", "type": "dataset"}).status == 200
        )
        assert ask("POST", "/api/repos/create", {"name": "data", "organization": None, "type": "dataset"}).status == 409
        header = ("header", {"summary": "a file", "description": ""})
        addition = ("file", {"path": "a.txt", "content": "YWJjZGVm", "encoding": "base64"})
        assert commit(header, addition, token="").status == 401
        assert commit(header, addition).status == 200
        assert commit(("header", {"summary": "late", "parentCommit": "0" * 40}), addition).status == 412
        assert commit(header, ("deletedFile", {"path": "b.txt"})).headers["X-Error-Code"] == "EntryNotFound"
        oid = hashlib.sha256(b"content").hexdigest()
        assert commit(header, ("lfsFile", {"path": "a.bin", "oid": oid, "size": 7})).status == 400
        assert ask("PUT", f"/lfs/{oid}", b"content", token="").status == 403
        batch = {"objects": [{"oid": oid, "size": 7}]}
        assert (
            "actions" in json.load(ask("POST", "/datasets/user/data.git/info/lfs/objects/batch", batch))["objects"][0]
        )
        assert ask("PUT", f"/lfs/{oid}", b"another", token="").status == 400
        assert ask("PUT", f"/lfs/{oid}", b"content", token="").status == 200
        answer = json.load(ask("POST", "/datasets/user/data.git/info/lfs/objects/batch", batch))
        assert answer["objects"] == batch["objects"]

        page = "/datasets/user/data/resolve/main/a.txt"
        whole, head, part = ask("GET", page), ask("HEAD", page), ask("GET", page, Range="bytes=2-3")
        assert whole.read() == b"abcdef" and head.headers["Content-Length"] == "6" and head.read() == b""
        assert part.status == 206 and part.read() == b"cd" and part.headers["Content-Range"] == "bytes 2-3/6"
        assert ask("GET", page, Range="bytes=6-").status == 416
        assert ask("GET", page, token="wrong").status == 401
        for path, code in (("data/resolve/main/b.txt", "Entry"), ("data/resolve/no/a.txt", "Revision"), ("no", "Repo")):
            address = f"/datasets/user/{path}" if "/" in path else f"/api/datasets/user/{path}"
            assert ask("GET", address).headers["X-Error-Code"] == f"{code}NotFound"
        assert hub.unknown_requests == []
        assert ask("GET", "/api/models").status == 404
        assert hub.unknown_requests == [("GET", "/api/models")] and hub.requests[-1] == ("GET", "/api/models")
