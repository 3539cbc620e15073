"""Slices of an image with the colours of its labels over it, and a legend below: pixels, for those who see no masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medseg.structures import Colour, Label
from medseg.volume import Array

OPACITY = 0.35  # of what lies inside of an outline
LEAST_WIDTH = 512  # pixels: smaller slices are shown larger, so that the legend can be read
FONT = Path("fonts") / "ttf" / "DejaVuSans.ttf"  # of matplotlib
TEXT_HEIGHT, LINE_HEIGHT, GAP = 13, 20, 10  # pixels


def coloured_slice(grey: Array, label_map: Array, labels: Sequence[Label]) -> Array:
    """Returns a slice in which each label is filled with its colour, and outlined.

    Args:
        grey: ``(row, column)``, from 0 to 255.
        label_map: ``(row, column)``, in the values of the labels.
        labels: Values and colours.

    Returns:
        ``(row, column, 3)``, bytes.

    Example:
        >>> import numpy as np
        >>> from medseg.labels import Labels
        >>> from medseg.pictures.coloured_slices import coloured_slice
        >>> label_map = np.zeros((8, 8), np.uint8)
        >>> label_map[2:7, 2:7] = 1
        >>> red = Labels.from_names({"liver": 1}).described({"liver": {"colour": (255, 0, 0)}})
        >>> picture = coloured_slice(np.full((8, 8), 100, np.uint8), label_map, red.items)
        >>> picture[0, 0].tolist(), picture[2, 2].tolist(), picture[4, 4].tolist()
        ([100, 100, 100], [255, 0, 0], [154, 65, 65])
    """
    from scipy.ndimage import binary_erosion  # takes long to import

    picture = np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)
    for label in labels:
        mask = label_map == label.value
        if not mask.any():
            continue
        colour = np.array(label.colour, np.float32)
        picture[mask] = np.rint(picture[mask] * (1 - OPACITY) + colour * OPACITY)
        picture[mask & ~binary_erosion(mask)] = label.colour
    return picture


def enlargement(columns: int) -> int:
    """Returns how many times larger slices of so many columns are shown."""
    return max(1, -(-LEAST_WIDTH // columns))


def legend(entries: Sequence[tuple[Colour, str]], lines: Sequence[str], width: int) -> Array:
    """Returns a black band with a square and a text for each entry, side by side as far as they fit, and lines below.

    Args:
        entries: Colour and text of each.
        lines: What else is to be read; each is cut where it is too long.
        width: Pixels.

    Returns:
        ``(row, column, 3)``, bytes.
    """
    from matplotlib import get_data_path  # takes long to import

    font = ImageFont.truetype(str(Path(get_data_path(), FONT)), TEXT_HEIGHT)
    placed, x, row = [], GAP, 0
    for colour, text in entries:
        needed = LINE_HEIGHT + int(font.getlength(text)) + GAP
        if x > GAP and x + needed > width:
            x, row = GAP, row + 1
        placed.append((x, row, colour, text))
        x += needed
    n_rows = row + 1 if entries else 0
    picture = Image.new("RGB", (width, (n_rows + len(lines)) * LINE_HEIGHT + GAP))
    draw = ImageDraw.Draw(picture)
    for x, row, colour, text in placed:
        y = row * LINE_HEIGHT + GAP // 2
        draw.rectangle((x, y + 3, x + TEXT_HEIGHT, y + 3 + TEXT_HEIGHT - 2), fill=colour)
        draw.text((x + LINE_HEIGHT, y), text, font=font, fill=(255, 255, 255))
    for i, line in enumerate(lines):
        draw.text((GAP, (n_rows + i) * LINE_HEIGHT + GAP // 2), line, font=font, fill=(200, 200, 200))
    return np.asarray(picture)
