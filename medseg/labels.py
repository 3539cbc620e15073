"""Labels: the names of structures, the values that stand for them in files, and how networks count them.

Files may use any integers (0/255, BraTS 0, 1, 2, 4). Networks count 0, 1, 2, … without gaps. ``Labels`` is the one
place where the two meet: ``encode`` on the way in, ``decode`` on the way out.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from medseg.errors import LabelError, did_you_mean
from medseg.records import Record
from medseg.terminology import Code, Coding, coding

# ColorBrewer's Set1 and three more: well apart from each other and from grey; repeated when there are more labels.
COLOURS = (
    (228, 26, 28), (55, 126, 184), (77, 175, 74), (255, 127, 0), (152, 78, 163),
    (255, 217, 47), (0, 191, 196), (247, 129, 191), (166, 86, 40), (141, 211, 199),
)  # fmt: skip

IGNORED = 255  # the network value of voxels that nobody annotated
MOST_LABELS = 254  # network values are uint8
MANY_LABELS = 30  # without names: more are rather objects than structures
MOST_SHOWN = 8

DESCRIPTION = {"colour", "category", "type", "modifier"}  # of a structure: what does not say where it is

Byte = Annotated[int, Field(ge=0, le=255)]
Value = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # in a file
Colour = tuple[Byte, Byte, Byte]  # RGB


class Structure(Record):
    """What is known of a label or a region beside its voxels: its name, its colour in pictures, and the codes that
    DICOM and 3D Slicer know it by. Codes that are None follow from the name."""

    name: str
    colour: Colour
    category: Code | None = None  # what kind of thing it is: "Anatomical Structure"
    type: Code | None = None  # which: "Kidney"
    modifier: Code | None = None  # on which side: "Left"

    @property
    def coding(self) -> Coding:
        known = coding(self.name)
        modifier = self.modifier if self.modifier or self.type else known.modifier
        return Coding(self.category or known.category, self.type or known.type, modifier)


class Label(Structure):
    """A structure with its value in the user's files."""

    value: Value
    alone: bool = True  # False: a part of regions, and no structure by itself


class Region(Structure):
    """A structure that is a union of labels, such as a whole tumour."""

    values: tuple[Value, ...]


