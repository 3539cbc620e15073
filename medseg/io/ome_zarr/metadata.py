"""What an OME-Zarr (OME-NGFF 0.4 and 0.5) says of its voxels: which array holds them, and where they lie.

OME-Zarr knows a scale and a translation an axis, and no direction of the patient. Its axes x, y and z point to the
patient's left, back and head, as in ITK, unless they say otherwise by RFC 4 (``orientation``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.errors import GeometryError, SourceError, reading
from medseg.io.folders import is_zarr
from medseg.records import inside, read_object
from medseg.volume import GRID_TOLERANCE, Geometry

Version = Literal["0.4", "0.5"]


SPACE = "xyz"
# UDUNITS-2 names, as OME-NGFF asks for, in mm. Without a unit it is mm.
UNITS_MM = {
    "angstrom": 1e-7, "nanometer": 1e-6, "micrometer": 1e-3, "micron": 1e-3, "millimeter": 1.0, "centimeter": 10.0,
    "decimeter": 100.0, "meter": 1000.0,
}  # fmt: skip
# RFC 4: where an axis points, as the world axis of RAS and the sign along it.
DIRECTIONS = {
    "left-to-right": (0, 1), "right-to-left": (0, -1), "posterior-to-anterior": (1, 1),
    "anterior-to-posterior": (1, -1), "inferior-to-superior": (2, 1), "superior-to-inferior": (2, -1),
}  # fmt: skip
USUAL = {"x": "right-to-left", "y": "anterior-to-posterior", "z": "inferior-to-superior"}


@dataclass(frozen=True)
class OmeImage:
    """One resolution of an image.

    Attributes:
        folder: Of the group.
        levels: The paths of its arrays in the group, from the finest to the coarsest.
        level: The path of the one that is meant.
        axes: What each axis of the array is, in its order: "x", "y", "z", "c" for channels, or "" for one of one place.
        affine: ``(4, 4)``, from voxel indices ``(x, y, z)`` to mm in RAS.
        version: Of the metadata.
        notes: What is doubtful.
    """

    folder: Path
    levels: tuple[str, ...]
    level: str
    axes: tuple[str, ...]
    affine: Any
    version: Version
    notes: tuple[str, ...] = ()

    @property
    def array_folder(self) -> Path:
        """The folder of the array that is read: that of ``level``."""
        return self.folder / self.level


def store_of(path: Path) -> Path | None:
    """Returns the image in OME-Zarr that a folder is, or that it is a level of; None where it is none.

    It goes by names and by which files there are; whether these are right shows when it is read.
    """
    if not _is_node(path):
        return path if is_zarr(path) else None
    holds_array = (path / ".zarray").is_file() or (
        (path / "zarr.json").is_file() and read_object(path / "zarr.json").get("node_type") == "array"
    )
    parent = path.resolve().parent
    return path.parent if holds_array and _is_node(parent) else path


def _is_node(path: Path) -> bool:
    return any((path / name).is_file() for name in (".zgroup", ".zarray", "zarr.json"))


def find_image(path: Path, level: str = "") -> OmeImage:
    """Reads which array of a Zarr store holds an image, and where its voxels lie.

    A store that holds nothing but one label map in ``labels/``, as medseg writes it, stands for that.

    Args:
        path: The folder of the group.
        level: The path of an array in it; empty: the finest.

    Raises:
        SourceError: It is no image in OME-Zarr 0.4 or 0.5, or says no scale.
        GeometryError: Its axes are not those of an image.
    """
    attributes = _attributes(path)
    if not attributes.get("multiscales"):
        return find_image(_only_label_map(path), level)
    version: Version = "0.5" if (path / "zarr.json").is_file() else "0.4"
    multiscale = _validated(path, attributes["multiscales"], version)
    levels = tuple(inside(each.path) for each in multiscale.datasets)
    if level and level not in levels:
        raise SourceError(f"{path / level}: there is no such level; {path} has {', '.join(levels)}")
    chosen = level or levels[0]
    raw_axes = attributes["multiscales"][0]["axes"]
    axes = [_axis(path, each) for each in raw_axes]
    transforms = [multiscale.datasets[levels.index(chosen)].coordinateTransformations]
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    for each in (*transforms[0], *(multiscale.coordinateTransformations or ())):
        values = getattr(each, each.type, None)
        if values is None:
            raise SourceError(f"{path}: says its {each.type} by a path, which is read by no program; write its numbers")
        scale, translation = (
            (scale * values, translation * values) if each.type == "scale" else (scale, translation + values)
        )
    affine, notes = _affine(path, axes, raw_axes, scale, translation)
    return OmeImage(path, levels, chosen, tuple(axes), affine, version, notes)


def axes_on(geometry: Geometry) -> list[dict[str, Any]]:
    """Returns the axes z, y and x of a grid as OME-Zarr has them, with their directions by RFC 4.

    Raises:
        GeometryError: The axes of the grid do not point along those of the patient, which OME-Zarr cannot say.
    """
    directions = _directions(geometry)
    return [
        {
            "name": name,
            "type": "space",
            "unit": "millimeter",
            "orientation": {"type": "anatomical", "value": directions["xyz".index(name)]},
        }
        for name in "zyx"
    ]


def transforms_on(geometry: Geometry, step: Sequence[int] = (1, 1, 1)) -> list[dict[str, Any]]:
    """Returns the scale and translation of a grid, axes z, y and x, or of every so many of its voxels.

    Args:
        geometry: The grid.
        step: Along ``(x, y, z)``: the first voxel stays where it is.
    """
    signs = [DIRECTIONS[each] for each in _directions(geometry)]
    translation = [sign * float(geometry.affine[world, 3]) for world, sign in signs]
    scale = [mm * n for mm, n in zip(geometry.spacing, step, strict=True)]
    return [{"type": "scale", "scale": scale[::-1]}, {"type": "translation", "translation": translation[::-1]}]


def _attributes(path: Path) -> dict[str, Any]:
    """Returns what a group says of its content, from its own JSON file."""
    if (path / "zarr.json").is_file():
        attributes = read_object(path / "zarr.json").get("attributes")
        found = attributes.get("ome") if isinstance(attributes, dict) else None
        return found if isinstance(found, dict) else {}
    return read_object(path / ".zattrs") if (path / ".zattrs").is_file() else {}


def _only_label_map(path: Path) -> Path:
    names = _attributes(path / "labels").get("labels") if (path / "labels").is_dir() else None
    if not isinstance(names, list) or not names:
        below = (
            sorted(each.name for each in path.iterdir() if each.is_dir() and _is_node(each)) if path.is_dir() else []
        )
        of_them = f"; it holds {', '.join(below[:MOST_NAMED])}: give one of these" if below else ""
        raise SourceError(f"{path}: is no multiscale image of OME-Zarr 0.4 or 0.5{of_them or ', or damaged'}")
    if len(names) > 1:
        raise SourceError(
            f"{path}: holds {len(names)} label maps; give one, as {path / 'labels' / inside(str(names[0]))}"
        )
    return path / "labels" / inside(str(names[0]))


MOST_NAMED = 6


def _validated(path: Path, content: Any, version: Version) -> Any:
    """Returns the first multiscale image, as ``ome-zarr-models`` checks it."""
    if not isinstance(content, list) or not isinstance(content[0], dict):
        raise SourceError(f"{path}: 'multiscales' is no list of images; copy the store again")
    if version == "0.4":
        from ome_zarr_models.v04.multiscales import Multiscale
    else:
        from ome_zarr_models.v05.multiscales import Multiscale  # type: ignore[assignment]
    of_sets = content[0].get("datasets")
    if isinstance(of_sets, list) and any(
        isinstance(e, dict) and not e.get("coordinateTransformations") for e in of_sets
    ):
        raise SourceError(f"{path}: says no scale of its voxels (coordinateTransformations); write it with one")
    with reading(path, "an image in OME-Zarr 0.4 or 0.5", "write it again"):
        return Multiscale.model_validate(content[0])


def _axis(path: Path, axis: Mapping[str, Any]) -> str:
    kind, name = axis.get("type"), str(axis.get("name"))
    if kind == "space":
        if name not in SPACE:
            raise GeometryError(f"{path}: has an axis '{name}' in space; name them x, y and z")
        return name
    return "c" if kind == "channel" else ""


def _affine(
    path: Path, axes: Sequence[str], raw: Sequence[Mapping[str, Any]], scale: Any, translation: Any
) -> tuple[Any, tuple[str, ...]]:
    affine, notes, worlds = np.zeros((4, 4)), [], set()
    affine[3, 3] = 1.0
    for column, name in enumerate(SPACE):
        if name not in axes:
            world, sign, mm, place = DIRECTIONS[USUAL[name]][0], 1, 1.0, 0.0
        else:
            axis = raw[axes.index(name)]
            world, sign = _direction(path, name, axis)
            unit = axis.get("unit")
            if unit is None:
                notes.append(f"says no unit of its axis {name}, so millimeters were taken")
            elif unit not in UNITS_MM:
                raise GeometryError(f"{path}: has an axis {name} in '{unit}'; write it in millimeter or micrometer")
            to_mm = UNITS_MM.get(str(unit), 1.0)
            mm, place = (float(each[axes.index(name)]) * to_mm for each in (scale, translation))
        if not (np.isfinite(mm) and np.isfinite(place) and mm > 0):
            raise GeometryError(f"{path}: has voxels of {mm:g} mm along {name}; write the true ones")
        affine[world, column], affine[world, 3] = sign * mm, sign * place
        worlds.add(world)
    if len(worlds) < 3:
        raise GeometryError(f"{path}: two of its axes point in one direction (orientation); write the true ones")
    return affine, tuple(notes)


def _direction(path: Path, name: str, axis: Mapping[str, Any]) -> tuple[int, int]:
    said = axis.get("orientation")
    value = said.get("value") if isinstance(said, dict) else said
    if value is None:
        return DIRECTIONS[USUAL[name]]
    if value not in DIRECTIONS:
        raise GeometryError(f"{path}: has an axis {name} from '{value}', which is no direction of a patient")
    return DIRECTIONS[str(value)]


def _directions(geometry: Geometry) -> list[str]:
    names = {place: name for name, place in DIRECTIONS.items()}
    columns = geometry.affine[:3, :3].T
    worlds = [int(np.abs(column).argmax()) for column in columns]
    places = [(world, int(np.sign(column[world]))) for world, column in zip(worlds, columns, strict=True)]
    straight = np.zeros((3, 3))
    for column, (world, sign) in enumerate(places):
        straight[world, column] = sign * geometry.spacing[column]
    off = np.linalg.norm((geometry.affine[:3, :3] - straight) @ np.asarray(geometry.shape))
    if len(set(worlds)) < 3 or off > GRID_TOLERANCE * min(geometry.spacing):
        raise GeometryError("its axes are turned against those of the patient, which OME-Zarr cannot say; take nifti")
    return [names[place] for place in places]
