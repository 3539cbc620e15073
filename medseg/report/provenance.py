"""What a result came from: versions of the software, the model and its plan."""

import hashlib
import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import medseg

LIBRARIES = ("torch", "monai", "numpy", "scipy", "nibabel", "pydicom", "SimpleITK")

Fact = tuple[str, str]


def software() -> Fact:
    """What runs now."""
    parts = [f"medseg {medseg.__version__}", f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # installed without its metadata
            continue
    return "evaluated with", ", ".join(parts)


def model_facts(predictions: Path) -> Iterator[Fact]:
    """What predictions.json says of the model that predicted, and what its folder says while it is there."""
    content = read_json(predictions / "predictions.json")
    if not content:
        return
    yield "predicted with", f"medseg {content.get('medseg', '?')} on {content.get('device', '?')}"
    folder = Path(content.get("model", ""))
    yield "model", str(folder)
    record = read_json(folder / "model.json")
    if record:
        yield from record_facts(record)
    weights = folder / "weights.safetensors"
    if weights.is_file():
        with weights.open("rb") as stream:
            yield "weights", f"SHA-256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"


def record_facts(record: dict[str, Any]) -> Iterator[Fact]:
    """Of the content of a model.json."""
    plan = record["plan"]
    network = plan["architecture"]
    patch, spacing = (
        "×".join(f"{number:.4g}" for number in numbers) for numbers in (plan["patch_size"], plan["grid"]["spacing"])
    )
    yield (
        "plan",
        f"{plan['dims']}D {network['name']}, features {'-'.join(map(str, network['features']))}; patches of {patch} "
        f"voxels at {spacing} mm, batches of {plan['batch_size']}",
    )
    provenance = record.get("provenance", {})
    yield "trained", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in provenance.items())


def read_json(path: Path) -> dict[str, Any]:
    """Its content; nothing where there is no such file, or it isn't one: reports leave out what is not known."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
