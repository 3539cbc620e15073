"""Losses by name: medseg's own, those of MONAI, and those that plugins register."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import monai.losses
import torch
from torch import nn

from medseg.config import Config
from medseg.errors import ConfigError, did_you_mean, reason_of
from medseg.labels import IGNORED
from medseg.losses.adapted import AdaptedLoss
from medseg.losses.components import BlobLoss, ConnectedComponentsLoss
from medseg.losses.dice_cross_entropy import DiceCrossEntropyLoss
from medseg.losses.tubes import CentrelineDiceLoss, SkeletonRecallLoss
from medseg.losses.weighed import DiceFocalLoss, TverskyCrossEntropyLoss
from medseg.plan import Plan
from medseg.plugin_errors import check_arguments, errors_of_plugins
from medseg.plugins import plugin_of, registered

# Each is Dice and cross-entropy and something more, or these two weighed otherwise.
OWN: dict[str, type[DiceCrossEntropyLoss]] = {
    "dice-ce": DiceCrossEntropyLoss,
    "cc-dice-ce": ConnectedComponentsLoss,
    "blob": BlobLoss,
    "skeleton-recall": SkeletonRecallLoss,
    "cldice": CentrelineDiceLoss,
    "tversky": TverskyCrossEntropyLoss,
    "focal": DiceFocalLoss,
}
WEIGHTS = ("dice_weight", "ce_weight")
PREFIX = "monai."
# They say what the logits are, which follows from what is learnt.
OF_LABELS = {"to_onehot_y": True, "softmax": True, "use_softmax": True}
OF_REGIONS = {"to_onehot_y": False, "sigmoid": True, "use_softmax": False}
SHARED = ("head_weights", "margin", "regions", "reduce")
FROM_ONE = ("gamma", "iterations")  # of which less has no gradient, or no meaning
FILLED_IN = {*OF_LABELS, *OF_REGIONS, "other_act"}


def create_loss(
    name: str = "dice-ce",
    *,
    head_weights: Sequence[float] | None = None,
    margin: Sequence[int] = (),
    regions: Sequence[Sequence[int]] = (),
    reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Returns a loss by its name: a module of (logits, target), where logits may be a list, one a head.

    Args:
        name: "dice-ce" is ``DiceCrossEntropyLoss``; "cc-dice-ce", "blob", "skeleton-recall", "cldice", "tversky" and
            "focal" are derived from it; "monai.DiceFocalLoss" and the like are those losses of MONAI whose targets are
            label maps; others are those of plugins.
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
    plugin = plugin_of("loss", name, is_taken=name in OWN or name.startswith(PREFIX))
    shared: dict[str, Any] = {"head_weights": head_weights, "margin": margin, "regions": regions}
    if name in OWN:
        return OWN[name](**_numbers(name, arguments), **shared, reduce=reduce)
    if name.startswith(PREFIX):
        loss: Any = _monai_loss(name, arguments, bool(regions))
        return AdaptedLoss(loss, name=name, takes_ignored=arguments.get("ignore_index") == IGNORED, **shared)
    if plugin is None:
        names = [*OWN, *(each.name for each in registered("loss")), *(PREFIX + each for each in monai_losses())]
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
        config: ``loss``, and of ``training`` the weights of Dice and cross-entropy in medseg's own losses.
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
    weights = {name: getattr(config.training, name) for name in WEIGHTS}
    arguments = (weights if config.loss.name in OWN else {}) | config.loss.arguments
    for key in arguments:
        if key in SHARED:
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


def _numbers(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of one of medseg's own losses.

    Raises:
        ConfigError: It has no such argument, or the value is no number from 0 on.
    """
    parameters = inspect.signature(OWN[name]).parameters
    own = [key for key in parameters if key not in (*SHARED, "others")]
    _checked(name, OWN[name], arguments, [*dict.fromkeys((*own, *WEIGHTS))])
    for key, value in arguments.items():
        whole = key in parameters and isinstance(parameters[key].default, int)
        least = 1 if key in FROM_ONE else 0
        is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not is_number or not least <= value < math.inf:
            kind = "whole number" if whole else "number"
            raise ConfigError(f"loss.arguments.{key}: cannot be {value!r}; {name} wants a {kind} from {least} on")
    return arguments


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
