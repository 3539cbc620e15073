"""What runs the network: torch, or another back end that gives the same logits in less time."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import torch

from medseg.device import Device
from medseg.errors import ConfigError, did_you_mean, reason_of
from medseg.inferers.device_check import apart
from medseg.inferers.graphs import openvino_graph, openvino_runner, write_onnx
from medseg.inferers.model import Model, weights_fingerprint
from medseg.inferers.predictor import Backend, Predictor
from medseg.inferers.quantised import FOLDER, GRAPH, read_quantised_record
from medseg.inferers.windows import window_of
from medseg.networks.fitting import cropped, padded
from medseg.networks.network import Network
from medseg.progress import warn

BackendName = Literal["auto", "torch", "compile", "openvino", "int8", "onnxruntime"]

# Seconds that a window takes torch from which on ``auto`` tries another back end: starting one takes seconds too, five
# to ten, which a scan of some dozens of windows has to win back.
SLOW_WINDOW = 0.3

# A window that takes as many seconds tells its time at once: what a first one takes longer is no large part of it.
LONG_WINDOW = 1.5

# How far ``apart`` logits may be from those of torch. bf16 gives about .01.
TOLERANCE = 0.05
# int8 rounds more; what that costs in Dice was measured when the network was quantised. This finds another network.
INT8_TOLERANCE = 0.5
# Of back ends that run windows of other shapes than they were built for, at little cost.
TOLERANCES = {"openvino": TOLERANCE, "int8": INT8_TOLERANCE}

PACKAGES = {"int8": ("openvino",), "openvino": ("openvino", "onnxscript"), "onnxruntime": ("onnxruntime", "onnxscript")}


class OneByOne(Network):
    """A network that another back end runs, window by window.

    The back end is known to be right for windows of one ``shape``. An image that is smaller along an axis has smaller
    ones: padded to that shape, it would get other logits than by torch, since instance norm counts what was added.
    There the back end has to give the logits of torch for noise, or torch runs such windows.

    Args:
        network: What torch runs.
        run: The back end.
        shape: Voxels of a window along each spatial axis.
        tolerance: How far ``apart`` logits of other shapes may be; None: the back end runs windows of ``shape`` only.
    """

    def __init__(
        self, network: torch.nn.Module, run: Backend, shape: Sequence[int], tolerance: float | None = None
    ) -> None:
        super().__init__(getattr(network, "multiple_of", ()))  # of a module of the user's nothing is known
        self.margin = getattr(network, "margin", ())
        self.network = network
        self.backend = run
        self.tolerance = tolerance
        self.of_shape: dict[tuple[int, ...], Backend] = {tuple(shape): run}

    def fitting_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the smallest shape, at least as large, that the network takes."""
        return self.network.fitting_shape(shape) if isinstance(self.network, Network) else tuple(shape)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Returns the logits of a batch, window by window."""
        channels, *edges = image.shape[1:]
        shape = fitting = tuple(edges)
        if shape not in self.of_shape and isinstance(self.network, Network):
            fitting = self.network.padded_shape(shape)  # a graph has one shape, and pads nothing
        if fitting not in self.of_shape:
            is_right = self.tolerance is not None and self._is_right(noise(channels, fitting), self.tolerance)
            self.of_shape[fitting] = self.backend if is_right else self.network
        run = self.of_shape[fitting]
        return cropped(torch.cat([run(window) for window in torch.split(padded(image, fitting), 1)]), shape, fitting)

    def _is_right(self, window: torch.Tensor, tolerance: float) -> bool:
        try:
            by = apart(self.backend(window).float(), self.network(window).float())
        except Exception as error:  # whatever a compiler stumbles on: torch runs every network
            told = f"the back end cannot run them ({reason_of(error)})"
        else:
            if by <= tolerance:
                return True
            told = f"the back end gives other logits (they differ by {by:.1%})"
        warn(f"Windows of {'×'.join(map(str, window.shape[2:]))} voxels: {told}; torch runs them")
        return False


def with_backend(model: Model, name: str, window: torch.Tensor | None = None) -> Model:
    """Returns the model with its network run by the back end of that name.

    A back end has to give the logits of torch for a window of noise (in real ones there may be nothing but air), or
    torch stays, with a warning. ``auto`` takes OpenVINO where that is installed and faster, for networks that are slow
    on a processor: in int8 where the model was quantised.

    Args:
        model: As it was loaded.
        name: "torch", "compile", "openvino", "int8", "onnxruntime" or "auto".
        window: One of noise, ``(1, channel, *spatial)``, like those that the network is to see; None: as in
            prediction. "int8" is made for those of prediction only.

    Raises:
        ConfigError: The back end isn't known, isn't installed, or doesn't run on the model's device.
    """
    _check(name, model)
    if name == "torch" or (name == "auto" and (not model.device.is_cpu or not _installed("openvino"))):
        return model
    chosen = name if name != "auto" else "int8" if window is None and is_quantised(model) else "openvino"
    window = _noise(model) if window is None else window
    own, seconds = _timed(model, model.network, window)
    if name == "auto" and seconds < SLOW_WINDOW:
        return model
    try:
        own_shape, tolerance = window.shape[2:], TOLERANCES.get(chosen)
        network = OneByOne(model.network, START[chosen](model, window), own_shape, tolerance)
        logits, seconds_of_other = _timed(model, network, window)
        by = apart(logits, own)
    except Exception as error:  # whatever a compiler stumbles on: torch runs every network
        warn(f"--backend {chosen}: cannot run this network ({reason_of(error)}); torch runs it")
        return model
    if not by <= TOLERANCES.get(chosen, TOLERANCE):
        warn(f"--backend {chosen}: gives other logits than torch (they differ by {by:.1%}); torch runs the network")
        return model
    if name == "auto" and seconds_of_other > seconds:
        return model
    return replace(model, network=network.eval(), backend=chosen)


def _check(name: str, model: Model) -> None:
    if name not in get_args(BackendName):
        raise ConfigError(f"--backend {name}: is not known{did_you_mean(name, get_args(BackendName))}")
    if name in PACKAGES and not _installed(name):
        raise ConfigError(f"--backend {name}: is not installed; pip install 'medseg[{name}]'")
    if name == "int8" and not is_quantised(model):
        raise ConfigError(
            f"--backend int8: {model.folder} was not quantised with these weights; run 'medseg quantise RUN'"
        )
    if name in PACKAGES and not model.device.is_cpu:
        raise ConfigError(f"--backend {name}: runs on a processor; add --device cpu, or take --backend compile")


def is_quantised(model: Model) -> bool:
    """Returns whether each network of the model lies there in int8 too, made of the weights that it has now, for the
    windows that it predicts."""
    records = [(read_quantised_record(folder), folder) for folder in model.folders]
    plan = model.record.plan
    shape = window_of(model.network, plan, model.record.inference)
    return all(
        record is not None
        and (record.window or plan.network_patch) == shape
        and record.fingerprint == weights_fingerprint(folder)
        for record, folder in records
    )


def precision_of(device: Device) -> str:
    """Returns what OpenVINO calls the precision that the device computes in."""
    return "bf16" if device.dtype == torch.bfloat16 else "f32"


def _installed(name: str) -> bool:
    return all(find_spec(package) is not None for package in PACKAGES[name])


def seconds_of_window(model: Model) -> float:
    """Returns how long the network of a model takes for a window: one of noise, after one that warms up."""
    return _timed(model, model.network, _noise(model))[1]


def _noise(model: Model) -> torch.Tensor:
    """Returns a window of noise (1, channel, *spatial)."""
    shape = window_of(model.network, model.record.plan, model.record.inference)
    return noise(len(model.record.channels), shape)


def noise(n_channels: int, shape: Sequence[int]) -> torch.Tensor:
    """Returns a window of noise, ``(1, channel, *spatial)``, the same one each time."""
    return torch.randn(1, n_channels, *shape, generator=torch.Generator().manual_seed(0))


def _timed(model: Model, network: torch.nn.Module, window: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Returns the logits of the window, and the seconds that it takes once the network is warm."""
    predict = Predictor(network, model.record.plan, model.device)
    axis = model.record.plan.slice_axis
    window = window if axis is None else window.unsqueeze(axis + 2)
    with torch.inference_mode():
        start = time.perf_counter()
        logits = predict(window).float().cpu()
        seconds = time.perf_counter() - start
        if seconds < LONG_WINDOW:
            start = time.perf_counter()
            predict(window).cpu()
            seconds = time.perf_counter() - start
        return logits, seconds


def _compile(model: Model, _window: torch.Tensor) -> Backend:
    compiled: Backend = torch.compile(model.network, dynamic=False)
    return compiled


def _openvino(model: Model, window: torch.Tensor) -> Backend:
    return openvino_runner(openvino_graph(model.network, window), precision_of(model.device))


def _int8(model: Model, _window: torch.Tensor) -> Backend:
    graphs = [openvino_runner(folder / FOLDER / GRAPH, precision_of(model.device)) for folder in model.folders]
    if len(graphs) == 1:
        return graphs[0]
    return lambda window: torch.stack([graph(window) for graph in graphs]).mean(0)


def _onnxruntime(model: Model, window: torch.Tensor) -> Backend:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(model.network, window, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(window: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {"image": window.numpy()})[0])

    return run


# Each makes what runs windows (1, channel, *spatial) of one shape.
START: dict[str, Callable[[Model, torch.Tensor], Backend]] = {
    "compile": _compile,
    "openvino": _openvino,
    "int8": _int8,
    "onnxruntime": _onnxruntime,
}
