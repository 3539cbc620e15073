"""What is asked of a prediction, in a form that can be sent to a worker: it loads the model, and makes a predictor."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medseg.config import InferenceConfig
from medseg.device import Precision, choose_device
from medseg.errors import ConfigError
from medseg.inferers.backends import with_backend
from medseg.inferers.memory_plan import MemoryLimits, frugal_window
from medseg.inferers.model import Model, with_settings, without_rules
from medseg.inferers.recipe_model import RecipeModel, load_any
from medseg.io.mask_formats import format_named
from medseg.plugins import load_plugins, loaded_plugins
from medseg.prediction.case_predictor import CasePredictor, PredictionOptions


@dataclass(frozen=True)
class PredictionRequest:
    """Which model predicts, how, and where masks go; equal requests give equal masks.

    Attributes:
        models: Folders of models or runs; several are an ensemble.
        device: As ``predict`` has it.
        precision: As ``predict`` has it.
        backend: What runs the network.
        settings: Of the model that are changed, by name; None leaves one as it is.
        postprocessing: Whether the model's rules are applied.
        head: Of a pruned U-Net++.
        labels: Those that are written; None: all.
        fast: Whether only the faster member of several works.
        max_memory: What a case may take, in bytes.
        folder: Of the masks.
        file: Of the mask of a single case.
        formats: Names.
        extras: What is written beside the masks.
        registered: Whether channels on different grids show one place.
        plugins: Files that have to be loaded before.
        reports: What is written of each case beside its masks.
        blocks: Whether cases are predicted block by block; None: those that do not fit into memory are.
    """

    models: tuple[Path, ...]
    device: str = "auto"
    precision: Precision = "auto"
    backend: str = "auto"
    settings: tuple[tuple[str, object], ...] = ()
    postprocessing: bool = True
    head: int | None = None
    labels: tuple[str, ...] | None = None
    fast: bool = False
    max_memory: int | None = None
    folder: Path | None = None
    file: Path | None = None
    formats: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    registered: bool = False
    plugins: tuple[Path, ...] = ()
    reports: tuple[str, ...] = ()
    blocks: bool | None = None

    def with_backend(self, backend: str) -> "PredictionRequest":
        """Returns the same request of what runs the network; the members of a model may have several, which it keeps.

        Args:
            backend: As the model has it that was loaded.
        """
        return self if "," in backend else replace(self, backend=backend)

    def predictor(self, network: torch.nn.Module | None = None, threads: int | None = None) -> CasePredictor:
        """Loads the model, and returns what predicts cases with it.

        Args:
            network: The module of a model that was trained with one of the user's own.
            threads: Always so many, so that sums are always rounded alike; None: as many as are fast at the time.

        Raises:
            MedsegError: The model cannot be used, or not like this.
        """
        if network is not None and not isinstance(network, torch.nn.Module):
            raise ConfigError(f"network: is a {type(network).__name__}; give a torch.nn.Module")
        load_plugins(set(self.plugins) - set(loaded_plugins()))
        labels = None if self.labels is None else list(self.labels)
        loaded = load_any(
            list(self.models),
            choose_device(self.device, self.precision, threads),
            labels,
            self.head,
            network,
            self.fast,
        )
        if isinstance(loaded, RecipeModel):
            if self.extras:
                raise ConfigError(
                    f"{' and '.join(self.extras)} cannot be had of several members, or of some labels only"
                )
            loaded = (loaded if self.postprocessing else loaded.without_rules()).each(self._prepared)
        else:
            loaded = self._prepared(loaded)
        limits = None if self.max_memory is None else MemoryLimits(self.max_memory)
        formats = tuple(format_named(name) for name in self.formats)
        options = PredictionOptions(formats, self.extras, self.registered, limits, self.reports, self.blocks)
        return CasePredictor(loaded, self.folder, settings_of(loaded), options, self.file)

    def _prepared(self, model: Model) -> Model:
        frugal = {} if self.max_memory is None else {"window": frugal_window(model.record)}
        model = with_backend(with_settings(model, {**dict(self.settings), **frugal}), self.backend)
        return model if self.postprocessing else without_rules(model, keep_review=True)


def settings_of(model: Model | RecipeModel) -> InferenceConfig:
    """Returns the settings of the windows; of several members those of the first, as each has its own.

    Args:
        model: As it was loaded.
    """
    return (model.every_model[0] if isinstance(model, RecipeModel) else model).record.inference
