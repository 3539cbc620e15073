"""The parts of a training, as its settings say or as the user brings them: network, loss, optimizer, transforms."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medseg.architecture import CUSTOM_NETWORK
from medseg.config import Config
from medseg.device import Device
from medseg.errors import ConfigError, TrainingError
from medseg.losses.adapted import AdaptedLoss
from medseg.losses.heads import HeadsLoss
from medseg.losses.objects import ObjectLoss
from medseg.losses.prompted import PromptedLoss, PromptedObjectLoss
from medseg.losses.registry import loss_for
from medseg.networks.entries import entry_of
from medseg.plan import Plan
from medseg.plugin_errors import PluginError
from medseg.plugins import registered, registered_callbacks
from medseg.process_group import ALONE, ProcessGroup
from medseg.setting_types import OF_THE_USER
from medseg.training.callback import Callback
from medseg.training.optimizers import make_optimizer
from medseg.training.schedule import Decay
from medseg.training.trainer import Trainer
from medseg.transforms.augmentation.pipeline import augmentation_for

# The highest rate for networks and optimizers of which nothing is known.
USUAL_RATE = 3e-3
DERIVE_IT = "derive it from medseg.training.Callback"


@dataclass(frozen=True)
class OwnParts:
    """What the user brings in place of medseg's own parts; None: medseg's.

    Attributes:
        network: A module of images ``(batch, channel, *spatial)``.
        loss: A module of ``(logits, target)``.
        transforms: Of training patches: see ``medseg.training.batches.augmentation_from``.
        optimizer: A function of the parameters.
        schedule: The decay of the learning rate: see ``medseg.training.schedule.learning_rate``.
        callbacks: Told after medseg's own.

    Raises:
        ConfigError: One of the callbacks is none.
    """

    network: nn.Module | None = None
    loss: nn.Module | None = None
    transforms: Callable[..., Any] | None = None
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None
    schedule: Decay | None = None
    callbacks: Sequence[Callback] = ()

    def __post_init__(self) -> None:
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise ConfigError(f"callbacks: {_name_of(callback)} is no callback; {DERIVE_IT}")

    def named_in(self, config: Config) -> Config:
        """Returns the settings, which call the user's network, loss, optimizer and schedule custom ones.

        Raises:
            ConfigError: The settings name weights to begin with too.
        """
        names = {part: OF_THE_USER for part in ("optimizer", "schedule") if getattr(self, part) is not None}
        config = config.model_copy(update={"training": config.training.model_copy(update=names)})
        if self.loss is not None:
            config = config.model_copy(update={"loss": config.loss.model_copy(update={"name": OF_THE_USER})})
        if self.network is None:
            return config
        if config.training.init is not None or config.network.weights is not None:
            raise ConfigError("training.init, network.weights: load them into your own network, and leave these out")
        network = config.network.model_copy(update={"name": CUSTOM_NETWORK})
        return config.model_copy(update={"network": network})

    def check_given(self, config: Config, folder: Path) -> None:
        """Checks that what the settings of the run in a folder call custom is here: to resume it, it is needed again.

        Raises:
            TrainingError: It isn't.
        """
        names = {
            "network": config.network.name,
            "loss": config.loss.name,
            "optimizer": config.training.optimizer,
            "schedule": config.training.schedule,
        }
        missing = [part for part, name in names.items() if name == OF_THE_USER and getattr(self, part) is None]
        if missing:
            given = ", ".join(f"{part}=…" for part in missing)
            raise TrainingError(
                f"{folder} trains with your own {' and '.join(missing)}; give it again: medseg.train(…, {given})"
            )


NO_OWN_PARTS = OwnParts()


def make_trainer(
    network: nn.Module,
    plan: Plan,
    config: Config,
    device: Device,
    processes: ProcessGroup = ALONE,
    own: OwnParts = NO_OWN_PARTS,
) -> Trainer:
    """Returns a trainer of the network, without callbacks.

    Args:
        network: As ``make_network`` gives it.
        plan: What its outputs stand for, and its patches.
        config: The settings of training and augmentation.
        device: Where to train.
        processes: Those that share each batch.
        own: What the user brings.
    """
    settings, name = config.training, plan.architecture.name
    rate = settings.learning_rate
    if rate is None:
        rate = USUAL_RATE if name == CUSTOM_NETWORK else entry_of(name).learning_rate
    loss = own.loss
    if loss is None:
        loss = loss_for(config, plan, network, processes.sum)
    elif not isinstance(loss, HeadsLoss):  # of one head, and perhaps of masks
        regions, weights = [region.values for region in plan.regions], getattr(network, "head_weights", None)
        loss = AdaptedLoss(loss, name=type(loss).__name__, head_weights=weights, regions=regions)
    if plan.objects is not None:
        loss = ObjectLoss(
            loss,
            n_outputs=len(plan.objects.targets),
            weight=settings.object_weight,
            head_weights=getattr(network, "head_weights", None),
            reduce=processes.sum,
        )
    if plan.prompts is not None:
        loss = PromptedLoss(loss, PromptedObjectLoss(getattr(network, "head_weights", None), processes.sum))
    return Trainer(
        plan,
        network,
        loss,
        own.optimizer or make_optimizer(network, rate, settings),
        augmentation_for(plan, config.augmentation) if own.transforms is None else own.transforms,
        own.callbacks,
        schedule=own.schedule,
        settings=settings,
        device=device,
        processes=processes,
    )


def check_plugin_callbacks() -> None:
    """Checks that what plugins registered as callbacks makes callbacks, as far as that is known before it is called.

    Raises:
        PluginError: A class is no callback.
    """
    for plugin in registered("callback"):
        if isinstance(plugin.build, type) and not issubclass(plugin.build, Callback):
            raise PluginError(f"{plugin.file}: {plugin.build.__name__} is no callback; {DERIVE_IT}")


def plugin_callbacks(specs: Iterable[Mapping[str, Any]]) -> list[Callback]:
    """Returns new callbacks of all that plugins registered, for one run.

    Args:
        specs: ``training.callbacks``.

    Raises:
        PluginError: One of them cannot be made, or is no callback.
    """
    made = registered_callbacks(specs)
    for callback in made:
        if not isinstance(callback, Callback):
            raise PluginError(f"{_name_of(callback)} of a plugin is no callback; {DERIVE_IT}")
    return made


def _name_of(callback: object) -> str:
    return callback.__name__ if isinstance(callback, type) else type(callback).__name__
