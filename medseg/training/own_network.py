"""A network that the user brings as a module: what a run knows of it."""

from dataclasses import replace

from pydantic_core import PydanticSerializationError
from torch import nn

from medseg.architecture import Architecture
from medseg.config import NetworkConfig
from medseg.device import Device
from medseg.errors import ConfigError
from medseg.networks.network import Network
from medseg.planning.network import fit_to_network
from medseg.training.network_fit import NetworkFit
from medseg.training.run import Run


def with_own_network(run: Run, network: nn.Module, device: Device) -> Run:
    """Returns a run that trains a module of the user's.

    A network of ``create_network`` is stored by its name, as if ``network.name`` had named it, so that nobody has to
    give it again. Of another module the plan says that it is a custom one.

    Args:
        run: As ``start_runs`` gives it, for a custom network.
        network: The user's module.
        device: Where it will be trained.

    Raises:
        ConfigError: The module cannot be trained on the plan's patches, or has other channels or outputs.
    """
    if isinstance(network, Network) and (architecture := _stored(network)) is not None:
        run = _named(run, network, architecture)
    channels, outputs = len(run.dataset.record.channels), run.plan.outputs(run.dataset.labels)
    NetworkFit(network, channels, outputs, device).check(run.plan)
    return run


def _stored(network: Network) -> Architecture | None:
    """Returns what a network was built of, as a file can hold it; None where it cannot, as of arguments that are
    modules."""
    if network.architecture is None:
        return None
    try:
        return Architecture.model_validate(network.architecture.model_dump(mode="json"))
    except PydanticSerializationError:
        return None


def _named(run: Run, network: Network, architecture: Architecture) -> Run:
    dims, name = len(architecture.strides[0]), architecture.name
    if dims != run.plan.dims:
        raise ConfigError(f"network: is a {dims}D {name}, and the plan is {run.plan.dims}D; give dims={dims}")
    # What follows from the patch is left as the network was built.
    plan = fit_to_network(run.plan, network).model_copy(update={"architecture": architecture})
    content = architecture.model_dump(mode="json")
    settings = {key: value for key, value in content.items() if key in NetworkConfig.model_fields}
    config = run.config.model_copy(update={"network": run.config.network.model_copy(update=settings)})
    return replace(run, plan=plan, config=config)
