"""Files of tensors: weights and checkpoints as safetensors, and what others wrote with ``torch.save``.

No file runs code. Of a pickle only tensors, numbers, texts and containers are read, by torch's ``weights_only``.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from medseg.errors import MedsegError, printable, reading
from medseg.files import written_whole
from medseg.progress import listed

Tensors = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]

# Beside what torch allows, NumPy's numbers, as logs of training hold them.
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


def read_tensors(path: Path, advice: str, raises: type[MedsegError]) -> Tensors:
    """Returns the tensors of a safetensors file by name.

    Raises:
        MedsegError: It names the file and what is wrong with it; the class is ``raises``.
    """
    with reading(path, "safetensors", advice, raises):
        return load_file(path)


def read_shapes(path: Path, advice: str, raises: type[MedsegError]) -> Shapes:
    """Returns the shapes of all tensors in the file, none of which is read."""
    with reading(path, "safetensors", advice, raises), safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)


def read_metadata(path: Path, advice: str, raises: type[MedsegError]) -> dict[str, str]:
    """Returns the texts in the file's header."""
    with reading(path, "safetensors", advice, raises), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    with written_whole(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(plain, temporary, metadata=metadata)
        except SafetensorError as error:  # as when the disk is full
            raise OSError(str(error)) from error


def read_torch_file(path: Path, advice: str, raises: type[MedsegError]) -> Any:
    """Returns what ``torch.save`` wrote: tensors, numbers, texts, and containers of them. No code of the file is run.

    Tensors stay in the file until they are used, where it has the format of today.

    Raises:
        MedsegError: The file is damaged, or holds anything else, which the error names; the class is ``raises``.
    """
    with reading(path, "a file of torch.save", advice, raises), torch.serialization.safe_globals(_harmless()):
        is_zip = zipfile.is_zipfile(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except pickle.UnpicklingError as error:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else []
            names = sorted(names) or re.findall(r"GLOBAL ([\w.]+)", str(error))
            if not names:
                raise
            raise raises(
                f"{path}: holds more than weights: {printable(listed(names, 3))}, which could run code, so "
                "it is not read; ask who made it for a file of tensors and numbers alone"
            ) from error


def _harmless() -> list[Any]:
    """Returns what a pickle may name beside what torch allows by itself."""
    scalar: Any = np.float64(0).__reduce__()[0]
    scalars = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]  # before and since NumPy 2
    return [np.dtype, *scalars, *{type(np.dtype(kind)) for kind in _NUMBERS}]
