"""The server: its answers are the Extractor's, whoever asks at the same time, and what it refuses it says why."""

import base64
import http.client
import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SENTENCES, Corners, noise

from modeling_i2srm.inference.extraction import Extractor

for package in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
    pytest.importorskip(package, reason=f"the server needs {package}: pip install '.[serve]'")

import uvicorn  # noqa: E402

from modeling_i2srm.cli import serve  # noqa: E402
from modeling_i2srm.inference.server import Limits, make_app  # noqa: E402


def png(seed: int, **size: int) -> bytes:
    file = io.BytesIO()
    noise(seed, **size).save(file, "PNG")
    return file.getvalue()


ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"
PICTURES = [png(seed) for seed in range(4)]
URIS = [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in PICTURES]
POSTS: list[dict] = [
    {"id": "a", "text": SENTENCES[0], "image": URIS[0]},
    {"text": SENTENCES[1]},
    {"text": SENTENCES[2], "image": URIS[1], "objects": [URIS[2], None, URIS[3]]},
    {"id": 7, "tokens": SENTENCES[3].split(), "objects": [URIS[0]]},
    {"text": " ".join(SENTENCES * 2), "image": URIS[2]},
    {"text": "Amazon 🎉\u2028 سلام"},
]

BOX = {"box": [0, 0, 25, 20], "score": 0.5, "label": "dog"}


