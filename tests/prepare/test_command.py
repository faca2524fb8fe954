"""What the scripts do beside building: --download fetches the texts first, --push_to_hub puts the result on a Hub."""

import functools
import http.server
import json
import threading
from pathlib import Path

import datasets
import forked
import pytest
from hub_server import HubServer

from modeling_i2srm.prepare import known_files, twitter2015
from modeling_i2srm.support.digests import hash_file

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    "train": "IMGID:1\nKobe\tB-PER\n\nIMGID:2\nParis\tB-LOC\n",
    "validation": "IMGID:3\na\tO\n",
    "test": "IMGID:4\nb\tO\n",
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Serve the three texts on loopback as if they were those of Twitter-2015; gives the paths that were asked for."""
    (tmp_path / "published").mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "published"))
    )
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    files = {}
    for split, text in TEXTS.items():
        path = tmp_path / "published" / f"{split}.txt"
        path.write_text(text)
        url = f"http://127.0.0.1:{server.server_port}/{path.name}"
        final = known_files.KNOWN_FILES["twitter2015"][split].path
        files[split] = known_files.KnownFile(url, final, hash_file(path))
    monkeypatch.setitem(known_files.KNOWN_FILES, "twitter2015", files)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield asked
    server.shutdown()
    server.server_close()


def test_download_then_build(published, tmp_path, capsys):
    arguments = ["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out"), "--download"]
    twitter2015.main(arguments)
    printed = capsys.readouterr().out
    assert "https://drive.google.com/file/d/1qAWrV9IaiBadICFb7mAreXy3llao_teZ/view" in printed
    assert (
        f"Unpack the folder twitter2015_images (and twitter2015_aux_images, the crops) anywhere below {tmp_path}"
        in printed
    )
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["edition"].startswith("UMT") and report["splits"]["train"]["posts"] == 2
    assert len(published) == 3

    twitter2015.main(arguments)
    assert len(published) == 3  # nothing is fetched twice


def test_a_failed_download_ends_the_script_and_builds_nothing(published, tmp_path, capsys):
    (tmp_path / "published/test.txt").write_text("IMGID:4\nother\tO\n")
    (tmp_path / "published/validation.txt").unlink()
    with pytest.raises(SystemExit) as ended:
        twitter2015.main(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out"), "--download"])
    message = str(ended.value)
    assert "2 of 3 files could not be downloaded" in message and "404" in message and "sha256" in message
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "raw").rglob("*") if path.is_file()] == ["train.txt"]


def test_push_to_hub(tmp_path):
    for split, text in zip(("train", "valid", "test"), TEXTS.values(), strict=True):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / f"raw/{split}.txt").write_text(text)
    arguments = ["--data_dir", tmp_path / "raw", "--output_dir", tmp_path / "out", "--push_to_hub", "user/tweets"]
    script = forked.script(ROOT / "dataset_scripts/twitter2015.py", *arguments)

    def load():
        posts = datasets.load_dataset("user/tweets")
        print(posts["train"]["tokens"][:], list(posts))

    with HubServer() as hub:
        pushed = hub.run(script, tmp_path / "pushed")
        assert pushed.returncode == 0, pushed.stderr
        assert f"pushed to {hub.endpoint}/datasets/user/tweets" in pushed.stdout
        loaded = hub.run(load, tmp_path / "loaded", home="other")
        assert loaded.stdout.strip() == "[['Kobe'], ['Paris']] ['train', 'validation', 'test']", loaded.stderr

        refused = hub.run(script, tmp_path / "refused", signed_in=False)
        assert refused.returncode == 1 and "user/tweets was not pushed: sign in" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_no_process_at_all_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        twitter2015.main(["--data_dir", str(tmp_path), "--num_proc", "0"])
    assert "--num_proc 0: give 1 or more" in capsys.readouterr().err
