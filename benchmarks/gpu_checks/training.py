"""Checks of training: that it learns in each precision, resumes, is fast, and is the same in a process group."""

import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch
from torch import distributed

from gpu_checks.check import NotHere, Numbers, Setup, check
from medseg.config import Config
from medseg.dataset.patches import Batch, PatchSampler
from medseg.device import Device
from medseg.process_group import ALONE, ProcessGroup
from medseg.training.parts import make_trainer
from medseg.training.trainer import Trainer

WARM_UP = 3


def trainer_on(setup: Setup, device: Device, processes: ProcessGroup = ALONE, **settings: object) -> Trainer:
    """A trainer of the plan's network, which begins with the same weights at each call."""
    settings = {"epochs": 1000, "learning_rate": 1e-2} | settings
    config = Config().model_copy(update={"training": setup.config.training.model_copy(update=settings)})
    return make_trainer(setup.network(), setup.plan, config, device, processes)


def sampler(setup: Setup) -> PatchSampler:
    """Patches of the drawn cases."""
    return PatchSampler(setup.dataset, setup.plan, batch_size=setup.plan.batch_size, foreground_fraction=0.33, seed=0)


def batches(setup: Setup, first: int = 0) -> Generator[Batch, None, None]:
    return sampler(setup).prefetched(first)


def half(_step: int) -> float:
    """Progress of the schedule at which the learning rate is neither warmed up nor cooled down."""
    return 0.3


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().float().flatten().cpu() for parameter in trainer.network.parameters()])


def _learns(setup: Setup, precision: str) -> Numbers:
    device, n = setup.in_precision(precision), setup.sized(25, 3)
    trainer, source = trainer_on(setup, device), batches(setup)
    device.forget_peak()
    epochs = [trainer.run_steps(source, i * n, (i + 1) * n, half) for i in range(2)]
    source.close()
    return {
        "loss_ratio": epochs[1].loss / epochs[0].loss,
        "first_loss": epochs[0].loss,
        "last_loss": epochs[1].loss,
        "samples_per_second": epochs[1].samples_per_second,
        "loss_scale": float(trainer.scaler.get_scale()),
        "peak_mb": device.peak_memory_mb(),
    }


@check(90, "cases", at_least=1)
def preparing(setup: Setup) -> Numbers:
    """medseg preprocess of drawn cases, on which the next checks train."""
    start = time.perf_counter()
    return {"cases": float(len(setup.dataset.cases)), "seconds": time.perf_counter() - start}


@check(60, "loss_ratio", at_most=0.95)
def training_bf16(setup: Setup) -> Numbers:
    """The loss falls in bf16."""
    return _learns(setup, "bf16")


@check(60, "loss_ratio", at_most=0.95)
def training_fp16(setup: Setup) -> Numbers:
    """The loss falls in fp16, with loss scaling."""
    return _learns(setup, "fp16")


@check(30, "peak_mb", at_most=24 * 1024)
def training_memory(setup: Setup) -> Numbers:
    """What a training step takes of memory; nnU-Net's plan is meant for a GPU of 11 GB."""
    if not setup.is_cuda:
        raise NotHere("the memory of a process tells of more than its training")
    device = setup.device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device.torch_device)
    trainer, source = trainer_on(setup, device), batches(setup)
    trainer.run_steps(source, 0, WARM_UP, half)
    source.close()
    reserved = torch.cuda.max_memory_reserved(device.torch_device) / 2**20
    return {"peak_mb": device.peak_memory_mb(), "reserved_mb": reserved}


@check(90, "excess", at_most=1e-3)
def resume(setup: Setup) -> Numbers:
    """A resumed training comes to the weights of the unbroken one, as nearly as a repetition of that one does."""
    n = setup.sized(6, 2)
    unbroken = [_trained(setup, n, breaks=False) for _ in range(2)]
    resumed = _trained(setup, n, breaks=True)
    begin = weights(trainer_on(setup, _fixed(setup)))
    way = float((unbroken[0] - begin).norm())
    repeated, difference = (float((other - unbroken[0]).norm()) / way for other in (unbroken[1], resumed))
    return {"difference": difference, "of_a_repetition": repeated, "excess": difference - 3 * repeated}


def _fixed(setup: Setup) -> Device:
    from medseg.threads import Threads

    return Device(setup.device.torch_device, setup.device.dtype, Threads(fixed=1))


def _trained(setup: Setup, n: int, breaks: bool) -> torch.Tensor:
    trainer, source = trainer_on(setup, _fixed(setup)), batches(setup)
    trainer.run_steps(source, 0, n, half)
    if breaks:
        source.close()
        with tempfile.TemporaryDirectory() as folder:
            trainer.save(Path(folder) / "checkpoint.safetensors")
            trainer = trainer_on(setup, _fixed(setup))
            trainer.load(Path(folder) / "checkpoint.safetensors")
        source = batches(setup, n)
    trainer.run_steps(source, n, 2 * n, half)
    source.close()
    return weights(trainer)


