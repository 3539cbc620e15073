"""What a result came from: versions of the software, the model and its plan."""

import hashlib
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medseg.evaluation.predictions_json import read_predictions
from medseg.inferers.model_record import RECORD, WEIGHTS, ModelRecord, read_model_record
from medseg.report.links import seen_from
from medseg.version import VERSION

LIBRARIES = ("torch", "monai", "numpy", "scipy", "nibabel", "pydicom", "SimpleITK")

Fact = tuple[str, str]


def software() -> Fact:
    """Returns the versions of medseg, Python and the libraries that run now."""
    parts = [f"medseg {VERSION}", f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # installed without its metadata
            continue
    return "evaluated with", ", ".join(parts)


def model_facts(predictions: Path, report: Path) -> Iterator[Fact]:
    """Yields what is known of the model that predicted.

    It is what predictions.json says, and what the model's folder says while it is there.

    Args:
        predictions: A folder of predictions, or a file in it.
        report: The folder of the report; paths are as seen from it.

    Raises:
        SourceError: The files are damaged.
    """
    predicted = read_predictions(predictions if predictions.is_dir() else predictions.parent)
    if predicted is None:
        return
    yield "predicted with", f"medseg {predicted.medseg} on {predicted.device}"
    if not predicted.model:
        return
    folder = Path(predicted.model)
    yield "model", seen_from(report, folder)
    if _is_file(folder / RECORD):
        yield from record_facts(read_model_record(folder))
    weights = folder / WEIGHTS
    if _is_file(weights):
        with weights.open("rb") as stream:
            yield "weights", f"SHA-256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def record_facts(record: ModelRecord) -> Iterator[Fact]:
    """Yields what the record of a model says of its plan and its training."""
    plan, network = record.plan, record.plan.architecture
    patch, spacing = ("×".join(f"{n:.4g}" for n in numbers) for numbers in (plan.patch_size, plan.grid.spacing))
    yield (
        "plan",
        f"{plan.dims}D {network.name}, features {'-'.join(map(str, network.features))}; patches of {patch} voxels at "
        f"{spacing} mm, batches of {plan.batch_size}",
    )
    yield "trained", ", ".join(_told(name, value) for name, value in record.provenance.items() if _says(value))


def _says(value: Any) -> bool:
    return value is not None and value != []


def _told(name: str, value: Any) -> str:
    """Returns an entry of a model's provenance as a reader likes it."""
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{name.replace('_', ' ')} {text}"
