"""Checkpoints: everything that training needs to go on, in one safetensors file that appears whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from medseg.errors import TrainingError
from medseg.inference.model import save_tensors


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int  # steps done
    seconds: float  # of training so far, over all sittings
    best_dice: float | None  # of the model in RUN/model
    loss_scale: float | None = None  # of fp16 training


def save_checkpoint(
    path: Path,
    progress: Progress,
    network: Mapping[str, torch.Tensor],
    average: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """``network`` and ``average`` are state dicts: the weights, and the exponential average of them."""
    tensors = {f"network.{name}": tensor for name, tensor in network.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"optimiser.{index}.{name}": value for name, value in state.items() if isinstance(value, torch.Tensor)
        }
    save_tensors(path, tensors, {"progress": json.dumps(asdict(progress))})


def load_checkpoint(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
) -> Progress:
    """Puts everything back in place. Raises ``TrainingError`` when the file is missing or of another network."""
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        network.load_state_dict(_below(tensors, "network."))
        average.load_state_dict(_below(tensors, "average."))
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{path}: training cannot be resumed from it ({error}); start a new run") from error
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _below(tensors, "optimiser.").items():
        index, _, field = name.partition(".")
        states.setdefault(int(index), {})[field] = tensor
    content = optimiser.state_dict()
    content["state"] = states
    optimiser.load_state_dict(content)
    return progress


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
