"""Photograph an HTML page with a browser: playwright with its Chromium, or the one of the system."""

import io
import shutil
from pathlib import Path

from PIL import Image


def photograph(html: Path, png: Path, width: int = 800, scale: float = 2.0, until: str | None = None):
    """Save a page as a PNG of 128 colours.

    Args:
        width: of the window, in CSS pixels.
        scale: pixels of the picture for each of them.
        until: selector of the element where the picture ends (default: all of the page).

    Raises:
        ModuleNotFoundError: playwright is not installed.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 400}, device_scale_factor=scale)
        page.goto(html.resolve().as_uri())
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        if until is not None:
            bottom = page.locator(until).first.bounding_box()["y"]
            picture = picture.crop((0, 0, picture.width, round(scale * bottom)))
        browser.close()
    picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(png, optimize=True)
    print(f"wrote {png}, {png.stat().st_size / 1000:.0f} kB")
