"""reference/python/*.md: a page for the functions of ``medseg``, and one for each public package or module."""

import ast
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import medseg

PACKAGE = Path(medseg.__file__).parent
PACKAGES = (
    "transforms", "networks", "losses", "metrics", "inferers", "training", "training.callbacks", "dataset", "io",
    "plugins",
)  # fmt: skip

FACADE = """# medseg

The functions of the command line. They are imported when they are first used, since PyTorch and MONAI take seconds to
import.
"""


class PageOfApi(NamedTuple):
    """A page: its title in the navigation, its path on the site, and its text."""

    title: str
    path: str
    text: str


def pages() -> list[PageOfApi]:
    """Returns the pages in the order of the navigation."""
    found = [PageOfApi("medseg", "reference/python/medseg.md", _facade())]
    for name in PACKAGES:
        found.append(PageOfApi(f"medseg.{name}", f"reference/python/{name.replace('.', '_')}.md", _package(name)))
    return found


def public_names(name: str) -> list[str]:
    """Returns what ``__all__`` of a package or module of medseg names."""
    return sorted(import_module(f"medseg.{name}").__all__, key=str.casefold)


def _facade() -> str:
    entries = [_entry(f"medseg.{name}", home.replace(":", "."), 2) for name, home in sorted(medseg._HOMES.items())]
    return "\n".join([FACADE, *entries])


def _package(name: str) -> str:
    text = ast.get_docstring(ast.parse(_source(name).read_text(encoding="utf-8"))) or ""
    entries = [_entry(f"medseg.{name}.{each}", f"medseg.{name}.{each}", 2) for each in public_names(name)]
    return "\n".join([f"# medseg.{name}", "", _examples(text), "", *entries])


def _source(name: str) -> Path:
    folder = PACKAGE.joinpath(*name.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _entry(title: str, target: str, level: int) -> str:
    heading = f'      heading: "{title}"\n      toc_label: "{title.rpartition(".")[2]}"'
    return f"::: {target}\n    options:\n      heading_level: {level}\n{heading}\n"


def _examples(text: str) -> str:
    """A module's docstring in Markdown: the lines of a Python session become a block."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.lstrip().startswith(">>>") and not inside:
            lines += ["", "```pycon"]
            inside = True
        if inside and not line.strip():
            lines += ["```"]
            inside = False
        lines.append(line.strip() if inside else line)
    return "\n".join([*lines, "```"] if inside else lines)
