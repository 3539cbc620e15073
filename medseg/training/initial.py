"""Fine-tuning: a network that begins with the weights of another model, whose labels and channels may be others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from medseg.architecture import PROMPT_CHANNELS, Architecture
from medseg.config import Config, NetworkConfig
from medseg.errors import ConfigError
from medseg.inferers.model import model_folders
from medseg.inferers.model_record import WEIGHTS, ModelRecord, read_model_record
from medseg.interop.bundle.model import MODELS, bundle_at, own_model, read_bundle
from medseg.interop.nnunet.importer import NnunetChoice, read_folds
from medseg.interop.nnunet.pretrained import is_checkpoint, read_encoder, trained_with
from medseg.interop.nnunet.trained_folder import TrainedFolder, trained_folders
from medseg.labels import Labels
from medseg.networks.network import Network
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.progress import warn
from medseg.weights import Tensors, read_tensors

# Spacings that differ by less are one.
LIKE = 0.1


@dataclass(frozen=True)
class InitialModel:
    """A model to begin with: ``training.init``.

    Attributes:
        source: A RUN or a model folder; a trained folder of nnU-Net v2, or a checkpoint in it; a checkpoint of nnssl; a
            bundle of MONAI.
        architecture: Of its network.
        weights: Reads them, by the names of medseg's network.
        channels: Names of its inputs, without those of prompts.
        outputs: What each of its outputs stands for, without that of prompts; none where it has only an encoder.
        regions: Whether these are regions.
        spacing: At which it has learnt, in mm; None where nobody says.
    """

    source: Path
    architecture: Architecture
    weights: Callable[[], Tensors]
    channels: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    regions: bool = False
    spacing: tuple[float, ...] | None = None

    @classmethod
    def read(cls, path: Path) -> "InitialModel":
        """Reads the model to begin with; of an ensemble the first one.

        Raises:
            ModelError: There is none, or none that medseg can build.
        """
        if is_checkpoint(path):
            trained, choice = trained_with(path)
            if trained is None:
                encoder = read_encoder(path)
                return cls(
                    path, encoder.architecture, lambda: encoder.weights, encoder.channels, spacing=encoder.spacing
                )
            return cls._of_nnunet(path, trained, choice)
        if trained_folders(path):
            return cls._of_nnunet(path, TrainedFolder.find(path), NnunetChoice())
        bundle = bundle_at(path)
        if bundle is not None and own_model(bundle) is None:
            record, weights = read_bundle(bundle)
            return cls._of(path, record, lambda: weights)
        folder = model_folders(path if bundle is None else bundle / MODELS)[0]
        advice = "give another model by training.init"
        return cls._of(folder, read_model_record(folder), lambda: read_tensors(folder / WEIGHTS, advice, ConfigError))

    @classmethod
    def _of_nnunet(cls, path: Path, trained: TrainedFolder, choice: NnunetChoice) -> "InitialModel":
        fold = next(read_folds(trained, choice))
        return cls._of(path, fold.record, lambda: fold.weights)

    @classmethod
    def _of(cls, source: Path, record: ModelRecord, weights: Callable[[], Tensors]) -> "InitialModel":
        plan = record.plan
        return cls(
            source, plan.architecture, weights, record.channels, record.outputs, bool(plan.regions), plan.grid.spacing
        )

    @property
    def dims(self) -> Literal[2, 3]:
        """The number of spatial axes that the model's network sees."""
        return 2 if len(self.architecture.strides[0]) == 2 else 3

    def shape(self, plan: Plan, config: Config) -> tuple[Plan, Config]:
        """Returns plan and settings with the model's network, save for what the user has set."""
        architecture = self.architecture
        if config.network.name != architecture.name and "name" in config.network.model_fields_set:
            return plan, config
        own = {
            key: value
            for key, value in architecture.model_dump(mode="json").items()
            if key in NetworkConfig.model_fields and key not in config.network.model_fields_set
        }
        network = config.network.model_copy(update=own)
        theirs, ours = self.spacing or plan.grid.spacing, plan.grid.spacing
        if any(abs(a / b - 1) > LIKE for a, b in zip(theirs, ours, strict=True)):
            learnt, here = ("×".join(f"{mm:.3g}" for mm in spacing) for spacing in (theirs, ours))
            warn(
                f"The model in {self.source} has learnt at {learnt} mm, and goes on at {here} mm; to keep its scale, "
                f"prepare with --set preprocessing.spacing=[{learnt.replace('×', ',')}]"
            )
        return plan.model_copy(update={"architecture": architecture}), config.model_copy(update={"network": network})

    def load_into(self, network: Network, plan: Plan, labels: Labels, channels: Sequence[str]) -> str:
        """Loads what fits, and says in words what was adapted and what stays random.

        Weights are matched by name and shape; outputs by the names of labels, or of regions where both have learnt
        these; inputs by the names of channels, or by their order where there are as many and none has the name of
        another. Inputs of no match begin with the mean of the others, those of prompts with zeros: the network then
        begins as the model that takes none.

        Args:
            network: What gets the weights.
            plan: Of the network.
            labels: What its outputs stand for.
            channels: Names of its inputs.

        Raises:
            ConfigError: Nothing fits.
        """
        theirs, own, names = self.weights(), network.state_dict(), plan.outputs(labels)
        # Outputs of a softmax and of sigmoids mean different things, whatever their names.
        outputs = _matched(self.outputs if bool(plan.regions) == self.regions else (), names)
        inputs = _matched(self.channels, channels)
        if len(self.channels) == len(channels) and all(source is None for source in inputs):
            inputs = list(range(len(channels)))
        of_outputs, of_inputs = _axes(plan, len(channels), len(names))
        prompts = _prompts_after(plan, self.architecture, len(self.channels), len(PROMPT_CHANNELS))
        answers = _prompts_after(plan, self.architecture, len(self.outputs), 1)
        fitting = {}
        for name, tensor in own.items():
            adapted = theirs.get(name)
            if adapted is not None and name in of_outputs:
                adapted = _rows(adapted, of_outputs[name], [*outputs, *answers], tensor)
            if adapted is not None and name in of_inputs:
                adapted = _rows(
                    adapted,
                    of_inputs[name],
                    [*inputs, *prompts],
                    _new_inputs(tensor, adapted, of_inputs[name], len(channels)),
                )
            if adapted is not None and adapted.shape == tensor.shape:
                fitting[name] = adapted
        if not fitting.keys() - of_outputs.keys():
            raise ConfigError(
                f"training.init: nothing in {self.source} fits this network; leave network.name, network.features and "
                "--dims to the model"
            )
        network.load_state_dict(fitting, strict=False)
        told = _told(own.keys() - fitting.keys(), len(own), names, outputs, channels, inputs)
        return f"{told}; what it makes of prompts stays random" if None in answers else told


