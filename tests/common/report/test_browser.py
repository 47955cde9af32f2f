"""Reports in a real browser, from a file: Chromium without a window, driven by Playwright.

`python -m pytest -n 0 -m browser` runs these tests; they need the package `playwright` and a Chromium, which the
variable `CHROMIUM` names (by default /usr/bin/chromium, where Debian's package `chromium` puts it).
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.report import Case, Report
from experiments.studies.report_picture import READY, chromium, launch

from .made_up import HOSTILE, make_report, write_made_up

pytestmark = pytest.mark.browser
DRAWN = "(canvas) => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
PIXELS = "(canvas) => canvas.toDataURL()"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if not Path(chromium()).is_file():
        pytest.skip(f"there is no {chromium()}; the variable CHROMIUM may name another")
    with playwright.sync_playwright() as driver:
        browser = launch(driver)
        yield browser
        browser.close()


class Opened:
    """A page in the browser, and what it said and asked for."""

    def __init__(self, page):
        self.page = page
        self.errors, self.requests = [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path):
        self.page.goto(path.as_uri())
        self.page.locator(READY).wait_for()
        return self.page

    def names(self):
        return self.page.locator("#table tbody tr:visible th").all_inner_texts()


@pytest.fixture
def opened(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = Opened(context.new_page())
    yield opened
    context.close()
    assert opened.errors == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_made_up(tmp_path_factory.mktemp("report") / "report.html", make_report(4, shape=(6, 60, 80)))


def test_the_table_is_sorted_by_a_click_on_a_heading(opened, report):
    page = opened.open(report)
    assert opened.names() == ["patient003", "patient002", "patient001", "patient004"]
    heading = page.locator("thead th", has_text="mean Dice")
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert opened.names() == ["patient001", "patient002", "patient003", "patient004"]  # what has none stays last
    assert heading.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="volume", exact=True).click()
    assert opened.names() == [f"patient00{number}" for number in (1, 2, 3, 4)]
    page.get_by_role("button", name="distance, mm").click()
    assert opened.names() == ["patient001", "patient004", "patient002", "patient003"]  # 2, 3, 4 and 6 mm
    assert heading.get_attribute("aria-sort") is None


def test_cases_are_found_by_a_part_of_their_name(opened, report):
    page = opened.open(report)
    page.get_by_label("Find").fill("T002")
    assert opened.names() == ["patient002"]
    page.get_by_label("Find").fill("x")
    assert opened.names() == [] and page.get_by_text("No volume has this").is_visible()
    page.get_by_label("Find").fill("")
    assert len(opened.names()) == 4


def test_thumbnails_show_something(opened, report):
    page = opened.open(report)
    assert page.locator(".thumb canvas").count() == 4
    assert page.locator(".thumb canvas").first.evaluate(DRAWN) > 50


def open_first(opened, report):
    page = opened.open(report)
    page.get_by_role("button", name="Open the slices of patient003").click()
    page.locator("#viewer[open]").wait_for()
    return page


def test_a_thumbnail_opens_into_slices_with_a_slider(opened, report):
    page = open_first(opened, report)
    slider, picture, words = page.locator("#slider"), page.locator("#slice"), page.locator("#position")
    assert slider.get_attribute("max") == "5" and "of 6" in words.inner_text()
    seen = set()
    for index in range(6):
        slider.fill(str(index))
        assert words.inner_text().startswith(f"slice {index}, {index + 1} of 6")
        seen.add(picture.evaluate(PIXELS))
    assert len(seen) == 6
    assert page.locator("#details").inner_text().split()[:2] == ["Dice", "volume"]
    assert page.locator("#note").inner_text() == "a note on patient003"


@pytest.mark.parametrize("layer", ["label", "prediction", "uncertainty", "difference", "filled", "closeUp"])
def test_layers_are_switched(opened, report, layer):
    page = open_first(opened, report)
    picture, box = page.locator("#slice"), page.locator(f"label[data-layer={layer}] input")
    before, was = picture.evaluate(PIXELS), box.is_checked()
    box.click()
    assert box.is_checked() is not was and picture.evaluate(PIXELS) != before
    box.click()
    assert picture.evaluate(PIXELS) == before


def test_classes_are_switched(opened, report):
    page = open_first(opened, report)
    picture, boxes = page.locator("#slice"), page.locator("#classes input")
    assert page.locator("#classes label").all_inner_texts() == ["RV", "Myo", "LV"]
    pictures = [picture.evaluate(PIXELS)]
    for index in range(3):
        boxes.nth(index).click()
        pictures.append(picture.evaluate(PIXELS))
    assert len(set(pictures)) == 4


def test_outlines_lie_where_the_maps_have_them(opened, report):
    """Without a close-up, in a middle slice: the outermost class is red, and nothing else is."""
    page = open_first(opened, report)
    for layer in ("closeUp", "label"):
        page.locator(f"label[data-layer={layer}] input").click()
    page.locator("#slider").fill("3")
    reds = page.locator("#slice").evaluate(
        """(canvas) => {
            const { width, height } = canvas, pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
            let rows = [], columns = [];
            for (let i = 0; i < pixels.length; i += 4)
                if (pixels[i] > 200 && pixels[i + 1] < 60 && pixels[i + 2] < 60) {
                    columns.push((i / 4) % width / width);
                    rows.push(Math.floor(i / 4 / width) / height);
                }
            const ends = (values) => [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
            return [...ends(rows), ...ends(columns)];
        }"""
    )
    # In `make_shown` the disc of slice 3 has a radius of 12 pixels around row 31 and column 38, of 60 x 80.
    assert reds == pytest.approx([(31 - 12) / 60, (31 + 12) / 60, (38 - 12) / 80, (38 + 12) / 80], abs=1.5 / 60)


def test_all_of_it_works_without_a_mouse(opened, report):
    page = opened.open(report)
    page.get_by_role("button", name="Open the slices of patient002").focus()
    page.keyboard.press("Enter")
    page.locator("#viewer[open]").wait_for()
    words, title = page.locator("#position"), page.locator("#viewer-title")
    page.keyboard.press("Home")
    assert words.inner_text().startswith("slice 0")
    for key, index in (("ArrowRight", 1), ("ArrowUp", 2), ("ArrowLeft", 1), ("End", 5), ("ArrowRight", 5)):
        page.keyboard.press(key)
        assert words.inner_text().startswith(f"slice {index},")
    box = page.locator("label[data-layer=uncertainty] input")
    page.keyboard.press("u")
    assert box.is_checked()
    for key, name in (("PageDown", "patient001"), ("PageUp", "patient002"), ("PageUp", "patient003")):
        page.keyboard.press(key)
        page.locator("#viewer-title", has_text=name).wait_for()
    assert box.is_checked() and title.inner_text() == "patient003"  # what is shown stays from one to the next
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.locator("button[aria-label='Open the slices of patient003']:focus").wait_for()


def test_text_from_outside_does_nothing(opened, tmp_path):
    report = make_report(names=list(HOSTILE), class_names=["background", *HOSTILE[:3]], shape=(3, 24, 32))
    facts = {"Settings": dict.fromkeys(HOSTILE, HOSTILE[0])}
    page = opened.open(write_made_up(tmp_path / "report.html", report, title=HOSTILE[0], facts=facts))
    for index in range(len(HOSTILE)):
        page.locator(".thumb").nth(index).click()
        page.locator("#viewer[open]").wait_for()
        assert page.locator("#viewer-title").text_content() in HOSTILE
        page.keyboard.press("Escape")
    assert page.evaluate("window.harm") is None
    assert page.title() == HOSTILE[0]


def test_a_table_without_slices(opened, tmp_path):
    page = opened.open(write_made_up(tmp_path / "report.html", make_report(3, slices=False)))
    assert len(opened.names()) == 3
    page.get_by_role("button", name="patient002").click()
    page.locator("#viewer[open]").wait_for()
    assert page.locator("#details").is_visible() and not page.locator("#stage").is_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    page.locator("#viewer-title", has_text="patient001").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_dark(opened, report, scheme):
    page = opened.page
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    opened.open(report)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
    assert (int(ground[0]) < 60) is (scheme == "dark")
    page.get_by_role("button", name="Open the slices of patient003").click()
    page.locator("#viewer[open]").wait_for()
    box = page.locator("#slice").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["width"] > 250


def test_twenty_volumes_are_ready_in_two_seconds(opened, tmp_path):
    path = write_made_up(tmp_path / "report.html", make_report(20))
    assert path.stat().st_size < 15e6
    opened.open(path)  # so that the browser itself is warm
    start = time.perf_counter()
    opened.open(path)
    seconds = time.perf_counter() - start
    assert seconds < 2, f"{seconds:.2f} s"


def test_a_table_of_cases_that_have_nothing_more(opened, tmp_path):
    report = Report("Evaluation", 2, "volume")
    for name, value in (("a", 0.5), ("b", 0.25)):
        report.add(Case(name, {"mean": value}))
    page = opened.open(write_made_up(tmp_path / "report.html", report))
    page.locator("thead th", has_text="mean Dice").get_by_role("button").click()
    assert opened.names() == ["a", "b"]
