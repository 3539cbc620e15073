"""What a bundle says of itself: names of channels and labels, version, licence, data and figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.errors import ModelError, printable
from medseg.files import read_text
from medseg.inferers.origin import Origin
from medseg.records import read_object

ADVICE = "download the bundle again"
LONGEST_LICENCE = 2**20  # bytes
MOST_NAMES = 300
# Of metadata.json, what the card of a model has beside the licence, the version and the data.
DETAILS = ("name", "task", "authors", "copyright", "intended_use", "monai_version")


class BundleMetadata:
    """configs/metadata.json of a bundle, which may lack anything.

    Args:
        bundle: The folder of the bundle.

    Raises:
        ModelError: The file is no JSON object.
    """

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        file = bundle / "configs" / "metadata.json"
        self._content: dict[str, Any] = read_object(file, ADVICE, ModelError) if file.is_file() else {}

    def channels(self, n: int) -> tuple[str, ...]:
        """Returns the names of ``n`` channels: those in the file, where it has as many; a CT is called one."""
        data = self._data("inputs", "image")
        names = _names(data, n)
        modality = data.get("modality")
        if n == 1 and names in ([], ["image"]) and isinstance(modality, str) and modality:
            names = [printable(modality)]
        return tuple(names or (["image"] if n == 1 else [f"channel_{i}" for i in range(n)]))

    def outputs(self, n: int) -> list[str]:
        """Returns the names of ``n`` outputs; "output_1" and so on where the file doesn't have as many."""
        return _names(self._data("outputs", "pred"), n) or [f"output_{i}" for i in range(n)]

    def _data(self, way: str, name: str) -> dict[str, Any]:
        """Returns what the file says of an input or output: of this name, or of the only one."""
        formats = self._content.get("network_data_format")
        ways = formats.get(way) if isinstance(formats, dict) else None
        data = (ways.get(name) or next(iter(ways.values()), None)) if isinstance(ways, dict) else None
        return data if isinstance(data, dict) else {}

    def origin(self, notes: Sequence[str] = ()) -> Origin:
        """Returns what the card of the model says of it.

        Args:
            notes: What differs from how MONAI predicts.
        """
        told = {key: printable(str(self._content[key])) for key in DETAILS if self._content.get(key)}
        references = self._content.get("references")
        figures = self._content.get("eval_metrics")
        dice = figures.get("mean_dice") if isinstance(figures, dict) else None
        return Origin(
            program="MONAI",
            dataset=self._text("data_source"),
            description=self._text("description"),
            reference=printable("; ".join(map(str, references))) if isinstance(references, list) else "",
            licence=self._licence(),
            release=self._text("version"),
            details=told,
            dice={"mean": float(dice)} if isinstance(dice, int | float) else {},
            notes=tuple(notes),
        )

    def _text(self, key: str) -> str:
        value = self._content.get(key)
        return printable(value) if isinstance(value, str) else ""

    def _licence(self) -> str:
        """Returns the first lines of the bundle's LICENSE with words in them; "" where there is none."""
        file = self.bundle / "LICENSE"
        try:
            lines = [line.strip() for line in read_text(file, LONGEST_LICENCE).splitlines() if line.strip()]
        except (OSError, ValueError):
            return ""
        return printable(", ".join(lines[:2]))


def _names(data: dict[str, Any], n: int) -> list[str]:
    """Returns the names in ``channel_def``, ``{"0": "background", …}``; [] where it isn't one of ``n`` names."""
    names = data.get("channel_def")
    if not isinstance(names, dict) or n > MOST_NAMES or set(names) != {str(i) for i in range(n)}:
        return []
    found = [printable(str(names[str(i)])) for i in range(n)]
    return found if len(set(found)) == n else [f"{name}_{i}" for i, name in enumerate(found)]