def _matched(theirs: Sequence[str], ours: Sequence[str]) -> list[int | None]:
    """Returns for each of our names the position of the same name among theirs, whatever its case."""
    known = {name.lower(): i for i, name in enumerate(theirs)}
    return [known.get(name.lower()) for name in ours]


def _prompts_after(plan: Plan, theirs: Architecture, first: int, n: int) -> list[int | None]:
    """Returns where each of ``n`` inputs or outputs of prompts stands in the weights of the model, from ``first`` on.

    Returns:
        None for each where the model takes no prompts; nothing where the network takes none.
    """
    if plan.prompts is None:
        return []
    return [None] * n if theirs.prompts is None else list(range(first, first + n))


def _new_inputs(own: torch.Tensor, theirs: torch.Tensor, axis: int, n_channels: int) -> torch.Tensor:
    """Returns weights of inputs that the model has not: the mean of its own for channels, and zeros for prompts."""
    mean = theirs.mean(axis, keepdim=True)
    n_prompts = own.shape[axis] - n_channels
    parts = [mean] * n_channels + [torch.zeros_like(mean)] * n_prompts
    return torch.cat(parts, axis)


def _axes(plan: Plan, inputs: int, outputs: int) -> tuple[dict[str, int], dict[str, int]]:
    """Returns which axis of which weights counts the outputs, and which the inputs: those that grow with one more of
    them."""
    # Not on torch's meta device, where MONAI's SwinUNETR cannot be built.
    with torch.random.fork_rng(devices=[]):
        now, more_outputs, more_inputs = (
            build_network(inputs + i, outputs + o, plan.architecture).state_dict() for i, o in ((0, 0), (0, 1), (1, 0))
        )
    return _growing(now, more_outputs), _growing(now, more_inputs)


def _growing(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, int]:
    axes = {}
    for name, tensor in before.items():
        grown = [i for i, (a, b) in enumerate(zip(tensor.shape, after[name].shape, strict=True)) if a != b]
        if len(grown) == 1:
            axes[name] = grown[0]
    return axes


def _rows(
    theirs: torch.Tensor, axis: int, sources: Sequence[int | None], otherwise: torch.Tensor
) -> torch.Tensor | None:
    """Returns ``theirs`` with its entries along ``axis`` in the order of ``sources``.

    Entries without a source are those of ``otherwise``.

    Returns:
        None where something else differs too.
    """
    if theirs.ndim <= axis or any(source is not None and source >= theirs.shape[axis] for source in sources):
        return None
    if otherwise.ndim != theirs.ndim or otherwise.shape[axis] != len(sources):
        return None
    parts, fallback = theirs.unbind(axis), otherwise.unbind(axis)
    chosen = [own if source is None else parts[source] for source, own in zip(sources, fallback, strict=True)]
    return torch.stack(chosen, axis) if len({part.shape for part in chosen}) == 1 else None


def _told(
    random: set[str],
    n: int,
    labels: Sequence[str],
    outputs: Sequence[int | None],
    channels: Sequence[str],
    inputs: Sequence[int | None],
) -> str:
    parts = [f"{n - len(random)} of {n} tensors of weights fit"]
    new = [name for name, source in zip(labels, outputs, strict=True) if source is None]
    if new:
        parts.append(f"outputs of new labels stay random: {', '.join(new)}")
    averaged = [name for name, source in zip(channels, inputs, strict=True) if source is None]
    if averaged:
        parts.append(f"inputs of new channels begin with the mean of the others: {', '.join(averaged)}")
    if random:
        parts.append(f"random: {', '.join(sorted(random)[:3])}{f' and {len(random) - 3} more' * (len(random) > 3)}")
    return "; ".join(parts)