class Labels(Record):
    """All structures of a dataset, background (value 0) not among them. Network channel ``i + 1`` is ``items[i]``."""

    items: tuple[Label, ...]
    regions: tuple[Region, ...] = ()
    # nnU-Net's regions_class_order: the structures in the order in which they are written into a label map, one over
    # the other, each with the value that it writes. () where that follows from what holds what.
    region_order: tuple[tuple[str, Value], ...] = ()
    ignore: Value | None = None  # the value of voxels that nobody annotated: in references only

    @model_validator(mode="after")
    def _check(self) -> Self:
        values = [label.value for label in self.items]
        names = [label.name for label in self.items]
        if 0 in values:
            raise ValueError("0 is the background and cannot be a label's value")
        if self.ignore in (0, *values):
            raise ValueError(f"{self.ignore} cannot be the ignore value: it is the background's, or a label's")
        if len(set(values)) != len(values) or len(set(names)) != len(names):
            raise ValueError(
                f"label names and values have to differ from each other: {dict(zip(names, values, strict=True))}"
            )
        known = [*names, *(region.name for region in self.regions)]
        for region in self.regions:
            if not region.values or not set(region.values) <= set(values):
                raise ValueError(f"region '{region.name}' has values that no label has: {region.values}")
            if known.count(region.name) > 1:
                raise ValueError(f"'{region.name}' is the name of a region and of something else")
        for name, value in self.region_order:
            if name not in known or value not in values:
                raise ValueError(
                    f"the order of regions has '{name}' write {value}; one of the two is not among the labels"
                )
        return self

    @classmethod
    def from_names(
        cls,
        values_by_name: Mapping[str, int],
        regions: Mapping[str, Iterable[int]] | None = None,
        ignore: int | None = None,
    ) -> "Labels":
        """From ``{"oedema": 1, "core": 2}``, ordered by value, and ``{"whole tumour": (1, 2)}``; colours and codes are
        filled in.

        An entry of value 0 is the background and dropped. Values that only regions name are labels, but no structures.
        """
        unions = {name: tuple(values) for name, values in (regions or {}).items()}
        named = [(value, name, True) for name, value in values_by_name.items() if value != 0]
        unnamed = {value for values in unions.values() for value in values} - {value for value, _, _ in named}
        parts = [(value, f"label_{value}", False) for value in unnamed]
        colours = cycle(COLOURS)
        return cls(
            items=tuple(
                Label(name=name, value=value, alone=alone, colour=next(colours), **coding(name)._asdict())
                for value, name, alone in sorted([*named, *parts])
            ),
            regions=tuple(
                Region(name=name, values=values, colour=next(colours), **coding(name)._asdict())
                for name, values in unions.items()
            ),
            ignore=ignore,
        )

    @classmethod
    def from_values(cls, values: Iterable[int], ignore: int | None = None) -> "Labels":
        """For values that nobody has named: ``label_1``, ``label_2``, …; a single one is the ``foreground``."""
        present = sorted(set(values) - {0, ignore})
        if len(present) == 1:
            return cls.from_names({"foreground": present[0]}, ignore=ignore)
        return cls.from_names({f"label_{value}": value for value in present}, ignore=ignore)

    def ignoring(self, value: int | None) -> "Labels":
        """With ``value`` as the ignore value; None: as they are. Raises ``LabelError`` when the value is taken."""
        if value is None:
            return self
        taken = {0: "background", **dict(zip(self.values, self.names, strict=True))}
        if value in taken:
            raise LabelError(f"the ignore value cannot be {value}: that is '{taken[value]}'")
        return self.model_copy(update={"ignore": value})

    def described(self, details: Mapping[str, Any]) -> "Labels":
        """With the colours and codes in ``details``, by name: ``{"liver": {"colour": (221, 130, 101)}}``.

        Raises ``ValueError`` for a name that is none of these, or for what cannot be a colour or a code.
        """
        items, regions = ([dict(each) for each in group] for group in (self.items, self.regions))
        known = {each["name"]: each for each in (*items, *regions)}
        for name, changes in details.items():
            if name not in known:
                raise ValueError(f"'structures' has '{name}', which is none of {', '.join(known)}")
            if not changes.keys() <= DESCRIPTION:
                raise ValueError(f"'structures' may give {', '.join(sorted(DESCRIPTION))}, not {', '.join(changes)}")
            known[name] |= changes
        return Labels.model_validate(
            {"items": items, "regions": regions, "region_order": self.region_order, "ignore": self.ignore}
        )

    def renamed(self, names: Mapping[int, str]) -> "Labels":
        """With other names, and the codes that follow from them, by label value; by the first value of a region whose
        labels are no structures.

        Raises ``LabelError`` for a value that is none of these, or names that are not distinct.
        """
        items, regions = list(self.items), list(self.regions)
        for value, name in names.items():
            change = {"name": name, **coding(name)._asdict()}
            label = next((i for i, label in enumerate(items) if label.alone and label.value == value), None)
            region = next((i for i, region in enumerate(regions) if region.values[0] == value), None)
            if label is not None:
                items[label] = items[label].model_copy(update=change)
            elif region is not None:
                regions[region] = regions[region].model_copy(update=change)
            else:
                raise LabelError(f"'{name}' cannot be the name of {value}, which is none of {_some(self.values)}")
        try:
            return Labels(items=tuple(items), regions=tuple(regions), ignore=self.ignore)
        except ValueError as error:
            raise LabelError(f"names have to differ: {', '.join(names.values())}") from error

    @property
    def names(self) -> list[str]:
        return [label.name for label in self.items]

    @property
    def values(self) -> list[int]:
        return [label.value for label in self.items]

    @property
    def structures(self) -> tuple[Region, ...]:
        """What is written as segments, with all codes: each label by itself, then the regions."""
        alone = [
            Region(values=(label.value,), **label.model_dump(exclude={"value", "alone"}))
            for label in self.items
            if label.alone
        ]
        return tuple(each.model_copy(update=each.coding._asdict()) for each in (*alone, *self.regions))

    @property
    def unions(self) -> dict[str, tuple[int, ...]]:
        """The network values that each structure holds, by its name."""
        network = {value: i for i, value in enumerate(self.values, start=1)}
        return {each.name: tuple(network[value] for value in each.values) for each in self.structures}

    @property
    def left_right_pairs(self) -> list[tuple[str, str]]:
        """Labels and regions that differ by side only, such as ``("kidney_left", "kidney_right")``."""
        pairs = []
        names = [each.name for each in (*self.items, *self.regions)]
        for name in names:
            other = re.sub("left", "right", name, flags=re.IGNORECASE)
            for candidate in names:
                if candidate != name and candidate.lower() == other.lower():
                    pairs.append((name, candidate))
        return pairs

    def check(self, present: Iterable[int]) -> None:
        """Raises ``LabelError`` when a value that is present in a file is no label's, or when there are too many labels
        to encode."""
        if len(self.items) > MOST_LABELS:
            raise LabelError(f"{len(self.items)} labels; at most {MOST_LABELS} can be trained together")
        unknown = [value for value in present if value not in (0, self.ignore, *self.values)]
        if unknown:
            raise LabelError(f"label values {_some(unknown)} are not among the known {_some([0, *self.values])}")

    def absent(self, present: Iterable[int]) -> str:
        """Says which labels have no voxel anywhere, given the values that occur; empty where all have."""
        names = [label.name for label in self.items if label.value not in set(present)]
        return f"in no label map: {', '.join(names)}; nothing can be learnt of what is nowhere" if names else ""

    def check_annotated(self, names: Sequence[str] | None) -> None:
        """``names``: the labels that were annotated in a case; None: all. Raises ``LabelError`` for an empty list, or
        one with other names."""
        unknown = set(names or ()) - set(self.names)
        if unknown:
            name = min(unknown)
            raise LabelError(f"'{name}' was annotated, but is no label{did_you_mean(name, self.names)}")
        if names is not None and not names:
            raise LabelError("no label was annotated")

    def unannotated(self, names: Collection[str] | None) -> list[int]:
        """Values of the labels that are not among ``names``; None: all are."""
        return [] if names is None else [label.value for label in self.items if label.name not in names]

    def annotated_structures(self, names: Collection[str] | None) -> list[Region]:
        """The structures all of whose labels are among ``names``; None: all are."""
        unknown = set(self.unannotated(names))
        return [structure for structure in self.structures if unknown.isdisjoint(structure.values)]

    def annotated_unions(self, names: Collection[str] | None) -> dict[str, tuple[int, ...]]:
        """``unions`` of these structures."""
        unions = self.unions
        return {structure.name: unions[structure.name] for structure in self.annotated_structures(names)}

    def only_annotated(
        self, label_map: npt.NDArray[np.integer], names: Collection[str] | None
    ) -> npt.NDArray[np.integer]:
        """A label map in file values, with background for the labels that are not among ``names``; as it is where all
        are."""
        unknown = self.unannotated(names)
        return np.where(np.isin(label_map, unknown), 0, label_map) if unknown else label_map

    def encode(self, label_map: npt.NDArray[np.generic], *, strict: bool = True) -> npt.NDArray[np.uint8]:
        """File values to network values, ``IGNORED`` for the ignore value. Raises ``LabelError`` when a value is no
        label's, or no whole number. Not ``strict``: what is no label's becomes background."""
        if label_map.dtype.kind == "f" and not np.array_equal(label_map, np.rint(label_map)):
            raise LabelError("label values have to be whole numbers; is this an image, not a label map?")
        self.check((int(value) for value in np.unique(label_map)) if strict else ())
        encoded = np.zeros(label_map.shape, dtype=np.uint8)
        for i, value in enumerate(self.values):
            encoded[label_map == value] = i + 1
        if self.ignore is not None:
            encoded[label_map == self.ignore] = IGNORED
        return encoded

    def decode(self, label_map: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Network values to file values, in the smallest integer type that holds them."""
        table = np.array([0, *self.values])
        fitting = next(t for t in (np.uint8, np.int16, np.int32, np.int64) if np.array_equal(table.astype(t), table))
        decoded: npt.NDArray[np.integer] = table.astype(fitting)[label_map]
        return decoded


def _some(values: list[int]) -> str:
    return str(values) if len(values) <= MOST_SHOWN else f"{values[:MOST_SHOWN]} and {len(values) - MOST_SHOWN} more"
