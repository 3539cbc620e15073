"""Labels: the names of structures, the values that stand for them in files, and how networks count them.

Files may use any integers (0/255, BraTS 0, 1, 2, 4). Networks count 0, 1, 2, … without gaps. ``Labels`` is the one
place where the two meet: ``encode`` on the way in, ``decode`` on the way out.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import cycle
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError, model_validator

from medseg.errors import LabelError
from medseg.records import Record
from medseg.structures import COLOURS, DESCRIPTION, Label, Region, Value, check_structures, pairs_of_sides, with_name
from medseg.terminology import coding

IGNORED = 255  # the network value of voxels that nobody annotated
MOST_LABELS = 254  # network values are uint8
MANY_LABELS = 30  # without names: more are rather objects than structures
MOST_SHOWN = 8


class Labels(Record):
    """The structures of a dataset, without the background, whose value is 0.

    Attributes:
        items: The labels. Network value ``i + 1`` stands for ``items[i]``.
        regions: Unions of labels.
        region_order: nnU-Net's ``regions_class_order``, with the value that each writes; empty where it follows by
            itself.
        ignore: The value of voxels that nobody annotated, in references only; None where there is none.
        instances: The names of labels whose objects are told apart: each nucleus, each lesion.

    Raises:
        ValueError: Names, values and regions do not fit together.

    Example:
        >>> import numpy as np
        >>> labels = Labels.from_names({"liver": 5, "tumour": 9}, regions={"liver with tumour": (5, 9)})
        >>> labels.names, labels.values, labels.unions["liver with tumour"]
        (['liver', 'tumour'], [5, 9], (1, 2))
        >>> labels.encode(np.array([0, 5, 9])).tolist(), labels.decode(np.array([0, 1, 2])).tolist()
        ([0, 1, 2], [0, 5, 9])
    """

    items: tuple[Label, ...]
    regions: tuple[Region, ...] = ()
    region_order: tuple[tuple[str, Value], ...] = ()
    ignore: Value | None = None
    instances: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_structures(self.items, self.regions, self.region_order, self.ignore, self.instances)
        return self

    @classmethod
    def from_names(
        cls,
        values_by_name: Mapping[str, int],
        regions: Mapping[str, Iterable[int]] | None = None,
        ignore: int | None = None,
    ) -> "Labels":
        """Returns labels of these names and values, with colours and codes filled in.

        Values that only regions name become labels that are no structures by themselves.

        Args:
            values_by_name: ``{"oedema": 1, "core": 2}``, in any order. An entry of value 0, the background, is dropped.
            regions: ``{"whole tumour": (1, 2)}``: the values that each region is made of.
            ignore: The value of voxels that nobody annotated.

        Raises:
            ValueError: Names or values are not distinct.
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
        """Returns labels for values that nobody has named.

        Args:
            values: They become ``label_1``, ``label_2``, …; a single one becomes ``foreground``. 0, the background, is
                dropped.
            ignore: The value of voxels that nobody annotated; it becomes no label.
        """
        present = sorted(set(values) - {0, ignore})
        if len(present) == 1:
            return cls.from_names({"foreground": present[0]}, ignore=ignore)
        return cls.from_names({f"label_{value}": value for value in present}, ignore=ignore)

    def ignoring(self, value: int | None) -> "Labels":
        """Returns these labels with an ignore value.

        Args:
            value: The value of voxels that nobody annotated; None leaves the labels as they are.

        Raises:
            LabelError: The value is the background's, or a label's.
        """
        if value is None:
            return self
        taken = {0: "background", **dict(zip(self.values, self.names, strict=True))}
        if value in taken:
            raise LabelError(f"the ignore value cannot be {value}: that is '{taken[value]}'")
        return self.model_copy(update={"ignore": value})

    def with_instances(self, names: Iterable[str]) -> "Labels":
        """Returns these labels, of which those of these ``names`` are objects that are told apart.

        Raises:
            LabelError: A name is no label's.
        """
        try:
            return Labels.model_validate(dict(self) | {"instances": tuple(names)})
        except ValidationError as error:
            raise LabelError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error

    def described(self, details: Mapping[str, Any]) -> "Labels":
        """Returns these labels with other colours and codes.

        Args:
            details: By name the ``colour``, ``category``, ``type`` or ``modifier``: ``{"liver": {"colour": (221, 130,
                101)}}``.

        Raises:
            ValueError: A name is none of these, or a value cannot be a colour or a code.
        """
        items, regions = ([dict(each) for each in group] for group in (self.items, self.regions))
        known = {each["name"]: each for each in (*items, *regions)}
        for name, changes in details.items():
            if name not in known:
                raise ValueError(f"'structures' has '{name}', which is none of {', '.join(known)}")
            if not changes.keys() <= DESCRIPTION:
                raise ValueError(f"'structures' may give {', '.join(sorted(DESCRIPTION))}, not {', '.join(changes)}")
            known[name] |= changes
        return Labels.model_validate(dict(self) | {"items": items, "regions": regions})

    def renamed(self, names: Mapping[int, str]) -> "Labels":
        """Returns these labels with other names, and the codes that follow from these.

        Args:
            names: The new names by label value. A region whose labels are no structures is named by its first value.

        Raises:
            LabelError: A value is none of these, or the names are not distinct.
        """
        known = {each.values[0]: each.name for each in reversed(self.regions)}
        known |= {label.value: label.name for label in self.items if label.alone}
        new = {each.name: each.name for each in (*self.items, *self.regions)}
        for value, name in names.items():
            if value not in known:
                raise LabelError(f"'{name}' cannot be the name of {value}, which is none of {_some(self.values)}")
            new[known[value]] = name
        update = {
            "items": tuple(with_name(label, new[label.name]) for label in self.items),
            "regions": tuple(with_name(region, new[region.name]) for region in self.regions),
            "region_order": tuple((new[name], value) for name, value in self.region_order),
            "instances": tuple(new[name] for name in self.instances),
        }
        try:
            return Labels.model_validate(dict(self) | update)
        except ValueError as error:
            raise LabelError(f"names have to differ: {', '.join(names.values())}") from error

    @property
    def names(self) -> list[str]:
        """The names of all labels, in the order of ``items``."""
        return [label.name for label in self.items]

    @property
    def values(self) -> list[int]:
        """The values of all labels in the user's files, in the order of ``items``."""
        return [label.value for label in self.items]

    @property
    def instance_values(self) -> list[int]:
        """The network values of the labels whose objects are told apart."""
        return [i for i, label in enumerate(self.items, start=1) if label.name in self.instances]

    @property
    def structures(self) -> tuple[Region, ...]:
        """What is written as segments, with all codes: each label that is a structure by itself, then the regions."""
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
        """The labels and regions that differ by side only, such as ``("kidney_left", "kidney_right")``."""
        return pairs_of_sides([each.name for each in (*self.items, *self.regions)])

    def check(self, present: Iterable[int]) -> None:
        """Checks that each value that is present in a label map is a label's, the background's or the ignore value.

        Raises:
            LabelError: A value is none of these, or there are more than 254 labels.
        """
        if len(self.items) > MOST_LABELS:
            raise LabelError(f"{len(self.items)} labels; at most {MOST_LABELS} can be trained together")
        unknown = [value for value in present if value not in (0, self.ignore, *self.values)]
        if unknown:
            raise LabelError(f"label values {_some(unknown)} are not among the known {_some([0, *self.values])}")

    def absent(self, present: Iterable[int]) -> str:
        """Returns in words which labels have no voxel anywhere, given the values that occur; else an empty text."""
        names = [label.name for label in self.items if label.value not in set(present)]
        return f"in no label map: {', '.join(names)}; nothing can be learnt of what is nowhere" if names else ""

    def unannotated(self, names: Collection[str] | None) -> list[int]:
        """Returns the values of the labels that are not among the annotated ``names``; none where these are None."""
        return [] if names is None else [label.value for label in self.items if label.name not in names]

    def annotated_structures(self, names: Collection[str] | None) -> list[Region]:
        """Returns the structures all of whose labels were annotated in a case.

        Args:
            names: Of the labels that were annotated; None stands for all.
        """
        unknown = set(self.unannotated(names))
        return [structure for structure in self.structures if unknown.isdisjoint(structure.values)]

    def annotated_unions(self, names: Collection[str] | None) -> dict[str, tuple[int, ...]]:
        """Returns the network values of each of ``annotated_structures(names)``, by its name."""
        unions = self.unions
        return {structure.name: unions[structure.name] for structure in self.annotated_structures(names)}

    def only_annotated(
        self, label_map: npt.NDArray[np.integer], names: Collection[str] | None
    ) -> npt.NDArray[np.integer]:
        """Returns a label map with background for the labels that were not annotated.

        Args:
            label_map: ``(x, y, z)`` in file values. It is returned itself where all labels were annotated.
            names: Of the labels that were annotated; None stands for all.
        """
        unknown = self.unannotated(names)
        return np.where(np.isin(label_map, unknown), 0, label_map) if unknown else label_map

    def encode(self, label_map: npt.NDArray[np.generic], *, strict: bool = True) -> npt.NDArray[np.uint8]:
        """Returns file values as network values.

        Args:
            label_map: File values, of any shape; floats that are whole numbers are taken too.
            strict: Whether each value has to be a label's. Otherwise what is no label's becomes background.

        Returns:
            0 for the background, ``i + 1`` for ``items[i]``, and 255 (``IGNORED``) for the ignore value; of the same
            shape.

        Raises:
            LabelError: A value is no label's, or no whole number; or there are more than 254 labels.
        """
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
        """Returns network values, of any shape and without ``IGNORED``, as file values in the smallest type that holds
        them."""
        table = np.array([0, *self.values])
        fitting = next(t for t in (np.uint8, np.int16, np.int32, np.int64) if np.array_equal(table.astype(t), table))
        return np.asarray(table.astype(fitting)[label_map])


def _some(values: list[int]) -> str:
    return str(values) if len(values) <= MOST_SHOWN else f"{values[:MOST_SHOWN]} and {len(values) - MOST_SHOWN} more"
