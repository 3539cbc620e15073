"""The network of a bundle: a class of ``monai.networks.nets`` as ``monai.NAME``, and its weights."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from medseg.architecture import Architecture
from medseg.errors import ConfigError, ModelError
from medseg.interop.bundle.configuration import ADVICE, BundleConfig, Component
from medseg.labels import MOST_LABELS
from medseg.networks.monai_networks import FILLED_IN, PREFIX, segmentation_networks
from medseg.networks.network import Network
from medseg.networks.registry import build_network
from medseg.records import explained
from medseg.weights import Tensors, read_torch_file

# Arguments of older versions of MONAI, which checked shapes and changed nothing of the network.
GONE = {"SwinUNETR": {"img_size"}}
WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
DEFAULT_CHECKPOINT = "models/model.pt"
# How many tensors at the end of a network may make its outputs, and the edge of the images on which that is tried.
LAST_TENSORS = 16
EDGE_OF_NOISE = 32


@dataclass(frozen=True)
class BundleNetwork:
    """What a bundle says of its network.

    Attributes:
        in_channels: Of the images.
        out_channels: Of the logits.
        architecture: ``monai.NAME`` with the arguments of the bundle.
        component: Where it stands.
    """

    in_channels: int
    out_channels: int
    architecture: Architecture
    component: Component


def bundle_network(configuration: BundleConfig) -> BundleNetwork:
    """Returns the network that a bundle predicts with.

    Raises:
        ModelError: It is no segmentation network of MONAI, or an argument cannot be taken.
    """
    path = next((path for path in ("evaluator::network", "network", "network_def") if path in configuration), None)
    if path is None:
        raise ModelError(f"{configuration.file}: has no network_def; {ADVICE}")
    component = configuration.component(path, "a network")
    kinds = segmentation_networks()
    if component.name not in kinds:
        near = difflib.get_close_matches(component.name, kinds, n=1, cutoff=0.8)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise component.error(f"is of the class {component.target}, no segmentation network of MONAI{hint}")
    parameters = inspect.signature(kinds[component.name]).parameters
    gone = GONE.get(component.name, set()) - set(parameters)
    arguments = {name: component.argument(name) for name in sorted(component.given - gone)}
    defaults = {name: parameters[name].default for name in FILLED_IN}
    for name, value in (defaults | arguments).items():
        _check_plain(component, name, value)
    dims, inputs, outputs = (_count(component, name, arguments.get(name, defaults[name])) for name in FILLED_IN)
    if dims not in (2, 3):
        raise component.error(f"is {dims}, and images are 2D or 3D", "spatial_dims")
    if outputs > MOST_LABELS + 1:
        raise component.error(
            f"of {component.name}: {outputs} outputs are more than {MOST_LABELS} labels", FILLED_IN[2]
        )
    own = {name: value for name, value in arguments.items() if name not in FILLED_IN}
    try:
        architecture = Architecture(name=f"{PREFIX}{component.name}", arguments=own, **_stages(own, dims))
    except ValidationError as error:
        raise component.error(f"cannot be taken: {explained(error)}") from error
    return BundleNetwork(inputs, outputs, architecture, component)


def _stages(arguments: Mapping[str, Any], dims: int) -> dict[str, Any]:
    """Returns features and strides of each stage, as far as MONAI's arguments have them, for what plans tell."""
    features = next((arguments[key] for key in ("channels", "filters", "features") if key in arguments), None)
    if not isinstance(features, list | tuple) or not features:
        features = [arguments.get("init_filters") or arguments.get("feature_size") or 1]
    strides = arguments.get("strides", [])
    if len(strides) != len(features) - 1 or not all(isinstance(each, int) for each in strides):
        features, strides = features[:1], []
    return {
        "features": tuple(features),
        "strides": tuple((stride,) * dims for stride in (1, *strides)),
        "kernel_sizes": ((3,) * dims,) * len(features),
        "deep_supervision": False,
    }


