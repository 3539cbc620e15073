"""What can be put right in a file without knowing more than the files tell."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from medseg.dataset.spacing import shown_spacing
from medseg.errors import OutputError
from medseg.files import written_whole
from medseg.io.folders import is_nifti
from medseg.io.nifti.header import copy_place, read_nifti_header, write_place, write_spacing
from medseg.io.nifti.writer import write_nifti
from medseg.io.picture.writer import write_image2d
from medseg.io.read import read_geometry, read_volume
from medseg.progress import counted
from medseg.volume import Array, Geometry, Spacing3

VALUES_SHOWN = 20
SAME = 1e-6  # of the smallest voxel edge
KEEP_VALUES = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class FileChange:
    """What was changed in a file, for the user's records."""

    path: Path
    what: str
    before: str
    after: str


class Repair(Protocol):
    """Something that changes one file where it lies."""

    def apply(self, path: Path) -> FileChange:
        """Changes the file, and returns what was changed.

        Raises:
            MedsegError: It cannot be done; the file is then as it was.
        """
        ...


@dataclass(frozen=True)
class Rename:
    """Gives a file the suffix that its content calls for, in place of ``wrong`` (which may be none)."""

    wrong: str
    right: str

    def target(self, path: Path) -> Path:
        """Returns the new path."""
        return path.with_name(path.name.removesuffix(self.wrong) + self.right)

    def apply(self, path: Path) -> FileChange:
        """Renames the file."""
        target = self.target(path)
        if target.exists():
            raise OutputError(f"{path}: cannot be named {target.name}, as another file is; remove one of them")
        path.rename(target)
        return FileChange(target, "suffix", path.name, target.name)


@dataclass(frozen=True)
class Recompress:
    """Makes the content of a NIfTI file fit its name: gzipped for .nii.gz, plain for .nii.

    The name is kept, since tables of cases may list it.
    """

    def apply(self, path: Path) -> FileChange:
        """Writes the file gzipped, or plain, as its name says."""
        content = path.read_bytes()
        is_gzipped = content.startswith(b"\x1f\x8b")
        with written_whole(path) as temporary:
            temporary.write_bytes(gzip.decompress(content) if is_gzipped else gzip.compress(content, mtime=0))
        before, after = ("gzipped", "plain") if is_gzipped else ("plain", "gzipped")
        return FileChange(path, "content that fits the name", before, after)


@dataclass(frozen=True)
class PlaceLike:
    """Puts the voxels of a NIfTI file, unchanged and in their order, where ``geometry`` says."""

    geometry: Geometry
    like: Path  # whose place it is

    def apply(self, path: Path) -> FileChange:
        """Writes into the header where the voxels lie."""
        header = read_nifti_header(path)
        before = header.sform if header.sform is not None else header.qform
        if is_nifti(self.like) and read_geometry(self.like).difference(self.geometry, SAME) is None:
            copy_place(path, self.like)  # codes too, so that every program places the two alike
        else:
            write_place(path, self.geometry)
        return FileChange(
            path,
            f"place, as of {self.like.parent.name}/{self.like.name}",
            _affine(before),
            _affine(self.geometry.affine),
        )


@dataclass(frozen=True)
class Respace:
    """Writes the spacing that the user says into the header of a NIfTI file."""

    spacing: Spacing3

    def apply(self, path: Path) -> FileChange:
        """Writes the spacing into the header."""
        before = read_geometry(path).spacing
        write_spacing(path, self.spacing)
        return FileChange(path, "spacing, as said", shown_spacing(before), shown_spacing(self.spacing))


@dataclass(frozen=True)
class Revalue:
    """Gives each voxel of a label map the nearest of the values ``drawn`` (in order, 0 among them).

    A JPEG becomes PNG, since its values would not stay.
    """

    drawn: tuple[int, ...]

    def apply(self, path: Path) -> FileChange:
        """Rounds each value to the nearest one that was drawn."""
        target = path if is_nifti(path) or path.suffix.lower() in KEEP_VALUES else path.with_suffix(".png")
        if target != path and target.exists():
            raise OutputError(f"{path}: cannot become {target.name}, as there is one; remove one of them")
        volume = read_volume(path)
        drawn = np.array(self.drawn)
        nearest = np.searchsorted((drawn[1:] + drawn[:-1]) / 2, volume.label_map)
        label_map = drawn[nearest].astype(np.min_scalar_type(drawn[-1]) if drawn[0] >= 0 else np.int32)
        changed = volume.label_map != label_map
        if is_nifti(path):
            write_nifti(path, label_map, volume.geometry, like=path)
        else:
            write_image2d(target, label_map)
        if target != path:
            path.unlink()
        before = _values(np.unique(volume.label_map[changed]))
        after = _values(np.unique(label_map[changed]))
        what = f"values of {counted(int(changed.sum()), 'voxel')}"
        return FileChange(target, what if target == path else f"{what}, and {path.name} saved as PNG", before, after)


def _affine(affine: Array | None) -> str:
    if affine is None:
        return "none"
    return " ".join("[" + " ".join(f"{value:.6g}" for value in row) + "]" for row in affine[:3])


def _values(values: Array) -> str:
    shown = " ".join(f"{value:g}" for value in values[:VALUES_SHOWN])
    return shown if len(values) <= VALUES_SHOWN else f"{shown} … ({len(values)} values)"
