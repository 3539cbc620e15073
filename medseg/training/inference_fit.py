"""The settings of prediction that a model gets at the end of its training: windows, and int8, that take less time.

Both are kept only where held-back cases show what they cost. Larger windows see more at once, and repeat less; the
statistics of instance normalization then are those of a larger part of the image than in training, which is why it has
to be tried. Windows that overlap by less are averaged less.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path

import torch

from medseg.config import Config, InferenceConfig
from medseg.dataset.store import PreparedDataset
from medseg.device import Device
from medseg.errors import ConfigError, reason_of
from medseg.inferers.backends import SLOW_WINDOW, seconds_of_window, with_backend
from medseg.inferers.model import Model, load_model
from medseg.inferers.model_record import InferenceFit, read_model_record, write_model_record
from medseg.inferers.predictor import Predictor
from medseg.inferers.quantised import can_quantise, save_quantised
from medseg.inferers.windows import Layout, window_of, window_overlap
from medseg.networks.fitting import Fitted
from medseg.networks.network import Network
from medseg.plan import Plan
from medseg.progress import counted, say, warn
from medseg.training.quantisation import quantise_model, quantising_seconds
from medseg.training.run import Run
from medseg.training.run_record import BEST
from medseg.training.time_shares import RESERVE, TimeShares
from medseg.training.validation import validate
from medseg.volume import Shape3

# Mean Dice that all of it together may cost.
LARGEST_LOSS = 0.002
# The part of the time that has to be left of it at most, or it isn't worth a loss.
WORTH = 0.9
MOST_TRIALS = 4  # of windows
OVERLAPS = (0.5, 0.25)
# Edges of windows that are tried, in edges of the patch, beside that of the largest image.
LARGER = (1.0, 1.25, 1.5, 2.0)
GROWTHS = (1.0, 2.0, float("inf"))  # of the voxels of a patch
MOST_EDGES = 4  # of the patch: the longest window
# Larger windows than this take more memory than they save time; patches may be larger.
MOST_VOXELS = 2**21


@dataclass(frozen=True)
class Tried:
    """What settings of prediction gave and took on the held-back cases that are compared."""

    config: InferenceConfig
    dice: float
    seconds: float


def fit_inference(run: Run, shares: TimeShares, device: Device, network: torch.nn.Module | None = None) -> None:
    """Chooses windows and int8 for the best model of a finished training, and writes them into its model.json.

    Where the user gave ``inference.overlap`` or ``inference.window``, windows stay as they are.

    Args:
        run: Whose model it is.
        shares: The held-back cases that are compared, and the time for that.
        device: Where they are predicted.
        network: The module that was trained, where it is one of the user's own.
    """
    if not shares.compared:
        return
    deadline = time.monotonic() + RESERVE * shares.comparing
    model = load_model(run.folder, device, network=network)
    held_back = run.dataset.subset(shares.compared)
    before = _tried(model, model.network, run.config.inference, held_back)
    chosen = before
    if is_open(run.config):
        shapes = [run.dataset.model_grid(case_id).shape for case_id in shares.compared]
        configs = faster_windows(model.network, run.plan, run.config.inference, shapes, device.is_cpu)
        chosen = _fastest(model, configs, held_back, before, deadline)
    inference = chosen.config.model_copy(update={"overlap": window_overlap(chosen.config)})
    model = replace(model, record=model.record.model_copy(update={"inference": inference}))
    may_quantise = network is None and can_quantise(model.network, device)
    wanted = max(before.dice, chosen.dice)
    int8 = _quantised(run, model, held_back, wanted, deadline) if may_quantise else None
    last = int8 or chosen
    fit = InferenceFit(
        cases=len(held_back),
        dice_before=before.dice,
        dice=last.dice,
        seconds_before=before.seconds,
        seconds=last.seconds,
        int8=int8 is not None,
    )
    write_model_record(model.folder, model.record.model_copy(update={"inference_fit": fit}))
    _tell(model, fit)


def _tell(model: Model, fit: InferenceFit) -> None:
    held_back, config = counted(fit.cases, "held-back case"), model.record.inference
    if fit.seconds == fit.seconds_before:
        say(f"Windows of prediction stay as they are: nothing faster kept the Dice of {held_back}")
        return
    window = "×".join(map(str, window_of(model.network, model.record.plan, config)))
    say(
        f"From now on prediction takes windows of {window} voxels that overlap by {window_overlap(config):g}"
        f"{', in int8' if fit.int8 else ''}: {fit.seconds:.3g} s for {held_back}, before {fit.seconds_before:.3g} s; "
        f"mean Dice {fit.dice:.4f}, before {fit.dice_before:.4f}"
    )


def with_fit_of(first: Path, run: Run) -> Run:
    """Returns a run with the windows that the ``first`` one of all folds chose: an ensemble has the same for all."""
    chosen = first / BEST
    if run.folder == first or not is_open(run.config) or read_model_record(chosen).inference_fit is None:
        return run
    config = run.config.model_copy(update={"inference": read_model_record(chosen).inference})
    return replace(run, config=config)


def is_open(config: Config) -> bool:
    """Returns whether the user left overlap and size of the windows to ``fit_inference``."""
    return config.inference.overlap is None and config.inference.window is None


def faster_windows(
    network: object, plan: Plan, config: InferenceConfig, shapes: Sequence[Shape3], may_be_larger: bool = True
) -> list[InferenceConfig]:
    """Returns settings by which the network has fewer voxels to see, the fewest first.

    For each overlap there are those of the best size of windows up to each of ``GROWTHS``: some networks lose Dice in
    windows much larger than the patch.

    Args:
        network: A module that takes windows.
        plan: Its plan.
        config: The settings that are to be beaten.
        shapes: Of images, voxels on the model grid.
        may_be_larger: Whether windows of another size than the patch are thought of.
    """
    sizes = [size for size in _sizes(plan, shapes) if may_be_larger and _takes(network, size)]
    found: dict[int, InferenceConfig] = {}
    for overlap in OVERLAPS:
        windows = [config.model_copy(update={"overlap": overlap, "window": size}) for size in (None, *sizes)]
        works = [seen_voxels(network, plan, each, shapes) for each in windows]
        for growth in GROWTHS:
            most = growth * prod(plan.network_patch)
            within = [work for work, each in zip(works, windows, strict=True) if prod(each.window or ()) <= most]
            best = min(within)
            found.setdefault(best, windows[works.index(best)])  # of equal ones, that which overlaps by more
    own = seen_voxels(network, plan, config, shapes)
    return [each for work, each in sorted(found.items()) if work <= WORTH * own]


def _takes(network: object, window: tuple[int, ...]) -> bool:
    """Returns whether a network takes windows of a size that it was not trained with; of unknown ones nothing is
    known."""
    inner = network.network if isinstance(network, Fitted) else network
    if not isinstance(inner, Network):
        return False
    try:
        inner.fitting_shape(window)
    except ConfigError:  # images of one shape only
        return False
    return True


def seen_voxels(network: object, plan: Plan, config: InferenceConfig, shapes: Sequence[Shape3]) -> int:
    """Returns how many voxels the network sees of images of these shapes, each as often as it is in a window."""
    layouts = [Layout.of(network, plan, shape, config) for shape in shapes]
    return sum(layout.n_windows * prod(layout.patch_size) for layout in layouts)


def _sizes(plan: Plan, shapes: Sequence[Shape3]) -> Iterator[tuple[int, ...]]:
    """Yields sizes of windows, no smaller than the patch along any axis."""
    options = []
    for i, (axis, edge) in enumerate(zip(plan.spatial_axes, plan.network_patch, strict=True)):
        step = prod(stride[i] for stride in plan.architecture.strides)
        largest = -(-max(shape[axis] for shape in shapes) // step) * step
        edges = {round(edge * factor / step) * step for factor in LARGER} | {largest}
        options.append([edge, *sorted(each for each in edges if edge < each <= min(largest, MOST_EDGES * edge))])
    most = max(MOST_VOXELS, prod(plan.network_patch))
    yield from (size for size in product(*options) if prod(size) <= most)


def _fastest(
    model: Model, configs: Sequence[InferenceConfig], held_back: PreparedDataset, before: Tried, deadline: float
) -> Tried:
    """Returns the fastest settings that cost little against the best of all that there is time to try.

    Windows that show more of the image at once may also be better: lesions are told from what else looks like them.
    """
    shapes = [held_back.model_grid(case_id).shape for case_id in held_back.case_ids]
    plan = model.record.plan
    own = seen_voxels(model.network, plan, before.config, shapes)
    results = [before]
    for config in configs[:MOST_TRIALS]:
        expected = before.seconds * seen_voxels(model.network, plan, config, shapes) / own
        if time.monotonic() + expected <= deadline:
            results.append(_tried(model, model.network, config, held_back))
    faster = [each for each in results if each is before or each.seconds <= WORTH * before.seconds]
    best = max(each.dice for each in faster)
    return min((each for each in faster if best - each.dice <= LARGEST_LOSS), key=lambda each: each.seconds)


def _quantised(run: Run, model: Model, held_back: PreparedDataset, dice: float, deadline: float) -> Tried | None:
    """Quantises the network where it is slow, and keeps that in its folder where it gains and costs little.

    ``dice`` is what the model gave before.
    """
    seconds = seconds_of_window(model)
    if seconds < SLOW_WINDOW:  # 'predict' would not take it
        return None
    seconds = min(seconds, seconds_of_window(with_backend(model, "openvino")))
    window = window_of(model.network, run.plan, model.record.inference)
    if time.monotonic() + quantising_seconds(window, seconds) > deadline:
        say("There was no time to quantise the network; 'medseg quantise' does that")
        return None
    try:
        made = quantise_model(run, model)
    except Exception as error:  # whatever a compiler stumbles on: the training is done, and its model is whole
        warn(f"The network cannot be quantised ({reason_of(error)}), so it stays as it is")
        return None
    if seconds_of_window(made.model) > WORTH * seconds:
        say("In int8 the network is no faster on this processor, so it stays as it is")
        return None
    tried = _tried(model, made.model.network, model.record.inference, held_back)
    if dice - tried.dice > LARGEST_LOSS:
        say(f"In int8 the mean Dice of held-back cases falls by {dice - tried.dice:.4f}, so it stays as it is")
        return None
    save_quantised(made.graph, made.record(tried.dice, dice, len(held_back)), model.folder)
    return tried


def _tried(model: Model, network: torch.nn.Module, config: InferenceConfig, held_back: PreparedDataset) -> Tried:
    result = validate(Predictor(network, model.record.plan, model.device), held_back, config)
    return Tried(config, result.mean_dice, result.seconds)
