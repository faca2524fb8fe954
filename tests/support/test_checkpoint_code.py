"""Old code in a checkpoint is replaced by the present one, and by nothing else."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import killing
import pytest
from bare_site import bare_site, run_bare
from hub_server import HubServer
from tiny import SENTENCES, assert_same, noise, tiny_pipeline
from transformers import BertConfig

from modeling_i2srm.cli import update_checkpoint
from modeling_i2srm.support.checkpoint_code import update_checkpoint_code

LOADING = """
import json, sys
from importlib.util import find_spec

from transformers import BertModel, pipeline

assert not find_spec("modeling_i2srm")
forward = BertModel.forward
name = "cache" if "cache" in forward.__annotations__ else "past_key_values"


def without_the_old_name(self, *args, cache=None, **kwargs):  # as from transformers 5.40 on
    if "past_key_values" in kwargs:
        raise TypeError("an unexpected keyword argument 'past_key_values'")
    return forward(self, *args, **{name: cache}, **kwargs)


BertModel.forward = without_the_old_name
text, picture, *folders = sys.argv[1:]
answers = []
for folder in folders:
    ner = pipeline(model=folder, trust_remote_code=True)
    inputs = ner.processor(text=text, images=picture)
    try:
        answers.append([ner.model(**inputs).logits.tolist(), ner({"text": text, "image": picture})])
    except TypeError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""
OLD = {"semantic_loss.py": "removed_part.py"}  # a module had another name


@pytest.fixture(scope="module")
def entities():
    return tiny_pipeline("entities")


@pytest.fixture(scope="module")
def present(entities, tmp_path_factory) -> Path:
    """A checkpoint with the code of today."""
    folder = tmp_path_factory.mktemp("present") / "checkpoint"
    entities.save_pretrained(folder)
    (folder / "README.md").write_text("a card\n")
    (folder / "own.py").write_text("from .modeling_i2srm import I2SRMModel\n")
    return folder


@pytest.fixture
def old(present, tmp_path) -> Path:
    """The same with code that calls the text encoder by the old name, a module less and another one more."""
    folder = shutil.copytree(present, tmp_path / "old")
    for new, name in OLD.items():
        (folder / new).rename(folder / name)
    for path in folder.glob("*.py"):
        code = path.read_text()
        for new, name in OLD.items():
            code = code.replace(f"from .{new.removesuffix('.py')} ", f"from .{name.removesuffix('.py')} ")
        path.write_text(code.replace("{self.cache_argument: cache,", '{"past_key_values": cache,'))
    return folder


