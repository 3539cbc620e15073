"""A network as ONNX, which other programs run."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from medseg.errors import ConfigError
from medseg.networks.network import Network


def write_onnx(network: torch.nn.Module, window: torch.Tensor, path: Path, any_batch: bool = False) -> None:
    """Writes ``image`` → ``logits`` for windows (batch, channel, *spatial) of the shape of ``window``, in float32.

    Raises ``ConfigError`` where onnx and onnxscript aren't installed.
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
    """Without what PyTorch and onnxscript tell about themselves."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def window_shape(network: torch.nn.Module, patch: tuple[int, ...]) -> tuple[int, ...]:
    """What the network sees of a patch: valid convolutions also see the margin around it."""
    if not isinstance(network, Network) or not any(network.margin):
        return patch
    return network.fitting_shape(patch)
