"""Photograph the demo, on a desk and on a phone: docs/figures/demo.png and docs/figures/demo_phone.png.

python docs/figures/draw_demo.py        # with the model of the package; needs playwright and Chromium
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from modeling_i2srm.inference.example import example_model
from modeling_i2srm.inference.extraction import Extractor

FIGURES = Path(__file__).resolve().parent
sys.path.append(str(FIGURES.parents[1] / "demo"))
import app  # noqa: E402


def photograph(page: Page, address: str, example: int, path: Path):
    """Choose an example and save what the window shows then; 256 colours are enough."""
    page.goto(address)
    page.locator(".example").nth(example).click()
    page.locator("#status").get_by_text("with the picture").wait_for()
    page.wait_for_timeout(500)  # until it has scrolled
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"wrote {path}, {path.stat().st_size / 1000:.0f} kB")


def main():
    extractor = Extractor.from_pretrained(example_model())
    demo = app.Demo(extractor, app.EXAMPLE).build()
    address = demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())[1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        desk = browser.new_page(viewport={"width": 1280, "height": 1010})
        photograph(desk, address, 3, FIGURES / "demo.png")
        phone = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=2)
        photograph(phone, address, 3, FIGURES / "demo_phone.png")
        browser.close()
    demo.close()


if __name__ == "__main__":
    main()
