"""medseg: DICOM or NIfTI in, U-Nets trained, masks out on the grid of the source.

The facade: the verbs of the command line as functions, the records that they take and return, and the errors that they
raise. Parts with MONAI's interfaces are in ``medseg.transforms``, ``networks``, ``losses``, ``metrics``, ``inferers``,
``training`` and ``dataset``; ``io`` reads and writes files of all formats, ``plugins`` registers parts of your own. All
of it is imported when it is first used, since PyTorch and MONAI take seconds to import.

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
    from medseg.cluster import open_cluster
    from medseg.config import Config
    from medseg.config import load as load_config
    from medseg.dataset.store import PreparedDataset
    from medseg.errors import (
        ConfigError,
        GeometryError,
        LabelError,
        MedsegError,
        ModelError,
        OutputError,
        Problem,
        SourceError,
        TrainingError,
    )
    from medseg.evaluation.clicks_json import ClicksRecord
    from medseg.evaluation.evaluation import Evaluation
    from medseg.inspection.inspection import Inspection
    from medseg.interactive.session import InteractiveSession
    from medseg.io.nifti.writer import write_nifti as write_label_map
    from medseg.io.read import read_volume
    from medseg.labels import Labels
    from medseg.plan import Plan
    from medseg.prediction.result import Prediction, PredictResult
    from medseg.preparation.prepared_folder import PreprocessResult
    from medseg.progress import show_progress
    from medseg.training.run_trainer import TrainResult
    from medseg.version import VERSION as __version__  # noqa: F401
    from medseg.volume import Geometry, Volume
    from medseg.workflows.annotate import annotate
    from medseg.workflows.attention import attention_maps
    from medseg.workflows.compare import compare
    from medseg.workflows.demo import demo
    from medseg.workflows.doctor import doctor
    from medseg.workflows.evaluate import evaluate
    from medseg.workflows.evaluate_clicks import evaluate_clicks
    from medseg.workflows.export import export
    from medseg.workflows.fetch import fetch
    from medseg.workflows.import_model import import_model
    from medseg.workflows.inspect import inspect
    from medseg.workflows.models import list_models, model_card
    from medseg.workflows.networks import list_networks
    from medseg.workflows.package import package
    from medseg.workflows.predict import predict
    from medseg.workflows.preprocess import preprocess
    from medseg.workflows.quantise import quantise
    from medseg.workflows.send import send
    from medseg.workflows.serve import serve
    from medseg.workflows.study import study
    from medseg.workflows.tile import join_tiles, tile
    from medseg.workflows.train import train
    from medseg.workflows.view import view

_HOMES = {
    # Verbs: what the commands do.
    "annotate": "medseg.workflows.annotate:annotate",
    "attention_maps": "medseg.workflows.attention:attention_maps",
    "compare": "medseg.workflows.compare:compare",
    "demo": "medseg.workflows.demo:demo",
    "doctor": "medseg.workflows.doctor:doctor",
    "evaluate": "medseg.workflows.evaluate:evaluate",
    "evaluate_clicks": "medseg.workflows.evaluate_clicks:evaluate_clicks",
    "export": "medseg.workflows.export:export",
    "fetch": "medseg.workflows.fetch:fetch",
    "import_model": "medseg.workflows.import_model:import_model",
    "inspect": "medseg.workflows.inspect:inspect",
    "join_tiles": "medseg.workflows.tile:join_tiles",
    "list_models": "medseg.workflows.models:list_models",
    "list_networks": "medseg.workflows.networks:list_networks",
    "model_card": "medseg.workflows.models:model_card",
    "package": "medseg.workflows.package:package",
    "predict": "medseg.workflows.predict:predict",
    "preprocess": "medseg.workflows.preprocess:preprocess",
    "quantise": "medseg.workflows.quantise:quantise",
    "send": "medseg.workflows.send:send",
    "serve": "medseg.workflows.serve:serve",
    "study": "medseg.workflows.study:study",
    "tile": "medseg.workflows.tile:tile",
    "train": "medseg.workflows.train:train",
    "view": "medseg.workflows.view:view",
    # Single steps.
    "open_cluster": "medseg.cluster:open_cluster",
    "load_config": "medseg.config:load",
    "read_volume": "medseg.io.read:read_volume",
    "show_progress": "medseg.progress:show_progress",
    "write_label_map": "medseg.io.nifti.writer:write_nifti",
    # A person in the loop.
    "InteractiveSession": "medseg.interactive.session:InteractiveSession",
    # Records: what goes in and comes out.
    "ClicksRecord": "medseg.evaluation.clicks_json:ClicksRecord",
    "Config": "medseg.config:Config",
    "Evaluation": "medseg.evaluation.evaluation:Evaluation",
    "Geometry": "medseg.volume:Geometry",
    "Inspection": "medseg.inspection.inspection:Inspection",
    "Labels": "medseg.labels:Labels",
    "Plan": "medseg.plan:Plan",
    "PredictResult": "medseg.prediction.result:PredictResult",
    "Prediction": "medseg.prediction.result:Prediction",
    "PreparedDataset": "medseg.dataset.store:PreparedDataset",
    "PreprocessResult": "medseg.preparation.prepared_folder:PreprocessResult",
    "Problem": "medseg.errors:Problem",
    "TrainResult": "medseg.training.run_trainer:TrainResult",
    "Volume": "medseg.volume:Volume",
    # Errors.
    "ConfigError": "medseg.errors:ConfigError",
    "GeometryError": "medseg.errors:GeometryError",
    "LabelError": "medseg.errors:LabelError",
    "MedsegError": "medseg.errors:MedsegError",
    "ModelError": "medseg.errors:ModelError",
    "OutputError": "medseg.errors:OutputError",
    "SourceError": "medseg.errors:SourceError",
    "TrainingError": "medseg.errors:TrainingError",
    "__version__": "medseg.version:VERSION",
}

# Packages of parts, most with MONAI's interfaces, each usable alone.
_PARTS = (
    "dataset",
    "inferers",
    "interactive",
    "io",
    "losses",
    "metrics",
    "networks",
    "plugins",
    "training",
    "transforms",
)

__all__ = [
    "ClicksRecord", "Config", "ConfigError", "Evaluation", "Geometry", "GeometryError", "Inspection",
    "InteractiveSession", "LabelError", "Labels", "MedsegError", "ModelError", "OutputError", "Plan",
    "PredictResult", "Prediction", "PreparedDataset", "PreprocessResult", "Problem", "SourceError", "TrainResult",
    "TrainingError", "Volume", "annotate", "attention_maps", "compare", "demo", "doctor", "evaluate",
    "evaluate_clicks", "export", "fetch", "import_model", "inspect", "join_tiles", "list_models", "list_networks",
    "load_config", "model_card", "open_cluster", "package", "predict", "preprocess", "quantise", "read_volume", "send",
    "serve", "show_progress", "study", "tile", "train", "view", "write_label_map",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    from importlib import import_module

    if name in _PARTS:
        return import_module(f"medseg.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'medseg' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_PARTS])
