"""dataset.json, as the Medical Segmentation Decathlon and nnU-Net write it."""

from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import category

from medseg.errors import LabelError, SourceError, printable
from medseg.labels import Labels
from medseg.records import read_object
from medseg.terminology import PRIVATE, coding

IGNORE = "ignore"  # nnU-Net's name for what is not annotated

# Names that label 0 has; in lower case.
BACKGROUND = (
    "background",
    "bg",
    "back",
    "clear label",
    "none",
    "nothing",
    "unlabeled",
    "unlabelled",
    "other",
    "rest",
    "0",
    "",
)

FORM = """write {"background": 0, "liver": 1, "tumour": 2}"""


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's dataset.json; empty when there is none.

    Raises:
        SourceError: It is no JSON object.
    """
    path = folder / "dataset.json"
    return read_object(path, "write it as the dataset's format says") if path.is_file() else {}


def channel_names(content: dict[str, Any]) -> tuple[str, ...]:
    """Returns the names of the channels, ordered by number; () when none are given.

    They are from "channel_names" (nnU-Net 2) or "modality" (Decathlon). The second of a name has a number.
    """
    given = content.get("channel_names") or content.get("modality") or {}
    names = [str(given[key]) for key in sorted(given, key=_number)] if isinstance(given, dict) else given
    names = [printable(str(name)) for name in names] if isinstance(names, list) else [printable(str(names))]
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return tuple(result)


def channel_note(content: dict[str, Any]) -> list[str]:
    """Says which names are taken where the two entries disagree."""
    one, other = ({"modality": content.get(key)} for key in ("channel_names", "modality"))
    names, others = channel_names(one), channel_names(other)
    if not names or not others or names == others:
        return []
    return [f"dataset.json: 'channel_names' ({', '.join(names)}) is taken, not 'modality' ({', '.join(others)})"]


def training_note(content: dict[str, Any], n_cases: int) -> list[str]:
    """Says that there are not as many training cases as "numTraining" says."""
    stated = content.get("numTraining")
    if not isinstance(stated, int) or stated == n_cases:
        return []
    return [f"dataset.json says numTraining {stated}; training cases that were found: {n_cases}"]


def label_names(content: dict[str, Any], path: Path) -> tuple[Labels | None, list[str]]:
    """Returns the labels, with notes on what isn't taken as it stands; None where no names are given.

    They are from {"1": "liver"} (Decathlon) or {"liver": 1} (nnU-Net 2). Lists of values are regions (nnU-Net): {"whole
    tumour": [1, 2, 3]}; "regions_class_order" has the value that each structure writes into a label map, in the order
    of "labels". The value of "ignore" is that of voxels that nobody annotated (nnU-Net). "structures" overrides what
    follows from a name: {"liver": {"colour": [221, 130, 101], "type": {"scheme": "SCT", "value": "10200004", "meaning":
    "Liver"}}}. "instances" names the labels whose objects are told apart; where it is all there is, values of label
    maps number the objects of one label.

    Args:
        content: Of dataset.json.
        path: Of dataset.json.

    Raises:
        SourceError: An entry is wrong.
    """
    given = content.get("labels")
    instances = _instances(content, path)
    if given in (None, {}) and len(instances) == 1 and "format" not in content:
        given = {instances[0]: 1}
    if given is None or given == {}:
        unnamed = f"{path.name} names no labels: they are called by their values"
        return None, [unnamed] if content and "format" not in content else []
    try:
        if not isinstance(given, dict):
            raise TypeError(f"is a {type(given).__name__}")
        values, regions = _values_and_regions(given)
        ignore = values.pop(IGNORE, None)
        notes = _background_note(values, path)
        labels = Labels.from_names(values, regions, ignore)
        labels = labels.model_copy(update={"region_order": _region_order(content, labels)})
        labels = labels.described(content.get("structures") or {}).with_instances(instances)
    except LabelError as error:
        raise SourceError(f"{path}: 'instances': {error}") from error
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: 'labels' cannot be used ({reason}); {FORM}") from error
    notes += [] if ignore is None else [f"{path.name}: voxels of value {ignore} ('{IGNORE}') are not annotated"]
    if labels.regions:
        names = ", ".join(region.name for region in labels.regions)
        notes.append(
            f"{path.name} names regions ({names}): training.outputs says whether these are learnt, or labels one by one"
        )
    return labels, notes


def _instances(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Returns the names of the labels whose objects are told apart: "instances", a name or a list of names.

    Raises:
        SourceError: It is something else.
    """
    given = content.get("instances") or []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SourceError(
            f"{path}: 'instances' has to be a list of names of labels, as in [\"nucleus\"], not {given!r}"
        )
    return tuple(names)


def _region_order(content: dict[str, Any], labels: Labels) -> tuple[tuple[str, int], ...]:
    """Returns the order of "regions_class_order", where there are regions.

    Raises:
        ValueError: There is not a value for each.
    """
    values = content.get("regions_class_order")
    if values is None or not labels.regions:
        return ()
    names = [name for name in content["labels"] if name in labels.unions]
    if not isinstance(values, list) or len(values) != len(names):
        raise ValueError(f"'regions_class_order' needs a value for each of {', '.join(names)}")
    return tuple(zip(names, map(int, values), strict=True))


def _values_and_regions(given: dict[str, Any]) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Returns values and regions by name, in the form of the Decathlon ({"1": "liver"}) or of nnU-Net ({"liver": 1}).

    Raises:
        ValueError: Something is named twice, or is no whole number.
    """
    values: dict[str, int] = {}
    regions: dict[str, tuple[int, ...]] = {}
    for key, value in given.items():
        if _is_number(key) and _is_number(value) and _whole(key) != _whole(value):
            raise ValueError(f"{key!r}: {value!r} names no label")
        name, numbers = (value, key) if _is_number(key) and not _is_number(value) else (key, value)
        if not isinstance(name, str):
            raise TypeError(f"{key!r}: {value!r} names no label")
        if any(category(character) == "Cc" for character in name):  # a terminal would obey it
            raise ValueError(f"the name {name[:40]!a} holds control characters")
        name = IGNORE if name.strip().lower() == IGNORE else name
        union = tuple(map(_whole, numbers)) if isinstance(numbers, list) else (_whole(numbers),)
        if name == IGNORE and len(union) > 1:
            raise ValueError(
                f"'{IGNORE}' has the values {list(union)}, and can have one: give all voxels that nobody annotated one "
                "value in the label maps, as in 'ignore': 255"
            )
        if str(name) in {**values, **regions}:
            raise ValueError(f"'{name}' occurs twice")
        if not union:
            raise ValueError(f"'{name}' has no value")
        if len(union) > 1:
            regions[str(name)] = union
            continue
        (number,) = union
        if number in values.values():
            raise ValueError(f"{number} stands for two labels")
        values[str(name)] = number
    return values, regions


def _background_note(values: dict[str, int], path: Path) -> list[str]:
    """Says what is taken for the background by another name than usual.

    Raises:
        ValueError: 0 is a label, or another value the background.
    """
    zero = next((name for name, value in values.items() if value == 0), None)
    wrong = next((name for name, value in values.items() if value and name.strip().lower() == "background"), None)
    if wrong is not None:
        other = "" if zero is None else f", and 0 is '{zero}'"
        raise ValueError(
            f"'{wrong}' has the value {values[wrong]}{other}: 0 is always the background, in the label maps too"
        )
    if zero is None or zero.strip().lower() in BACKGROUND:
        return []
    if coding(zero).type.scheme != PRIVATE:
        raise ValueError(f"'{zero}' has the value 0, which is always the background; give it another in the label maps")
    return [f"{path.name}: 0, named '{zero}', is the background, as always"]


def _is_number(given: object) -> bool:
    text = str(given).strip()
    return not isinstance(given, bool | list) and text.lstrip("-").isdecimal()


def _whole(given: object) -> int:
    if not _is_number(given) and not (isinstance(given, float) and given.is_integer()):
        raise ValueError(f"{given!r} is no whole number")
    return int(str(given).strip()) if _is_number(given) else int(float(str(given)))


def _number(key: str) -> tuple[int, str]:
    return (int(key), key) if str(key).isdigit() else (1000, str(key))
