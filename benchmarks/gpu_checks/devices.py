"""Checks of the device itself: that it is there, computes in each precision, and takes arrays."""

import time

import torch

from gpu_checks.check import LABELS, NotHere, Numbers, Setup, check
from medseg.config import AugmentationConfig
from medseg.device import choose_device
from medseg.inferers.backends import apart
from medseg.parallel import run_in_workers
from medseg.transforms.augmentation.batch import BatchData
from medseg.transforms.augmentation.pipeline import Augmentation, build_augmentation


@check(60, "devices", at_least=1)
def devices(setup: Setup) -> Numbers:
    """Each device that is visible multiplies as the processor does; how fast arrays get there."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if setup.is_cuda else ["cpu"]
    a = torch.randn(512, 512)
    working = [name for name in names if _multiplies(a, torch.device(choose_device(name).torch_device))]
    array = torch.randn(setup.sized(2**26, 2**16))
    for _ in range(2):  # the first time, memory is pinned
        start = time.perf_counter()
        sent = setup.device.send(array)
        setup.synchronize()
        seconds = time.perf_counter() - start
    assert torch.equal(sent.cpu(), array)
    numbers = {"devices": float(len(working)), "GB_per_second": array.nbytes / seconds / 1e9}
    if setup.is_cuda:
        properties = torch.cuda.get_device_properties(setup.device.torch_device)
        numbers |= {
            "capability": properties.major + properties.minor / 10,
            "memory_gb": properties.total_memory / 2**30,
            "free_gb": setup.device.free_memory_mb() / 2**10,
            "cudnn": float(torch.backends.cudnn.version() or 0),
        }
    return numbers


def _multiplies(a: torch.Tensor, device: torch.device) -> bool:
    return torch.allclose((a.to(device) @ a.to(device)).cpu(), a @ a, atol=0.5)  # TF32 where that is set


@check(90, "furthest", at_most=0.05)
def dtypes(setup: Setup) -> Numbers:
    """The network's logits in fp32, bf16 and fp16 are those of the processor in fp32."""
    image = torch.randn(1, 1, *setup.plan.patch_size, generator=torch.Generator().manual_seed(0))
    numbers = {}
    with torch.inference_mode():
        expected = setup.network().eval()(image)
        for precision in ("fp32", "bf16", "fp16"):
            device = setup.in_precision(precision)
            network = device.place(setup.network().eval(), 3)
            with device.autocast():
                numbers[precision] = apart(network(device.send(image)).float().cpu(), expected)
    return numbers | {"furthest": max(numbers.values())}


@check(60, "difference", at_most=0.02)
def augmentation(setup: Setup) -> Numbers:
    """Each step of augmentation changes a batch as on the processor; noise, which is drawn there, aside."""
    batch = _batch(setup)
    always = AugmentationConfig(**{name: 1.0 for name in AugmentationConfig.model_fields if "probability" in name})
    always = always.model_copy(update={"noise_probability": 0.0, "channel_dropout_probability": 0.0})
    pipeline = _pipeline(setup, always)
    numbers: Numbers = {}
    on_device = {key: setup.device.send(value) for key, value in batch.items()}
    for step in pipeline.transforms:
        alone, name = Augmentation([step]), type(step).__name__
        expected, changed = alone(dict(batch), seed=(1, 2)), alone(dict(on_device), seed=(1, 2))
        spread = float(expected["image"].std())
        difference = float((changed["image"].cpu() - expected["image"]).square().mean().sqrt()) / spread
        moved = float((changed["label"].cpu() != expected["label"]).float().mean())
        numbers[name] = max(difference, moved, numbers.get(name, 0.0))
    noise = _pipeline(setup, AugmentationConfig(noise_probability=1.0))
    start = time.perf_counter()
    for step in range(5):
        noise(dict(on_device), seed=(3, step))
    setup.synchronize()
    largest = max(numbers.values())
    return numbers | {"difference": largest, "ms_of_a_batch": 200 * (time.perf_counter() - start)}


def _batch(setup: Setup) -> BatchData:
    generator = torch.Generator().manual_seed(0)
    shape = (setup.plan.batch_size, 1, *setup.plan.patch_size)
    smooth = torch.nn.functional.avg_pool3d(torch.randn(shape, generator=generator), 3, 1, 1)
    return {"image": smooth, "label": torch.randint(LABELS + 1, shape, generator=generator, dtype=torch.uint8)}


def _pipeline(setup: Setup, config: AugmentationConfig) -> Augmentation:
    plan = setup.plan
    return build_augmentation(
        config, dims=3, patch_size=plan.patch_size, spacing=plan.grid.spacing, mirror_axes=(0, 1, 2)
    )


@check(60, "wrong", at_most=0)
def workers(setup: Setup) -> Numbers:
    """Worker processes begin and work after CUDA was used here: nothing of it is inherited."""
    torch.zeros(1, device=setup.device.torch_device)
    start = time.perf_counter()
    outcomes = list(run_in_workers(abs, [-1, -2, -3, -4], workers=2))
    wrong = sum(outcome.result != -outcome.item for outcome in outcomes)
    return {"wrong": float(wrong), "seconds": time.perf_counter() - start}


@check(120, "logits_apart", at_most=0.05)
def torch_compile(setup: Setup) -> Numbers:
    """A compiled network gives the same logits; how much sooner, after how long a compilation."""
    if setup.is_cuda and torch.cuda.get_device_capability(setup.device.torch_device) < (7, 0):
        raise NotHere("Triton needs a GPU of compute capability 7.0 or more")
    device = setup.device
    network = device.place(setup.network().eval(), 3)
    image = device.send(torch.randn(1, 1, *setup.plan.patch_size, generator=torch.Generator().manual_seed(0)))
    compiled = torch.compile(network, dynamic=False)
    with torch.inference_mode(), device.autocast():
        start = time.perf_counter()
        logits = compiled(image)
        setup.synchronize()
        compiling = time.perf_counter() - start
        difference = apart(logits.float(), network(image).float())
        paces = [_seconds(setup, each, image) for each in (network, compiled)]
    return {"logits_apart": difference, "seconds_to_compile": compiling, "times_as_fast": paces[0] / paces[1]}


def _seconds(setup: Setup, network: torch.nn.Module, image: torch.Tensor, times: int = 5) -> float:
    with setup.device.timed("check"):
        network(image)
        setup.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            network(image)
        setup.synchronize()
    return (time.perf_counter() - start) / times


@check(60)
def channels_last(setup: Setup) -> Numbers:
    """How fast the network is with channels last and with channels first."""
    device, numbers = setup.device, {}
    image = device.send(torch.randn(setup.plan.batch_size, 1, *setup.plan.patch_size))
    with torch.inference_mode(), device.autocast():
        last = device.place(setup.network().eval(), 3)
        numbers["ms_last"] = 1000 * _seconds(setup, last, image)
        first = setup.network().eval().to(device.torch_device)
        numbers["ms_first"] = 1000 * _seconds(setup, first, image)
    return numbers | {"times_as_fast": numbers["ms_first"] / numbers["ms_last"]}
