"""NRRD files (https://teem.sourceforge.net/nrrd/format.html): the fields of an image, and its bytes."""

import gzip
import io
from collections.abc import Sequence

import numpy as np

from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.volume import Array, Geometry

MAGIC = "NRRD0005"
NAMES = {"float32": "float", "float64": "double"}  # of types, where NumPy's differ

# Label maps are mostly zeros: more of it takes longer and saves little.
COMPRESSION = 4


def image_fields(geometry: Geometry, dtype: np.dtype, n_layers: int = 1, encoding: str = "gzip") -> list[str]:
    """Returns the lines of a header that say how voxels are stored and where they lie.

    Args:
        geometry: The grid, in RAS mm; NRRD has LPS.
        dtype: Of the voxels.
        n_layers: Of several, they are the first axis, of kind "list".
        encoding: "gzip" or "raw".
    """
    affine = LPS_TO_RAS @ geometry.affine
    several = n_layers > 1
    sizes = (n_layers, *geometry.shape) if several else geometry.shape
    directions = [_vector(affine[:3, axis]) for axis in range(3)]
    return [
        f"type: {NAMES.get(dtype.name, dtype.name)}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join(['none', *directions] if several else directions)}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        f"space origin: {_vector(affine[:3, 3])}",
    ]


def nrrd_bytes(array: Array, geometry: Geometry, *, compressed: bool = True) -> bytes:
    """Returns the content of a ``.nrrd`` file.

    Args:
        array: ``(x, y, z)``, integers or floats; booleans become 0 and 1.
        geometry: The grid of the array, in RAS mm.
        compressed: Whether by gzip.

    Raises:
        ValueError: The array does not lie on the grid.

    Examples:
        >>> import numpy as np
        >>> from medseg.volume import Geometry
        >>> grid = Geometry((2, 2, 2), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> nrrd_bytes(np.zeros(grid.shape, np.uint8), grid, compressed=False)[:8]
        b'NRRD0005'
    """
    if array.shape != geometry.shape:
        raise ValueError(f"array {array.shape} does not lie on the grid {geometry.shape}")
    if array.dtype in (np.bool_, np.float16):
        array = array.astype(np.uint8 if array.dtype == np.bool_ else np.float32)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    fields = image_fields(geometry, array.dtype, encoding="gzip" if compressed else "raw")
    content = io.BytesIO()
    content.write("\n".join([MAGIC, *fields, "", ""]).encode())
    if not compressed:
        content.write(array.tobytes(order="F"))
        return content.getvalue()
    with gzip.GzipFile("", "wb", COMPRESSION, content, mtime=0) as stream:
        for z in range(array.shape[-1]):
            stream.write(array[..., z].tobytes(order="F"))
    return content.getvalue()


def _vector(numbers: Sequence[float] | Array) -> str:
    return f"({','.join(repr(float(number) + 0.0) for number in numbers)})"
