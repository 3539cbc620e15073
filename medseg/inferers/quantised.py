"""A network in int8: OpenVINO's graph of it, quantised after training (Jacob et al. 2018, "Quantization and training of
neural networks for efficient integer-arithmetic-only inference") by NNCF, in the folder int8/ of its model.

Such a graph belongs to the weights that it was made of; ``network.json`` says which, and what it costs in Dice.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from medseg.device import Device
from medseg.errors import ConfigError, ModelError, OutputError
from medseg.extras import is_installed
from medseg.files import folder_written_whole
from medseg.inferers.graphs import openvino_graph
from medseg.records import Record, read_record, write_record

FOLDER = "int8"
RECORD = "network.json"
GRAPH = "network.xml"  # and network.bin beside it

# Mean Dice that int8 may cost where 'medseg quantise' makes it; a model that loses more keeps its network as it is.
LARGEST_LOSS = 0.001


class QuantisedRecord(Record):
    """The content of int8/network.json: which weights the network was made of, and what int8 costs in Dice.

    Dice is the mean over labels and held-back cases, on the model grid. ``window`` is what the graph takes, voxels
    along each axis that the network sees; () of older ones, which take the patch.
    """

    fingerprint: str  # of the weights
    dice: float
    dice_before: float  # of the network as it was trained
    cases: int
    window: tuple[int, ...] = ()


@dataclass(frozen=True)
class QuantiseResult:
    """The networks in int8 of a run: one, or one a fold.

    Attributes:
        folders: Where each lies.
        records: What each costs in Dice.
    """

    folders: tuple[Path, ...]
    records: tuple[QuantisedRecord, ...]

    @property
    def dice(self) -> float:
        """The mean Dice over labels and held-back cases, on the model grid, and over the folds."""
        return fmean(record.dice for record in self.records)

    @property
    def dice_before(self) -> float:
        """The mean Dice of the same cases before, by the networks as they were trained."""
        return fmean(record.dice_before for record in self.records)


def can_quantise(network: torch.nn.Module, device: Device) -> bool:
    """Returns whether a network can be quantised here: NNCF is installed, and it is none of valid convolutions."""
    return device.is_cpu and is_installed("int8") and not any(getattr(network, "margin", ()))


def check_quantisable(network: torch.nn.Module, model: Path) -> None:
    """Checks that the network of a model folder can be quantised.

    Raises:
        ConfigError: It is one of valid convolutions.
    """
    if any(getattr(network, "margin", ())):
        raise ConfigError(f"{model}: a network of valid convolutions cannot be quantised; take --backend openvino")


def quantised(network: torch.nn.Module, patches: torch.Tensor) -> Any:
    """Returns OpenVINO's graph of a network, in int8.

    Args:
        network: With its weights.
        patches: ``(patch, channel, *spatial)``; they give the ranges of its activations.

    Raises:
        ConfigError: NNCF isn't installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # or it reports its use over the network
    try:
        import nncf
    except ImportError as error:
        raise ConfigError("to quantise, OpenVINO and NNCF have to be there: pip install 'medseg[int8]'") from error
    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([patch[None].numpy() for patch in patches])
    return nncf.quantize(openvino_graph(network, patches[:1]), data, subset_size=len(patches))


def save_quantised(graph: Any, record: QuantisedRecord, model: Path) -> None:
    """Puts a graph beside the weights in the folder ``model``, in place of an older one; it appears whole.

    Raises:
        OutputError: It cannot be written.
    """
    import openvino

    try:
        with folder_written_whole(model / FOLDER, replaces=True) as folder:
            openvino.save_model(graph, folder / GRAPH, compress_to_fp16=False)
            write_record(folder / RECORD, record)
    except RuntimeError as error:  # OpenVINO's
        raise OutputError(f"{model / FOLDER}: cannot be written ({error})") from error


def read_quantised_record(model: Path) -> QuantisedRecord | None:
    """Returns what was noted of the model in int8; None where there is none.

    Raises:
        ModelError: It is damaged.
    """
    path = model / FOLDER / RECORD
    if not path.exists():
        return None
    return read_record(path, QuantisedRecord, f"run 'medseg quantise' again, or remove {path.parent}", ModelError)
