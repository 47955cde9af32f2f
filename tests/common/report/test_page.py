"""The page as text: what is in it, in which order, and that nothing in it comes from outside unescaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from common.files import WriteError
from common.report import Case, Column, Plot, Report

from .made_up import CLASSES, COLOURS, HOSTILE, make_report, make_shown, write_made_up

SMALL = (3, 24, 32)


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and the texts of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.scripts if self.tags and self.tags[-1][0] in ("script", "style") else self.words).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def names_of(page):
    """Return the names of the cases, in their order."""
    texts = re.findall(r'<script type="application/json" id="case-\d+">(.*?)</script>', page, re.DOTALL)
    return [json.loads(text)["name"] for text in texts]


def written(path, report, **options):
    return write_made_up(path, report, **options).read_text(encoding="utf-8")


def test_worst_first_and_unknown_last(tmp_path):
    page = written(tmp_path / "deep" / "report.html", make_report(4, shape=SMALL))
    assert names_of(page) == ["patient003", "patient002", "patient001", "patient004"]
    page = written(tmp_path / "report.html", make_report(4, shape=SMALL), descending=True)
    assert names_of(page) == ["patient001", "patient002", "patient003", "patient004"]
    assert 'aria-sort="descending"' in page


def test_what_is_said(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plot.png")
    plots = [Plot(tmp_path / "plot.png", "a plot", "what is to be seen")]
    page = written(tmp_path / "report.html", make_report(2, shape=SMALL), plots=plots)
    parsed = Parsed(page)
    words = " ".join(parsed.words)
    assert words.count("For research, not for clinical use.") == 2
    assert all(text in words for text in ("mean Dice", "0.812", "0.900", "checkpoint", "model.pt", "a plot"))
    (image,) = parsed.of("img")
    assert image["alt"] == "what is to be seen" and image["src"].startswith("data:image/png;base64,")
    canvases = [attributes for attributes in parsed.of("canvas") if "aria-label" in attributes]
    assert "A slice of patient001 with its outlines" in [attributes["aria-label"] for attributes in canvases]


def test_it_may_load_nothing_and_run_nothing_else(tmp_path):
    page = written(tmp_path / "report.html", make_report(2, shape=SMALL))
    parsed = Parsed(page)
    (policy,) = [tag["content"] for tag in parsed.of("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    program = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" == policy
    links = [value for _, tag in parsed.tags for name, value in tag.items() if name in ("src", "href")]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "//" not in re.sub(r"(^|\s)//[^\n]*", "", program) and "@import" not in page and "url(" not in page


@pytest.mark.parametrize("name", HOSTILE)
def test_text_from_outside_stays_text(tmp_path, name):
    """The same tags as with harmless names, and the name as it was."""
    Image.new("RGB", (8, 8)).save(tmp_path / "plot.png")

    def page_of(word):
        classes = ["background", word, "Myo", "LV"]
        options = {
            "title": word,
            "tiles": [(word, word)],
            "facts": {word: {word: word}},
            "plots": [Plot(tmp_path / "plot.png", word, word)],
        }
        return written(
            tmp_path / "report.html", make_report(names=[word, word], class_names=classes, shape=SMALL), **options
        )

    page, harmless = page_of(name), page_of("harmless")
    tags = [[(tag, sorted(attributes)) for tag, attributes in Parsed(text).tags] for text in (page, harmless)]
    assert tags[0] == tags[1]
    assert names_of(page) == [name, name]
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["classes"][0]["name"] == name
    assert name in Parsed(page).words and name in Parsed(page).of("img")[0]["alt"]


def test_without_slices_there_is_a_table(tmp_path):
    page = written(tmp_path / "report.html", make_report(2, slices=False))
    assert 'class="thumb"' not in page and names_of(page) == ["patient001", "patient002"]


def test_twenty_volumes_are_below_15_mb(tmp_path):
    """Noise, which takes the most room, in volumes as large as MR has them."""
    report = Report("Evaluation", 20, "volume", CLASSES, COLOURS)
    (case,) = make_report(1, shape=(20, 320, 320)).cases
    for index in range(20):
        report.add(Case(f"{case.name}_{index}", case.values, case.layers))
    assert write_made_up(tmp_path / "report.html", report).stat().st_size < 15e6


def test_the_more_volumes_the_smaller_are_their_slices():
    sizes = []
    for number in (1, 20, 100, 1000):
        layers = Report("Evaluation", number, "volume", CLASSES, COLOURS).encode(make_shown(shape=(20, 320, 320)))
        sizes.append(number * (len(layers["image"]) + sum(map(len, layers["maps"].values()))))
    assert sizes[0] <= 600_000 and max(sizes[1:]) <= 12e6


@pytest.mark.parametrize("column", [Column("mean", "mean"), Column("mean", "mean", 1)])
def test_a_number_that_is_none_is_a_dash(tmp_path, column):
    report = Report("Evaluation", 1, "volume")
    report.add(Case("a", {"mean": None}))
    report.add(Case("b", {}))
    report.add(Case("c", {"mean": 0.25}))
    report.write(tmp_path / "report.html", "title", "lead", [column], "mean")
    cells = re.findall(r"<td data-value=\"(.*?)\">(.*?)</td>", (tmp_path / "report.html").read_text())
    assert cells == [("0.25", f"{0.25:.{column.digits}f}"), ("", "–"), ("", "–")]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot be written to"):
        write_made_up(tmp_path / "file" / "report.html", make_report(1, slices=False))
