"""Sliding windows over a case on the model grid: the same for validation and prediction, for 2D and 3D."""

from collections.abc import Callable, Sequence
from itertools import chain, combinations

import torch
from monai.inferers import sliding_window_inference

from medseg.config import InferenceConfig
from medseg.device import Device
from medseg.errors import MedsegError
from medseg.plan import Plan

WINDOW_BATCH_SIZE = {2: 16, 3: 4}
# Standard deviation of the Gaussian that weighs a window, as part of its edge (nnU-Net: 1/8).
GAUSSIAN_SIGMA = 0.125


def predict_logits(
    network: torch.nn.Module,
    image: torch.Tensor,
    plan: Plan,
    config: InferenceConfig,
    device: Device,
    mirror_axes: Sequence[int] = (),
) -> torch.Tensor:
    """Logits (label, x, y, z) float32 of ``image`` (channel, x, y, z), averaged over overlapping windows.

    ``mirror_axes`` are array axes; the average runs over all combinations of them. When the GPU's memory runs out,
    the batch of windows is halved; when one window at a time is still too much, the sum moves to main memory.
    """
    batch_size = config.window_batch_size or WINDOW_BATCH_SIZE[plan.dims]
    predictor = _mirrored(_as_3d(network, plan, device), mirror_axes)
    with torch.inference_mode():
        for size, where in _attempts(batch_size, device):
            try:
                logits = sliding_window_inference(
                    image[None],
                    plan.patch_size,
                    size,
                    predictor,
                    overlap=config.overlap,
                    mode="gaussian",
                    sigma_scale=GAUSSIAN_SIGMA,
                    sw_device=device.torch_device,
                    device=where,
                )
                return logits[0]  # type: ignore[no-any-return]
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
    raise MedsegError(f"{device}: not enough memory for one window of {plan.patch_size} voxels; take --device cpu")


def _attempts(batch_size: int, device: Device) -> list[tuple[int, torch.device]]:
    """Batch sizes and where the logits are summed, from the fastest to the most frugal."""
    if not device.is_cuda:
        return [(batch_size, device.torch_device)]
    sizes = [batch_size]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return [*((size, device.torch_device) for size in sizes), (1, torch.device("cpu"))]


def _as_3d(network: torch.nn.Module, plan: Plan, device: Device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network as a function of (batch, channel, x, y, z) windows; 2D networks see them without the slice axis."""
    axis = None if plan.slice_axis is None else plan.slice_axis + 2

    def predict(windows: torch.Tensor) -> torch.Tensor:
        with device.autocast():
            logits: torch.Tensor = network(windows if axis is None else windows.squeeze(axis))
        logits = logits.float()
        return logits if axis is None else logits.unsqueeze(axis)

    return predict


def _mirrored(
    predict: Callable[[torch.Tensor], torch.Tensor], axes: Sequence[int]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The mean over all combinations of mirrored axes."""
    dims = [axis + 2 for axis in axes]
    flips = list(chain.from_iterable(combinations(dims, n) for n in range(len(dims) + 1)))
    if len(flips) == 1:
        return predict

    def predict_all(windows: torch.Tensor) -> torch.Tensor:
        total = predict(windows)
        for flip in flips[1:]:
            total = total + predict(windows.flip(flip)).flip(flip)
        return total / len(flips)

    return predict_all
