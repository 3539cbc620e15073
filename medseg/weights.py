"""Files of tensors: weights and checkpoints as safetensors. Nothing is unpickled."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from medseg.errors import MedsegError, reading
from medseg.files import written_whole

Tensors = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]


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
