"""The demo: what its page says, its example posts, its Space; and the page itself in a real browser."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import noise, tiny_pipeline

from modeling_i2srm.inference.example import example_model
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.support.detectors import Detection, ObjectCropper

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "demo"
sys.path.append(str(FOLDER))

TEXT = "Kobe lands in Paris"


class Corners:
    """A detector that finds the left upper quarter of every picture, and the right lower one."""

    needs_phrases = False

    def __call__(self, pictures, phrases=None):
        return [
            [
                Detection((0, 0, picture.width / 2, picture.height / 2), 0.9, "<b>left"),
                Detection((picture.width / 2, picture.height / 2, *picture.size), 0.8, "right"),
            ]
            for picture in pictures
        ]


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor(tiny_pipeline("entities"), tiny_pipeline("relations"))


@pytest.fixture(scope="module")
def app():
    """The module of the page. It is imported here, not above: gradio takes seconds, for every worker of pytest."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install '.[demo]'")
    return import_module("app")


@pytest.fixture
def demo(app, extractor):
    return app.Demo(extractor, "Tiny models.")


@pytest.fixture
def picture(tmp_path) -> str:
    noise().save(tmp_path / "noise.png")
    return str(tmp_path / "noise.png")


# What the page says


def test_a_post_is_shown_with_its_picture_and_without(demo, extractor, picture):
    status, page, data = demo.analyse(TEXT, picture)
    seen, unseen = extractor({"text": TEXT, "image": noise()}), extractor(TEXT)
    assert seen.entities and seen.relations and seen != unseen
    with_picture, without = re.findall(r'<section aria-label="With(?:out)? the picture">.*?</section>', page)
    for panel, found in ((with_picture, seen), (without, unseen)):
        for entity in found.entities:
            assert f"{entity.entity} {entity.score:.2f}" in panel
        assert panel.count("<tr>") == (len(found.relations) + 1 if found.relations else 0)
    changes = [re.sub("<.*?>", "", line) for line in re.findall("<li>(.*?)</li>", status)]
    assert changes == [change.replace("->", "→") for change in data["changes"]] and changes
    assert [TEXT[e["start"] : e["end"]] for e in data["with_picture"]["extraction"]["entities"]] == [
        e.word for e in seen.entities
    ]
    assert data["without_picture"] == unseen.to_dict() and data["boxes"] == []
    assert "No crops: no detector is loaded" in page and json.dumps(data)


def test_a_post_without_a_picture_has_one_panel(demo):
    status, page, data = demo.analyse(TEXT, None)
    assert page.count("<section") == 1 and "Without a picture" in page and "<img" not in page
    assert data["without_picture"] is None and data["changes"] == [] and "Found " in status


def test_crops_of_a_detector_have_boxes_and_weights(demo, extractor, picture, monkeypatch):
    monkeypatch.setattr(extractor, "cropper", ObjectCropper(Corners(), padding=0))
    _, page, data = demo.analyse(TEXT, picture)
    assert data["boxes"] == [[0, 0, 25, 20], [25, 20, 50, 40]]
    assert page.count('class="box"') == 2 and "left:50.00%;top:50.00%;width:50.00%;height:50.00%" in page
    assert "1 &lt;b&gt;left 0.90, 2 right 0.80" in page and page.count("<img") == 3
    words = [TEXT[e["start"] : e["end"]] for e in data["with_picture"]["extraction"]["entities"]]
    crop = re.search("crop 1</figcaption>(.*?)</figure>", page)[1]
    shares = [why["attention"]["objects[0]"] for why in data["with_picture"]["entities"]]
    for word, share in zip(words, shares, strict=True):
        assert f"<bdi>{word}</bdi><span>{100 * sum(share) / len(share):.0f} %</span>" in crop


def test_an_example_brings_its_crops_and_another_picture_none(app, demo, tmp_path):
    post = demo.posts[0]
    _, page, data = demo.respond(post["text"], post["image"])
    boxes = data["boxes"]
    assert len(boxes) == 3 and page.count('class="box"') == 3 and "came with this example" in page
    for box, crop in zip(boxes, post["objects"], strict=True):
        difference = np.asarray(post["image"].crop(box), int) - np.asarray(Image.open(crop), int)
        assert np.abs(difference).mean() < 8  # both are JPEG files
    post["image"].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "other.png")
    assert demo.analyse(post["text"], str(tmp_path / "other.png"))[2]["boxes"] == []


def test_texts_are_escaped(demo, picture):
    for path in (None, picture):
        _, page, data = demo.analyse("<img src=x> & <b>Kobe</b>", path)
        assert data["with_picture"]["extraction"]["entities"]
        assert "<img src=x" not in page and "<b>" not in page
        assert "&lt;img src=x&gt; &amp; &lt;b&gt;Kobe" in re.sub("<bdi.*?</bdi>|</?mark.*?>", "", page)


@pytest.mark.parametrize("text", [None, "", " \n\t"])
def test_no_text(demo, text):
    assert "There is no text yet" in demo.analyse(text, None)[0]