class Running:
    """A server in a thread, and requests to it."""

    def __init__(self, extractor: Extractor):
        self.extractor = extractor
        self.app = make_app(extractor, Limits(max_batch=4, max_queue=16))
        self.server = serve.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            threading.Event().wait(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    @property
    def service(self):
        return self.app.state.service

    def ask(self, method: str, path: str, body=None, headers: dict | None = None) -> tuple[int, dict, str]:
        """Status, headers and body of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def extract(self, post: object) -> tuple[int, dict, str]:
        body = post if isinstance(post, bytes) else json.dumps(post)
        return self.ask("POST", "/extract", body, {"Content-Type": "application/json"})

    def refusal(self, post: object) -> tuple[int, str | None, str]:
        """Status, field and reason."""
        status, _, body = self.extract(post)
        values = json.loads(body)
        assert set(values) == {"detail", "field"}, body
        return status, values["field"], values["detail"]

    def stop(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def running(joint):
    server = Running(Extractor(joint))
    yield server
    server.stop()


class Gate:
    """Holds an `extract` until it opens, and remembers the batches."""

    def __init__(self, extractor: Extractor, monkeypatch):
        self.event, self.entered, self.batches, extract = threading.Event(), threading.Event(), [], extractor.extract

        def held(posts, batch_size=None):
            self.batches.append([post.id for post in posts])
            self.entered.set()
            assert self.event.wait(20)
            if any(post.id == "bad" for post in posts):
                raise ValueError("its scores are not finite")
            return extract(posts, batch_size)

        monkeypatch.setattr(extractor, "extract", held)


@pytest.fixture
def gate(running, monkeypatch):
    gate = Gate(running.extractor, monkeypatch)
    yield gate
    gate.event.set()


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("this never came")


def form(fields: list[tuple[str, str | bytes]], end: bytes = b"--limit--\r\n") -> tuple[bytes, dict]:
    """The body of a form, and its headers; bytes are files."""
    parts = []
    for name, value in fields:
        file = '; filename="kobe.png"' if isinstance(value, bytes) else ""
        data = value if isinstance(value, bytes) else value.encode()
        parts.append(
            f'--limit\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
        )
    return b"".join(parts) + end, {"Content-Type": "multipart/form-data; boundary=limit"}


# Answers


@pytest.mark.parametrize("post", POSTS)
def test_the_answer_to_one_post_is_the_extractors_to_the_last_digit(running, post):
    status, headers, body = running.extract(post)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body == running.extractor(post).to_json()


def test_answers_find_a_lot(running):
    answers = [running.extractor(post) for post in POSTS]
    assert sum(len(answer.relations) for answer in answers) > 30
    assert any(entity.region for answer in answers for entity in answer.entities)


def test_a_form_with_files_is_the_same_post(running):
    fields = [("id", "a"), ("text", SENTENCES[2]), ("image", PICTURES[1])]
    fields += [("objects", PICTURES[2]), ("objects", URIS[3])]
    status, _, body = running.ask("POST", "/extract", *form(fields))
    post = {"id": "a", "text": SENTENCES[2], "image": URIS[1], "objects": URIS[2:]}
    assert (status, body) == (200, running.extractor(post).to_json())
    words = form([("tokens", word) for word in SENTENCES[3].split()])
    assert running.ask("POST", "/extract", *words)[2] == running.extractor({"tokens": SENTENCES[3].split()}).to_json()


def test_a_long_address_is_a_field_of_a_form(running):
    uri = f"data:image/png;base64,{base64.b64encode(png(1, width=800, height=600)).decode()}"
    assert len(uri) > 1.5e6
    fields = form([("text", SENTENCES[2]), ("image", uri)])
    status, _, body = running.ask("POST", "/extract", *fields)
    assert (status, body) == (200, running.extractor({"text": SENTENCES[2], "image": uri}).to_json())


def test_an_answer_with_boxes_can_be_sent_again(running, joint):
    extractor = Extractor(joint, cropper=Corners())
    answer = extractor({"text": SENTENCES[2], "image": URIS[0]}).to_dict()
    assert [one["label"] for one in answer["objects"]] == ["upper", "lower"]
    post = {**answer, "image": URIS[0], "objects": [*answer["objects"], None]}
    status, _, body = running.extract(post)
    assert (status, json.loads(body)["objects"]) == (200, json.loads(json.dumps(post["objects"])))
    assert body == running.extractor(post).to_json()


def test_an_answer_can_be_sent_again(running):
    answer = running.extractor({"text": SENTENCES[0]})
    for more in ({}, {"picture_match": 0.5}):
        assert running.extract(answer.to_dict() | more)[2] == answer.to_json()


def test_posts_that_wait_together_are_answered_as_one_batch_of_the_extractor(running, gate):
    texts = [" ".join(text.split()[:n]) for n, text in enumerate(SENTENCES + SENTENCES[1:3], start=3)]
    posts = [{"id": str(n), "text": text, "image": URIS[n % 4] if n % 3 else None} for n, text in enumerate(texts)]
    with ThreadPoolExecutor(len(posts)) as pool:
        first = pool.submit(running.extract, posts[0])
        assert gate.entered.wait(10)
        others = [pool.submit(running.extract, post) for post in posts[1:]]
        wait_for(lambda: running.service.worker.jobs.qsize() == 5)
        gate.event.set()
        answers = [one.result() for one in (first, *others)]
    assert [status for status, *_ in answers] == [200] * 6
    assert [len(batch) for batch in gate.batches] == [1, 4, 1]
    for batch in list(gate.batches):
        expected = running.extractor([posts[int(name)] for name in batch], batch_size=4)
        assert [answers[int(name)][2] for name in batch] == [answer.to_json() for answer in expected]


def test_a_post_that_cannot_be_extracted_does_not_harm_its_mates(running, gate):
    posts = [{"id": id, "text": SENTENCES[1]} for id in ("first", "bad", "good")]
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(running.extract, posts[0])
        assert gate.entered.wait(10)
        others = [pool.submit(running.extract, post) for post in posts[1:]]
        wait_for(lambda: running.service.worker.jobs.qsize() == 2)
        gate.event.set()
        statuses = [one.result()[0] for one in (first, *others)]
    assert statuses == [200, 422, 200] and sorted(map(len, gate.batches)) == [1, 1, 1, 2]


def test_pictures_of_private_addresses_are_not_read(running):
    address = f"http://127.0.0.1:{running.port}/health"
    status, _, body = running.extract({"text": SENTENCES[0], "image": address})
    values = json.loads(body)
    assert status == 200 and "is not public" in values["image_errors"]["image"] and values["image"] == address


# Refusals


@pytest.mark.parametrize(
    "post, field, reason",
    [
        (b"[1", None, "Invalid JSON"),
        (b'{"text": "\xff"}', None, "Invalid JSON"),
        ([SENTENCES[0]], None, "should be an object"),
        ({}, "text", "neither text nor tokens"),
        ({"text": 3}, "text", "text=3: "),
        ({"text": " "}, "text", 'has no words; e.g. {"text": '),
        ({"tokens": "Kobe lands"}, "tokens", "valid array"),
        ({"tokens": ["Kobe", None]}, "tokens[1]", "tokens[1]=None"),
        ({"text": "Kobe", "tokens": ["Paris"]}, "tokens", "Paris"),
        ({"text": "Kobe", "picture": "x"}, "picture", "is it meant to be 'image'?"),
        ({"text": "Kobe", "image": "/etc/passwd"}, "image", "no file of this machine is read"),
        ({"text": "Kobe", "image": "file:///etc/passwd"}, "image", "only http and https"),
        ({"text": "Kobe", "image": {"path": "/etc/passwd"}}, "image", "valid string"),
        ({"text": "Kobe", "objects": ["", "kobe.png"]}, "objects[1]", "no file of this machine is read"),
        ({"text": "Kobe", "objects": [None, "data:,x"]}, "objects[1]", "objects[1]: cannot load picture"),
        ({"text": "Kobe", "objects": URIS}, "objects", "at most 3 crops"),
        ({"text": "Kobe", "objects": [BOX] * 4}, "objects", "at most 3 crops"),
        ({"text": "Kobe", "objects": [None, BOX]}, "objects[1]", "in the image of the post, which has none"),
        ({"text": "Kobe", "objects": [None, {"box": [0, 0, 9]}]}, "objects[1]", "at least 4 items"),
        ({"text": "Kobe", "objects": [{"box": [0, 0, 9, "9"]}]}, "objects[0]", "valid number"),
        ({"text": "Kobe", "objects": [{**BOX, "path": "/etc/passwd"}]}, "objects[0]", "not permitted"),
        ({"text": "Kobe", "image": URIS[0], "objects": [{"box": [90, 0, 99, 9]}]}, "objects[0]", "is no box in a"),
        ({"text": "Kobe " * 3000}, "text", "15,000 characters, more than 10,000"),
        ({"tokens": ["Kobe"] * 3000}, "tokens", "12,000 characters"),
        ({"tokens": [""] * 10_001}, "tokens", "10,001 characters"),
        ({"id": 1.5, "text": "Kobe"}, "id", "1.5"),
        (b'{"text": "Kobe", "id": 1' + b"0" * 4300 + b"}", None, "Invalid JSON"),
    ],
)
def test_bad_posts_are_refused_with_the_field_and_the_reason(running, post, field, reason):
    status, place, said = running.refusal(post)
    assert (status, place) == (422, field) and reason in said


@pytest.mark.parametrize(
    "body, headers, field, reason",
    [
        (*form([("text", "Kobe"), ("text", "Paris")]), "text", "valid string"),
        (*form([("text", "Kobe"), ("imgae", b"x")]), "imgae", "meant to be 'image'"),
        (*form([("text", "Kobe"), ("image", b"")]), "image", "it is empty"),
        (*form([("text", "Kobe"), ("image", "kobe.png")]), "image", "curl -F image=@kobe.jpg"),
        (b"text=Kobe", {"Content-Type": "multipart/form-data"}, None, "not a form"),
        (b"text=Kobe", {"Content-Type": "application/x-www-form-urlencoded"}, None, "neither application/json"),
    ],
)
def test_bad_forms_are_refused(running, body, headers, field, reason):
    status, _, answer = running.ask("POST", "/extract", body, headers)
    values = json.loads(answer)
    assert (status, values["field"]) == (422, field) and reason in values["detail"]


def test_what_is_too_large_is_refused(running, monkeypatch):
    monkeypatch.setattr(running.service.limits, "max_body_mb", 0.02)
    status, field, reason = running.refusal({"text": "Kobe" * 6000})
    assert (status, field) == (413, None) and "20,000 bytes" in reason
    chunks = running.ask("POST", "/extract", iter([b" " * 15_000] * 2), {"Content-Type": "application/json"})
    assert chunks[0] == 413  # which do not say how many they are
    processor = running.extractor.ner.processor
    monkeypatch.setattr(processor, "max_pixels", 1999)
    status, field, reason = running.refusal({"text": "Kobe", "image": URIS[0]})
    assert (status, field) == (413, "image") and "2000 pixels" in reason


def test_a_full_queue_is_refused_with_when_to_try_again(running, gate, monkeypatch):
    monkeypatch.setattr(running.service.limits, "max_queue", 2)
    with ThreadPoolExecutor(2) as pool:
        open_posts = [pool.submit(running.extract, {"text": "Kobe"}) for _ in range(2)]
        wait_for(lambda: running.service.open == 2)
        status, headers, body = running.extract({"text": "Kobe"})
        assert (status, headers["retry-after"]) == (429, "1") and "2 posts wait" in json.loads(body)["detail"]
        gate.event.set()
        assert [one.result()[0] for one in open_posts] == [200, 200]
    assert running.service.open == 0


def test_a_post_without_an_answer_in_time_is_refused_and_not_extracted_later(running, gate, monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.extract, {"id": "first", "text": "Kobe"})
        assert gate.entered.wait(10)
        monkeypatch.setattr(running.service.limits, "timeout", 0.1)
        status, _, reason = running.refusal({"id": "late", "text": "Kobe"})
        assert status == 503 and "no answer within 0.1 s" in reason
        gate.event.set()
        assert first.result()[0] == 200
    monkeypatch.undo()
    assert running.extract({"id": "last", "text": "Kobe"})[0] == 200
    assert ["late"] not in gate.batches and len(gate.batches) == 1


def test_a_fault_of_the_server_is_not_the_posts(running, monkeypatch):
    def fail(posts):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(running.extractor, "extract", fail)
    assert running.extract({"text": "Kobe"})[0] == 500


def test_stopping_answers_what_is_open_and_refuses_the_rest(joint, monkeypatch):
    running = Running(Extractor(joint))
    gate = Gate(running.extractor, monkeypatch)
    assert json.loads(running.ask("GET", "/health")[2]) == {"status": "ok"}
    with ThreadPoolExecutor(2) as pool:
        accepted = [pool.submit(running.extract, {"text": "Kobe"}) for _ in range(2)]
        wait_for(lambda: running.service.open == 2 and gate.entered.is_set())
        running.service.stop()
        assert running.ask("GET", "/health")[0] == 503
        status, _, reason = running.refusal({"text": "Kobe"})
        assert status == 503 and "stopping" in reason
        running.server.handle_exit(15, None)
        wait_for(lambda: not running.server.servers[0].is_serving())
        gate.event.set()
        assert [one.result()[0] for one in accepted] == [200, 200]
    running.thread.join(10)
    assert not running.thread.is_alive() and not running.service.worker.thread.is_alive()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([*URIS, "data:,x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["id", "text", "tokens", "image", "objects", "entities", "relations", "img"])


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(KEYS, JSON_VALUES, max_size=5) | JSON_VALUES, st.booleans())
def test_whatever_is_sent_gets_an_answer_or_a_reason(running, post, has_text):
    if has_text and isinstance(post, dict):
        post = {**post, "text": "Kobe"}
    status, _, body = running.extract(post)
    values = json.loads(body)
    assert status in (200, 422) and set(values) >= ({"entities", "relations"} if status == 200 else {"detail", "field"})
    if status == 200:
        assert (
            body == running.extractor({k: v for k, v in post.items() if k not in ("entities", "relations")}).to_json()
        )


# Beside /extract


def test_metrics_count(running):
    def count(line: str) -> float:
        [value] = [one.split()[-1] for one in running.ask("GET", "/metrics")[2].splitlines() if one.startswith(line)]
        return float(value)

    assert running.extract({"text": "Kobe"})[0] == 200 and running.extract({})[0] == 422
    before = [count(f'i2srm_requests_total{{status="{status}"}}') for status in (200, 422)]
    seen = count("i2srm_batch_posts_sum"), count("i2srm_pictures_failed_total")
    running.extract({"text": "Kobe", "image": "http://127.0.0.1/kobe.png"})
    running.extract({"text": ""})
    after = [count(f'i2srm_requests_total{{status="{status}"}}') for status in (200, 422)]
    assert after == [number + 1 for number in before] and count("i2srm_open_requests") == 0
    assert (count("i2srm_batch_posts_sum"), count("i2srm_pictures_failed_total")) == (seen[0] + 1, seen[1] + 1)


def test_the_page_describes_posts_answers_and_refusals(running):
    assert running.ask("GET", "/docs")[0] == 200
    described = json.loads(running.ask("GET", "/openapi.json")[2])
    assert set(described["paths"]) == {"/extract", "/health", "/metrics"}
    extract = described["paths"]["/extract"]["post"]
    content = extract["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert set(extract["responses"]) == {"200", "413", "422", "429", "503"}
    assert '"null"' not in json.dumps(content["multipart/form-data"])  # a form has text and files
    needed = {"required": ["text"], "properties": {"text": {"type": "string"}}}  # JSON may have null
    assert all(needed in one["schema"]["anyOf"] for one in content.values())
    kinds = described["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert running.ask("GET", "/metrics")[1]["content-type"].partition(";")[0] in kinds
    answer = described["components"]["schemas"]["Answer"]["properties"]
    assert set(answer) >= {*running.extractor(POSTS[2]).to_dict(), "picture_match"}
    assert set(content["application/json"]["schema"]["properties"]) >= set(running.extractor(POSTS[2]).to_dict())
    for name in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(described)):
        assert reduce(getitem, name.split("/"), described)  # each reference leads somewhere
    assert "ObjectBox" in json.dumps(content["application/json"])


# The command


def test_the_command_loads_what_it_is_told(tmp_path, monkeypatch):
    configs = []
    monkeypatch.setattr(serve.Server, "run", lambda self: configs.append(self.config))
    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    serve.main(
        ["--model", str(ARTIFACTS / "ner"), "--re", str(ARTIFACTS / "mre"), "--port", "8123", "--max_batch", "3"]
    )
    [config] = configs
    assert (config.host, config.port) == ("127.0.0.1", 8123)
    with pytest.raises(SystemExit):
        serve.main(["--model", str(tmp_path / "none")])


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--max_batch", "0"], "--max_batch 0 must be 1 or more, e.g. --max_batch 8"),
        (["--timeout", "0"], "--timeout 0.0 must be more than 0"),
        (["--max_wait_ms", "-1"], "--max_wait_ms -1.0 must be from 0"),
    ],
)
def test_bad_limits_are_refused(words, reason, capsys):
    with pytest.raises(SystemExit):
        serve.main(["--model", "runs/quickstart", *words])
    assert capsys.readouterr().err.startswith(f"serve.py: {reason}")
