"""A network as a graph that other programs run: of ONNX, and of OpenVINO."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from medseg.errors import ConfigError
from medseg.inferers.predictor import Backend

SHAPES_KEPT = 2  # of windows, for which a graph is compiled: each takes the memory of all weights


def write_onnx(network: torch.nn.Module, window: torch.Tensor, path: Path, any_batch: bool = False) -> None:
    """Writes a network as ONNX, with the input ``image`` and the output ``logits``, in float32.

    Args:
        network: Windows (batch, channel, *spatial) to logits (batch, label, *spatial).
        window: Of the shape that the graph takes.
        path: Of the file.
        any_batch: The graph takes any number of windows at a time.

    Raises:
        ConfigError: onnx and onnxscript aren't installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError("to write ONNX, onnx and onnxscript have to be there: pip install medseg[onnx]") from error
    batch = {0: torch.export.Dim("batch")} if any_batch else {}
    # More than one window: torch takes a batch of one for a constant.
    window = window.expand(2, *window.shape[1:]).contiguous() if any_batch else window
    with torch.no_grad(), _libraries_are_quiet():
        program: Any = torch.onnx.export(
            network,
            (window,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(batch,),
            dynamo=True,
            verbose=False,
        )
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # traces with the paths of this machine
        program.save(path, external_data=False)


@contextlib.contextmanager
def _libraries_are_quiet() -> Iterator[None]:
    """Keeps PyTorch and onnxscript from telling about themselves."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def openvino_graph(network: torch.nn.Module, window: torch.Tensor) -> Any:
    """Returns OpenVINO's graph of a network, for windows ``(1, channel, *spatial)`` of the shape of ``window``."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, window, path)
        return openvino.Core().read_model(path)


def openvino_runner(graph: Any, precision: str) -> Backend:
    """Returns what runs a graph, or that of a file, on windows (1, channel, *spatial).

    Windows of another shape than the graph was made for have it compiled anew, which takes tenths of a second. It
    raises what OpenVINO raises where the graph cannot have that shape.

    Args:
        graph: OpenVINO's, or the path of its file.
        precision: "bf16" or "f32", of what is not in int8 already.
    """
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    own = core.read_model(graph) if isinstance(graph, Path) else graph.clone()

    @lru_cache(maxsize=SHAPES_KEPT)
    def compiled(shape: tuple[int, ...]) -> Any:
        own.reshape(shape)
        return core.compile_model(own, "CPU", settings)

    compiled(tuple(own.input(0).shape))
    return lambda window: torch.from_numpy(compiled(tuple(window.shape))(window.numpy())[0].copy())
