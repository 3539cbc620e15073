"""Structures: what is known of a label or a region beside its voxels, such as its colour and its codes."""

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from medseg.errors import LabelError, did_you_mean
from medseg.records import Record
from medseg.terminology import Code, Coding, coding

# ColorBrewer's Set1 and three more: well apart from each other and from grey; repeated when there are more labels.
COLOURS = (
    (228, 26, 28), (55, 126, 184), (77, 175, 74), (255, 127, 0), (152, 78, 163),
    (255, 217, 47), (0, 191, 196), (247, 129, 191), (166, 86, 40), (141, 211, 199),
)  # fmt: skip

DESCRIPTION = {"colour", "category", "type", "modifier"}  # of a structure: what does not say where it is

Byte = Annotated[int, Field(ge=0, le=255)]
Value = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # in a file
Colour = tuple[Byte, Byte, Byte]  # RGB


class Structure(Record):
    """What is known of a label or a region beside its voxels: its name, its colour, and its codes.

    Attributes:
        name: The name, as the user gives it.
        colour: (red, green, blue) in pictures, from 0 to 255.
        category: The code of what kind of thing it is, such as "Anatomical Structure"; None where it follows from the
            name.
        type: The code of which it is, such as "Kidney"; None where it follows from the name.
        modifier: The code of its side or part, such as "Left"; None where there is none, or where it follows from the
            name.
    """

    name: str
    colour: Colour
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None

    @property
    def coding(self) -> Coding:
        """All codes: those that are given, and for the others those that follow from the name."""
        known = coding(self.name)
        modifier = self.modifier if self.modifier or self.type else known.modifier
        return Coding(self.category or known.category, self.type or known.type, modifier)


class Label(Structure):
    """A structure with its value in the user's files.

    Attributes:
        value: The value, which is not 0.
        alone: Whether it is a structure by itself. False for what is only a part of regions.
    """

    value: Value
    alone: bool = True


class Region(Structure):
    """A structure that is a union of labels, such as a whole tumour.

    Attributes:
        values: The values of its labels in the user's files.
    """

    values: tuple[Value, ...]


S = TypeVar("S", bound=Structure)


def with_name(structure: S, name: str) -> S:
    """Returns a structure with another name, and the codes that follow from it; itself where it has that name."""
    if structure.name == name:
        return structure
    return structure.model_copy(update={"name": name, **coding(name)._asdict()})


def check_structures(
    items: Sequence[Label],
    regions: Sequence[Region],
    region_order: Sequence[tuple[str, Value]],
    ignore: Value | None,
    instances: Sequence[str] = (),
) -> None:
    """Checks that the labels and regions of a dataset fit together.

    Args:
        items: The labels.
        regions: Unions of them.
        region_order: Names in the order in which they are written into a label map, each with the value it writes.
        ignore: The value of voxels that nobody annotated; None where there is none.
        instances: The names of labels whose objects are told apart.

    Raises:
        ValueError: Names or values are not distinct, or one of the values is 0; or a region, the order of regions, the
            ignore value or an instance label does not fit the labels.
    """
    values = [label.value for label in items]
    names = [label.name for label in items]
    if 0 in values:
        raise ValueError("0 is the background and cannot be a label's value")
    if ignore in (0, *values):
        raise ValueError(f"{ignore} cannot be the ignore value: it is the background's, or a label's")
    if len(set(values)) != len(values) or len(set(names)) != len(names):
        raise ValueError(
            f"label names and values have to differ from each other: {dict(zip(names, values, strict=True))}"
        )
    known = [*names, *(region.name for region in regions)]
    for region in regions:
        if not region.values or not set(region.values) <= set(values):
            raise ValueError(f"region '{region.name}' has values that no label has: {region.values}")
        if known.count(region.name) > 1:
            raise ValueError(f"'{region.name}' is the name of a region and of something else")
    for name, value in region_order:
        if name not in known or value not in values:
            raise ValueError(f"the order of regions has '{name}' write {value}; one of the two is not among the labels")
    alone = [label.name for label in items if label.alone]
    for name in instances:
        if name not in alone:
            raise ValueError(f"'{name}' is said to be objects, but is no label{did_you_mean(name, alone)}")
    if len(set(instances)) < len(instances):
        raise ValueError(f"labels that are objects are named twice: {', '.join(instances)}")


def check_annotated(annotated: Sequence[str] | None, labels: Sequence[str]) -> None:
    """Checks that the labels which are said to be annotated in a case are known.

    Args:
        annotated: Names of the labels that were annotated; None stands for all.
        labels: The names of all labels.

    Raises:
        LabelError: The list is empty, or has another name.
    """
    for name in sorted(set(annotated or ()) - set(labels)):
        raise LabelError(f"'{name}' was annotated, but is no label{did_you_mean(name, labels)}")
    if annotated is not None and not annotated:
        raise LabelError("no label was annotated")


def pairs_of_sides(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the names that differ by side only, such as ``("kidney_left", "kidney_right")``."""
    pairs = []
    for name in names:
        other = re.sub("left", "right", name, flags=re.IGNORECASE)
        for candidate in names:
            if candidate != name and candidate.lower() == other.lower():
                pairs.append((name, candidate))
    return pairs
