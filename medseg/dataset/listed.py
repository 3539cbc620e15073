"""Cases whose files are listed by path, in a dataset.json or a table."""

import re
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path

from medseg.dataset.draft import Draft, FoundCase
from medseg.dataset.spacing import checked_spacing
from medseg.errors import Problem, SourceError
from medseg.io.discover import source_of
from medseg.io.folders import stem
from medseg.io.source import ImageSource
from medseg.volume import Spacing3


def add_listed(
    draft: Draft,
    folder: Path,
    images: str | Sequence[str] | Mapping[str, str],
    label: str | None,
    key: str = "",
) -> FoundCase | None:
    """Adds the case of some images (one, several, or by channel) and perhaps a label, relative to ``folder``.

    Without a ``key`` it is named by its label's or first image's file. None, and a problem in the draft, when
    a file is missing or no image.
    """
    by_channel = _by_channel(images)
    key = key or stem(Path(label or next(iter(by_channel.values()), "case")))
    try:
        sources: dict[str, ImageSource] = {}
        for channel, image in by_channel.items():
            sources |= _sources_of(folder / image, channel)
        label_source = source_of(folder / label) if label else None
    except SourceError as error:
        draft.problems.append(Problem(FoundCase(key).name, folder / (label or key), f"{error}; case left out"))
        return None
    case = draft.cases.setdefault(key, FoundCase(key))
    for channel, source in sources.items():
        draft.add_image(key, source, channel)
    if label_source:
        draft.add_label(key, label_source)
    return case


def annotated_labels(given: object, path: Path) -> tuple[str, ...] | None:
    """The names of labels that a case, listed in ``path``, says were annotated: a list, or names separated by ; or |.
    None where it says nothing: all were. Raises ``SourceError``."""
    if given in (None, ""):
        return None
    names = re.split("[;|]", given) if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise SourceError(f"{path}: 'annotated' has to be a list of names of labels, not {given!r}")
    return tuple(name.strip() for name in names)


def listed_spacing(row: Mapping[str, str | None], path: Path) -> Spacing3 | None:
    """What a row of the table ``path`` says of the voxels of its case: three numbers in the column ``spacing``, or one
    in each of ``spacing_x``, ``spacing_y`` and ``spacing_z``; None where it says nothing. Raises ``ConfigError``."""
    whole = (row.get("spacing") or "").strip()
    parts = [(row.get(f"spacing_{axis}") or "").strip() for axis in "xyz"]
    if whole:
        return checked_spacing(whole, f"{path}: spacing")
    return checked_spacing(parts, f"{path}: spacing_x, spacing_y, spacing_z") if any(parts) else None


def _by_channel(images: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(images, str):
        return {"": images}
    if isinstance(images, Mapping):
        return dict(images)
    return {"": images[0]} if len(images) == 1 else {f"{i:04d}": image for i, image in enumerate(images)}


def _sources_of(path: Path, channel: str) -> dict[str, ImageSource]:
    """The listed file; or, as nnU-Net 1 lists them, its channels: ``a.nii.gz`` for ``a_0000.nii.gz``, …"""
    if path.exists():
        return {channel: source_of(path)}
    name = stem(path)
    ending = path.name[len(name) :]
    files = sorted(path.parent.glob(f"{escape(name)}_[0-9][0-9][0-9][0-9]{ending}"))
    if not files:
        raise SourceError(f"{path}: is listed, but there is no such file")
    return {stem(file)[-4:]: source_of(file) for file in files}
