"""Checkpoints: everything that training needs to go on, in one safetensors file that appears whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt

from medseg.errors import TrainingError, reading
from medseg.records import Record, parse_json, validated
from medseg.training.watchdog import Watchdog
from medseg.weights import Tensors, read_metadata, read_tensors, write_tensors

# What Muon, its AdamW, torch's AdamW and SGD keep of each parameter.
KEPT = ({"momentum"}, {"step", "mean", "square"}, {"step", "exp_avg", "exp_avg_sq"}, {"momentum_buffer"})
ADVICE = "training cannot be resumed from it; start a new run"


class Progress(Record):
    """Where a run is."""

    step: NonNegativeInt = 0  # steps done
    seconds: NonNegativeFloat = 0.0  # of training so far, over all sittings
    best_dice: float | None = None  # of the model in RUN/model
    validations_since_best: NonNegativeInt = 0
    length: str = ""  # of the schedule; the one of a run that is extended is another
    learning_rate: NonNegativeFloat = 0.0  # the last one
    joined: tuple[float, float] | None = None  # where the schedule was changed: progress and rate
    scaler: dict[str, float] = Field(default_factory=dict)  # of fp16 training
    watchdog: Watchdog | None = None
    threads: NonNegativeInt = 0  # of a processor, at the last step; 0: as many as there are


def save_checkpoint(
    path: Path,
    progress: Progress,
    network: Mapping[str, torch.Tensor],
    average: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """``network`` and ``average`` are state dicts: the weights, and the exponential average of them."""
    tensors = {f"network.{name}": tensor for name, tensor in network.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value for name, value in state.items() if isinstance(value, torch.Tensor)
        }
    write_tensors(path, tensors, {"progress": progress.model_dump_json()})


def load_checkpoint(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Puts everything back in place. Raises ``TrainingError`` when the file is missing, damaged or of another
    network."""
    progress = read_progress(path)
    tensors = read_tensors(path, ADVICE, TrainingError)
    with reading(path, "a checkpoint of this network", ADVICE, TrainingError):
        network.load_state_dict(_below(tensors, "network."))
        average.load_state_dict(_below(tensors, "average."))
        content = optimizer.state_dict()
        state = _below(tensors, "optimizer.") or _below(tensors, "optimiser.")  # so version 0.1 spelt it
        content["state"] = _states(state, optimizer)
        optimizer.load_state_dict(content)
    return progress


def _states(tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> dict[int, Tensors]:
    """By number of the parameter. Raises ``ValueError`` where they aren't those of the optimizer's parameters."""
    states: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        states.setdefault(int(index), {})[field] = tensor
    first = 0
    for group in optimizer.param_groups:
        of_group = {i: states.get(first + i, {}) for i in range(len(group["params"]))}
        for i, state in of_group.items():
            shape = group["params"][i].shape
            if state and (set(state) not in KEPT or any(each.shape not in ((), shape) for each in state.values())):
                raise ValueError(f"the optimizer's state of parameter {first + i} is not of this network")
        first += len(of_group)
    if states and not 0 <= min(states) <= max(states) < first:
        raise ValueError(f"the optimizer's state is of other parameters than 0 to {first - 1}")
    return states


def read_progress(path: Path) -> Progress:
    """Without the weights. Raises ``TrainingError`` when there is no such file."""
    text = read_metadata(path, ADVICE, TrainingError).get("progress", "")
    with reading(path, "a checkpoint", ADVICE, TrainingError):
        content = parse_json(text)
    return validated(content, Progress, path, ADVICE, TrainingError)


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
