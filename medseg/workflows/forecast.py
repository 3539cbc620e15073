"""forecast: a few steps of training, a window of every kind, a checkpoint; then what the whole will take."""

import tempfile
from pathlib import Path
from typing import Literal

from medseg.config import Config
from medseg.dataset.store import PreparedDataset
from medseg.device import choose_device
from medseg.training.device_check import sound_device, usual_plan
from medseg.training.forecast import Forecast, bytes_of_run, step_seconds
from medseg.training.parts import NO_OWN_PARTS
from medseg.training.run import refuse_to_overwrite, start_runs
from medseg.training.run_trainer import check_held_back, tell, trainer_of
from medseg.training.time_shares import window_seconds


def forecast(
    prepared: str | Path,
    output: str | Path,
    *,
    dims: Literal[2, 3] | None = None,
    config: Config | None = None,
    device: str = "auto",
) -> Forecast:
    """Returns what ``train`` with the same arguments will take. Nothing is written to ``output``.

    Raises:
        MedsegError: What ``train`` would raise before it begins, and what its first steps would.
    """
    config = config or Config()
    refuse_to_overwrite(Path(output))
    dataset = PreparedDataset(Path(prepared))
    chosen = choose_device(device, config.training.precision, config.training.threads)
    chosen = sound_device(chosen, lambda: usual_plan(dataset, dims, config), dataset, config, NO_OWN_PARTS)
    with tempfile.TemporaryDirectory() as folder:
        runs = start_runs(Path(folder) / "run", dataset, dims, config, chosen)
        check_held_back(runs)
        run = runs[0]
        trainer, sampler = trainer_of(run, chosen)
        tell(run, trainer)
        chosen.forget_peak()
        step, window = step_seconds(trainer, sampler), window_seconds(run, trainer)
        return Forecast.of(runs, trainer, step, window, bytes_of_run(run, trainer))
