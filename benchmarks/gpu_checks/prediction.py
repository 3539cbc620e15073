"""Checks of prediction: that it is that of the processor, in bounded memory, and goes on where memory runs out."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import make_ct
from monai.inferers import SlidingWindowInferer

import medseg
from gpu_checks.check import LABELS, SCAN, SMALL_SCAN, NotHere, Numbers, Setup, check
from medseg.config import InferenceConfig
from medseg.decoding import SOFTMAX, Softmax
from medseg.device import choose_device
from medseg.errors import MedsegError
from medseg.inferers import StreamingInferer
from medseg.inferers.accumulator import Accumulator
from medseg.inferers.backends import apart, with_backend
from medseg.inferers.case_stream import predict_labels, predict_logits
from medseg.inferers.confidence import Confidence
from medseg.inferers.memory_plan import MemoryLimit
from medseg.inferers.model import Model, load_model, save_model
from medseg.inferers.model_record import ModelRecord
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import segment
from medseg.inferers.stream import Stream
from medseg.labels import Labels
from medseg.transforms import restoring
from medseg.transforms.prepared import Prepared
from medseg.transforms.resample import grid_with_spacing
from medseg.volume import Geometry, Volume

# Random weights are near ties everywhere: rounding shows in labels as it does not with trained ones.
SAME_LABELS = 0.98


def model_folder(setup: Setup) -> Path:
    """A model with random weights."""
    folder = setup.folder / "model"
    if not (folder / "model.json").is_file():  # what is written last
        record = ModelRecord(
            medseg=medseg.__version__,
            plan=setup.plan,
            labels=Labels.from_names({f"label_{i}": i for i in range(1, LABELS + 1)}),
            channels=("CT",),
            inference=InferenceConfig(),
            provenance={},
            metrics={},
        )
        save_model(folder, record, setup.network().state_dict())
    return folder


def model(setup: Setup) -> Model:
    return load_model(model_folder(setup), setup.device)


def prepared(setup: Setup) -> Prepared:
    """An image of noise whose source has other voxels, so that it is resampled back."""
    image, spacing = setup.image(), setup.plan.grid.spacing
    x, y, z = image.shape[1:]
    grid = Geometry((x, y, z), np.diag([*spacing, 1.0]))
    return Prepared(image, None, grid, grid_with_spacing(grid, tuple(1.3 * mm for mm in spacing)))


@check(90, "logits_apart", at_most=0.05)
def prediction(setup: Setup) -> Numbers:
    """Logits of sliding windows are those of the processor in float32, and labels too but for near ties."""
    image, numbers = setup.image(), {}
    fp32 = choose_device("cpu", "fp32")
    exact = predict_logits(
        fp32.place(setup.network().eval(), 3), image, setup.plan, InferenceConfig(overlap=0.25), fp32
    )
    labels = SOFTMAX.labels(exact, 0)
    for precision in ("fp32", "bf16"):
        device = setup.in_precision(precision)
        network = device.place(setup.network().eval(), 3)
        logits = predict_logits(network, image, setup.plan, InferenceConfig(overlap=0.25), device).cpu()
        numbers[f"{precision}_apart"] = apart(logits, exact)
        numbers[f"{precision}_same_labels"] = float((SOFTMAX.labels(logits, 0) == labels).float().mean())
    return numbers | {"logits_apart": max(numbers["fp32_apart"], numbers["bf16_apart"])}


@check(60, "difference", at_most=1e-3)
def streaming_inferer(setup: Setup) -> Numbers:
    """StreamingInferer gives what MONAI's SlidingWindowInferer does there, in less memory."""
    image, device = setup.image()[None].to(setup.device.torch_device), setup.device
    network, numbers, results = device.place(setup.network().eval(), 3), {}, []
    for inferer_class in (SlidingWindowInferer, StreamingInferer):
        inferer = inferer_class(setup.plan.patch_size, sw_batch_size=2, overlap=0.25, mode="gaussian")
        device.forget_peak()
        start = time.perf_counter()
        with torch.inference_mode():
            results.append(inferer(image, network).cpu())
        name = inferer_class.__name__
        numbers |= {f"{name}_seconds": time.perf_counter() - start, f"{name}_peak_mb": device.peak_memory_mb()}
    return numbers | {"difference": float((results[0] - results[1]).abs().max() / results[0].std())}


@check(60, "logits_apart", at_most=0.05)
def compiled_prediction(setup: Setup) -> Numbers:
    """predict --backend compile gives the same logits."""
    plain = model(setup)
    compiled = with_backend(plain, "compile")
    if compiled.backend != "compile":
        raise RuntimeError("the network was not compiled; the log says why")
    image, numbers, logits = setup.image(), {}, []
    for name, each in (("plain", plain), ("compiled", compiled)):
        for _ in range(2):  # the first time, kernels are chosen
            start = time.perf_counter()
            whole = predict_logits(each.network, image, setup.plan, InferenceConfig(overlap=0.0), setup.device).cpu()
            numbers[f"seconds_{name}"] = time.perf_counter() - start
        logits.append(whole)
    return numbers | {"logits_apart": apart(logits[1].float(), logits[0].float())}


