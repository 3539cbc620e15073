"""The models that a server offers: each is loaded when it is first asked for, and used by all clients."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np

from medseg.dataset.cases import Case, CaseList
from medseg.dataset.channel_order import channels_as_trained
from medseg.device import Device, choose_device
from medseg.errors import MedsegError, ModelError, SourceError
from medseg.inferers.backends import with_backend
from medseg.inferers.memory_plan import in_units
from medseg.inferers.model import Model, model_folders, weights_fingerprint
from medseg.inferers.model_record import ModelRecord, read_model_record
from medseg.inferers.recipe import Recipe, read_recipe
from medseg.inferers.recipe_model import RecipeModel, load_any, recipe_folder
from medseg.interactive.object_predictor import load_promptable
from medseg.io.read import read_geometry
from medseg.prediction.case_predictor import CasePredictor, PredictionOptions
from medseg.prediction.case_reading import with_missing
from medseg.prediction.result import Prediction
from medseg.progress import say
from medseg.transforms.model_grid import ModelGridRule
from medseg.volume import Geometry, Volume

COPIES = 2  # of an image, as it is normalized and resampled


class ServedModel:
    """A model that the server offers: trained, imported, an ensemble, or one of several members.

    Args:
        name: By which clients know it.
        path: A RUN or a model folder.
        device: Where its networks go.
        backend: What runs them, as in ``predict``.

    Raises:
        ModelError: It is no model.
    """

    def __init__(self, name: str, path: Path, device: Device, backend: str = "auto") -> None:
        self.name, self.path, self.device, self.backend = name, path, device, backend
        self.record = record_at(path)
        self.lock = threading.Lock()
        self._loaded: Model | RecipeModel | None = None
        self._promptable: Model | None = None

    @property
    def label_names(self) -> list[str]:
        """The names of its labels: the k-th has the value k in the label maps that clients get."""
        return self.record.labels.names

    @property
    def is_promptable(self) -> bool:
        """Whether it answers to points, boxes and scribbles."""
        return isinstance(self.record, ModelRecord) and self.record.plan.prompts is not None

    @property
    def dims(self) -> int:
        """2 for a network that sees slices, else 3."""
        return self.record.plan.dims if isinstance(self.record, ModelRecord) else 3

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of its weights, or of those that it is put together of; empty where they cannot be read."""
        recipe, folders = recipe_folder(self.path), [self.path]
        if recipe is not None and isinstance(self.record, Recipe):
            folders = [recipe / path for member in self.record.members for path in member.models]
        with suppress(OSError, MedsegError):
            return weights_fingerprint(*(each for folder in folders for each in model_folders(folder)))
        return ""

    def loaded(self) -> Model | RecipeModel:
        """Returns the model with its networks, which are loaded once.

        Raises:
            ModelError: It cannot be used.
        """
        with self.lock:
            if self._loaded is None:
                say(f"Loading {self.name} from {self.path}")
                model = load_any([self.path], self.device)
                if isinstance(model, RecipeModel):
                    self._loaded = model.each(lambda each: with_backend(each, self.backend))
                else:
                    self._loaded = with_backend(model, self.backend)
            return self._loaded

    def promptable(self) -> Model:
        """Returns the model for sessions with prompts, by the back end that is fast for their windows.

        Raises:
            ModelError: It answers to none.
        """
        if not self.is_promptable:
            raise ModelError(f"{self.name}: answers to no prompts; train one with 'medseg train --prompts'")
        with self.lock:
            if self._promptable is None:
                say(f"Loading {self.name}, for prompts, from {self.path}")
                self._promptable = load_promptable(self.path, self.device, self.backend)
            return self._promptable

    def replace(self, path: Path) -> None:
        """Lets clients have another model by this name, from the next request on.

        Raises:
            ModelError: It is no model.
        """
        record = record_at(path)
        with self.lock:
            self.path, self.record, self._loaded, self._promptable = path, record, None, None
            self.__dict__.pop("fingerprint", None)

    def segment(self, case: Case, channels: Sequence[str] = ()) -> Prediction:
        """Returns what the model says of a case; its label map stays in memory.

        Args:
            case: The case.
            channels: The names that its dataset gives to channels.

        Raises:
            MedsegError: The case cannot be read, or does not fit the model.
        """
        model = self.loaded()
        self.check_fits(read_geometry(case.images[0]))
        case = self._as_trained(case, channels)
        first = model.every_model[0] if isinstance(model, RecipeModel) else model
        return CasePredictor(model, None, first.record.inference, PredictionOptions()).predict(case)

    def seen(self, case: Case, image: Volume, channels: Sequence[str] = ()) -> Volume:
        """Returns the image of a case with its channels as the model was trained on them, as ``segment`` sees it.

        Args:
            case: The case.
            image: As it was read.
            channels: The names that its dataset gives to channels.

        Raises:
            SourceError: There is too little memory for it.
        """
        self.check_fits(image.geometry)
        trained = self._as_trained(case, channels)
        if trained.images == case.images and not trained.missing:
            return image
        order = [case.images.index(source) for source in trained.images]
        return with_missing(Volume(image.array[order], image.geometry), trained.missing)

    def check_fits(self, source: Geometry) -> None:
        """Checks that there is memory for an image on the grid of the model.

        A few bytes of a client, with voxels of a metre, would have the server killed, and the sessions of all others.

        Args:
            source: The grid of the image.

        Raises:
            SourceError: There is not.
        """
        if isinstance(self.record, Recipe):  # its members are asked when they are used
            return
        grid = self.record.plan.grid
        voxels = prod(ModelGridRule.of(grid).grid_of(grid.oriented(source)).shape)
        needed = COPIES * np.float32().nbytes * len(self.record.channels) * voxels
        free = round(choose_device("cpu").free_memory_mb() * 2**20)
        if needed > free:
            raise SourceError(
                f"the image has {voxels:.1e} voxels at the spacing of {self.name}, which takes {in_units(needed)} of "
                f"memory, and {in_units(free)} are free; are its voxels as large as it says?"
            )

    def _as_trained(self, case: Case, channels: Sequence[str]) -> Case:
        found = CaseList("a case of the server", (case,), tuple(channels))
        return channels_as_trained(self.record.channels, found, self.record.channel_dropout).cases[0]


def record_at(path: Path) -> ModelRecord | Recipe:
    """Returns what is known of a model without loading it.

    Raises:
        ModelError: It is no model.
    """
    recipe = recipe_folder(path)
    return read_recipe(recipe) if recipe is not None else read_model_record(model_folders(path)[0])


def served_models(
    paths: Sequence[str | Path] | Mapping[str, str | Path], device: Device, backend: str = "auto"
) -> dict[str, ServedModel]:
    """Returns models by their names, or by those of their runs or folders; a second one of a name gets a number.

    Args:
        paths: RUNs or model folders, or these by name.
        device: Where networks go.
        backend: What runs them, as in ``predict``.

    Raises:
        ModelError: One is no model.
    """
    if isinstance(paths, Mapping):
        return {name: ServedModel(name, Path(path), device, backend) for name, path in paths.items()}
    models: dict[str, ServedModel] = {}
    for path in map(Path, paths):
        folder = path.resolve()
        base = (folder.parent if folder.name in ("model", "model-last") else folder).name
        name, number = base, 2
        while name in models:
            name, number = f"{base}_{number}", number + 1
        models[name] = ServedModel(name, path, device, backend)
    return models
