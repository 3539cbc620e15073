"""What ``max_time`` pays for: tried with a few steps on this machine."""

from dataclasses import dataclass, field
from math import ceil

import torch

from medseg.config import Config
from medseg.dataset.patches import Batch
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.errors import lacks_gpu_memory
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.planning.candidates import CandidatePlan
from medseg.training.parts import make_trainer

# Steps of each plan; the first one is slower, so the fastest counts.
TRIED_STEPS = 3
# What validation leaves of the time, about.
TRAINING_SHARE = 0.8
# What a step may take of the memory that is free; the rest is for other programs.
MEMORY_SHARE = 0.8


@dataclass
class Budget:
    """The time for training one network, its validation included."""

    seconds: float
    dataset: PreparedDataset
    config: Config
    device: Device
    processes: int = 1  # that share a batch
    tried: dict[CandidatePlan, float] = field(default_factory=dict)  # seconds a step
    mb_of_activations: float = 0.0  # memory, as the candidate tried last took it

    def pays_for(self, candidate: CandidatePlan) -> bool:
        """Returns whether the time is enough for the steps that the candidate asks for, and the memory for one of
        them."""
        if self.mb_of_activations * candidate.activations > MEMORY_SHARE * self.device.free_memory_mb():
            return False
        self.device.forget_peak()
        before = self.device.memory_mb()
        try:
            self.tried[candidate] = self._step_seconds(candidate.plan)
        except RuntimeError as error:
            if not lacks_gpu_memory(error):
                raise
            return False
        self.mb_of_activations = (self.device.peak_memory_mb() - before) / candidate.activations
        return self.steps(candidate) >= candidate.least_steps

    def steps(self, candidate: CandidatePlan) -> int:
        """Returns about as many steps as there is time for."""
        return int(TRAINING_SHARE * self.seconds / self.tried[candidate])

    def _step_seconds(self, plan: Plan) -> float:
        labels, channels = self.dataset.labels, self.dataset.record.channels
        network = build_network(
            len(channels), len(plan.outputs(labels)), plan.architecture, self.config.network.checkpointing
        )
        settings = self.config.training.model_copy(update={"compile": False})  # compiling takes longer than trying
        trainer = make_trainer(network, plan, self.config.model_copy(update={"training": settings}), self.device)
        batch = self._noise(plan)
        if not self.tried and not self.device.is_cuda:
            self.device.threads.settle(lambda: trainer.run_steps(iter([batch]), 0, 1, _end))
        epochs = [trainer.run_steps(iter([batch]), step, step + 1, _end) for step in range(TRIED_STEPS)]
        return len(batch.case_ids) / max(epoch.samples_per_second for epoch in epochs)

    def _noise(self, plan: Plan) -> Batch:
        """Returns one process's part of a batch of noise.

        It isn't of cases: whether their values are numbers is seen in training.
        """
        n, channels = ceil(plan.batch_size / self.processes), len(self.dataset.record.channels)
        label = torch.randint(2, (n, 1, *plan.network_patch), dtype=torch.uint8)
        targets = None if plan.objects is None else torch.rand(n, len(plan.objects.targets), *plan.network_patch)
        return Batch(torch.randn(n, channels, *plan.network_patch), label, ("noise",) * n, targets=targets)


def _end(step: int) -> float:
    """Returns the end of the schedule, where the rate is next to nothing: a rate that is too high is training's
    matter too."""
    return 1 - 1e-9
