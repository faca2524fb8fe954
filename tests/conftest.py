"""Everything runs offline and on one thread a process; torch and transformers must not be imported before this."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import gc  # noqa: E402

gc.disable()  # until pytest_collection_finish: imports leave little garbage

import io  # noqa: E402
import logging  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from tiny import tiny_pipeline  # noqa: E402

from modeling_i2srm import I2SRMProcessor  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = Path(os.environ.get("I2SRM_DATA_DIR", ROOT.parent / "shared" / "data"))


# Files that take longest come first: each of the two processes of `make test` has one file at a time, and the last one
# is to be short.
LONG_FILES = ["test_joint_export", "test_export", "test_processes", "test_remote_code", "test_run", "test_checkpoints"]
LONG_FILES += ["test_mnre", "test_dataset", "test_feature_cache", "test_disks", "test_package", "test_hub_server"]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG_FILES)


def pytest_collection_finish():
    """Leave what is imported out of every later collection of garbage: trainings start one, and it takes a while."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def deterministic():
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("modeling_i2srm") and getattr(logger, "level", 0):  # the scripts set some
            logger.setLevel(logging.NOTSET)
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    # torch.manual_seed formats the stack for a CUDA that is not there, which takes longer than most tests.
    (torch.manual_seed if torch.cuda.is_initialized() else torch.default_generator.manual_seed)(0)


@pytest.fixture(autouse=True, scope="session")
def files_may_be_lost():
    """Files need not survive a power failure: a run of a tiny model waits 60 times for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def curves():
    """A test that takes this has its runs draw their training curves."""


@pytest.fixture(autouse=True)
def no_curves(request, monkeypatch):
    """Runs do not draw training curves where no test looks at them: it takes as long as half of a small training."""
    run = sys.modules.get("modeling_i2srm.training.run")
    if run and "curves" not in request.fixturenames:
        monkeypatch.setattr(run, "draw_training_curves", lambda *_: None)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA} (set I2SRM_DATA_DIR)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def posts(tmp_path_factory) -> str:
    """The folder of a small data set of made-up posts with entities; tests do not change it."""
    from modeling_i2srm.prepare.builder import write_parquet
    from modeling_i2srm.prepare.visual_posts import VisualPosts

    folder = tmp_path_factory.mktemp("posts") / "posts"
    write_parquet(VisualPosts, folder, train=24, validation=8, test=10)
    return str(folder)


class PictureHandler(BaseHTTPRequestHandler):
    """Answers /kobe.png with a picture, /page.png with a page, and else 404."""

    def do_GET(self):
        self.server.asked.append(self.path)
        picture = io.BytesIO()
        Image.linear_gradient("L").resize((40, 40)).save(picture, "PNG")
        body = {"/kobe.png": picture.getvalue(), "/page.png": b"<html>log in first</html>"}.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def picture_server(monkeypatch):
    """A server of pictures on the loopback interface: its `url`, and the paths it was `asked` for.

    Processors may read from there while it runs.
    """
    monkeypatch.setattr(I2SRMProcessor, "allow_private_addresses", True)
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), PictureHandler)
    server.asked, server.url = [], f"http://127.0.0.1:{server.server_port}"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def ner():
    return tiny_pipeline("entities")


@pytest.fixture(scope="module")
def joint():
    return tiny_pipeline("joint")


@pytest.fixture(scope="module")
def relate():
    return tiny_pipeline("relations")
