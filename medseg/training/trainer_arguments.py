"""What a trainer is given, and the form in which it keeps that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from medseg.config import TrainingConfig, config_of
from medseg.device import Device, choose_device
from medseg.errors import ConfigError
from medseg.plan import Plan
from medseg.process_group import ALONE, ProcessGroup
from medseg.training.callback import Callback
from medseg.training.schedule import Decay, Schedule
from medseg.training.state import TrainingState

OptimizerMaker = Callable[[Iterable[nn.Parameter]], Optimizer]


class _Kept:
    """What a trainer keeps in one form, whichever it was given in."""

    optimizer: Optimizer
    settings: TrainingConfig
    device: Device
    schedule: Schedule


@dataclass(eq=False)
class TrainerArguments(_Kept):
    """The arguments of ``Trainer``, in their order; its docstring has them. Network and loss go to the device."""

    plan: Plan | None
    network: nn.Module
    loss: nn.Module
    optimizer: InitVar[Optimizer | OptimizerMaker]
    transforms: Callable[..., Any] | None = None
    callbacks: Sequence[Callback] = ()
    _: KW_ONLY
    settings: InitVar[TrainingConfig | Mapping[str, Any] | None] = None
    device: InitVar[Device | str] = "auto"
    schedule: InitVar[Decay | None] = None
    processes: ProcessGroup = ALONE
    state: TrainingState = field(default_factory=TrainingState)

    def __post_init__(
        self,
        optimizer: Optimizer | OptimizerMaker,
        settings: TrainingConfig | Mapping[str, Any] | None,
        device: Device | str,
        schedule: Decay | None,
    ) -> None:
        self.settings = _settings(settings)
        if isinstance(device, str):
            device = choose_device(device, self.settings.precision, self.settings.threads)
        self.device = device
        self.network = self.device.place(self.network, self.dims)
        self.loss = self.loss.to(self.device.torch_device)  # it may hold weights of labels
        self.optimizer = _optimizer(optimizer, self.network)
        self.peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.schedule = Schedule(self.peaks[0], self.settings.warm_up, schedule or self.settings.schedule)

    @property
    def dims(self) -> int:
        """The number of spatial axes, as the plan says, or as the kernels of the network have them."""
        has_volumes = any(parameter.ndim == 5 for parameter in self.network.parameters())
        return (3 if has_volumes else 2) if self.plan is None else self.plan.dims


def _settings(given: TrainingConfig | Mapping[str, Any] | None) -> TrainingConfig:
    """Returns settings of training; those in a dictionary are checked.

    Raises:
        ConfigError: One of them is unknown or cannot be so, or ``given`` is something else.
    """
    if given is None:
        return TrainingConfig()
    if isinstance(given, Mapping):
        return config_of({"training": dict(given)}, "settings").training
    if not isinstance(given, TrainingConfig):
        raise ConfigError(
            f"settings: a {type(given).__name__} holds none of training; give a medseg.config.TrainingConfig (of a "
            "Config: config.training), or a dictionary of its fields"
        )
    return given


def _optimizer(given: Optimizer | OptimizerMaker, network: nn.Module) -> Optimizer:
    """Returns the optimizer of a network's parameters.

    Raises:
        ConfigError: ``given`` is neither an optimizer nor a function that makes one.
    """
    made = given(network.parameters()) if callable(given) else given
    if not isinstance(made, Optimizer):
        raise ConfigError(
            f"optimizer: {'gave' if callable(given) else 'is'} a {type(made).__name__}; give an optimizer of PyTorch, "
            "or a function of the parameters that makes one, as torch.optim.AdamW"
        )
    return made