def _count(component: Component, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**16:
        raise component.error(f"of {component.name}: '{name}' has to be given, as a number", name)
    return value


def _check_plain(component: Component, name: str, value: object) -> None:
    """Checks that an argument holds what JSON can hold."""
    if isinstance(value, list | tuple):
        for each in value:
            _check_plain(component, name, each)
    elif isinstance(value, dict):
        for each in value.values():
            _check_plain(component, name, each)
    elif isinstance(value, Component) or not (value is None or isinstance(value, str | int | float | type)):
        raise component.error(f"of {component.name} is no number, text or list of them", name)


def bundle_weights(network: BundleNetwork, configuration: BundleConfig, bundle: Path) -> Tensors:
    """Returns the weights of a bundle by their names in medseg's network; all of them fit.

    Raises:
        ModelError: The file is not there, holds more than tensors, or does not fit the network.
    """
    file, key = _checkpoint(configuration, bundle)
    content = read_torch_file(file, "download the bundle's weights again", ModelError)
    for name in (key, "model", "state_dict", "network_weights"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict) or not all(isinstance(each, torch.Tensor) for each in content.values()):
        raise ModelError(
            f"{file}: holds no weights by name; give the bundle a file that holds its network's state_dict"
        )
    weights = {_bare(str(name)): tensor for name, tensor in content.items()}
    state = _built(network).state_dict()
    wanted = {_own(name): name for name in state}
    missing, unknown = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or unknown:
        what = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which the network has not"
        raise ModelError(f"{file}: does not fit {network.component.target} of {configuration.file.name}: it {what}")
    for name, place in wanted.items():
        tensor, shape = weights[name], tuple(state[place].shape)
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{file}: '{name}' is {tuple(tensor.shape)}, and {shape} in {configuration.file.name}")
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{file}: '{name}' holds what is no number; download the bundle's weights again")
    return {place: weights[name].to(state[place].dtype) for name, place in wanted.items()}


def with_outputs_in_order(network: BundleNetwork, weights: Tensors, order: Sequence[int]) -> Tensors:
    """Returns weights of the same network with its outputs in another order.

    Nothing says which tensors make the outputs. The last ones are permuted, more and more of them, until the outputs of
    noise are those of before in the new order.

    Args:
        network: The network.
        weights: As ``bundle_weights`` gives them.
        order: For each output, which one it was before.

    Raises:
        ModelError: None of them does it.
    """
    if list(order) == list(range(network.out_channels)):
        return weights
    built = _built(network).eval()
    built.load_state_dict(weights)
    shape = built.fitting_shape((EDGE_OF_NOISE,) * len(network.architecture.strides[0]))
    noise = torch.randn(1, network.in_channels, *shape, generator=torch.Generator().manual_seed(0))
    index, changed = torch.tensor(order), dict(weights)
    with torch.inference_mode():
        wanted = built(noise)[:, index]
        for name in list(weights)[: -LAST_TENSORS - 1 : -1]:
            for axis in (axis for axis in range(min(weights[name].ndim, 2)) if weights[name].shape[axis] == len(order)):
                changed[name] = changed[name].index_select(axis, index)
            built.load_state_dict(changed)
            if torch.allclose(built(noise), wanted, atol=1e-4):
                return changed
    raise network.component.error("has outputs that are merged in another order, which medseg cannot give them")


def _built(network: BundleNetwork) -> Network:
    try:
        return build_network(network.in_channels, network.out_channels, network.architecture)
    except ConfigError as error:
        raise network.component.error(f"cannot be built: {error}") from error


def _own(name: str) -> str:
    """Returns the name of a tensor in MONAI's network, of its name in the one of medseg that wraps it."""
    return name.removeprefix("network.network.")


def _bare(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _checkpoint(configuration: BundleConfig, bundle: Path) -> tuple[Path, str]:
    """Returns the file of the weights, and under which key they may lie in it."""
    loader = _loader(configuration)
    if loader is None:
        return bundle / DEFAULT_CHECKPOINT, "model"
    place = loader.argument("load_path")
    if not isinstance(place, str):
        raise loader.error("is no path", "load_path")
    file = bundle / place
    if not file.resolve().is_relative_to(bundle.resolve()):
        raise loader.error(f"is '{place}', which lies outside of the bundle", "load_path")
    keys = loader.raw_argument("load_dict") if "load_dict" in loader.given else {}
    return file, str(next(iter(keys), "model")) if isinstance(keys, dict) else "model"


def _loader(configuration: BundleConfig) -> Component | None:
    """Returns the component that reads the weights, whether its entry stands alone or among the handlers."""
    for path in ("checkpointloader", "evaluator::val_handlers", "handlers"):
        if path not in configuration:
            continue
        value = configuration.value(path)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Component) and each.name == "CheckpointLoader":
                return each
    return None
