"""Losses by name: medseg's own, those of MONAI, and those that plugins register."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import monai.losses
import torch
from torch import nn

from medseg.config import Config
from medseg.errors import ConfigError, did_you_mean, reason_of
from medseg.labels import IGNORED
from medseg.losses.adapted import AdaptedLoss
from medseg.losses.dice_cross_entropy import DiceCrossEntropyLoss
from medseg.plan import Plan
from medseg.plugin_errors import check_arguments, errors_of_plugins
from medseg.plugins import plugin_of, registered

OWN = "dice-ce"
PREFIX = "monai."
# They say what the logits are, which follows from what is learnt.
OF_LABELS = {"to_onehot_y": True, "softmax": True, "use_softmax": True}
OF_REGIONS = {"to_onehot_y": False, "sigmoid": True, "use_softmax": False}
FILLED_IN = {*OF_LABELS, *OF_REGIONS, "other_act"}


def create_loss(
    name: str = OWN,
    *,
    head_weights: Sequence[float] | None = None,
    margin: Sequence[int] = (),
    regions: Sequence[Sequence[int]] = (),
    reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Returns a loss by its name: a module of (logits, target), where logits may be a list, one a head.

    Args:
        name: "dice-ce" is ``DiceCrossEntropyLoss``; "monai.DiceFocalLoss" and the like are those losses of MONAI whose
            targets are label maps; others are those of plugins.
        head_weights: See ``DiceCrossEntropyLoss``.
        margin: See ``DiceCrossEntropyLoss``.
        regions: See ``DiceCrossEntropyLoss``.
        reduce: See ``DiceCrossEntropyLoss``. Other losses are those of this process's samples.
        **arguments: Those of the loss: ``gamma=3``. What follows from the data (``to_onehot_y``, ``softmax``,
            ``sigmoid``) is filled in.

    Raises:
        ConfigError: There is no such loss, or it has no such argument.
        PluginError: A plugin's loss raised an error.

    Example:
        >>> import torch
        >>> from medseg.losses import create_loss
        >>> loss = create_loss("monai.DiceFocalLoss", gamma=3.0)
        >>> heads = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)]
        >>> loss(heads, torch.ones(1, 1, 8, 8)).ndim
        0
    """
    plugin = plugin_of("loss", name, is_taken=name == OWN or name.startswith(PREFIX))
    shared: dict[str, Any] = {"head_weights": head_weights, "margin": margin, "regions": regions}
    if name == OWN:
        build = _checked(name, DiceCrossEntropyLoss, arguments, ("dice_weight", "ce_weight"))
        return build(**arguments, **shared, reduce=reduce)
    if name.startswith(PREFIX):
        loss: Any = _monai_loss(name, arguments, bool(regions))
        return AdaptedLoss(loss, name=name, takes_ignored=arguments.get("ignore_index") == IGNORED, **shared)
    if plugin is None:
        names = [OWN, *(each.name for each in registered("loss")), *(PREFIX + each for each in monai_losses())]
        raise ConfigError(
            f"loss.name: there is no loss '{name}'{did_you_mean(name, names)}; one of a plugin needs --plugin"
        )
    with errors_of_plugins():
        loss = _built(name, plugin.build, arguments)
    return AdaptedLoss(loss, name=name, takes_ignored=arguments.get("ignore_index") == IGNORED, **shared)


def loss_for(
    config: Config,
    plan: Plan,
    network: nn.Module,
    reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> nn.Module:
    """Returns the loss that the settings name, for a network and what it learns by its plan.

    Args:
        config: ``loss``, and of ``training`` the weights of "dice-ce".
        plan: Says whether regions are learnt.
        network: Says how its heads weigh. Where its logits are those of the centre of the image, so has to be the
            target: the trainer cuts it.
        reduce: Sums a tensor over several processes; see ``DiceCrossEntropyLoss``.

    Raises:
        ConfigError: There is no such loss, or it has no such argument.

    Examples:
        >>> from medseg.config import Config
        >>> from medseg.dataset import PreparedDataset
        >>> from medseg.losses import loss_for
        >>> from medseg.networks import create_network
        >>> plan = PreparedDataset("prepared").plans.plan_3d  # what medseg preprocess wrote
        >>> network = create_network(in_channels=1, out_channels=3, plan=plan)
        >>> type(loss_for(Config(), plan, network)).__name__
        'DiceCrossEntropyLoss'
    """
    weights = {"dice_weight": config.training.dice_weight, "ce_weight": config.training.ce_weight}
    arguments = ({**weights} if config.loss.name == OWN else {}) | config.loss.arguments
    for key in arguments:
        if key in ("head_weights", "margin", "regions", "reduce"):
            raise ConfigError(f"loss.arguments.{key}: follows from the network; leave it out")
    return create_loss(
        config.loss.name,
        head_weights=getattr(network, "head_weights", None),
        regions=[region.values for region in plan.regions],
        reduce=reduce,
        **arguments,
    )


def monai_losses() -> dict[str, type[nn.Module]]:
    """Returns the classes of ``monai.losses`` for logits and label maps, by their names.

    Examples:
        >>> "DiceFocalLoss" in monai_losses()
        True
    """
    found = {name: getattr(monai.losses, name) for name in dir(monai.losses)}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind)
        and issubclass(kind, nn.Module)
        and kind.__name__ == name
        and kind is not monai.losses.MaskedDiceLoss  # wants a mask, too
        and "to_onehot_y" in (keys := inspect.signature(kind).parameters)
        and {"softmax", "use_softmax"} & set(keys)
    }


def _monai_loss(name: str, arguments: dict[str, Any], of_regions: bool) -> Any:
    kinds = monai_losses()
    kind = kinds.get(name.removeprefix(PREFIX))
    if kind is None:
        near = did_you_mean(name.removeprefix(PREFIX), kinds)
        raise ConfigError(f"loss.name: MONAI has no segmentation loss '{name.removeprefix(PREFIX)}'{near}")
    parameters = inspect.signature(kind).parameters
    for key in arguments:
        if key in FILLED_IN:
            raise ConfigError(f"loss.arguments.{key}: follows from the data; leave it out")
    _checked(name, kind, arguments, [key for key in parameters if key not in FILLED_IN])
    what = OF_REGIONS if of_regions else OF_LABELS
    return _built(name, kind, arguments | {key: value for key, value in what.items() if key in parameters})


def _checked(name: str, kind: type[nn.Module], arguments: dict[str, Any], known: Sequence[str]) -> type[nn.Module]:
    for key in arguments:
        if key not in known:
            raise ConfigError(f"loss.arguments.{key}: {name} has no such argument{did_you_mean(key, known)}")
    return kind


def _built(name: str, build: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    check_arguments(f"loss.arguments of {name}", build, **arguments)
    if not name.startswith(PREFIX):
        return build(**arguments)
    try:
        return build(**{key: _as_tensor(key, value) for key, value in arguments.items()})
    except Exception as error:  # whatever MONAI says about its arguments
        raise ConfigError(f"loss.arguments: {name} cannot be built with them ({reason_of(error)})") from error


def _as_tensor(key: str, value: Any) -> Any:
    """Returns weights of labels as a tensor, which MONAI wants and YAML has not; any other argument as it is."""
    return torch.as_tensor(value, dtype=torch.float32) if key == "weight" and isinstance(value, list) else value
