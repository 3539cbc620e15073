"""What the header of a NIfTI file says, and correcting it without touching a voxel."""

import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from medseg.files import written_whole
from medseg.io.nifti import open_nifti, read_nifti
from medseg.volume import Geometry

Affine = npt.NDArray[np.float64]

GZIP_SIZE_LIMIT = 2**32  # gzip notes the size of what it holds modulo this


@dataclass(frozen=True)
class NiftiHeader:
    """``sform`` and ``qform`` (voxel index to RAS mm) are None where their code says that there is none."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]  # pixdim, as written
    unit: str  # "mm", "micron", "meter" or "unknown"
    sform: Affine | None
    qform: Affine | None
    n_bytes: int  # header and voxels, not compressed

    @property
    def has_place(self) -> bool:
        return self.sform is not None or self.qform is not None

    @property
    def n_channels(self) -> int:
        return int(np.prod(self.shape[3:]))


def read_nifti_header(path: Path) -> NiftiHeader:
    """Raises ``SourceError`` for a file that is damaged or no NIfTI."""
    image = open_nifti(path)
    header = image.header
    shape = tuple(int(n) for n in header.get_data_shape())
    voxel_bytes = header.get_data_dtype().itemsize
    return NiftiHeader(
        shape=shape,
        spacing=tuple(float(s) for s in header["pixdim"][1:4]),
        unit=header.get_xyzt_units()[0],
        sform=header.get_sform(coded=True)[0],
        qform=_qform(header),
        n_bytes=image.dataobj.offset + int(np.prod(shape)) * voxel_bytes,
    )


def check_whole_nifti(path: Path) -> None:
    """Raises ``SourceError`` when the file is cut short. Voxels are read only where its size leaves that open."""
    expected = read_nifti_header(path).n_bytes
    if path.suffix.lower() == ".gz":
        whole = _gzip_size(path) == expected % GZIP_SIZE_LIMIT
    else:
        whole = path.stat().st_size >= expected
    if not whole:
        read_nifti(path)


def write_place(path: Path, geometry: Geometry) -> None:
    """Sets sform and qform of a file to ``geometry`` (code 1); all its other bytes, voxels included, stay.

    Raises ``SourceError`` for a file that is damaged or no NIfTI, ``OutputError`` when it cannot be written.
    """
    kind = type(open_nifti(path).header)
    is_compressed = path.suffix.lower() == ".gz"
    content = gzip.decompress(path.read_bytes()) if is_compressed else path.read_bytes()
    header = kind.from_fileobj(io.BytesIO(content))  # that of an image forgets the offset and the scaling of voxels
    header.set_qform(geometry.affine, code=1)
    header.set_sform(geometry.affine, code=1)
    start: bytes = header.binaryblock
    content = start + content[len(start) :]
    with written_whole(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if is_compressed else content)


def _qform(header: object) -> Affine | None:
    try:
        qform: Affine | None = header.get_qform(coded=True)[0]  # type: ignore[attr-defined]
    except (HeaderDataError, ValueError):  # a quaternion that is none
        return None
    return qform


def _gzip_size(path: Path) -> int:
    with path.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")