@check(60, "part_of_limit", at_most=1.0)
def max_memory(setup: Setup) -> Numbers:
    """--max-memory is kept: of the GPU's memory on CUDA."""
    loaded, case, config = model(setup), prepared(setup), InferenceConfig()
    volume = Volume(np.zeros((1, *case.source.shape), np.float32), case.source)
    unlimited = MemoryLimit.measured(loaded, config, 2**50)
    usual = unlimited.plan_for(loaded, volume.geometry, len(volume.array), config)
    for part in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        limit = int(part * usual.peak)
        try:
            chosen = MemoryLimit(limit, unlimited.window).plan_for(loaded, volume.geometry, len(volume.array), config)
            break
        except MedsegError:
            continue
    loaded.device.forget_peak()
    segment(Predictor(loaded.network, setup.plan, loaded.device), case, config, chosen.memory_plan)
    peak = loaded.device.peak_memory_mb()
    numbers = {"part_of_limit": peak * 2**20 / limit, "limit_mb": limit / 2**20, "peak_mb": peak, "part": part}
    if setup.is_cuda:  # what the allocator keeps besides, which no plan can know
        numbers["reserved_mb"] = torch.cuda.max_memory_reserved(loaded.device.torch_device) / 2**20
    return numbers


# Where memory may run out on the way of a case: (owner, name of the function, which call of it fails).
PLACES: dict[str, tuple[Any, str, int]] = {
    "network": (Predictor, "_predict", 2),
    "sums": (Accumulator, "open", 2),
    "logits_to_sums": (Stream, "_at_sums", 2),
    "labels_of_a_slab": (restoring, "_labels", 1),
    "decoding": (restoring._Slab, "decoded", 1),
    "confidence": (Confidence, "_add", 3),
}


@check(90, "worst_same_labels", at_least=SAME_LABELS)
def out_of_memory(setup: Setup) -> Numbers:
    """Where memory runs out at any step of the way of a case, the case goes on to the same labels."""
    loaded, case, numbers = model(setup), prepared(setup), {}
    expected = _segmented(loaded, case)
    for name, (owner, function, call) in PLACES.items():
        with _fails(owner, function, call):
            numbers[name] = float((_segmented(loaded, case) == expected).mean())
    plain = predict_labels(loaded.network, case.image, setup.plan, InferenceConfig(), loaded.device)
    with _fails(Softmax, "labels", 1):
        again = predict_labels(loaded.network, case.image, setup.plan, InferenceConfig(), loaded.device)
        numbers["validation"] = float((again == plain).float().mean())
    if any(parameter.device.type != loaded.device.torch_device.type for parameter in loaded.network.parameters()):
        raise RuntimeError("the network was moved away: the next case would fail")
    return numbers | {"worst_same_labels": min(numbers.values())}


def _segmented(loaded: Model, case: Prepared) -> np.ndarray:
    confidence = Confidence(loaded.record.labels, SOFTMAX, case.geometry.shape)
    predictor = Predictor(loaded.network, loaded.record.plan, loaded.device)
    return segment(predictor, case, InferenceConfig(), watchers=[confidence]).label_map


@contextmanager
def _fails(owner: Any, name: str, call: int) -> Iterator[None]:
    """Lets a call of a function fail as where a GPU's memory is full."""
    own: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def function(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise torch.OutOfMemoryError("CUDA out of memory (not really: a check)")
        return own(*arguments, **named)

    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, own)
    if calls < call:
        raise RuntimeError(f"{name} was called {calls} times only: nothing failed")


@check(60, "worst_same_labels", at_least=SAME_LABELS)
def little_memory(setup: Setup) -> Numbers:
    """On a GPU that really has little memory left, windows become fewer, and in the end the processor goes on."""
    if not setup.is_cuda:
        raise NotHere("only a GPU's memory can be made small")
    loaded, case = model(setup), prepared(setup)
    device, numbers = loaded.device, {}
    device.forget_peak()
    before, total = device.memory_mb(), torch.cuda.get_device_properties(device.torch_device).total_memory / 2**20
    expected = _segmented(loaded, case)
    needed = device.peak_memory_mb() - before
    try:
        for part in (0.6, 0.3, 0.05):
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction((before + part * needed) / total, device.torch_device)
            start = time.perf_counter()
            numbers[f"same_labels_at_{part:g}"] = float((_segmented(loaded, case) == expected).mean())
            numbers[f"seconds_at_{part:g}"] = time.perf_counter() - start
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device.torch_device)
    worst = min(value for name, value in numbers.items() if name.startswith("same"))
    return numbers | {"worst_same_labels": worst}


@check(150, "seconds", at_most=120)
def whole_ct(setup: Setup) -> Numbers:
    """medseg predict with nnU-Net's default plan: a CT of 512×512×300 voxels, from NIfTI to NIfTI."""
    images, masks = setup.folder / "images", setup.folder / "masks"
    if not images.is_dir():  # nothing writes there before this check, and it is the last one
        make_ct(images / "ct.nii.gz", SCAN if setup.is_large else SMALL_SCAN)
    start = time.perf_counter()
    medseg.predict(model_folder(setup), images, masks, device=setup.name, overwrite=True)
    seconds = time.perf_counter() - start
    case = json.loads((masks / "predictions.json").read_text(encoding="utf-8"))["cases"][0]
    stages = {f"seconds_{name}": float(value) for name, value in case["stages"].items()}
    counts = {"windows": float(case["windows"]), "skipped": float(case["skipped_windows"])}
    return {"seconds": seconds, **stages, **counts, "peak_mb": float(case["peak_memory_mb"])}
