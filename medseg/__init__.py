"""medseg: DICOM or NIfTI in, U-Nets trained, masks out on the grid of the source.

The functions are those of the command line. They are imported when they are first used, since PyTorch and MONAI take
seconds to import.

The library prints nothing by itself: it logs under the name "medseg", and ``medseg.show_progress()`` shows what the
command line shows. Two variables of OpenMP get a value if they have none (see below); nothing else of the process is
changed by the import.
"""

import logging
import os
from typing import TYPE_CHECKING, Any

# OpenMP reads these when torch is imported. By default its threads spin while they wait; where another program wants a
# core, they then take it from the very thread they wait for, and a training step takes up to ten times as long. Without
# any spinning, small networks wait for threads to wake up: with some microseconds of it they train three times as fast.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

logging.getLogger("medseg").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from medseg.io.nifti.writer import write_nifti as write_label_map
    from medseg.io.read import read_volume
    from medseg.progress import show_progress
    from medseg.version import VERSION as __version__  # noqa: F401
    from medseg.workflows.attention import attention_maps
    from medseg.workflows.compare import compare
    from medseg.workflows.demo import demo
    from medseg.workflows.doctor import doctor
    from medseg.workflows.evaluate import evaluate
    from medseg.workflows.export import export
    from medseg.workflows.inspect import inspect
    from medseg.workflows.networks import list_networks
    from medseg.workflows.package import package
    from medseg.workflows.predict import predict
    from medseg.workflows.preprocess import preprocess
    from medseg.workflows.quantise import quantise
    from medseg.workflows.train import train
    from medseg.workflows.view import view

_HOMES = {
    "attention_maps": "medseg.workflows.attention:attention_maps",
    "compare": "medseg.workflows.compare:compare",
    "demo": "medseg.workflows.demo:demo",
    "doctor": "medseg.workflows.doctor:doctor",
    "evaluate": "medseg.workflows.evaluate:evaluate",
    "export": "medseg.workflows.export:export",
    "inspect": "medseg.workflows.inspect:inspect",
    "list_networks": "medseg.workflows.networks:list_networks",
    "package": "medseg.workflows.package:package",
    "predict": "medseg.workflows.predict:predict",
    "preprocess": "medseg.workflows.preprocess:preprocess",
    "quantise": "medseg.workflows.quantise:quantise",
    "show_progress": "medseg.progress:show_progress",
    "read_volume": "medseg.io.read:read_volume",
    "train": "medseg.workflows.train:train",
    "view": "medseg.workflows.view:view",
    "write_label_map": "medseg.io.nifti.writer:write_nifti",
    "__version__": "medseg.version:VERSION",
}

__all__ = [
    "attention_maps", "compare", "demo", "doctor", "evaluate", "export", "inspect", "list_networks", "package",
    "predict", "preprocess", "quantise", "read_volume", "show_progress", "train", "view", "write_label_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg' has no attribute '{name}'")
    from importlib import import_module

    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
