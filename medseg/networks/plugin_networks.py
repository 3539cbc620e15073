"""Networks that plugins register, as those of medseg."""

import inspect
from typing import Any

from torch import nn

from medseg.architecture import Architecture
from medseg.errors import ConfigError, reason_of
from medseg.networks.monai_networks import FILLED_IN
from medseg.networks.network import Network
from medseg.networks.wrapped import ShapeTrial, TriedNetwork
from medseg.plugin_errors import PluginError, errors_of_plugins
from medseg.plugins import Registered


def plugin_network(plugin: Registered, in_channels: int, out_channels: int, architecture: Architecture) -> Network:
    """Returns a network that a plugin makes.

    Args:
        plugin: What was registered.
        in_channels: Channels of the image.
        out_channels: Labels, the background among them, or regions.
        architecture: The plan's; ``arguments`` are given to the plugin.

    Raises:
        ConfigError: It has no such arguments, or its module makes no logits of images.
        PluginError: It raised an error, or made no module.
    """
    dims = len(architecture.strides[0])
    filled_in: dict[str, Any] = dict(zip(FILLED_IN, (dims, in_channels, out_channels), strict=True))
    if "architecture" in inspect.signature(plugin.build).parameters:
        filled_in["architecture"] = architecture
    for key in architecture.arguments:
        if key in filled_in:
            raise ConfigError(f"network.arguments.{key}: follows from the data; leave it out")
    try:
        inspect.signature(plugin.build).bind(**filled_in, **architecture.arguments)
    except TypeError as error:
        unknown = [key for key in architecture.arguments if f"'{key}'" in str(error)]
        which = f"network.arguments.{unknown[0]}" if unknown else "network.arguments"
        raise ConfigError(f"{which}: {plugin.name} of {plugin.file}: {reason_of(error)}") from error
    with errors_of_plugins():
        network = plugin.build(**filled_in, **architecture.arguments)
    if isinstance(network, Network):
        return network
    if not isinstance(network, nn.Module):
        raise PluginError(
            f"{plugin.file}: '{plugin.name}' made a {type(network).__name__}; it has to be a torch.nn.Module"
        )
    trial = ShapeTrial(plugin.name, network, in_channels, out_channels)
    if plugin.multiple_of is None:
        return trial.wrapped(network, dims, architecture.deep_supervision)
    trial.refuse(trial.complaint((4 * plugin.multiple_of,) * dims))
    heads = architecture.deep_supervision and trial.heads > 1
    return TriedNetwork(network, (plugin.multiple_of,) * dims, plugin.multiple_of, None, heads)
