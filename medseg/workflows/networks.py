"""networks: which ones there are, their arguments, and what each takes for a patch."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from pydantic_core import to_jsonable_python
from torch.utils.flop_counter import FlopCounterMode

from medseg.config import Config, NetworkConfig
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.errors import ConfigError
from medseg.losses import DiceCrossEntropyLoss
from medseg.networks.monai_networks import FILLED_IN, PREFIX, AnyArguments, segmentation_networks
from medseg.networks.network import Network
from medseg.networks.registry import NETWORKS, Entry, build_network, entry_of
from medseg.plan import Fingerprint, Intensities, Plan
from medseg.planning.derive import derive_plans, fit_to_cpu
from medseg.plugins import registered
from medseg.training.run import fit_to_network, with_network

# Float32 numbers that training holds for a parameter: itself, its average, its gradient, Muon's momentum. (AdamW, to
# which Muon leaves the few weights that are no matrices, has one more.)
NUMBERS_PER_PARAMETER = 4

# Volumes so large that the budget for a GPU alone decides the plans: patches of 512×512 and 128×128×128.
LARGE = Fingerprint(
    n_cases=100,
    shapes=((512, 512, 512),) * 100,
    spacings=((1.0, 1.0, 1.0),) * 100,
    cropped_part=1.0,
    intensities=(Intensities(mean=0, std=1, percentile_00_5=0, percentile_99_5=1),),
)
LARGE_CHANNELS, LARGE_OUTPUTS = ("image",), 3


@dataclass(frozen=True)
class Cost:
    """What a network takes for one patch, and for the batch of one training step.

    Counted on tensors without content: ``gflop`` are those of convolutions, matrix products and attention to segment a
    patch, where a multiplication and an addition are two. ``training_mb`` is what a step in float32 holds when it turns
    back: four numbers a parameter (weight, average, gradient, Muon's momentum) and all that autograd keeps of network
    and loss. In bf16 the latter is about half; the work space of kernels comes on top.
    """

    dims: int
    patch_size: tuple[int, ...]
    batch_size: int
    parameters: int
    gflop: float
    training_mb: float


@dataclass(frozen=True)
class Argument:
    """One of ``network.arguments``. ``default`` is "needed" where there is none."""

    name: str
    default: Any
    choices: tuple[str, ...]
    about: str


@dataclass(frozen=True)
class NetworkInfo:
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

    def as_json(self) -> dict[str, Any]:
        """Returns what ``medseg networks --json`` prints of it; defaults that JSON has no form for are texts."""
        return to_jsonable_python(asdict(self), fallback=str)  # type: ignore[no-any-return]


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
    """Channels, outputs, and the plans that there are."""
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
            costs.append(_cost(with_network(plan, Config(network=NetworkConfig(name=name))), inputs, outputs))
        except ConfigError as error:
            refusals.append(f"{plan.dims}D: {error}")
    return NetworkInfo(
        name=name,
        title=entry.title,
        source=entry.source,
        dims=entry.dims,
        learning_rate=entry.learning_rate,
        about=_about(entry),
        arguments=tuple(_arguments(name, entry)),
        costs=tuple(costs),
        refusals=tuple(refusals),
    )


def _cost(plan: Plan, inputs: int, outputs: int) -> Cost:
    # Built with content, since not all networks can be without.
    network = build_network(inputs, outputs, plan.architecture)
    plan = fit_to_network(plan, network)
    network = build_network(inputs, outputs, plan.architecture).to("meta")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    images = torch.empty(plan.batch_size, inputs, *plan.network_patch, device="meta")
    with FlopCounterMode(display=False) as counter:
        network.eval()(images[:1])
    kept = _kept_bytes(network, images) + parameters * NUMBERS_PER_PARAMETER * 4
    return Cost(
        dims=plan.dims,
        patch_size=plan.network_patch,
        batch_size=plan.batch_size,
        parameters=parameters,
        gflop=counter.get_total_flops() / 1e9,
        training_mb=kept / 2**20,
    )


def _kept_bytes(network: Network, images: torch.Tensor) -> int:
    """What autograd keeps of a training step for its way back, the weights not counted."""
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no other gets its number

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    loss = DiceCrossEntropyLoss(head_weights=network.head_weights, margin=network.margin)
    label = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.uint8, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss(network.train()(images), label)
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    total = sum(storage.nbytes() for number, storage in kept.items() if number not in own)
    del result  # what was kept lives as long
    return total


def _about(entry: Entry) -> str:
    """What the code says of it: the docstring of its file, and its own."""
    build = entry.build if entry.plugin is None else entry.plugin.build
    texts = [inspect.getdoc(inspect.getmodule(build)), inspect.getdoc(build)]
    paragraphs = "\n\n".join(text.strip() for text in texts if text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _arguments(name: str, entry: Entry) -> Iterator[Argument]:
    if entry.arguments is AnyArguments:
        known = segmentation_networks().get(name.removeprefix(PREFIX))
        kind = known if entry.plugin is None else entry.plugin.build
        signature = {} if kind is None else inspect.signature(kind).parameters
        for key, parameter in signature.items():
            if key not in (*FILLED_IN, "architecture") and parameter.kind != parameter.VAR_KEYWORD:
                needed = parameter.default is parameter.empty
                yield Argument(key, "needed" if needed else parameter.default, (), "")
        return
    for key, field in entry.arguments.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        yield Argument(key, field.default, tuple(map(str, choices)), " ".join((field.description or "").split()))
