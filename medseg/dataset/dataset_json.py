"""dataset.json, as the Medical Segmentation Decathlon and nnU-Net write it."""

from pathlib import Path
from typing import Any

from medseg.errors import SourceError
from medseg.labels import Labels
from medseg.records import read_object

IGNORE = "ignore"  # nnU-Net's name for what is not annotated


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Its content; empty when there is none. Raises ``SourceError`` when it is no JSON object."""
    path = folder / "dataset.json"
    return read_object(path, "write it as the dataset's format says") if path.is_file() else {}


def channel_names(content: dict[str, Any]) -> tuple[str, ...]:
    """From "channel_names" (nnU-Net 2) or "modality" (Decathlon), ordered by number; () when neither is
    there."""
    names = content.get("channel_names") or content.get("modality") or {}
    if isinstance(names, dict):
        return tuple(str(names[key]) for key in sorted(names, key=_number))
    return tuple(str(name) for name in names) if isinstance(names, list) else (str(names),)


def label_names(content: dict[str, Any], path: Path) -> tuple[Labels | None, list[str]]:
    """From {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net 2), with notes on what isn't taken as it
    stands; None where no names are given.

    Lists of values are regions (nnU-Net): {"whole tumour": [1, 2, 3]}; "regions_class_order" has the value that each
    structure writes into a label map, in the order of "labels". The value of "ignore" is that of voxels that nobody
    annotated (nnU-Net). "structures" overrides what follows from a name:
    {"liver": {"colour": [221, 130, 101], "type": {"scheme": "SCT", "value": "10200004", "meaning": "Liver"}}}.
    Raises ``SourceError``.
    """
    given = content.get("labels")
    if not isinstance(given, dict) or not given:
        return None, []
    try:
        values, regions = _values_and_regions(given)
        ignore = values.pop(IGNORE, None)
        labels = Labels.from_names(values, regions, ignore)
        labels = labels.model_copy(update={"region_order": _region_order(content, labels)})
        labels = labels.described(content.get("structures") or {})
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: 'labels' cannot be used ({reason}); write {{'liver': 1, …}}") from error
    notes = [] if ignore is None else [f"{path.name}: voxels of value {ignore} ('{IGNORE}') are not annotated"]
    if labels.regions:
        names = ", ".join(region.name for region in labels.regions)
        notes.append(
            f"{path.name} names regions ({names}): training.outputs says whether these are learnt, or labels one by one"
        )
    return labels, notes


def _region_order(content: dict[str, Any], labels: Labels) -> tuple[tuple[str, int], ...]:
    """From "regions_class_order", where there are regions. Raises ``ValueError``."""
    values = content.get("regions_class_order")
    if values is None or not labels.regions:
        return ()
    names = [name for name in content["labels"] if name in labels.unions]
    if not isinstance(values, list) or len(values) != len(names):
        raise ValueError(f"'regions_class_order' needs a value for each of {', '.join(names)}")
    return tuple(zip(names, map(int, values), strict=True))


def _values_and_regions(given: dict[str, Any]) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """By name. Raises ``ValueError`` for what is named twice."""
    values: dict[str, int] = {}
    regions: dict[str, tuple[int, ...]] = {}
    for key, value in given.items():
        name, numbers = (value, key) if str(key).lstrip("-").isdigit() else (key, value)
        union = tuple(int(number) for number in numbers) if isinstance(numbers, list) else (int(numbers),)
        if str(name) in {**values, **regions}:
            raise ValueError(f"'{name}' occurs twice")
        if len(union) > 1:
            regions[str(name)] = union
            continue
        (number,) = union
        if number in values.values():
            raise ValueError(f"{number} stands for two labels")
        values[str(name)] = number
    return values, regions


def _number(key: str) -> tuple[int, str]:
    return (int(key), key) if str(key).isdigit() else (1000, str(key))
