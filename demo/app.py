"""A page that shows the graph of a post, and what its picture changes.

    python demo/app.py                                                          # the model of the package
    python demo/app.py --model USER/JOINT --detector facebook/detr-resnet-50
    python demo/app.py --ner USER/NER --re USER/RE                              # a model of each kind
    I2SRM_MODEL=USER/JOINT python demo/app.py                                   # the same, for a Hugging Face Space

Without a checkpoint the small one that comes with the package is used.
"""

import argparse
import functools
import hashlib
import logging
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

import gradio as gr
from PIL import Image
from view import CSS, Answer, answer, headline, message, render

from modeling_i2srm.inference.example import example_model, example_posts
from modeling_i2srm.inference.extraction import Extractor
from modeling_i2srm.pictures import PictureError, load_picture, read_bytes
from modeling_i2srm.support.detectors import ObjectCropper, load_detector
from modeling_i2srm.words import join_words

OPENING = "test-00014"  # the example that the page opens with: its picture changes a type and a relation
MAX_TEXT, MAX_BYTES, MAX_PIXELS = 500, 10_000_000, 25_000_000  # characters; of an upload
EXAMPLE = "This small model comes with the package. It knows made-up posts with pictograms, and nothing else."
# On a phone the answer is below the examples, out of sight.
SHOW_ANSWER = """() => {
    const answer = document.querySelector("#status"), { top } = answer.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) answer.scrollIntoView();
}"""
logger = logging.getLogger("demo")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--model",
    "--ner",
    dest="ner",
    default=os.environ.get("I2SRM_MODEL") or os.environ.get("I2SRM_NER"),
    help="joint checkpoint, or one of the entities, folder or Hub id",
)
parser.add_argument("--re", default=os.environ.get("I2SRM_RE"), help="checkpoint of the relations beside --ner")
parser.add_argument(
    "--detector",
    default=os.environ.get("I2SRM_DETECTOR"),
    help="object detector that cuts crops out of pictures, e.g. facebook/detr-resnet-50 (default: none)",
)
parser.add_argument("--no_browser", action="store_true", help="do not open a browser")


def file_of(payload) -> str | None:
    """The uploaded file, unread: a broken one gets our words and bounds."""
    return None if payload is None else payload.path


def fingerprint(picture: Image.Image) -> str:
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


