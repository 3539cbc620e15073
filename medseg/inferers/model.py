"""A model is a folder with two files: weights.safetensors, and model.json with all else. Loading runs no code of it.

A folder of such folders, fold_0 and so on, is an ensemble: RUN/model of a run of all folds.
"""

import copy
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from pydantic import ValidationError

from medseg.architecture import CUSTOM_NETWORK
from medseg.config import InferenceConfig
from medseg.device import Device, choose_device
from medseg.errors import ConfigError, ModelError
from medseg.files import ensure_folder, folder_written_whole
from medseg.inferers.device_check import placed_network
from medseg.inferers.ensemble import Ensemble
from medseg.inferers.model_record import COPY, RECORD, WEIGHTS, ModelRecord, read_model_record, write_model_record
from medseg.inferers.windows import window_of, window_overlap
from medseg.io.archives import is_archive, unpacked_content
from medseg.networks.entries import NETWORKS, entry_of
from medseg.networks.registry import build_network, shapes_of
from medseg.plan import MEDSEG_RESAMPLING, Plan
from medseg.records import explained
from medseg.weights import read_shapes, read_tensors, write_tensors


@dataclass(frozen=True)
class Model:
    """A trained network with what is needed to use it.

    Example:
        >>> from medseg.inferers import Model, load_model
        >>> model: Model = load_model("run", device="cpu")  # doctest: +SKIP
        >>> model.record.labels.names, model.record.plan.patch_size  # doctest: +SKIP
        (('liver', 'tumour'), (128, 128, 64))
    """

    folder: Path  # of an ensemble: that of its members, or the first one of several
    record: ModelRecord
    network: torch.nn.Module
    device: Device
    backend: str = "torch"  # what runs the network: see ``medseg.inferers.backends``
    members: tuple[Path, ...] = ()  # of an ensemble: the folder of each model

    @property
    def name(self) -> str:
        """The name of its run, or of its folder where that stands alone."""
        return name_of_model(self.folder)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its weights: another network has another one."""
        return weights_fingerprint(*self.folders)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of its networks, one for each."""
        return self.members or (self.folder,)


def name_of_model(folder: Path) -> str:
    """Returns the name of the run of a model folder, or of the folder where that stands alone."""
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("model", "model-last") else folder.name


def weights_fingerprint(*folders: Path) -> str:
    """Returns the SHA-256 of the weights in model folders, in hexadecimal; unchanged files are read once."""
    files = [folder / WEIGHTS for folder in folders]
    return _digest_of_files(tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=64)
