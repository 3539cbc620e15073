"""A loss of (logits, target), of MONAI or a plugin, as training calls it."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss, FocalLoss
from torch import nn

from medseg.errors import ConfigError, MedsegError, lacks_memory, reason_of
from medseg.labels import IGNORED
from medseg.losses.heads import HeadsLoss
from medseg.losses.voxel_sums import RegionSums, merged
from medseg.plugin_errors import errors_of_plugins

# A softmax or a sigmoid makes exactly 0 of it, in float32, and no loss makes infinity or no number of it.
NEVER = -1e4


class AdaptedLoss(HeadsLoss):
    """Averages a loss over the heads of deep supervision, and gives it the logits and the target that it expects.

    Where labels are learnt the target is ``(batch, 1, *spatial)``, int64: the label of each voxel. Where regions are
    learnt it is their masks, ``(batch, region, *spatial)``, float32.

    Labels that were not annotated in a sample are merged with its background, by the logits, for those of MONAI's
    losses that take a softmax of these (see ``medseg.losses.merged``). Regions that hold such a label, and ignored
    voxels, are taken for certainly absent, for those that take a sigmoid: they change neither overlaps nor gradients.
    A loss whose ``forward`` has a parameter ``annotated`` is told instead. All others are refused there.

    Args:
        loss: A module or function of logits and target, which returns a scalar.
        name: What messages call it.
        head_weights: Weight of each head, from the finest down. They are made to sum to one. None: ``1 / 2**i``.
        margin: Voxels by which the logits are smaller than the target on each side of each spatial axis.
        regions: The labels that each region holds. Empty: labels are learnt.
        takes_ignored: Whether the loss knows voxels of value 255; it does where its ``ignore_index`` says so.

    Examples:
        >>> import torch
        >>> from monai.losses import DiceFocalLoss
        >>> from medseg.losses import AdaptedLoss
        >>> loss = AdaptedLoss(DiceFocalLoss(to_onehot_y=True, softmax=True))
        >>> heads = [torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 8, 8)]  # from the finest down
        >>> loss(heads, torch.ones(2, 1, 16, 16, dtype=torch.uint8)).ndim
        0
    """

    def __init__(
        self,
        loss: Callable[..., torch.Tensor],
        *,
        name: str = "loss",
        head_weights: Sequence[float] | None = None,
        margin: Sequence[int] = (),
        regions: Sequence[Sequence[int]] = (),
        takes_ignored: bool = False,
    ) -> None:
        super().__init__(head_weights, margin)
        self.loss, self.name = loss, name
        self.regions = RegionSums(regions) if regions else None
        self.takes_ignored = takes_ignored or getattr(loss, "ignore_index", None) == IGNORED
        self.asks = "annotated" in inspect.signature(getattr(loss, "forward", loss)).parameters
        self.hides = _takes_sigmoid(loss) if regions else _takes_softmax(loss)

    def losses(
        self, heads: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], annotated: torch.Tensor | None
    ) -> Sequence[torch.Tensor]:
        """Returns the loss of each head, a scalar each.

        Raises:
            ConfigError: The loss cannot be computed, or doesn't know ignored voxels or labels that were not annotated.
            PluginError: The loss of a plugin raised an error.
        """
        # Not asked where it changes nothing: a GPU would be waited for at each step.
        asks_for_ignored = self.regions is not None or not self.takes_ignored
        ignored = asks_for_ignored and bool((targets[0] == IGNORED).any())
        self._check(ignored, annotated)
        arguments: dict[str, Any] = {}
        if self.asks:
            told = annotated if annotated is None or self.regions is None else self.regions.drawn(annotated)
            arguments, annotated = {"annotated": told}, None
        both = zip(heads, targets, strict=True)
        if self.regions is None:
            pairs = [_of_labels(head, target, annotated) for head, target in both]
        else:
            pairs = [_of_regions(self.regions, head, target, annotated, ignored) for head, target in both]
        if isinstance(self.loss, DeepSupervisionLoss):  # it weighs the heads itself, and interpolates the target
            loss = self._value([head for head, _ in pairs], pairs[0][1].float(), arguments)
            return [loss] * len(heads)
        return [self._value(head, target, arguments) for head, target in pairs]

    def _value(
        self, logits: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, arguments: dict[str, Any]
    ) -> torch.Tensor:
        try:
            with errors_of_plugins():
                loss = self.loss(logits, target, **arguments)
        except MedsegError:
            raise
        except Exception as error:  # whatever MONAI says about its arguments and shapes
            if lacks_memory(error):
                raise
            raise ConfigError(f"loss.name: {self.name} cannot be computed ({reason_of(error)})") from error
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            raise ConfigError(f"loss.name: {self.name} gives no single number; let it return the mean over the batch")
        return loss

    def _check(self, ignored: bool, annotated: torch.Tensor | None) -> None:
        if annotated is not None and not self.asks and not self.hides:
            raise ConfigError(
                f"loss.name: {self.name} cannot learn from cases in which only some labels were annotated; take "
                "dice-ce or a loss of MONAI without label_smoothing, or give its forward a parameter 'annotated'"
            )
        if ignored and self.regions is not None and not self.hides:
            raise ConfigError(
                f"loss.name: {self.name} counts voxels that are to be ignored, where regions are learnt; take "
                "dice-ce or a loss of MONAI"
            )
        if ignored and self.regions is None:
            raise ConfigError(
                f"loss.name: {self.name} counts voxels that are to be ignored; take dice-ce, or a loss that has "
                f"ignore_index, with loss.arguments.ignore_index={IGNORED}"
            )


def _of_labels(
    head: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits and target of a loss of labels, where labels that were not annotated are part of the
    background."""
    return head if annotated is None else merged(head, annotated, NEVER), target.long()


def _of_regions(
    regions: RegionSums, head: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None, ignored: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits and target of a loss of regions, where what is not known is certainly absent."""
    masks = regions.masks(target)
    if annotated is None and not ignored:
        return head, masks.float()
    counts = (target != IGNORED).expand_as(masks)
    if annotated is not None:
        counts = counts & regions.drawn(annotated).view(*masks.shape[:2], *[1] * (masks.ndim - 2))
    return head.masked_fill(~counts, NEVER), (masks & counts).float()


def _takes_softmax(loss: object) -> bool:
    """Returns whether it is a loss of MONAI that depends on the softmax of its logits alone."""
    parts = _parts_of_monai(loss)
    smooths = any(getattr(part, "label_smoothing", 0) for part in parts)  # which asks for hidden labels everywhere
    return not smooths and any(True in (getattr(p, "softmax", 0), getattr(p, "use_softmax", 0)) for p in parts)


def _takes_sigmoid(loss: object) -> bool:
    """Returns whether it is a loss of MONAI that depends on sigmoids of its logits alone."""
    return any(
        getattr(part, "sigmoid", False) is True or (isinstance(part, FocalLoss) and not part.use_softmax)
        for part in _parts_of_monai(loss)
    )


def _parts_of_monai(loss: object) -> list[nn.Module]:
    is_monais = isinstance(loss, nn.Module) and type(loss).__module__.startswith("monai.losses.")
    return list(loss.modules()) if is_monais and isinstance(loss, nn.Module) else []
