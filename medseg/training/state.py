"""The state of a training, and checkpoints: one safetensors file with all that is needed to go on, written whole."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import ConfigDict, Field, JsonValue, NonNegativeFloat, NonNegativeInt, model_validator

from medseg.errors import TrainingError, reading
from medseg.records import Record, parse_json, validated, with_new_names
from medseg.training.optimizers import Muon
from medseg.training.watchdog import WatchdogState
from medseg.weights import Tensors, read_metadata, read_tensors, write_tensors

# What Muon, its AdamW, torch's Adam and SGD keep of each parameter. Of other optimizers nothing is known.
KNOWN = (Muon, torch.optim.Adam, torch.optim.SGD)
KEPT = (
    {"momentum"}, {"step", "mean", "square"}, {"momentum_buffer"},
    {"step", "exp_avg", "exp_avg_sq"}, {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
)  # fmt: skip
ADVICE = "training cannot be resumed from it; start a new run"


class TrainingState(Record):
    """Where a training is: everything that changes with the steps, apart from weights and the optimizer's moments.

    A checkpoint holds it as JSON.

    Attributes:
        step: Steps done.
        seconds: Of training so far, over all sittings.
        best_score: Of the model in RUN/model, by ``training.metric``; None: there is none yet.
        validations_since_best: How many did not find a better one.
        length: Of the schedule, in words; the one of a run that is extended is another.
        learning_rate: The last one.
        joined: Where the schedule was changed: progress and rate.
        scaler: The state of the loss scaler of fp16 training.
        watchdog: What the watchdog has seen and changed.
        threads: Of a processor, at the last step; 0: as many as there are.
        extra: What callbacks have to know after a resume, by names that they choose.

    Examples:
        >>> from medseg.training import TrainingState
        >>> state = TrainingState(step=250, best_score=0.87, extra={"my-callback": 3})
        >>> TrainingState.model_validate_json(state.model_dump_json()) == state
        True
    """

    model_config = ConfigDict(frozen=False)

    step: NonNegativeInt = 0
    seconds: NonNegativeFloat = 0.0
    best_score: float | None = None
    validations_since_best: NonNegativeInt = 0
    length: str = ""
    learning_rate: NonNegativeFloat = 0.0
    joined: tuple[float, float] | None = None
    scaler: dict[str, float] = Field(default_factory=dict)
    watchdog: WatchdogState | None = None
    threads: NonNegativeInt = 0
    extra: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _as_written_before(cls, content: object) -> object:
        return with_new_names(content, best_score="best_dice")  # when it was Dice always

    def take_length(self, length: str, progress: Callable[[int], float]) -> bool:
        """Takes the length of the schedule, and returns whether the training had another one before.

        Where it had, ``joined`` says where the new schedule goes on.

        Args:
            length: In words.
            progress: The part of the new schedule that is done after a number of steps.
        """
        is_changed = self.length not in ("", length)
        if is_changed:
            here = progress(self.step)
            self.joined = (here, self.learning_rate)
            if self.watchdog is not None:
                self.watchdog.start_from(self.step, here, good=True)
        self.length = length
        return is_changed


def save_checkpoint(
    path: Path,
    state: TrainingState,
    network: Mapping[str, torch.Tensor],
    average: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: The file.
        state: Where the training is.
        network: The state dict of the network.
        average: The exponential average of that.
        optimizer: Its moments are written.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value for name, value in moments.items() if isinstance(value, torch.Tensor)
        }
    write_tensors(path, tensors, {"progress": state.model_dump_json()})


def load_checkpoint(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> TrainingState:
    """Puts the weights, their average and the optimizer's moments back in place, and returns the state.

    Args:
        path: The file.
        network: It gets the weights.
        average: It gets the average of the weights.
        optimizer: It gets its moments.
        scaler: It gets the scale of the loss, where the training was in fp16.

    Raises:
        TrainingError: The file is missing, damaged or of another network.
    """
    state = read_state(path)
    tensors = read_tensors(path, ADVICE, TrainingError)
    with reading(path, "a checkpoint of this network", ADVICE, TrainingError):
        network.load_state_dict(_below(tensors, "network."))
        average.load_state_dict(_below(tensors, "average."))
        content = optimizer.state_dict()
        moments = _below(tensors, "optimizer.") or _below(tensors, "optimiser.")  # so version 0.1 spelt it
        content["state"] = _states(moments, optimizer)
        optimizer.load_state_dict(content)
    if scaler is not None and state.scaler:
        with reading(path, "a checkpoint of fp16 training", ADVICE, TrainingError):
            scaler.load_state_dict(state.scaler)
    return state


def _states(tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> dict[int, Tensors]:
    """Returns the moments by number of the parameter.

    Raises:
        ValueError: They aren't those of the optimizer's parameters.
    """
    states: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        states.setdefault(int(index), {})[field] = tensor
    first, is_known = 0, isinstance(optimizer, KNOWN)
    for group in optimizer.param_groups:
        of_group = {i: states.get(first + i, {}) for i in range(len(group["params"]))}
        for i, state in of_group.items():
            shape = group["params"][i].shape
            if not is_known or not state:
                continue
            if set(state) not in KEPT or any(each.shape not in ((), shape) for each in state.values()):
                raise ValueError(f"the optimizer's state of parameter {first + i} is not of this network")
        first += len(of_group)
    if states and not 0 <= min(states) <= max(states) < first:
        raise ValueError(f"the optimizer's state is of other parameters than 0 to {first - 1}")
    return states


def read_state(path: Path) -> TrainingState:
    """Returns the state in a checkpoint, without the weights.

    Raises:
        TrainingError: There is no such file.
    """
    text = read_metadata(path, ADVICE, TrainingError).get("progress", "")
    with reading(path, "a checkpoint", ADVICE, TrainingError):
        content = parse_json(text)
    return validated(content, TrainingState, path, ADVICE, TrainingError)


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
