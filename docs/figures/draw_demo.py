"""Photograph the demo as it opens: docs/figures/demo.png.

python docs/figures/draw_demo.py        # with the model of the package; needs playwright and Chromium
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from modeling_i2srm.inference.example import example_model
from modeling_i2srm.inference.extraction import Extractor

FIGURES = Path(__file__).resolve().parent
sys.path.append(str(FIGURES.parents[1] / "demo"))
import app  # noqa: E402

SIZES = {"demo": (1280, 1000, 1), "demo_phone": (390, 1400, 1.5)}  # width and height of the window, and its scale


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=FIGURES)
    parser.add_argument("--phone", action="store_true", help="also as a phone shows it, to demo_phone.png")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    args = parser.parse_args(arguments)
    demo = app.Demo(Extractor.from_pretrained(example_model()), app.EXAMPLE).build()
    address = demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())[1]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in ["demo", *(["demo_phone"] if args.phone else [])]:
            width, height, scale = SIZES[name]
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.goto(f"{address}?__theme={'dark' if args.dark else 'light'}")
            page.locator("#found .graph").first.wait_for()
            page.wait_for_timeout(500)  # until the fonts are there
            picture = Image.open(io.BytesIO(page.screenshot()))
            path = args.output_dir / f"{name}.png"
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"wrote {path}, {path.stat().st_size / 1000:.0f} kB")
        browser.close()
    demo.close()


if __name__ == "__main__":
    main()
