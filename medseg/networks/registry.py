"""Networks built by name."""

from typing import Any, Literal

import torch

from medseg.architecture import PROMPT_CHANNELS, Architecture
from medseg.errors import ConfigError, MedsegError, lacks_memory, reason_of
from medseg.networks.arguments import arguments_of
from medseg.networks.entries import entry_of
from medseg.networks.fitting import Fitted
from medseg.networks.network import Network
from medseg.networks.promptable import Promptable
from medseg.plan import Plan


def create_network(
    name: str = "unet",
    *,
    in_channels: int,
    out_channels: int,
    plan: Plan | Architecture | None = None,
    spatial_dims: Literal[2, 3] = 3,
    **arguments: Any,
) -> Network:
    """Returns a network with random weights.

    Args:
        name: As ``medseg networks`` lists them; "monai.SwinUNETR" and the like are MONAI's classes; others are those
            of plugins.
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        plan: Says how deep and wide the network is, its strides and its kernels: a plan of ``medseg preprocess``, or an
            ``Architecture``. None: ``default_architecture(spatial_dims)``.
        spatial_dims: Spatial axes of the image, where there is no plan.
        **arguments: What this network alone knows: ``blocks=(1, 3, 4, 6)``. ``medseg networks NAME`` lists it.

    Returns:
        A module from images, ``(batch, in_channels, *spatial)``, of any spatial shape to logits,
        ``(batch, out_channels, *spatial)``. While it trains with deep supervision it returns a list of them, from the
        finest down. Logits of networks of valid convolutions are those of the centre, without ``margin``.

    Raises:
        ConfigError: There is no such network, or it has no such arguments or dimensions.
        PluginError: The network of a plugin raised an error.

    Example:
        >>> from medseg.networks import create_network
        >>> network = create_network("residual-unet", in_channels=1, out_channels=2, spatial_dims=2, blocks=(1, 2))
        >>> unetr = create_network("monai.UNETR", in_channels=1, out_channels=2, img_size=(32, 32, 32))
    """
    architecture = plan.architecture if isinstance(plan, Plan) else plan or default_architecture(spatial_dims)
    if architecture.name == name:
        arguments = architecture.arguments | arguments
    named = architecture.model_copy(update={"name": name, "arguments": arguments})
    return build_network(in_channels, out_channels, named)


def default_architecture(spatial_dims: Literal[2, 3], deep_supervision: bool = False) -> Architecture:
    """Returns depth, width, strides and kernels that nnU-Net plans for large images of cubic voxels.

    Args:
        spatial_dims: 2: eight stages of 32 to 512 features; 3: six stages of 32 to 320 features.
        deep_supervision: Whether the network gives a list of logits while it trains.

    Raises:
        ConfigError: There are no networks of so many axes.
    """
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims {spatial_dims}: give 2 or 3")
    stages, most = {2: (8, 512), 3: (6, 320)}[spatial_dims]
    return Architecture(
        features=tuple(min(32 * 2**stage, most) for stage in range(stages)),
        strides=((1,) * spatial_dims, *((2,) * spatial_dims,) * (stages - 1)),
        kernel_sizes=((3,) * spatial_dims,) * stages,
        deep_supervision=deep_supervision,
    )


def shapes_of(in_channels: int, out_channels: int, architecture: Architecture) -> dict[str, tuple[int, ...]] | None:
    """Returns the shapes of the tensors in the network's state, without taking memory.

    Returns:
        A shape by name; None for the few networks that cannot be built without memory.

    Raises:
        ConfigError: As of ``build_network``.
    """
    network = build_without_memory(in_channels, out_channels, architecture)
    if network is None:
        return None
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def build_without_memory(in_channels: int, out_channels: int, architecture: Architecture) -> Network | None:
    """Returns the network on the meta device, where tensors have shapes only: large ones are built in no time.

    Returns:
        None for the few networks that read values while they are built.

    Raises:
        ConfigError: As of ``build_network``.
    """
    try:
        with torch.device("meta"):
            return build_network(in_channels, out_channels, architecture)
    except ConfigError as error:
        if isinstance(error.__cause__, NotImplementedError | RuntimeError):
            return None
        raise


def build_network(
    in_channels: int, out_channels: int, architecture: Architecture, checkpointing: bool = False
) -> Network:
    """Returns the network that an architecture describes, with random weights.

    Where the architecture has prompts, it is a ``Promptable`` one.

    Args:
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: Names the network, and says how deep and wide it is.
        checkpointing: Whether activations are computed again in the backward pass instead of being kept.

    Raises:
        ConfigError: There is no network of this name or of these dimensions, or its numbers make no network, or one
            larger than memory.
        PluginError: The network of a plugin raised an error.
    """
    entry = entry_of(architecture.name)
    dims = len(architecture.strides[0])
    if dims not in entry.dims:
        raise ConfigError(
            f"network.name: {architecture.name} is a {entry.dims[0]}D network; train it with --dims {entry.dims[0]}"
        )
    arguments_of(architecture, entry.arguments)  # so that networks without arguments refuse them too
    prompts, objects = (0, 0) if architecture.prompts is None else (len(PROMPT_CHANNELS), 1)
    try:
        network = entry.build(in_channels + prompts, out_channels + objects, architecture)
    except MedsegError:
        raise
    except Exception as error:  # whatever PyTorch and MONAI say about its numbers
        features = "-".join(map(str, architecture.features))
        reason = "there is too little memory for it" if lacks_memory(error) else reason_of(error)
        raise ConfigError(
            f"network: {architecture.name} of features {features} cannot be built ({reason}); change "
            "network.features or network.arguments"
        ) from error
    network.checkpointing = checkpointing
    if prompts and any(network.margin):
        raise ConfigError(
            f"network.name: {architecture.name} gives logits of the centre of an image only, and takes no prompts; "
            "choose another network"
        )
    fitted = Promptable(network, in_channels) if prompts else Fitted(network)
    built = network if any(network.margin) else fitted
    built.architecture = architecture
    return built
