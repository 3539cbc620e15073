"""Docstrings: the first sentence of a function begins with a verb, "Returns" or another, that of a property
does not; each can be read alone.

That they are there, and their form, is held by ruff's rules D (pyproject.toml).
"""

import ast
import re
from pathlib import Path

import medseg

PACKAGE = Path(medseg.__file__).parent
VERB = re.compile(r"[A-Z][a-z-]*s[,:]?")
# Nouns in the plural, which look like verbs.
NOUNS = {
    "Axes", "Bytes", "Cases", "Cores", "Epochs", "Files", "Globs", "Groups", "Holes", "Images", "Labels", "Logits",
    "Masks", "Matches,", "Metrics", "Millimetres", "Outcomes", "Pages", "Patches", "Predictions", "Rows", "Seconds",
    "Segmentations", "This", "Values", "Voxels", "Windows", "Words", "Workers",
}  # fmt: skip


def first_words(of_properties: bool = False) -> dict[str, str]:
    """The first word of the docstring of each function, or of each property, by ``path: name``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not ast.get_docstring(node):
                continue
            if any("property" in ast.unparse(each) for each in node.decorator_list) is of_properties:
                name = f"{path.relative_to(PACKAGE).as_posix()}: {node.name}"
                found[name] = (ast.get_docstring(node) or "").split()[0]
    return found


def test_functions_say_what_they_do() -> None:
    words = first_words()
    assert len(words) > 1000
    assert {name: word for name, word in words.items() if not VERB.fullmatch(word) or word in NOUNS} == {}


def test_properties_are_named_like_attributes() -> None:
    words = first_words(of_properties=True)
    assert len(words) > 200
    assert [name for name, word in words.items() if word in {"Returns", "Yields", "Gets", "Says", "It"}] == []
