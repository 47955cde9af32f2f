"""The picture of a report in the first page of the documents: its table, and an opened volume beside it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from release.pictures import save_picture

_ARGUMENTS = (  # without a sandbox, which a container has none of, and without what a browser does by itself
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZE = {"width": 1120, "height": 800}
_GAP = 24
_EDGE = 2  # pixels that may show what is behind the opened volume
READY = "html[data-ready]"
"""Selects the root of a report that can be used."""


def chromium() -> str:
    """Return the path of Chromium: that of the variable CHROMIUM, else where Debian's package puts it."""
    return os.environ.get("CHROMIUM", "/usr/bin/chromium")


def launch(driver: Any) -> Any:
    """Start Chromium without a window.

    Args:
        driver: what Playwright's `sync_playwright` gives.
    """
    return driver.chromium.launch(executable_path=chromium(), args=_ARGUMENTS)


def report_picture(report: str, case: str, output: str, width: int = 1600) -> None:
    """Take the picture; needs the extra `browser` and a Chromium.

    Args:
        report: file that `evaluate` wrote.
        case: the volume that is opened.
        output: the PNG file.
        width: of the picture in pixels.
    """
    from playwright.sync_api import sync_playwright  # an extra

    with sync_playwright() as driver:
        browser = launch(driver)
        page = browser.new_page(viewport=_SIZE)
        page.goto(Path(report).resolve().as_uri())
        page.locator(READY).wait_for()
        shots = [page.screenshot()]
        page.get_by_role("button", name=f"Open the slices of {case}", exact=True).click()
        page.locator("#viewer[open]").wait_for()
        viewer = page.locator("#viewer")
        viewer.evaluate("element => { element.style.borderRadius = 0; element.style.border = 0; }")
        shots.append(viewer.screenshot())
        browser.close()
    left, right = (ImageOps.crop(Image.open(io.BytesIO(shot)).convert("RGB"), _EDGE) for shot in shots)
    height = max(left.height, right.height)
    picture = Image.new("RGB", (left.width + _GAP + right.width, height), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width + _GAP, 0))
    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
    save_picture(picture, Path(output))
    print(f"Wrote {output}.")
