"""Checkpoints: everything that training needs to go on, in one safetensors file that appears whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from medseg.errors import TrainingError
from medseg.inference.model import save_tensors


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of training so far, over all sittings
    best_dice: float | None = None  # of the model in RUN/model
    validations_since_best: int = 0
    length: str = ""  # of the schedule; the one of a run that is extended is another
    learning_rate: float = 0.0  # the last one
    joined: tuple[float, float] | None = None  # where the schedule was changed: progress and rate
    scaler: dict[str, Any] = field(default_factory=dict)  # of fp16 training
    watchdog: dict[str, Any] = field(default_factory=dict)
    threads: int = 0  # of a processor, at the last step; 0: as many as there are


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
    progress = read_progress(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        network.load_state_dict(_below(tensors, "network."))
        average.load_state_dict(_below(tensors, "average."))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(f"{path}: training cannot be resumed from it ({error}); start a new run") from error
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _below(tensors, "optimiser.").items():
        index, _, field = name.partition(".")
        states.setdefault(int(index), {})[field] = tensor
    content = optimiser.state_dict()
    content["state"] = states
    optimiser.load_state_dict(content)
    return progress


def read_progress(path: Path) -> Progress:
    """Without the weights. Raises ``TrainingError`` when there is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return Progress(**json.loads(file.metadata()["progress"]))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: training cannot be resumed from it ({error}); start a new run") from error


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
