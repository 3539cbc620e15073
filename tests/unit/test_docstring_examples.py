"""The examples in docstrings of medseg are what they say, and the public parts have some."""

import doctest
import importlib
import re
import sys
from pathlib import Path

import pytest

import medseg
import medseg.plugins
from medseg.dataset.store import PreparedDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "generate"))

import python_api

PACKAGE = Path(medseg.__file__).parent
SOURCES = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
WITH_EXAMPLES = [path for path, text in SOURCES.items() if ">>> " in text]

# A base, whose form its own module makes; and the decorators of a plugin, which the docstring has as a file.
WITHOUT = {"networks": {"ClassicUNet"}, "plugins": set(medseg.plugins.__all__)}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_the_examples(path: Path, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in an empty folder with a prepared dataset."""
    (tmp_path / "prepared").symlink_to(prepared.folder)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name_of(path)), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted > 0


@pytest.mark.parametrize("package", python_api.PACKAGES)
def test_public_parts_have_an_example(package: str) -> None:
    folder = PACKAGE.joinpath(*package.split("."))
    code = "\n".join(
        line
        for path, text in SOURCES.items()
        if path.is_relative_to(folder) or path == folder.with_suffix(".py")
        for line in text.splitlines()
        if line.lstrip().startswith((">>> ", "... "))
    )
    shown = set(re.findall(r"\w+", code))
    missing = set(python_api.public_names(package)) - shown
    assert missing == WITHOUT.get(package, set())
