"""A larger model that a smaller network learns from: ``training.teacher``."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from medseg.device import Device
from medseg.errors import ConfigError
from medseg.inferers.model import Model, load_model
from medseg.labels import Labels
from medseg.losses.distillation import DistillationLoss
from medseg.plan import Plan
from medseg.training.initial import InitialModel

# The student has this part of the teacher's features in each stage, unless network.features says otherwise.
WIDTH = 2
FEWEST_FEATURES = 4


@dataclass(frozen=True)
class Teacher:
    """The model that teaches, with its network on the device of the training."""

    model: Model

    @classmethod
    def read(cls, path: str, device: Device) -> "Teacher":
        """Reads the model of a run; of an ensemble its networks teach together.

        Raises:
            ModelError: There is none.
        """
        return cls(load_model(Path(path), device))

    def check(self, plan: Plan, labels: Labels, channels: tuple[str, ...]) -> None:
        """Checks that it sees what the student sees, and says what it learns.

        Raises:
            ConfigError: Its channels, its outputs, its dimensions, or its grid are others.
        """
        theirs, name = self.model.record, self.model.name
        pairs = {
            "channels": (theirs.channels, channels),
            "outputs": (theirs.outputs, plan.outputs(labels)),
            "dimensions": (theirs.plan.dims, plan.dims),
            "orientation": (theirs.plan.grid.orientation, plan.grid.orientation),
            "spacing in mm": (theirs.plan.grid.spacing, plan.grid.spacing),
            "normalization": (theirs.plan.grid.normalization, plan.grid.normalization),
        }
        for what, (its, own) in pairs.items():
            if its != own:
                raise ConfigError(
                    f"training.teacher: {name} has other {what} ({_shown(its)}) than this run ({_shown(own)}); train "
                    "the teacher on the same prepared folder, or leave --teacher out"
                )

    def loss(self, loss: nn.Module, weight: float) -> DistillationLoss:
        """Returns a loss of labels together with that of what the teacher says."""
        network, device = self.model.network, self.model.device

        def logits(image: torch.Tensor) -> torch.Tensor:
            with device.autocast():
                given = network(image)
            return given if isinstance(given, torch.Tensor) else given[0]

        plan = self.model.record.plan
        others = 0 if plan.objects is None else len(plan.objects.targets)
        return DistillationLoss(loss, logits, weight=weight, regions=bool(plan.regions), others=others)


def student_model(teacher: str) -> InitialModel:
    """Returns the model of a teacher with half the width, whose network the student has.

    Raises:
        ModelError: There is no such model.
    """
    model = InitialModel.read(Path(teacher))
    halved = tuple(max(min(FEWEST_FEATURES, n), n // WIDTH) for n in model.architecture.features)
    return replace(model, architecture=model.architecture.model_copy(update={"features": halved, "prompts": None}))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
