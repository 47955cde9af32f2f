"""Records that know the hash of their own content."""

from __future__ import annotations

import json
import re

import pytest

from common.records import RecordError, parse_record, read_record, write_record
from tests.places import REPOSITORY

CONTENT = {
    "name": "Ärzte",
    "finished": True,
    "nothing": None,
    "numbers": [0, -1, 0.1, 1e-17, 123456789012345678],
    "nested": {"b": {"2": [[1, 0.25]]}, "a": []},
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "folder" / "record.json"
    write_record(path, CONTENT)
    return path


def test_what_is_written_is_read(path):
    assert read_record(path, "make it again") == CONTENT
    assert list(json.loads(path.read_text())) == [*CONTENT, "sha256"]
    assert path.read_text().endswith("\n")


def test_types_that_json_changes_are_hashed_as_they_are_read(path):
    write_record(path, {"tuple": (1, 2), 10: "ten", 9: "nine"})
    assert read_record(path, "") == {"tuple": [1, 2], "10": "ten", "9": "nine"}


def test_layout_and_order_do_not_matter(path):
    content = json.loads(path.read_text())
    text = json.dumps(dict(reversed(content.items())), ensure_ascii=False)
    assert parse_record(text, "here", "") == parse_record(text.encode(), "here", "") == CONTENT


def test_every_flipped_bit_is_noticed_or_changes_nothing(path):
    """All bits of the file, one at a time."""
    whole, refused = path.read_bytes(), 0
    for position in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        try:
            assert parse_record(bytes(flipped), "here", "make it again") == CONTENT
        except RecordError as error:
            assert str(error).startswith("here is damaged, was edited or is no record (")
            assert str(error).endswith("): make it again.")
            refused += 1
    assert refused > 7 * len(whole)  # the others are white space that became other white space


@pytest.mark.parametrize("keep", [0, 1, 40, -2])
def test_cut_short(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RecordError, match=f"{re.escape(str(path))} is damaged, .*: make it again."):
        read_record(path, "make it again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "it has no entry 'sha256', the hash of its content"),
        ('{"a": 1, "sha256": null}', "it has no entry 'sha256'"),
        ('{"a": 1, "sha256": 5}', "its content has the SHA-256 [0-9a-f]{64}, it states 5"),
        (f'{{"a": 1, "sha256": "{"0" * 64}"}}', "its content has the SHA-256 [0-9a-f]{64}, it states '0{64}'"),
        ('{"a": 1, "a": 2, "sha256": ""}', "a key comes twice"),
        ('{"a": NaN, "sha256": ""}', "NaN is no number of JSON"),
        ('{"a": 1e999, "sha256": ""}', "not JSON compliant"),
        ("[1]", "it must be a JSON object, got list"),
        ("[" * 100_000, "recursion"),
        (b"\xff\xfe\x00", "codec can't decode"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused(text, message):
    with pytest.raises(RecordError, match=f"^here is damaged, was edited or is no record .*{message}"):
        parse_record(text, "here", "make it again")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"sha256": "f00"}, ValueError, "content must have no entry 'sha256'.*record.json"),
        ({"a": float("nan")}, ValueError, "not JSON compliant"),
        ({"a": object()}, TypeError, "not JSON serializable"),
    ],
    ids=["hash", "NaN", "object"],
)
def test_what_is_no_record_is_not_written(path, content, error, message):
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        write_record(path, content)
    assert path.read_bytes() == before


@pytest.mark.parametrize("folder", ["experiments/results", "benchmarks/results", "docs/pictures"])
def test_committed_records_are_whole(folder):
    paths = sorted((REPOSITORY / folder).rglob("*.json"))
    assert paths and all(read_record(path, "restore the committed file") for path in paths)
