"""What the header of a NIfTI file says, and correcting it without touching a voxel."""

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from medseg.errors import SourceError
from medseg.files import written_whole
from medseg.io.folders import is_gzipped
from medseg.io.nifti.pair import nifti_header, voxel_file
from medseg.io.nifti.reader import (
    PLACE_FIELDS,
    SPATIAL_UNIT,
    UNKNOWN_UNIT,
    in_mm,
    in_unit_of,
    n_bytes,
    open_nifti,
    read_nifti,
    unit_of,
)
from medseg.volume import Geometry, Spacing3

Affine = npt.NDArray[np.float64]

GZIP_SIZE_LIMIT = 2**32  # gzip notes the size of what it holds modulo this


@dataclass(frozen=True)
class NiftiHeader:
    """What the header of a NIfTI file says.

    Attributes:
        shape: Of all axes, as in the file.
        spacing: pixdim, in mm.
        unit: That of the file: ``"mm"``, ``"micron"``, ``"metre"``, or ``"unknown"``, which is taken for mm.
        sform: ``(4, 4)``, voxel index to RAS mm; None where its code says that there is none.
        qform: The same of the qform.
        is_analyze: Whether it is Analyze 7.5, which says nothing of the place.
        n_bytes: Size of the file with the voxels, not compressed.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    sform: Affine | None
    qform: Affine | None
    is_analyze: bool
    n_bytes: int

    @property
    def has_place(self) -> bool:
        """Whether the header says where the voxels lie, by an sform or a qform."""
        return self.sform is not None or self.qform is not None

    @property
    def n_channels(self) -> int:
        """The number of volumes along the fourth and further axes together."""
        return int(np.prod(self.shape[3:]))


def read_nifti_header(path: Path) -> NiftiHeader:
    """Reads the header of a NIfTI or Analyze file.

    Raises:
        SourceError: The file is damaged, or no NIfTI.
        GeometryError: Programs read its place differently.
    """
    image = open_nifti(path)
    header = nifti_header(image)
    unit, mm = UNKNOWN_UNIT if header is None else unit_of(header)
    shape = tuple(int(n) for n in image.header.get_data_shape())
    return NiftiHeader(
        shape=shape,
        spacing=tuple(float(s) * mm for s in image.header["pixdim"][1:4]),
        unit=unit,
        sform=None if header is None else _sform(header),
        qform=None if header is None else _qform(header),
        is_analyze=header is None,
        n_bytes=n_bytes(image),
    )


def check_whole_nifti(path: Path) -> None:
    """Checks that a file is not cut short; voxels are read only where its size leaves that open.

    Raises:
        SourceError: The file is cut short, or damaged otherwise.
    """
    expected = read_nifti_header(path).n_bytes  # which compares it with the size of a file that is not compressed
    file = voxel_file(path)
    if is_gzipped(file) and _gzip_size(file) != expected % GZIP_SIZE_LIMIT:
        read_nifti(path)


def write_place(path: Path, geometry: Geometry) -> None:
    """Sets sform and qform of a file (code 1), in the file's unit of length; all its other bytes stay.

    Args:
        path: A NIfTI file.
        geometry: The grid, of which the affine is written.

    Raises:
        SourceError: The file is damaged, or no NIfTI.
        OutputError: The file cannot be written.
    """

    def place(header: nibabel.Nifti1Header) -> None:
        affine = in_unit_of(header, geometry.affine)
        header.set_qform(affine, code=1)
        header.set_sform(affine, code=1)

    _rewrite(path, place)


def copy_place(path: Path, like: Path) -> None:
    """Gives a file the sform, qform, codes, voxel sizes and unit of another, to the bit; all its other bytes stay.

    Args:
        path: The NIfTI file that is changed.
        like: The NIfTI file whose place it gets.

    Raises:
        SourceError: One of the files is damaged, or no NIfTI.
        OutputError: The file cannot be written.
    """
    original = _nifti_header(like)

    def place(header: nibabel.Nifti1Header) -> None:
        for name in PLACE_FIELDS:
            header[name] = original[name]
        header["pixdim"][:4] = original["pixdim"][:4]
        of_space = int(original["xyzt_units"]) & SPATIAL_UNIT
        header["xyzt_units"] = int(header["xyzt_units"]) & ~SPATIAL_UNIT | of_space

    _rewrite(path, place)


def write_spacing(path: Path, spacing: Spacing3) -> None:
    """Gives the voxels of a file other sizes; directions, the first voxel's place and all its other bytes stay.

    Args:
        path: A NIfTI file.
        spacing: Edge lengths in mm, in array-axis order.

    Raises:
        SourceError: The file is damaged, or no NIfTI.
        OutputError: The file cannot be written.
    """

    def place(header: nibabel.Nifti1Header) -> None:
        _, mm = unit_of(header)
        sform, code = header.get_sform(coded=True)
        if code:
            sform[:3, :3] *= np.divide(spacing, mm) / np.linalg.norm(sform[:3, :3], axis=0)
            header.set_sform(sform, code=code)
        header["pixdim"][1:4] = np.divide(spacing, mm)  # the qform is directions times these

    _rewrite(path, place)


def _nifti_header(path: Path) -> nibabel.Nifti1Header:
    header = nifti_header(open_nifti(path))
    if header is None:
        raise SourceError(f"{path}: is Analyze 7.5, which does not say where it lies; convert the image to .nii.gz")
    return header


def _rewrite(path: Path, change: Callable[[nibabel.Nifti1Header], None]) -> None:
    """Changes the header of a file where it lies."""
    kind = type(_nifti_header(path))
    is_compressed = is_gzipped(path)
    content = gzip.decompress(path.read_bytes()) if is_compressed else path.read_bytes()
    header: nibabel.Nifti1Header = kind.from_fileobj(
        io.BytesIO(content)
    )  # that of an image forgets the offset and the scaling of voxels
    change(header)
    start: bytes = header.binaryblock
    content = start + content[len(start) :]
    with written_whole(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if is_compressed else content)


def _sform(header: nibabel.Nifti1Header) -> Affine | None:
    sform, code = header.get_sform(coded=True)
    return in_mm(sform, header) if code else None


def _qform(header: nibabel.Nifti1Header) -> Affine | None:
    try:
        qform, code = header.get_qform(coded=True)
    except (HeaderDataError, ValueError):  # a quaternion that is none
        return None
    return in_mm(qform, header) if code else None


def _gzip_size(path: Path) -> int:
    with path.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")