EXPECTED = {
    "heads.py": "changed",
    "modeling_i2srm.py": "changed",
    "semantic_loss.py": "added",
    "removed_part.py": "removed",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_an_old_checkpoint_answers_again_without_the_package(entities, present, old, tmp_path):
    site = bare_site(tmp_path / "site", "torch", "transformers", "pillow")
    (script := tmp_path / "loading.py").write_text(LOADING)
    noise().save(picture := tmp_path / "picture.png")
    environment = {
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    broken = shutil.copytree(old, tmp_path / "broken")
    before = times(old)
    assert update_checkpoint_code(old) == EXPECTED
    assert contents(old) == contents(present)
    after = times(old)
    assert all(after[name] == before[name] for name in before if name not in EXPECTED)
    done = run_bare(site, script, SENTENCES[0], picture, broken, old, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    error, answer = json.loads(done.stdout.splitlines()[-1])
    assert error == "an unexpected keyword argument 'past_key_values'"
    inputs = entities.processor(text=SENTENCES[0], images=str(picture))
    expected = [entities.model(**inputs).logits.tolist(), entities({"text": SENTENCES[0], "image": str(picture)})]
    assert_same(answer, expected)
    assert update_checkpoint_code(old) == {} and times(old) == after


@pytest.mark.parametrize("task", ["entities", "relations"])
def test_the_settings_that_name_the_code_are_those_of_today_and_others_stay(task, tmp_path):
    tiny_pipeline(task).save_pretrained(tmp_path)
    expected = {}
    for name in ("config.json", "processor_config.json"):
        settings = json.loads((tmp_path / name).read_text()) | {"a note": ["\u00fc", 1e-5]}
        (tmp_path / name).write_text(json.dumps(settings))
        expected[name] = json.loads(json.dumps(settings))
        settings["auto_map"] = {key: f"user/posts--{entry}" for key, entry in settings["auto_map"].items()}
        settings |= {"custom_pipelines": {}} if "custom_pipelines" in settings else {}
        (tmp_path / name).write_text(json.dumps(settings))
    others = {name: data for name, data in contents(tmp_path).items() if name not in expected}
    assert update_checkpoint_code(tmp_path) == dict.fromkeys(expected, "changed")
    assert {name: json.loads((tmp_path / name).read_text()) for name in expected} == expected
    assert {name: data for name, data in contents(tmp_path).items() if name not in expected} == others


def test_classes_of_ones_own_stay_with_their_files(old):
    for name, code in {
        "other.py": "from .modeling_i2srm import I2SRMModel\nfrom .removed_part import SemanticLoss\n",
        "modeling_i2srm.py": (old / "modeling_i2srm.py").read_text() + "from ..outside import secret\n",
        "../outside.py": "secret = 1\n",
    }.items():
        (old / name).write_text(code)
    own = {"AutoModel": "other.Other", "AutoModelForCausalLM": "someone/posts--theirs.Theirs"}
    for name, entries in (("config.json", own), ("processor_config.json", {"AutoProcessor": "own.OwnProcessor"})):
        settings = json.loads((old / name).read_text())
        settings["auto_map"] |= entries
        (old / name).write_text(json.dumps(settings))
    before = {path.name: path.read_bytes() for path in old.iterdir() if path.name not in EXPECTED}
    before["removed_part.py"] = (old / "removed_part.py").read_bytes()
    assert update_checkpoint_code(old) == {name: what for name, what in EXPECTED.items() if what != "removed"}
    assert all((old / name).read_bytes() == data for name, data in before.items())
    assert (old.parent / "outside.py").exists()


def test_links_into_a_cache_of_downloads_are_replaced_and_not_written_through(present, old):
    blob = (old / "modeling_i2srm.py").rename(old.parent / "blob")
    (old / "modeling_i2srm.py").symlink_to(blob)
    before = blob.read_bytes()
    update_checkpoint_code(old)
    assert contents(old) == contents(present) and blob.read_bytes() == before


def test_a_kill_leaves_every_file_old_or_new_and_the_next_run_finishes(present, old, tmp_path):
    whole, new = contents(old), contents(present)
    work = lambda: update_checkpoint_code(old)  # noqa: E731
    again = shutil.copytree(old, tmp_path / "again")
    status, operations, _ = killing.run(work, (old,))
    assert status == 0 and operations > 3
    for before in range(operations):
        shutil.rmtree(old)
        shutil.copytree(again, old)
        assert killing.run(work, (old,), before=before)[0] == -signal.SIGKILL
        for name, data in contents(old).items():
            assert name.endswith(".tmp") or data in (whole.get(name), new.get(name)), name
        work()
        assert contents(old) == new


def test_nothing_is_replaced_where_a_file_cannot_be_written(old, monkeypatch):
    write, calls = Path.write_bytes, []

    def fail(path, data):
        calls.append(path)
        if len(calls) == len(EXPECTED) - 1:  # the last one that is written
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    before = contents(old)
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        update_checkpoint_code(old)
    assert contents(old) == before


def test_folders_that_are_no_checkpoint_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    BertConfig().save_pretrained(tmp_path / "bert")
    (tmp_path / "a_file").touch()
    for name, words in {
        "user/my-posts": "hf download user/my-posts --local-dir",
        str(tmp_path / "a_file"): "is not a folder",
        str(tmp_path / "empty"): "holds no config.json",
        str(tmp_path / "bert"): "model_type='bert', expected 'i2srm'",
    }.items():
        with pytest.raises(ValueError, match=words):
            update_checkpoint_code(name)
    assert not list((tmp_path / "empty").iterdir()) and len(list((tmp_path / "bert").iterdir())) == 1


@pytest.mark.slow  # a process for each step
def test_the_page_updates_a_repository_on_the_hub(old, present):
    page = Path(__file__).resolve().parents[2] / "docs/tutorials/hub.md"
    (snippet,) = (code for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "update_" in code)
    upload = "import huggingface_hub, sys\nhuggingface_hub.create_repo('user/my-posts')\n"
    upload += "huggingface_hub.upload_folder(repo_id='user/my-posts', folder_path=sys.argv[1])\n"
    with HubServer() as hub:
        for code in (upload, snippet, snippet):
            command = [sys.executable, "-c", code, str(old)]
            path = {"PYTHONPATH": str(page.parents[2])}
            done = subprocess.run(command, env=hub.environment() | path, cwd=old.parent, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            if code == upload:
                assert "removed_part.py" in hub.files("model", "user/my-posts")
            else:
                files = hub.files("model", "user/my-posts")
                assert {name: data for name, data in files.items() if name != ".gitattributes"} == contents(present)
        assert hub.unknown_requests == []
    assert not list((old.parent / "my-posts-code").glob("*.safetensors"))


def test_the_command_says_what_it_changed(old, present, capsys, tmp_path):
    update_checkpoint.main([str(old), str(present)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"{old}: {what} {name}" for name, what in EXPECTED.items()), f"{present}: already up to date"]
    with pytest.raises(SystemExit) as end:
        update_checkpoint.main([str(tmp_path / "nothing")])
    assert end.value.code == 2 and "is not a folder" in capsys.readouterr().err
