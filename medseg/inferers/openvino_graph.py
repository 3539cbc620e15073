"""A network as a graph of OpenVINO, and what runs it."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from medseg.inferers.exported import write_onnx
from medseg.inferers.predictor import Backend


def graph_of(network: torch.nn.Module, window: torch.Tensor) -> Any:
    """For windows (1, channel, *spatial) of the shape of ``window``."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, window, path)
        return openvino.Core().read_model(path)


def runner(graph: Any, precision: str) -> Backend:
    """What runs a graph, or that of a file, on windows (1, channel, *spatial), in the precision bf16 or f32: what is
    not in int8 already."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    return lambda window: torch.from_numpy(compiled(window.numpy())[0].copy())
