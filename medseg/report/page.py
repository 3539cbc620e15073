"""Reports as one HTML file, which needs nothing but a browser."""

import base64
import io
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from medseg.files import write_text
from medseg.version import VERSION
from medseg.volume import Array


def write_page(path: Path, template: str, title: str, **content: Any) -> Path:
    """Writes a report as one HTML file.

    Args:
        path: The file to write.
        template: Below the package, as in ``"report/evaluation.html.j2"``; it extends report/page.html.j2.
        title: Of the report.
        **content: What the template asks for.

    Returns:
        The path.

    Raises:
        OutputError: The file cannot be written.
    """
    now = datetime.now().strftime("%Y-%m-%d %H:%M")
    page = _environment().get_template(template).render(title=title, version=VERSION, now=now, **content)
    return write_text(path, page)


@cache
def _environment() -> Environment:
    """Returns the templates of medseg. They are compiled once: that takes longer than to fill one in."""
    environment = Environment(
        loader=PackageLoader("medseg", ""),
        autoescape=select_autoescape(["j2"]),
        undefined=StrictUndefined,
        auto_reload=False,
    )
    environment.globals["zip"] = zip
    return environment


def png(pixels: Array) -> str:
    """Returns a data URI of a picture.

    Args:
        pixels: Bytes ``(row, column)``, with a last axis of 3 or 4 channels where there are colours.
    """
    return as_uri(Image.fromarray(pixels))


def as_uri(picture: Image.Image) -> str:
    """Returns a data URI of a picture, as PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
