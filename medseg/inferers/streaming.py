"""A sliding-window inferer for any network, in bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.utils.misc import ensure_tuple_rep, fall_back_tuple
from monai.utils.type_conversion import convert_to_dst_type

from medseg.device import Device
from medseg.errors import ConfigError, MedsegError
from medseg.inferers.memory_plan import MemoryPlan
from medseg.inferers.stream import Stream
from medseg.inferers.windows import Layout
from medseg.plan import GAUSSIAN_SIGMA

MODES = ("gaussian", "constant")
PADDING_MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class PlacedSlab:
    """Finished logits of a part of one image of a batch.

    Attributes:
        logits: (label, x, y, z), or (label, x, y) of a 2D image: of all voxels of the part.
        place: Where the part lies in the logits of the whole batch, so that ``whole[slab.place] = slab.logits``.
    """

    logits: torch.Tensor
    place: tuple[int | slice, ...]


@dataclass(eq=False)
class StreamingInferer(Inferer):
    """Slides windows over images, as ``monai.inferers.SlidingWindowInferer`` does, in bounded memory.

    It takes the place of MONAI's, and gives the same logits but for rounding (1e-5). MONAI's keeps the logits of the
    whole image twice. This one keeps them once, or with ``slabs`` hardly at all: windows are visited in rows, and what
    no window to come will touch leaves. It is what medseg itself predicts with (``medseg.inferers.stream``).

    Networks have to return one tensor of logits of the shape of the window. They run under ``torch.inference_mode``:
    nothing is kept for gradients. When a GPU's memory runs out, fewer windows are seen at once, and then sums move to
    main memory.

    Args:
        roi_size: The shape of a window in voxels; a value of 0 or less takes the extent of the image.
        sw_batch_size: How many windows the network sees at once.
        overlap: Of neighbouring windows, as a fraction of the window, for all axes or for each; from 0, below 1.
        mode: "gaussian" weighs the middle of a window more than its border (nnU-Net), "constant" all alike. MONAI's
            own default is "constant".
        sigma_scale: Standard deviation of the Gaussian as a fraction of the window, for all axes or for each.
        padding_mode: How images smaller than a window are extended: "constant", "reflect", "replicate", "circular".
        cval: The value that "constant" extends with.
        sw_device: Where windows are sent; None for the device of the inputs. The network has to be there.
        device: Where the logits of the whole batch are kept; None for the device of the inputs.

    What MONAI's has beside these is not there: ``cpu_thresh``, ``buffer_steps``, ``buffer_dim`` and
    ``cache_roi_weight_map`` are about memory, which is bounded here always; ``progress`` and ``with_coord`` are not
    known.

    Raises:
        ConfigError: An argument is none that is known.

    Example:
        >>> import torch
        >>> from medseg.inferers import StreamingInferer
        >>> network = torch.nn.Conv3d(1, 3, kernel_size=3, padding=1)
        >>> inferer = StreamingInferer(roi_size=(16, 16, 16), sw_batch_size=2, overlap=0.5)
        >>> image = torch.rand(1, 1, 40, 24, 20)  # (batch, channel, x, y, z)
        >>> inferer(image, network).shape
        torch.Size([1, 3, 40, 24, 20])
        >>> labels = torch.zeros(1, 40, 24, 20, dtype=torch.uint8)
        >>> for slab in inferer.slabs(image, network):  # never all logits at once
        ...     batch_item, _, *voxels = slab.place
        ...     labels[(batch_item, *voxels)] = slab.logits.argmax(0).to(torch.uint8)
        >>> isinstance(slab, PlacedSlab)
        True
    """

    roi_size: Sequence[int] | int
    sw_batch_size: int = 1
    overlap: Sequence[float] | float = 0.25
    mode: str = "gaussian"
    sigma_scale: Sequence[float] | float = GAUSSIAN_SIGMA
    padding_mode: str = "constant"
    cval: float = 0.0
    sw_device: torch.device | str | None = None
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        self.mode, self.padding_mode = (getattr(each, "value", each) for each in (self.mode, self.padding_mode))
        if self.mode not in MODES:
            raise ConfigError(f"mode {self.mode!r}: is not known; give {' or '.join(MODES)}")
        if self.padding_mode not in PADDING_MODES:
            raise ConfigError(f"padding_mode {self.padding_mode!r}: is not known; give {', '.join(PADDING_MODES)}")
        if self.sw_batch_size < 1:
            raise ConfigError(f"sw_batch_size {self.sw_batch_size}: give 1 or more")
        overlaps = [self.overlap] if isinstance(self.overlap, int | float) else self.overlap
        if not all(0 <= overlap < 1 for overlap in overlaps):
            raise ConfigError(f"overlap {self.overlap}: give fractions of the window, from 0, below 1")

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Returns the logits of a batch of images.

        Args:
            inputs: (batch, channel, x, y, z), or (batch, channel, x, y).
            network: Windows (window, channel, *spatial) to logits (window, label, *spatial).
            *args: Given to the network behind the windows.
            **kwargs: Given to the network too.

        Returns:
            Logits (batch, label, *spatial) in the type of the inputs; a ``MetaTensor`` with their meta data where they
            are one.

        Raises:
            MedsegError: The inputs fit no window, the network returns something else, or a GPU's memory is too little
                for one window.
        """
        whole: torch.Tensor | None = None
        device = torch.device(self.device) if self.device is not None else inputs.device
        for slab in self.slabs(inputs, network, *args, **kwargs):
            if whole is None:
                shape = (len(inputs), len(slab.logits), *inputs.shape[2:])
                whole = torch.empty(shape, dtype=inputs.dtype, device=device)
            whole[slab.place] = slab.logits.to(device, inputs.dtype)
        if whole is None:
            raise MedsegError("the inputs hold no image")
        if isinstance(inputs, MetaTensor):
            # As MONAI does: the meta data, but no attributes of other tensors.
            meta = MetaTensor([]).copy_meta_from(inputs, copy_attr=False)
            converted: torch.Tensor = convert_to_dst_type(whole, meta, device=device)[0]
            return converted
        return whole

    def slabs(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> Iterator[PlacedSlab]:
        """Yields the logits of a batch of images part by part, as soon as they are finished.

        Memory holds the sums of a row of windows, whatever the number of labels and the length of the image. Slabs
        together cover each voxel once. Their logits are float32, and were made under ``torch.inference_mode``: copy
        them to change them.

        Args:
            inputs: (batch, channel, x, y, z), or (batch, channel, x, y).
            network: Windows (window, channel, *spatial) to logits (window, label, *spatial).
            *args: Given to the network behind the windows.
            **kwargs: Given to the network too.

        Yields:
            Slabs, image by image, each from one end of an axis to the other.

        Raises:
            MedsegError: As for a call.
        """
        if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
            kind = inputs.dtype if isinstance(inputs, torch.Tensor) else type(inputs).__name__
            raise MedsegError(f"inputs of {kind}: give a tensor of floats; logits get its type")
        dims = inputs.ndim - 2
        if dims not in (2, 3):
            raise MedsegError(f"inputs of shape {tuple(inputs.shape)}: give (batch, channel, x, y, z), or without z")
        if "condition" in kwargs:
            raise MedsegError("'condition' is not cut into windows; take monai.inferers.SlidingWindowInferer")
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        device = torch.device(self.sw_device) if self.sw_device is not None else inputs.device
        predictor = _CallableOnWindows(network, Device(device, torch.float32), dims, args, kwargs)
        layout = self._layout(plain.shape[2:])
        memory_plan = MemoryPlan(self.sw_batch_size, rows_at_once=-(-self.sw_batch_size // layout.windows_per_row))
        for i, image in enumerate(plain):
            stream = Stream(predictor, image if dims == 3 else image[..., None], layout, memory_plan)
            for slab in stream.slabs():
                logits = slab.fresh.permute(3, 0, 1, 2)
                place = [slice(0, n) for n in plain.shape[2:]]
                place[slab.axis] = slice(slab.start + slab.repeated, slab.stop)
                yield PlacedSlab(logits if dims == 3 else logits[..., 0], (i, slice(None), *place))

    def _layout(self, shape: Sequence[int]) -> Layout:
        """Returns the windows in images of a shape; 2D ones have one voxel along z."""
        dims = len(shape)
        try:
            roi_size = fall_back_tuple(self.roi_size, shape)
            overlap, sigma = (ensure_tuple_rep(each, dims) for each in (self.overlap, self.sigma_scale))
        except ValueError as error:
            raise MedsegError(
                f"images are {dims}D, the inferer has roi_size {self.roi_size}, overlap {self.overlap}, sigma_scale "
                f"{self.sigma_scale}; give one value, or one an axis"
            ) from error
        (x, y, z), (a, b, c) = ((*each, *[1] * (3 - dims)) for each in (shape, roi_size))
        return Layout(
            (x, y, z),
            (a, b, c),
            (0, 0, 0),
            overlap=(*overlap, *[0.0] * (3 - dims)),
            mode=self.mode,
            sigma_scale=(*sigma, *[1.0] * (3 - dims)),
            padding_mode=self.padding_mode,
            padding_value=self.cval,
        )


@dataclass
class _CallableOnWindows:
    """A network of the user as a ``WindowPredictor``: 2D networks see windows without the last axis."""

    network: Callable[..., torch.Tensor]
    device: Device
    dims: int
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        windows = windows.to(self.device.torch_device)
        windows = windows if self.dims == 3 else windows.squeeze(-1)
        logits = self.network(windows, *self.args, **self.kwargs)
        if not isinstance(logits, torch.Tensor):
            raise MedsegError(
                f"the network returns a {type(logits).__name__}, not a tensor of logits; wrap it in a function that "
                "returns one"
            )
        if logits.shape[0] != len(windows) or logits.shape[2:] != windows.shape[2:]:
            raise MedsegError(
                f"the network returns logits of shape {tuple(logits.shape)} for windows of shape "
                f"{tuple(windows.shape)}; they have to be of the same batch and the same spatial shape"
            )
        return logits if self.dims == 3 else logits.unsqueeze(-1)

    def to_processor(self) -> None:
        """Refuses: where a network of the user lies is the user's.

        Raises:
            MedsegError: Always.
        """
        raise MedsegError("out of GPU memory: not even a single window fits; take a smaller roi_size, or the processor")
