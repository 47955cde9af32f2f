"""The texts of a release: licence, manual and model card, for what is in it."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from .front_matter import front_matter
from .source import Bundle

_LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)([^)]+)\)")
_SECTION = re.compile(r"\.\./\.\./(bundle_\w+)/docs/README\.md#(\w+)")
_FRONT_MATTER = re.compile(r"---\n.*?\n---\n", re.DOTALL)
_CODE_LICENCE = "LICENSE-Apache-2.0"
_NO_WEIGHTS = """\
# Weights

This release has no weights, so that nothing was measured: `eval_metrics` of `configs/metadata.json` is empty. The
commands of `docs/README.md` write them to this folder.
"""
_FROM_PYTHON = """\
## From Python

    import sys
    from monai.bundle import load

    sys.path.insert(0, "downloads/{name}")  # this folder: `load` does not look for a bundle's code by itself
    network = load("{name}", bundle_dir="downloads", device="cpu")  # with the weights of models/model.pt

The code is the package `scripts.{name}`. The network takes slices (N, C, H, W), preprocessed, H and W any
multiples of 32. So does what these write, in this folder, for other runtimes:

    python -m monai.bundle ckpt_export --config_file configs/inference.json    # models/model.ts, TorchScript
    python -m monai.bundle onnx_export --args_file configs/onnx_export.json    # models/model.onnx

`model.ts` is here already where there are weights; after a training of your own write it again.

A bundle is code, which runs when it is loaded: load only those of people whom you trust.
"""
_LICENCE = """\
Two licences hold for this bundle.

Code, configurations and documents: Apache-2.0, whose text is in {code_licence}.

Weights (models/*.pt, in this bundle or downloaded for it): {weights_licence}, as docs/data_license.txt says.
"""


def write_documents(bundle: Bundle, folder: Path) -> None:
    """Write `LICENSE`, `README.md`, `docs/README.md` and `models/README.md` of a release.

    `docs/README.md` is the bundle's manual and what is known of the weights; a section of another bundle's manual that
    it refers to is beside it. `README.md` is the same as a model card. `push_to_hf_hub` of MONAI writes its own over
    that, from `docs/README.md` and the licence that it finds in `LICENSE`. Where there are weights, `LICENSE` therefore
    does not have the text of the code's licence: it would be stated for the weights.

    Args:
        bundle: that is released.
        folder: of the copy that is given away.
    """
    about_weights, header = _NO_WEIGHTS, front_matter("apache-2.0")
    if bundle.weights:
        card = (bundle.folder / "models" / "README.md").read_text(encoding="utf-8")
        header, about_weights = _FRONT_MATTER.findall(card)[0], _FRONT_MATTER.sub("", card, count=1).lstrip()
        (folder / "LICENSE").rename(folder / _CODE_LICENCE)
        licence = _LICENCE.format(code_licence=_CODE_LICENCE, weights_licence=bundle.metadata["weights_license"])
        (folder / "LICENSE").write_text(licence, encoding="utf-8")
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "README.md").write_text(about_weights, encoding="utf-8")
    manual = (bundle.folder / "docs" / "README.md").read_text(encoding="utf-8").strip()
    for other, name in set(_SECTION.findall(manual)):
        section = relink(_section(bundle.folder.parent / other, name), "docs", "docs")
        (folder / "docs" / f"{name}.md").write_text(section, encoding="utf-8")
    manual = _SECTION.sub(r"\2.md", manual)
    use = _FROM_PYTHON.format(name=bundle.name)
    text = f"{manual}\n\n{use}\n{re.sub('^#', '##', about_weights, flags=re.MULTILINE)}"
    (folder / "docs" / "README.md").write_text(relink(text, "docs", "docs"), encoding="utf-8")
    card = f"{header}\n{relink(text, 'docs', '.')}"
    (folder / "README.md").write_text(card, encoding="utf-8")


def _section(bundle: Path, name: str) -> str:
    """Return a section of a bundle's manual as a document of its own."""
    manual = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    sections = re.split("^## ", manual, flags=re.MULTILINE)
    (text,) = (section for section in sections if section.lower().startswith(f"{name}\n"))
    title, body = text.split("\n", 1)
    return f"# {title}, in the words of the manual of {bundle.name}\n{body}"


def relink(text: str, written_for: str, placed_in: str) -> str:
    """Keep the links of a Markdown text right in a release.

    Args:
        text: with relative links.
        written_for: the folder in the bundle that its links start from.
        placed_in: the folder in the bundle that it goes to.

    Returns:
        The text with links from there; a link that leaves the bundle is a name only.
    """

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(written_for, match[2]))
        if target.startswith(".."):
            return f"{match[1]} of the bundle's source"
        return f"[{match[1]}]({posixpath.relpath(target, placed_in)})"

    return _LINK.sub(replace, text)