class Demo:
    """The page, and what it says of posts.

    Args:
        extractor: of entities and relations.
        title: of the checkpoints, for the reader.
    """

    def __init__(self, extractor: Extractor, title: str):
        self.extractor, self.title = extractor, title
        self.posts = sorted(example_posts(), key=lambda post: post["id"] != OPENING)
        for post in self.posts:
            post["text"], post["icon"] = join_words(post["tokens"])[0], post["image"]
            post["image"] = load_picture(post["image"])
        self.crops = {fingerprint(post["image"]): list(map(load_picture, post["objects"])) for post in self.posts}

    def read(self, text: str, path: str | None) -> tuple[str, Image.Image | None]:
        """The text and picture of a post, checked.

        Raises:
            ValueError: with words for the reader.
        """
        text = text or ""
        if not text.strip():
            raise ValueError("There is no text yet. Write a post, or choose one of the examples.")
        if len(text) > MAX_TEXT:
            raise ValueError(f"The text has {len(text)} characters. Please keep it to {MAX_TEXT}.")
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise ValueError("The text holds halves of characters. Please type it again.")
        if path is None:
            return text, None
        try:
            return text, load_picture(read_bytes(path, MAX_BYTES), MAX_PIXELS)
        except PictureError as error:
            reason = str(error).split(": ", 1)[1].split("; to read")[0]  # without what a programmer could do
            raise ValueError(
                f"This file cannot be read as a picture: {reason}. Please upload a JPEG, PNG, WebP or GIF file."
            ) from error

    def analyse(self, text: str, path: str | None) -> tuple[str, str, dict]:
        """Check a post and answer it, as `respond`; an error in words for what cannot be read."""
        try:
            text, image = self.read(text, path)
        except ValueError as error:
            return message(str(error), error=True), "", {"error": str(error)}
        return self.respond(text, image)

    def respond(self, text: str, image: Image.Image | None) -> tuple[str, str, dict]:
        """The answer to a post that was read: what its picture changes, the rest, and all of it as JSON."""
        try:
            crops = self.crops.get(fingerprint(image), []) if image else []
            said = answer(self.extractor, text, image, crops)
        except Exception:  # whatever it is, the reader gets words and the log the rest
            logger.exception("a post failed")
            wrong = "Something went wrong here; the log says what. Please try another post."
            return message(wrong, error=True), "", {"error": wrong}
        return headline(said), render(said, self.about_crops(said, bool(crops))), said.to_dict()

    def about_crops(self, said: Answer, own: bool) -> str:
        """Where the crops of a post are from, or why there are none."""
        if own:
            return "The crops came with this example."
        if self.extractor.cropper is None:
            return "No crops: no detector is loaded. Start the demo with --detector ID to have objects cut out."
        objects = enumerate(said.explanation.extraction.objects, 1)
        names = ", ".join(f"{n} {found.label} {found.score:.2f}" for n, found in objects)
        return f"Crops that the detector found: {names}." if names else "No crops: the detector found no object."

    def build(self) -> gr.Blocks:
        """The page, opened with an answered example."""
        opening = self.posts[0]
        said = self.respond(opening["text"], opening["image"])
        with gr.Blocks(title="Entities and relations", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
            gr.Markdown(
                "# Entities and relations of posts with pictures\n"
                f"Write a post, add its picture if it has one, and see what the picture changes. {self.title}"
            )
            with gr.Row():
                with gr.Column(scale=2, min_width=280, elem_classes="inputs"):
                    text = gr.Textbox(
                        opening["text"],
                        label="Text of the post",
                        placeholder="who else loves Camelot ?",
                        info="Enter finds, Shift+Enter starts a new line.",
                        max_lines=6,
                        elem_id="text",
                    )
                    picture = gr.Image(
                        opening["image"],
                        label="Picture (optional)",
                        type="filepath",
                        format="png",
                        sources=["upload"],
                        buttons=[],
                        height=220,
                        alt_text="the picture of the post",
                        elem_id="picture",
                    )
                    picture.preprocess = file_of
                    button = gr.Button("Find entities and relations", variant="primary", elem_id="find")
                    with gr.Column(elem_id="examples"):
                        gr.Markdown("## Examples")
                        examples = [
                            gr.Button(post["text"], size="md", icon=post["icon"], elem_classes="example")
                            for post in self.posts
                        ]
                with gr.Column(scale=3, min_width=280):
                    # Screen readers read out what comes into it.
                    status = gr.HTML(
                        said[0],
                        elem_id="status",
                        apply_default_css=False,
                        js_on_load="element.setAttribute('role', 'status')",
                    )
                    found = gr.HTML(said[1], elem_id="found", apply_default_css=False)
                    with gr.Accordion("The answer as JSON", open=False, elem_id="json"):
                        raw = gr.JSON(said[2], label="Answer", show_label=False, max_height=400)
            models = {"outputs": [status, found, raw], "concurrency_id": "models", "api_visibility": "private"}
            started = [gr.on([button.click, text.submit], self.analyse, [text, picture], **models)]
            for example, post in zip(examples, self.posts, strict=True):
                choose = functools.partial(self.choose, post)
                chosen = example.click(choose, None, [text, picture], api_visibility="private")
                started.append(chosen.then(self.analyse, [text, picture], **models))
            for event in started:
                event.then(None, js=SHOW_ANSWER)
        return page.queue(max_size=32, api_open=False)

    @staticmethod
    def choose(post: dict) -> tuple[str, Image.Image]:
        return post["text"], post["image"]


def launch_options() -> dict:
    """How the page is served: all of it from here, and nothing kept."""
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    theme.set(  # else white on light blue, and grey on white, which is hard to read
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        input_placeholder_color="*neutral_500",
        body_text_color_subdued="*neutral_600",
    )
    return {
        "theme": theme,
        "css": CSS,
        "max_file_size": MAX_BYTES,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
    }


def main(arguments: list[str] | None = None):
    arguments = parser.parse_args(arguments)
    if arguments.re and not arguments.ner:
        parser.error("--re without --ner: name both, e.g. --ner runs/quickstart_mner --re runs/quickstart_mre")
    title = f"Model: {arguments.ner}" + (f" and {arguments.re}." if arguments.re else ".")
    try:
        if arguments.ner is None:
            arguments.ner, title = example_model(), EXAMPLE
        extractor = Extractor.from_pretrained(arguments.ner, arguments.re)
        if arguments.detector:
            extractor.cropper = ObjectCropper(load_detector(arguments.detector), num_objects=extractor.num_objects)
    except (ValueError, OSError) as error:
        parser.exit(2, f"app.py: {error}\n")
    Demo(extractor, title).build().launch(inbrowser=not arguments.no_browser, **launch_options())


if __name__ == "__main__":
    main()
