"""Validation on whole held-back cases, now and then and at the end."""

import time
from collections.abc import Sequence

from medseg.config import InferenceConfig
from medseg.dataset.store import PreparedDataset
from medseg.errors import TrainingError
from medseg.inferers.predictor import Predictor
from medseg.training.callback import Callback
from medseg.training.epoch import Epoch
from medseg.training.trainer import Trainer
from medseg.training.validation import ValidationResult, validate

# A score that is better by less does not keep the patience up.
BETTER = 0.0005


class Validation(Callback):
    """Validates the averaged network on whole cases; tells all callbacks, and keeps ``state.best_score``.

    What is best is said by ``training.metric``: Dice, or the lesion F1, clDice and others.

    Args:
        dataset: Where the cases lie, prepared.
        case_ids: Those that are not trained on.
        config: How windows are laid. None: as by default.
        share: Most of the time that validation may take.
        expected: Seconds that one is thought to take, so that the first one is not too early. 0: nothing is known.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        case_ids: Sequence[str],
        config: InferenceConfig | None = None,
        share: float = 0.1,
        expected: float = 0.0,
    ) -> None:
        self.dataset, self.case_ids = dataset, tuple(case_ids)
        self.config, self.share = config or InferenceConfig(), share
        self.ended_at, self.seconds = time.monotonic(), expected  # of the last one
        self.validated_step: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begins to count the time until the first validation."""
        self.ended_at = time.monotonic()

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        """Validates, where it is time for it."""
        # Not after an interruption: who sent the signal may not wait that long for the checkpoint.
        if self.is_due(trainer) and not trainer.interrupted():
            epoch.validation = self.validate(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Validates the last weights, unless they are validated already."""
        state = trainer.state
        is_new = state.step != self.validated_step
        if trainer.finished and is_new and (state.step > trainer.first_step or state.best_score is None):
            self.validate(trainer)

    def is_due(self, trainer: Trainer) -> bool:
        """Returns whether validating now takes no more than its share of the time."""
        waited = time.monotonic() - self.ended_at
        return trainer.processes.first(lambda: waited * self.share >= self.seconds)

    def validate(self, trainer: Trainer) -> ValidationResult:
        """Returns the Dice of the held-back cases, and their score, with the averaged weights of now."""
        if trainer.plan is None:
            raise TrainingError("validation predicts whole cases by a plan; give one to the trainer")
        result = validate(
            Predictor(trainer.average, trainer.plan, trainer.device),
            self.dataset.subset(self.case_ids),
            self.config,
            trainer.processes,
            trainer.settings.metric,
        )
        self.ended_at, self.seconds = time.monotonic(), result.seconds
        self.validated_step = trainer.state.step
        state, score = trainer.state, result.score
        is_better = state.best_score is None or score > state.best_score + BETTER
        state.validations_since_best = 0 if is_better else state.validations_since_best + 1
        state.best_score = score if state.best_score is None else max(state.best_score, score)
        trainer.tell("on_validation_end", result)
        return result
