"""A loss of (logits, target), of MONAI or a plugin, as training calls it."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from medseg.errors import ConfigError, MedsegError, lacks_memory, reason_of
from medseg.labels import IGNORED
from medseg.losses.dice_cross_entropy import centre_within, subsampled
from medseg.losses.voxel_sums import RegionSums
from medseg.plugins import errors_of_plugins


class AdaptedLoss(nn.Module):
    """Sums a loss over the heads of deep supervision, and gives it the target that it expects.

    Args:
        loss: A module or function of logits and target, which returns a scalar. Where labels are learnt the target is
            ``(batch, 1, *spatial)``, int64: the label of each voxel. Where regions are learnt it is their masks,
            ``(batch, region, *spatial)``, float32.
        name: What messages call it.
        head_weights: Weight of each head, from the finest down. They are made to sum to one. None: ``1 / 2**i``.
        margin: Voxels by which the logits are smaller than the target on each side of each spatial axis.
        regions: The labels that each region holds. Empty: labels are learnt.
        takes_ignored: Whether the loss knows voxels of value 255.
    """

    def __init__(
        self,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        *,
        name: str = "loss",
        head_weights: Sequence[float] | None = None,
        margin: Sequence[int] = (),
        regions: Sequence[Sequence[int]] = (),
        takes_ignored: bool = False,
    ) -> None:
        super().__init__()
        self.loss, self.name, self.head_weights = loss, name, head_weights
        self.centre = centre_within(margin)
        self.masks = RegionSums(regions).masks if regions else None
        self.takes_ignored = takes_ignored

    def forward(
        self,
        logits: torch.Tensor | Sequence[torch.Tensor],
        target: torch.Tensor,
        annotated: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the loss, a scalar.

        Args:
            logits: ``(batch, label or region, *spatial)``, or a list of these, one a head.
            target: ``(batch, 1, *spatial)``: network values of labels.
            annotated: ``(batch, label)``: which labels were annotated in each sample. None: all.

        Raises:
            ConfigError: The loss cannot be computed, or doesn't know ignored voxels or labels that were not annotated.
            PluginError: The loss of a plugin raised an error.
        """
        heads = [logits] if isinstance(logits, torch.Tensor) else list(logits)
        weights = self.head_weights or [0.5**i for i in range(len(heads))]
        target = target[self.centre]
        self._check(target, annotated)
        losses = [self._of_head(head.float(), subsampled(target, head.shape[2:])) for head in heads]
        weighed = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
        return torch.stack(weighed).sum() / sum(weights)

    def _of_head(self, head: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        target = target.long() if self.masks is None else self.masks(target).float()
        try:
            with errors_of_plugins():
                loss = self.loss(head, target)
        except MedsegError:
            raise
        except Exception as error:  # whatever MONAI says about its arguments and shapes
            if lacks_memory(error):
                raise
            raise ConfigError(f"loss.name: {self.name} cannot be computed ({reason_of(error)})") from error
        if not isinstance(loss, torch.Tensor) or loss.ndim:
            raise ConfigError(f"loss.name: {self.name} gives no single number; let it return the mean over the batch")
        return loss

    def _check(self, target: torch.Tensor, annotated: torch.Tensor | None) -> None:
        if annotated is not None:
            raise ConfigError(
                f"loss.name: {self.name} cannot learn from cases in which only some labels were annotated; take dice-ce"
            )
        if not self.takes_ignored and bool((target == IGNORED).any()):
            raise ConfigError(
                f"loss.name: {self.name} counts voxels that are to be ignored; take dice-ce, or a loss that has "
                f"ignore_index, with loss.arguments.ignore_index={IGNORED}"
            )
