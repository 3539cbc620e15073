"""Labels: the names of structures, the values that stand for them in files, and how networks count them.

Files may use any integers (0/255, BraTS 0, 1, 2, 4). Networks count 0, 1, 2, … without gaps. ``Labels`` is the one
place where the two meet: ``encode`` on the way in, ``decode`` on the way out.
"""

import re
from collections.abc import Iterable
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from medseg.errors import LabelError

# ColorBrewer's Set1 and three more: well apart from each other and from grey; repeated when there are more labels.
COLOURS = (
    (228, 26, 28), (55, 126, 184), (77, 175, 74), (255, 127, 0), (152, 78, 163),
    (255, 217, 47), (0, 191, 196), (247, 129, 191), (166, 86, 40), (141, 211, 199),
)  # fmt: skip

MOST_LABELS = 254  # network values are uint8
MOST_SHOWN = 8


Colour = tuple[int, int, int]  # RGB, 0 to 255


class Code(BaseModel):
    """A term of a coding scheme, as DICOM and 3D Slicer name structures: ``SCT, 10200004, Liver``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheme: str
    value: str
    meaning: str


class Label(BaseModel):
    """A structure: its name, its value in the user's files, its colour in pictures, and its codes where known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: int
    colour: Colour
    category: Code | None = None  # what kind of thing it is: "Anatomical Structure"
    type: Code | None = None  # which: "Kidney"
    modifier: Code | None = None  # on which side: "Left"


class Region(BaseModel):
    """A structure that is a union of labels, such as a whole tumour: its name, the values of its labels, and the rest
    as for a label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    values: tuple[int, ...]
    colour: Colour
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None


class Labels(BaseModel):
    """All structures of a dataset, background (value 0) not among them. Network channel ``i + 1`` is ``items[i]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: tuple[Label, ...]
    regions: tuple[Region, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        values = [label.value for label in self.items]
        names = [label.name for label in self.items]
        if 0 in values:
            raise ValueError("0 is the background and cannot be a label's value")
        if len(set(values)) != len(values) or len(set(names)) != len(names):
            raise ValueError(
                f"label names and values have to differ from each other: {dict(zip(names, values, strict=True))}"
            )
        return self

    @classmethod
    def from_names(cls, values_by_name: dict[str, int]) -> "Labels":
        """From ``{"liver": 1, "tumour": 2}``, ordered by value; an entry of value 0 is the background and dropped."""
        pairs = sorted((value, name) for name, value in values_by_name.items() if value != 0)
        return cls(
            items=tuple(
                Label(name=name, value=value, colour=COLOURS[i % len(COLOURS)]) for i, (value, name) in enumerate(pairs)
            )
        )

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.items]

    @property
    def values(self) -> list[int]:
        return [label.value for label in self.items]

    @property
    def structures(self) -> tuple[Region, ...]:
        """What is written as segments: each label by itself, then the regions."""
        alone = (Region(values=(label.value,), **label.model_dump(exclude={"value"})) for label in self.items)
        return (*alone, *self.regions)

    @property
    def n_outputs(self) -> int:
        """Channels of the network's output: the labels and the background."""
        return len(self.items) + 1

    @property
    def left_right_pairs(self) -> list[tuple[str, str]]:
        """Labels that differ by side only, such as ``("kidney_left", "kidney_right")``."""
        pairs = []
        for name in self.names:
            other = re.sub("left", "right", name, flags=re.IGNORECASE)
            for candidate in self.names:
                if candidate != name and candidate.lower() == other.lower():
                    pairs.append((name, candidate))
        return pairs

    def check(self, present: Iterable[int]) -> None:
        """Raises ``LabelError`` when a value that is present in a file is no label's, or when there are too many labels
        to encode."""
        if len(self.items) > MOST_LABELS:
            raise LabelError(f"{len(self.items)} labels; at most {MOST_LABELS} can be trained together")
        unknown = [value for value in present if value != 0 and value not in self.values]
        if unknown:
            raise LabelError(f"label values {_some(unknown)} are not among the known {_some([0, *self.values])}")

    def encode(self, label_map: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
        """File values to network values. Raises ``LabelError`` when a value is no label's, or no whole number."""
        if label_map.dtype.kind == "f" and not np.array_equal(label_map, np.rint(label_map)):
            raise LabelError("label values have to be whole numbers; is this an image, not a label map?")
        self.check(int(value) for value in np.unique(label_map))
        encoded = np.zeros(label_map.shape, dtype=np.uint8)
        for i, value in enumerate(self.values):
            encoded[label_map == value] = i + 1
        return encoded

    def decode(self, label_map: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Network values to file values, in the smallest integer type that holds them."""
        table = np.array([0, *self.values])
        fitting = next(t for t in (np.uint8, np.int16, np.int32, np.int64) if np.array_equal(table.astype(t), table))
        decoded: npt.NDArray[np.integer] = table.astype(fitting)[label_map]
        return decoded


def _some(values: list[int]) -> str:
    return str(values) if len(values) <= MOST_SHOWN else f"{values[:MOST_SHOWN]} and {len(values) - MOST_SHOWN} more"
