"""Where nnU-Net v2 keeps a trained model: a folder, one of several of a dataset, or a zip of these."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from medseg.errors import ModelError
from medseg.interop.nnunet.plans import ADVICE, NnunetPlans, read_nnunet_plans
from medseg.io.archives import is_archive, origin, unpacked
from medseg.records import read_object
from medseg.weights import read_torch_file

CheckpointName = Literal["final", "best", "latest"]
PLANS, DATASET = "plans.json", "dataset.json"
ALL = "all"  # the fold that is trained on all cases

# A results folder has datasets, these have folders of a trainer, plans and a configuration each.
DEEPEST = 3

# What MONAI makes of a trained folder: the models/ of a bundle (monai.apps.nnunet), which splits checkpoints in two.
OF_BUNDLES = "nnunet_checkpoint.pth"
WEIGHTS_OF_BUNDLES = {"final": "model.pt", "best": "best_model.pt"}

LONGEST = 500  # characters of what a stranger's file says

FOLD = re.compile(r"fold_(\d+|all)")


@dataclass(frozen=True)
class NnunetCheckpoint:
    """What a checkpoint says beside its weights.

    Attributes:
        path: Of the file.
        trainer: The class that trained it.
        configuration: As "3d_fullres".
        mirrored_axes: Axes of nnU-Net along which prediction may mirror; none where it may not.
        weights: ``network_weights``, as they are.
    """

    path: Path
    trainer: str
    configuration: str
    mirrored_axes: tuple[int, ...]
    weights: object


@dataclass(frozen=True)
class TrainedFolder:
    """A folder that one trainer made with one configuration: plans.json, dataset.json, and folds with checkpoints."""

    path: Path

    @classmethod
    def find(cls, source: Path, configuration: str | None = None) -> "TrainedFolder":
        """Returns the one trained folder at or below ``source``.

        Args:
            source: The folder itself, one of its dataset, a results folder, or a zip of one of these.
            configuration: As "3d_fullres"; of several folders the one of this configuration.

        Raises:
            ModelError: There is none, or there are several.
        """
        found = trained_folders(source)
        if not found:
            raise ModelError(
                f"{source}: holds no trained model of nnU-Net v2, which is a folder with {PLANS}, {DATASET} and "
                "fold_0/checkpoint_final.pth"
            )
        chosen = [each for each in found if configuration in (None, each.named_configuration)]
        if len(chosen) == 1:
            return chosen[0]
        names = ", ".join(sorted(str(origin(each.path).relative_to(origin(source))) for each in chosen or found))
        if chosen:
            raise ModelError(f"{source}: holds several trained models: {names}; give one of these folders")
        raise ModelError(f"{source}: has no configuration '{configuration}'; there are {names}")

    @property
    def named_configuration(self) -> str:
        """The configuration in the folder's name, "TRAINER__PLANS__CONFIGURATION"; "" where it has another one."""
        return self.path.name.split("__")[2] if self.path.name.count("__") >= 2 else ""

    @cached_property
    def plans(self) -> NnunetPlans:
        """The content of plans.json, checked."""
        return read_nnunet_plans(self.path / PLANS)

    @cached_property
    def dataset(self) -> dict[str, Any]:
        """The content of dataset.json, as it stands in the file."""
        return read_object(self.path / DATASET, ADVICE, ModelError)

    def said(self, key: str) -> str:
        """Returns what dataset.json says of itself under a key, on one line; "" where it says nothing."""
        value = self.dataset.get(key)
        return "" if value is None else " ".join(str(value).split())[:LONGEST]

    @property
    def licence(self) -> str:
        """The licence that dataset.json names, in either spelling; "" where it names none."""
        return self.said("licence") or self.said("license")

    def folds(self, wanted: Sequence[str], checkpoint: CheckpointName) -> dict[str, Path]:
        """Returns the checkpoint of each fold.

        Args:
            wanted: Names of folds: "0", "all". None: all that were cross-validated, else "all".
            checkpoint: Which one of each fold.

        Raises:
            ModelError: One is missing.
        """
        name = f"checkpoint_{checkpoint}.pth"
        if (self.path / OF_BUNDLES).is_file():
            name = WEIGHTS_OF_BUNDLES.get(checkpoint, name)
        every = {found[1]: path for path in sorted(self.path.iterdir()) if (found := FOLD.fullmatch(path.name))}
        there = {fold: path / name for fold, path in every.items() if (path / name).is_file()}
        if wanted:
            missing = [fold for fold in wanted if fold not in there]
            if missing:
                known = ", ".join(there) or "none"
                raise ModelError(f"{self.path}: fold {missing[0]} has no {name}; folds that have one: {known}")
            return {fold: there[fold] for fold in wanted}
        chosen = {fold: path for fold, path in there.items() if fold != ALL} or there
        if not chosen:
            others = sorted(
                {path.stem.removeprefix("checkpoint_") for path in self.path.glob("fold_*/checkpoint_*.pth")}
            )
            hint = f"take --checkpoint {others[0]}" if others else ADVICE
            raise ModelError(f"{self.path}: no fold has a {name}; {hint}")
        return chosen


def trained_folders(source: Path) -> list[TrainedFolder]:
    """Returns the trained folders at or below a folder, or in a zip.

    Raises:
        SourceError: The zip is damaged, or holds what leads out of it.
    """
    folder = unpacked(source) if source.is_file() and is_archive(source) else source
    return [TrainedFolder(path) for path in _folders(folder, DEEPEST)] if folder.is_dir() else []


def is_trained_folder(folder: Path) -> bool:
    """Returns whether a folder has what a trainer of nnU-Net v2 leaves, by the names of its files."""
    has_plans = (folder / PLANS).is_file() and (folder / DATASET).is_file()
    of_bundle = (folder / OF_BUNDLES).is_file() and any(folder.glob("fold_*/*model.pt"))
    return has_plans and (of_bundle or any(folder.glob("fold_*/checkpoint_*.pth")))


def _folders(folder: Path, deeper: int) -> Iterator[Path]:
    if is_trained_folder(folder):
        yield folder
    elif deeper:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from _folders(inner, deeper - 1)


def read_checkpoint(path: Path) -> NnunetCheckpoint:
    """Returns a checkpoint of nnU-Net v2. No code of it is run.

    Raises:
        ModelError: It is damaged, holds more than plain data, or is of something else.
    """
    content = read_torch_file(path, ADVICE, ModelError)
    if isinstance(content, dict) and path.name in WEIGHTS_OF_BUNDLES.values():
        rest = read_torch_file(path.parents[1] / OF_BUNDLES, ADVICE, ModelError)
        content = {**(rest if isinstance(rest, dict) else {}), **content}
    if not isinstance(content, dict) or "network_weights" not in content:
        raise ModelError(f"{path}: has no 'network_weights', so it is no checkpoint of nnU-Net v2")
    arguments = content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    mirrored = content.get("inference_allowed_mirroring_axes")
    if not isinstance(mirrored, list | tuple | None) or not all(axis in (0, 1, 2) for axis in mirrored or ()):
        raise ModelError(f"{path}: its 'inference_allowed_mirroring_axes' are no axes; {ADVICE}")
    return NnunetCheckpoint(
        path=path,
        trainer=str(content.get("trainer_name", "nnUNetTrainer"))[:80],
        configuration=configuration if isinstance(configuration, str) else "",
        mirrored_axes=tuple(int(axis) for axis in mirrored or ()),
        weights=content["network_weights"],
    )