@check(90, "part_of_bare_loop", at_least=0.8)
def pace(setup: Setup) -> Numbers:
    """Samples a second, against a bare loop of the same network, loss and optimizer on a batch that lies there."""
    n, device = setup.sized(30, 4), setup.device
    trainer = trainer_on(setup, device)
    batch = next(batches(setup))
    bare = _bare_loop(trainer, batch, n)
    source = batches(setup)
    trainer.run_steps(source, 0, WARM_UP, half)
    own = trainer.run_steps(source, WARM_UP, WARM_UP + n, half).samples_per_second
    source.close()
    return {"part_of_bare_loop": own / bare, "samples_per_second": own, "bare_samples_per_second": bare}


def _bare_loop(trainer: Trainer, batch: Batch, n: int) -> float:
    device, optimizer = trainer.device, trainer.optimizer
    image = device.send(batch.image).contiguous(memory_format=trainer.memory_format)
    label = device.send(batch.label)
    trainer.network.train()
    for step in range(WARM_UP + n):
        if step == WARM_UP:
            float(image.sum())  # waits
            start = time.perf_counter()
        with device.timed("bare"):
            optimizer.zero_grad(set_to_none=True)
            with device.autocast():
                logits = trainer.network(image)
            heads = [logits] if isinstance(logits, torch.Tensor) else logits
            loss = trainer.loss([head.float() for head in heads], label)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), 12.0)
            optimizer.step()
    float(loss.detach())  # waits
    return n * len(batch.image) / (time.perf_counter() - start)


@check(60, "share", at_most=0.1)
def data_loading(setup: Setup) -> Numbers:
    """The share of the time that reading patches costs, against batches that lie in memory."""
    n = setup.sized(30, 4)
    trainer, source = trainer_on(setup, setup.device), batches(setup)
    kept = [next(source) for _ in range(4)]
    source.close()
    trainer.run_steps(_again(kept), 0, WARM_UP, half)
    in_memory = trainer.run_steps(_again(kept), WARM_UP, WARM_UP + n, half).samples_per_second
    source = batches(setup)
    read = trainer.run_steps(source, WARM_UP, WARM_UP + n, half).samples_per_second
    source.close()
    start = time.perf_counter()
    sampler(setup).batch(10_000)
    reading = time.perf_counter() - start
    return {"share": 1 - read / in_memory, "samples_per_second": read, "ms_to_read_a_batch": 1000 * reading}


def _again(kept: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from kept


@check(60, "loss_apart", at_most=0.02)
def process_group(setup: Setup) -> Numbers:
    """DistributedDataParallel with one process, over nccl on CUDA, learns as a process without it."""
    n, device = setup.sized(8, 3), setup.device
    alone = trainer_on(setup, device).run_steps(_again([next(batches(setup))]), 0, n, half).loss
    backend = "cpu:gloo,cuda:nccl" if setup.is_cuda else "gloo"
    if setup.is_cuda:
        torch.cuda.set_device(device.torch_device.index or 0)
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{(Path(folder) / 'store').as_posix()}"
        distributed.init_process_group(backend, init_method=store, rank=0, world_size=1)
        try:
            group = ProcessGroup(0, 2)  # says two, so that it is used at all; there is one
            trainer = trainer_on(setup, device, group)
            loss = trainer.run_steps(_again([next(batches(setup))]), 0, n, half).loss
            assert group.first(lambda: "told") == "told"
            assert not group.any(False)
        finally:
            distributed.destroy_process_group()
    return {"loss_apart": abs(loss - alone) / abs(alone), "loss": loss}


@check(60, "loss_apart", at_most=0.05)
def compiled_training(setup: Setup) -> Numbers:
    """training.compile learns the same; what compiling costs and gains."""
    n, numbers, losses = setup.sized(20, 2), {}, []
    for compile_it in (False, True):
        trainer, source = trainer_on(setup, setup.device, compile=compile_it), batches(setup)
        start = time.perf_counter()
        trainer.run_steps(source, 0, WARM_UP, half)
        seconds = time.perf_counter() - start
        epoch = trainer.run_steps(source, WARM_UP, WARM_UP + n, half)
        source.close()
        if compile_it and trainer.trained is trainer.network:
            raise RuntimeError("the network was not compiled; the log says why")
        losses.append(epoch.loss)
        which = "compiled" if compile_it else "plain"
        numbers |= {f"seconds_to_begin_{which}": seconds, f"samples_per_second_{which}": epoch.samples_per_second}
    return numbers | {"loss_apart": abs(losses[1] - losses[0]) / abs(losses[0])}