def _digest_of_files(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in stamps:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def save_model(folder: Path, record: ModelRecord, weights: dict[str, torch.Tensor]) -> None:
    """Writes a model folder: the weights by their names in the network's state, and model.json.

    Raises:
        OutputError: It cannot be written.
    """
    write_tensors(folder / WEIGHTS, weights)
    write_model_record(folder, record)


def save_ensemble(folder: Path, models: Sequence[Path]) -> None:
    """Copies model folders into one that loads as an ensemble, in place of an older one; it appears whole.

    Raises:
        OutputError: It cannot be written.
    """
    with folder_written_whole(folder, replaces=True) as whole:
        for i, model in enumerate(models):
            shutil.copytree(model, whole / f"fold_{i}")


def copy_models(folders: Sequence[Path], place: Path) -> None:
    """Copies model folders into one that loads as they do, without what names the data that they were trained on.

    Args:
        folders: One for each network; several become an ensemble.
        place: The folder; other files in it stay.

    Raises:
        OutputError: It cannot be written.
    """
    for i, folder in enumerate(folders):
        own = ensure_folder(place if len(folders) == 1 else place / f"fold_{i}")
        write_tensors(own / WEIGHTS, read_tensors(folder / WEIGHTS, COPY, ModelError))
        write_model_record(own, read_model_record(folder).shareable())


def load_model(
    path: Path | str | Sequence[Path | str],
    device: Device | str = "auto",
    head: int | None = None,
    network: torch.nn.Module | None = None,
) -> Model:
    """Returns a model, ready to predict.

    Args:
        path: A model folder, or the RUN that holds one; several of them, and a run of all folds, are an ensemble.
        device: Where the network goes: "auto", "cpu", "cuda", …, or what ``medseg.device.choose_device`` gave.
        head: The one that a U-Net++ answers with, from 1; None takes the model's own setting.
        network: The module of a model that was trained with one of the user's own; a copy of it gets the weights.

    Raises:
        ModelError: The model cannot be used, or needs a module that wasn't given.
        ConfigError: There is no such head, or no such device.
    """
    device = choose_device(device) if isinstance(device, str) else device
    paths = [Path(path)] if isinstance(path, Path | str) else list(map(Path, path))
    folders = [folder for each in paths for folder in model_folders(each)]
    record = with_head(read_model_record(folders[0]), head)
    networks = [_load_network(folder, record, head, network) for folder in folders]
    loaded = (networks[0] if len(networks) == 1 else Ensemble(networks)).eval()
    shape = (len(record.channels), *window_of(loaded, record.plan, record.inference))
    placed, device = placed_network(loaded, shape, device)
    members = tuple(folders) if len(folders) > 1 else ()
    folder = folders[0].parent if members and len(paths) == 1 else folders[0]
    return Model(folder, record, placed, device, members=members)


def model_folders(path: Path) -> list[Path]:
    """Returns the folders of the models in a RUN, or in its model/.

    Raises:
        ModelError: The run has none yet.
    """
    path = unpacked_content(path) if path.is_file() and is_archive(path) else path
    folder = path / "model" if (path / "model").is_dir() else path
    if folder == path and any((path / name / "run.json").is_file() for name in ("", "fold_0")):
        raise ModelError(
            f"{path}: this run has no model/ yet, it was stopped too early; go on with 'medseg train … --resume', or "
            f"give {path / 'model-last'} if that is there"
        )
    return sorted(file.parent for file in folder.glob("fold_*/model.json")) or [folder]


def without_rules(model: Model, keep_review: bool = False) -> Model:
    """Returns the model without the rules of its postprocessing, and without those for which cases to review."""
    fewer = {"postprocessing": ()} if keep_review else {"postprocessing": (), "review": None}
    return replace(model, record=model.record.model_copy(update=fewer))


def with_settings(model: Model, changes: Mapping[str, object]) -> Model:
    """Returns the model with other settings of prediction: windows, and by whose rule images are resampled.

    Args:
        model: As it was loaded.
        changes: Of its own settings, by name; None leaves one as it is.

    Raises:
        ConfigError: A setting cannot have this value.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    inference, plan = model.record.inference, model.record.plan
    try:
        inference = InferenceConfig.model_validate(
            {**inference.model_dump(), "overlap": window_overlap(inference), **given}
        )
    except ValidationError as error:
        raise ConfigError(f"inference: {explained(error)}") from error
    if inference.resampling != "plan":
        plan = plan.model_copy(update={"grid": plan.grid.model_copy(update={"resampling": MEDSEG_RESAMPLING})})
    return replace(model, record=model.record.model_copy(update={"inference": inference, "plan": plan}))


def with_head(record: ModelRecord, head: int | None) -> ModelRecord:
    """Returns the record of the network pruned to a head (Zhou et al. 2018); ``record`` itself where ``head`` is None.

    Raises:
        ConfigError: There is nothing to prune, or no such head.
    """
    if head is None:
        return record
    architecture = record.plan.architecture
    if "head" not in entry_of(architecture.name).arguments.model_fields:
        having = ", ".join(name for name, entry in NETWORKS.items() if "head" in entry.arguments.model_fields)
        raise ConfigError(
            f"--head {head}: the model is a {architecture.name}, and only {having} has heads; leave it out"
        )
    pruned = architecture.model_copy(update={"arguments": architecture.arguments | {"head": head}})
    shapes_of(len(record.channels), len(record.outputs), pruned)  # refuses a head that isn't there
    return record.model_copy(update={"plan": record.plan.model_copy(update={"architecture": pruned})})


def see_the_same(plan: Plan, other: Plan) -> bool:
    """Returns whether windows of one plan are windows of the other: the logits of such networks can be averaged."""
    keys = ("dims", "grid", "patch_size", "slice_axis", "windows", "objects")
    return all(getattr(plan, key) == getattr(other, key) for key in keys)


def _load_network(
    folder: Path, first: ModelRecord, head: int | None, own: torch.nn.Module | None = None
) -> torch.nn.Module:
    """Returns the network with its weights, which has to see what the ``first`` one sees, and to say the same."""
    record = with_head(read_model_record(folder), head)
    if any(getattr(record.labels, key) != getattr(first.labels, key) for key in ("values", "names", "unions")):
        raise ModelError(f"{folder}: has other labels than the first model; an ensemble needs the same ones")
    if record.plan.regions != first.plan.regions:
        raise ModelError(
            f"{folder}: has learnt other regions than the first model, or labels one by one; an ensemble needs models "
            "of one dataset, with the same training.outputs"
        )
    if not see_the_same(record.plan, first.plan) or record.channels != first.channels:
        raise ModelError(
            f"{folder}: has another grid, patch or channels than the first model; an ensemble needs models of one "
            "prepared dataset, with the same --dims and patch"
        )
    file = folder / WEIGHTS
    if not file.is_file():
        raise ModelError(f"{folder} has no {WEIGHTS}; {COPY}")
    misfit = ModelError(
        f"{file} does not fit the network in {RECORD}; {COPY}"
        if own is None
        else f"{file} does not fit the network that was given; build it as it was built for training"
    )
    network = _built(folder, record, misfit) if own is None else copy.deepcopy(own)
    weights = read_tensors(file, COPY, ModelError)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise misfit from error
    broken = next((name for name, tensor in weights.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise ModelError(f"{file}: '{broken}' holds what is no number; {COPY}")
    return network


def _built(folder: Path, record: ModelRecord, misfit: ModelError) -> torch.nn.Module:
    """Returns the network that the record names; raises ``misfit`` where the weights have other shapes."""
    if record.plan.architecture.name == CUSTOM_NETWORK:
        raise ModelError(
            f"{folder}: was trained with a network of the user's own, which no name can build; give the module: "
            "medseg.predict(…, network=module)"
        )
    network_of = len(record.channels), len(record.outputs), record.plan.architecture
    try:
        wanted = shapes_of(*network_of)
        if wanted is not None and wanted != read_shapes(folder / WEIGHTS, COPY, ModelError):
            raise misfit  # before memory is taken for a network that isn't here
        return build_network(*network_of)
    except ConfigError as error:
        raise ModelError(f"{folder / RECORD}: {error}") from error
