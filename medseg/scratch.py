"""Arrays larger than memory, in temporary files that nobody sees."""

import mmap
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt


def scratch_array(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Returns an array of zeros in a temporary file, which is gone with it: memory holds what was written lately."""
    with tempfile.TemporaryFile() as file:  # which stays while it is mapped
        return np.memmap(file, dtype, "w+", shape=shape)


def forget(*arrays: np.memmap[Any, Any]) -> None:
    """Frees the memory of scratch arrays, all of which is in their files."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for array in arrays:
            array.flush()
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
