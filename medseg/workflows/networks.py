"""networks: which ones there are, their arguments, and what each takes for a patch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from medseg.config import Config, NetworkConfig
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.fingerprint import Fingerprint, Intensities
from medseg.networks.description import Argument, about_network, network_arguments
from medseg.networks.entries import NETWORKS, entry_of
from medseg.plan import Plan
from medseg.planning.derive import derive_plans, fit_to_cpu
from medseg.planning.network import with_network
from medseg.plugins import registered
from medseg.records import Record
from medseg.training.network_cost import Cost, network_cost

# Volumes so large that the budget for a GPU alone decides the plans: patches of 512×512 and 128×128×128.
LARGE = Fingerprint(
    n_cases=100,
    shapes=((512, 512, 512),) * 100,
    spacings=((1.0, 1.0, 1.0),) * 100,
    cropped_part=1.0,
    intensities=(Intensities(mean=0, std=1, percentile_00_5=0, percentile_99_5=1),),
)
LARGE_CHANNELS, LARGE_OUTPUTS = ("image",), 3


class NetworkInfo(Record):
    """A network by name. ``refusals`` say why it has no cost for a plan, where it cannot be built from that."""

    name: str
    title: str
    source: str
    dims: tuple[int, ...]
    learning_rate: float
    about: str
    arguments: tuple[Argument, ...]
    costs: tuple[Cost, ...]
    refusals: tuple[str, ...]


def list_networks(
    names: Sequence[str] = (), *, prepared: str | Path | None = None, dims: Literal[2, 3] | None = None
) -> tuple[NetworkInfo, ...]:
    """Returns networks by name, with their arguments and what they take for a patch.

    Args:
        names: Which ones, ``"monai.UNet"`` among them. None given: medseg's own, and those that plugins registered
            (``medseg.plugins.load_plugins``).
        prepared: A prepared dataset, whose plans for this machine are counted for. None: a GPU's plans of large
            volumes, 512×512 and 128×128×128 voxels, one channel, two labels.
        dims: Counts for the 2D or the 3D plan only.

    Raises:
        ConfigError: There is no network of a name, or the dataset has no plan of these ``dims``.
    """
    inputs, outputs, plans = _plans(prepared)
    chosen = [plan for plan in plans if dims in (None, plan.dims)]
    if not chosen:
        raise ConfigError(f"{prepared} holds 2D images, or volumes of too few slices; take --dims 2")
    every = [*NETWORKS, *(plugin.name for plugin in registered("network"))]
    return tuple(_info(name, inputs, outputs, chosen) for name in names or every)


def _plans(prepared: str | Path | None) -> tuple[int, int, list[Plan]]:
    """Returns channels, outputs, and the plans that there are."""
    if prepared is None:
        plans = derive_plans(LARGE, LARGE_CHANNELS, Config())
        return len(LARGE_CHANNELS), LARGE_OUTPUTS, [plan for plan in (plans.plan_2d, plans.plan_3d) if plan]
    dataset = PreparedDataset(Path(prepared))
    found = [plan for plan in (dataset.plans.plan_2d, dataset.plans.plan_3d) if plan]
    if not choose_device("auto").is_cuda:
        found = [fit_to_cpu(plan, Config()) for plan in found]
    return len(dataset.record.channels), len(found[0].outputs(dataset.labels)), found


def _info(name: str, inputs: int, outputs: int, plans: Sequence[Plan]) -> NetworkInfo:
    entry = entry_of(name)
    costs, refusals = [], []
    for plan in plans:
        try:
            costs.append(network_cost(with_network(plan, Config(network=NetworkConfig(name=name))), inputs, outputs))
        except ConfigError as error:
            refusals.append(f"{plan.dims}D: {error}")
    return NetworkInfo(
        name=name,
        title=entry.title,
        source=entry.source,
        dims=entry.dims,
        learning_rate=entry.learning_rate,
        about=about_network(entry),
        arguments=tuple(network_arguments(name, entry)),
        costs=tuple(costs),
        refusals=tuple(refusals),
    )