def test_text_that_is_too_long_or_broken(app, demo):
    assert f"has {app.MAX_TEXT + 1} characters" in demo.analyse("a" * (app.MAX_TEXT + 1), None)[0]
    assert "halves of characters" in demo.analyse("Kobe \ud83d", None)[0]


@pytest.mark.parametrize("content", [b"hello there", b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_a_file_that_is_no_picture(demo, tmp_path, content):
    (tmp_path / "notes.png").write_bytes(content)
    status, page, data = demo.analyse(TEXT, str(tmp_path / "notes.png"))
    assert "cannot be read as a picture" in status and "error" in status and str(tmp_path) not in status
    assert page == "" and "cannot be read" in data["error"]


def test_a_picture_that_is_too_large(app, demo, tmp_path, monkeypatch):
    Image.new("1", (6000, 6000)).save(tmp_path / "large.png")
    status = demo.analyse(TEXT, str(tmp_path / "large.png"))[0]
    assert "6000 x 6000" in status and "load_picture" not in status
    monkeypatch.setattr(app, "MAX_BYTES", 100)
    assert "100" in demo.analyse(TEXT, str(tmp_path / "large.png"))[0]


def test_whatever_goes_wrong_is_said_in_words(app, demo, monkeypatch, caplog):
    monkeypatch.setattr(app, "answer", lambda *_: 1 / 0)
    assert "Something went wrong here" in demo.analyse(TEXT, None)[0]
    assert "ZeroDivisionError" in caplog.text


def test_paths_and_addresses_in_a_text_are_text(app, demo, picture, monkeypatch):
    monkeypatch.setattr(app, "read_bytes", lambda *_: pytest.fail("read"))
    for text in (picture, "http://127.0.0.1:9/a.png", "file:///etc/passwd"):
        assert demo.analyse(text, None)[2]["with_picture"]["extraction"]["text"] == text


# The example posts and the Space


def test_the_first_example_is_one_whose_picture_changes_the_answer(app):
    demo = app.Demo(Extractor.from_pretrained(example_model()), "")
    post = demo.posts[0]
    status, page, data = demo.respond(post["text"], post["image"])
    assert data["changes"] == [
        "Titan: PER -> ORG because of the pictures together",
        "Titan → Delaware: no relation -> /org/loc/locate_at because of crop 2",
    ]
    assert page.count('<svg class="graph"') == 1 and "1 Titan" in page and "because of crop 2" in status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--re", "runs/quickstart_mre"], "--re without --ner"),
        (["--ner", "runs/not-there"], "runs/not-there"),
    ],
)
def test_a_start_that_fails_ends_with_one_message(app, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        app.main(arguments)
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_the_space_installs_what_setup_cfg_says():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    wanted = config["options"]["install_requires"].split()
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == wanted
    card = yaml.safe_load((FOLDER / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert card["sdk"] == "gradio" and (FOLDER / card["app_file"]).exists() and card["license"] == "apache-2.0"
    assert f"gradio>={card['sdk_version'].removesuffix('.0')},<7" in extras["demo"].split()
    assert len(card["short_description"]) <= 60


@pytest.mark.slow
def test_a_space_runs_on_its_own(tmp_path):
    subprocess.run(["make", "-s", "space", f"SPACE={tmp_path}"], cwd=ROOT, check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import app, modeling_i2srm as m; print(m.__file__, m.example_model(), app.__file__)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    paths = ("modeling_i2srm/__init__.py", "modeling_i2srm/inference/example/model", "app.py")
    assert ran.stdout.split() == [str(tmp_path / path) for path in paths]


# The page itself

INPUTS = {"textbox", "button", "checkbox", "combobox", "spinbutton", "slider", "link", "radio", "tab"}  # roles


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(app, extractor, tmp_path_factory):
    """The address of a page of tiny models, with a detector that finds two objects in every picture."""
    extractor.cropper = ObjectCropper(Corners(), padding=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = app.Demo(extractor, "Tiny models.").build()
        yield page.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())[1]
        page.close()
    extractor.cropper = None


@pytest.fixture
def page(browser, address, request):
    """The page in a window of 1280 x 900, or of the size that a test gives; it must ask nobody else for anything."""
    width, height = getattr(request, "param", (1280, 900))
    context = browser.new_context(viewport={"width": width, "height": height})
    page, elsewhere, errors = context.new_page(), [], []
    page.set_default_timeout(20_000)

    def only_here(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            return route.continue_()
        elsewhere.append(route.request.url)
        route.abort()

    page.route("**/*", only_here)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}") or dialog.dismiss())
    page.goto(address)
    page.get_by_label("Text of the post").wait_for()
    yield page
    context.close()
    assert elsewhere == [] and errors == []


def status_of(page, words: str):
    """Wait until the page says these words of how it went."""
    page.locator("#status").get_by_text(words).first.wait_for()


def ask(page, act):
    """Do something that asks the models, and wait until another answer is there."""
    page.evaluate("for (const one of document.querySelectorAll('#found .view')) one.dataset.old = 1")
    act()
    page.locator("#found .view:not([data-old])").wait_for()


def remove_picture(page):
    page.locator("#picture").get_by_role("button").first.click()
    page.locator("#picture input[type=file]").wait_for(state="attached")


def unnamed(page) -> list[str]:
    """What can be operated on a page and has no accessible name, as the browser computes it for screen readers."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in nodes if not node["ignored"] and node["role"]["value"] in INPUTS]
    assert {"textbox", "button"} <= {node["role"]["value"] for node in seen}
    return [node["role"]["value"] for node in seen if not node.get("name", {}).get("value", "").strip()]


def scrolls_sideways(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


@pytest.mark.slow
def test_nothing_but_uploads_is_read(app, address, picture_server):
    import httpx

    (job,) = (call for call in httpx.get(f"{address}config").json()["dependencies"] if len(call["targets"]) == 2)
    for path in ("/etc/passwd", "file:///etc/passwd", f"{picture_server.url}/kobe.png"):
        file = {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}
        asked = {"data": [TEXT, file], "fn_index": job["id"], "session_hash": "test"}
        httpx.post(f"{address}gradio_api/queue/join", json=asked).raise_for_status()
        with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash=test", timeout=30) as answer:
            (done,) = (line for line in answer.iter_lines() if "process_completed" in line)
        assert '"success":false' in done
    assert picture_server.asked == []
    assert httpx.get(f"{address}gradio_api/file=/etc/passwd").status_code == 403
    large = {"files": ("large.png", bytes(app.MAX_BYTES + 1))}
    assert httpx.post(f"{address}gradio_api/upload", files=large).status_code == 413


@pytest.mark.slow
def test_typing_a_post_and_uploading_a_picture(page, extractor, picture):
    assert page.locator("#found svg").count() and page.locator("#status li, #status p").count()  # answered at once
    page.get_by_label("Text of the post").fill(TEXT)
    remove_picture(page)
    page.locator("#picture input[type=file]").set_input_files(picture)
    page.locator("#picture img").wait_for()
    ask(page, page.get_by_role("button", name="Find entities and relations").click)
    status_of(page, "because of")
    found, without = extractor({"text": TEXT, "image": noise()}), extractor(TEXT)
    for title, expected in (("With the picture", found), ("Without the picture", without)):
        panel = page.get_by_role("region", name=title, exact=True)
        labels = [f"{entity.word}{entity.entity} {entity.score:.2f}" for entity in expected.entities]
        assert panel.locator(".post mark").all_inner_texts() == labels
        assert panel.locator("table tr").count() == (len(expected.relations) + 1 if expected.relations else 0)
    images = page.locator("#found figure img")
    assert page.locator("#found .pictures img").count() == 2 and all(
        image.get_attribute("alt") for image in images.all()
    )
    whole, box = images.first.bounding_box(), page.locator("#found .box").last.bounding_box()
    assert box["x"] == pytest.approx(whole["x"] + whole["width"] / 2, abs=1)
    assert box["height"] == pytest.approx(whole["height"] / 2, abs=1)
    page.get_by_role("button", name="The answer as JSON").click()
    page.locator("#json").get_by_text('"with_picture"').wait_for()
    assert unnamed(page) == []


@pytest.mark.slow
def test_errors_are_words(page, tmp_path):
    page.get_by_label("Text of the post").fill("")
    remove_picture(page)
    page.get_by_role("button", name="Find entities and relations").click()
    status_of(page, "There is no text yet")
    page.get_by_label("Text of the post").fill(TEXT)
    for name in ("notes.txt", "notes.png"):
        (tmp_path / name).write_text("no picture")
        page.locator("#picture input[type=file]").set_input_files(tmp_path / name)
    page.get_by_text("Invalid file type: notes.txt. Only image/* allowed.").wait_for()
    page.locator("#picture img").wait_for(state="attached")
    page.get_by_role("button", name="Find entities and relations").click()
    status_of(page, "This file cannot be read as a picture")
    assert page.locator("#status").get_by_text("cannot be read").is_visible()
    assert page.locator("#found section").count() == 0


@pytest.mark.slow
def test_the_keyboard_is_enough(page):
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#text textarea')"):
            break
    page.keyboard.press("Control+A")
    page.keyboard.type(text := "<img src=x onerror=alert(1)> {{value}} ${alert(2)}")
    ask(page, lambda: page.keyboard.press("Enter"))
    page.locator("#found .label").evaluate_all("labels => labels.forEach(label => label.remove())")
    assert page.locator("#found .post").first.text_content() == text
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.example')"):
            break
    ask(page, lambda: page.keyboard.press("Enter"))
    assert page.get_by_label("Text of the post").input_value() == page.locator(".example").first.inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("page", [(390, 844), (320, 568)], indirect=True)
def test_a_phone(page):
    assert not scrolls_sideways(page) and unnamed(page) == []
    assert page.locator("#status").bounding_box()["y"] < page.locator("#examples").bounding_box()["y"]
    ask(page, page.locator(".example").nth(1).click)
    page.wait_for_function("document.querySelector('#status').getBoundingClientRect().top < innerHeight / 2")
    page.get_by_role("button", name="The answer as JSON").click()
    page.locator("#json").get_by_text('"with_picture"').wait_for()
    assert not scrolls_sideways(page) and unnamed(page) == []
