from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from medseg.config import Config, TrainingConfig
from medseg.dataset.patches import Batch
from medseg.device import Device
from medseg.errors import TrainingError
from medseg.networks.registry import build_network
from medseg.plan import ObjectOutputs, Plan
from medseg.training.batches import as_batch
from medseg.training.parts import OwnParts, make_trainer
from medseg.training.state import TrainingState, load_checkpoint, read_state, save_checkpoint
from medseg.training.trainer import Trainer
from medseg.transforms.augmentation.pipeline import Augmentation
from medseg.weights import read_metadata, read_tensors, write_tensors

CPU = Device(torch.device("cpu"), torch.float32)


def plain_trainer(network: torch.nn.Module, plan: Plan, **settings: object) -> Trainer:
    """With the loss and the optimizer of the settings, and without augmentation."""
    config = Config(training=TrainingConfig(**settings))
    return make_trainer(network, plan, config, CPU, own=OwnParts(transforms=Augmentation([])))


@pytest.fixture
def trainer(tiny_plan: Plan) -> Callable[..., Trainer]:
    """Makes trainers that begin with the same weights."""

    def make(**settings: object) -> Trainer:
        torch.manual_seed(0)
        network = build_network(1, 2, tiny_plan.architecture)
        return plain_trainer(network, tiny_plan, **settings)

    return make


def flat(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def batches(nan_at: int | None = None):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    step = 0
    while True:
        label = torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
        label[:, :, 2:6, 2:6, 2:6] = 1
        image = label + 0.1 * torch.randn(label.shape, generator=generator)
        if step == nan_at:
            image[0, 0, 0, 0, 0] = float("nan")
        yield Batch(image, label, (f"case_{step}", "other"))
        step += 1


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_the_loss_falls(trainer: Callable[..., Trainer], optimizer: str) -> None:
    subject = trainer(optimizer=optimizer, learning_rate=1e-2, momentum=0.9)
    source = batches()
    first = subject.run_steps(source, 0, 5, lambda step: step / 100)
    for start in range(5, 45, 10):
        last = subject.run_steps(source, start, start + 10, lambda step: step / 100)
    assert last.loss < 0.6 * first.loss
    assert last.step == 45


def test_training_stops_where_the_schedule_ends(trainer: Callable[..., Trainer]) -> None:
    epoch = trainer().run_steps(batches(), 0, 50, lambda step: step / 3)
    assert epoch.step == 3


def test_the_average_follows_the_weights(trainer: Callable[..., Trainer]) -> None:
    subject = trainer(average_decay=0.5)
    subject.run_steps(batches(), 0, 20, lambda step: 0.5)
    weights = flat(subject.network.parameters())
    average = flat(subject.average.parameters())
    begin = flat(trainer().network.parameters())
    assert 0 < float((average - weights).norm()) < 0.2 * float((weights - begin).norm())
    plain = trainer(average_decay=0.0)
    plain.run_steps(batches(), 0, 3, lambda step: 0.5)
    assert all(torch.equal(a, b) for a, b in zip(plain.average.parameters(), plain.network.parameters(), strict=True))


@pytest.fixture
def with_dropout(tiny_plan: Plan) -> Callable[[], Trainer]:
    arguments = {"layers": 1, "blocks": [1, 1, 1], "dropout": 0.5}
    changes = {"name": "transunet", "arguments": arguments}
    plan = tiny_plan.model_copy(update={"architecture": tiny_plan.architecture.model_copy(update=changes)})

    def make() -> Trainer:
        torch.manual_seed(0)
        return plain_trainer(build_network(1, 2, plan.architecture), plan)

    return make


def test_dropout_is_drawn_by_the_step(with_dropout: Callable[[], Trainer]) -> None:
    whole, parted = with_dropout(), with_dropout()
    whole.run_steps(batches(), 0, 4, lambda step: 0.5)
    source = batches()
    parted.run_steps(source, 0, 2, lambda step: 0.5)
    torch.rand(7)  # as another process would have drawn
    parted.run_steps(source, 2, 4, lambda step: 0.5)
    assert torch.equal(flat(whole.network.parameters()), flat(parted.network.parameters()))


def test_a_loss_that_is_no_number_names_its_cases(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(TrainingError, match=r"at step 12 \(cases case_2, other\)"):
        trainer().run_steps(batches(nan_at=2), 10, 15, lambda step: 0.5)


def with_gradient(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: torch.full_like(gradient, value)


def test_a_gradient_that_is_no_number_is_told_before_it_reaches_a_checkpoint(trainer: Callable[..., Trainer]) -> None:
    subject = trainer()
    next(subject.network.parameters()).register_hook(with_gradient(float("inf")))
    with pytest.raises(TrainingError, match=r"the gradient is not a number at step 0"):
        subject.run_steps(batches(), 0, 1, lambda step: 0.5)


class Fp16WithoutAutocast(Device):
    """The gradient scaler works on a processor too; only autocast to fp16 needs CUDA."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()


def test_gradients_that_overflow_in_fp16_skip_their_step(trainer: Callable[..., Trainer]) -> None:
    subject = trainer()
    subject.device = Fp16WithoutAutocast(torch.device("cpu"), torch.float16)
    subject.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    begin = flat(subject.network.parameters())
    overflow = next(subject.network.parameters()).register_hook(with_gradient(float("inf")))
    subject.run_steps(batches(), 0, 1, lambda step: 0.5)
    assert torch.equal(flat(subject.network.parameters()), begin)
    assert subject.scaler.get_scale() == 512.0
    overflow.remove()
    epoch = subject.run_steps(batches(), 1, 3, lambda step: 0.5)
    assert 0 < epoch.gradient_norm < float("inf")
    assert not torch.equal(flat(subject.network.parameters()), begin)


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_a_checkpoint_brings_everything_back(trainer: Callable[..., Trainer], tmp_path: Path, optimizer: str) -> None:
    def go_on(subject: Trainer, first: int) -> list[torch.Tensor]:
        subject.run_steps(batches(), first, first + 3, lambda step: step / 10)
        return [*subject.network.parameters(), *subject.average.parameters()]

    subject = trainer(optimizer=optimizer)
    go_on(subject, 0)
    progress = TrainingState(step=3, seconds=1.5, best_score=0.5)
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, progress, subject.network.state_dict(), subject.average.state_dict(), subject.optimizer)
    unbroken = go_on(subject, 3)
    other = trainer(optimizer=optimizer)
    assert load_checkpoint(path, other.network, other.average, other.optimizer) == progress
    assert all(torch.equal(a, b) for a, b in zip(unbroken, go_on(other, 3), strict=True))


def test_a_broken_checkpoint_is_named(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"nothing")
    subject = trainer()
    with pytest.raises(TrainingError, match="cannot be resumed from it"):
        load_checkpoint(path, subject.network, subject.average, subject.optimizer)


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    last = next(name for name in tensors if name.startswith("optimizer."))
    return {f"{name}x" if name == last else name: tensor for name, tensor in tensors.items()}


def reshaped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    last = next(name for name in tensors if name.startswith("optimizer.") and tensors[name].ndim > 1)
    return {**tensors, last: tensors[last].flatten()}


@pytest.mark.parametrize("spoil", [renamed, reshaped, lambda tensors: {**tensors, "optimizer.999.x": torch.zeros(1)}])
@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_states_of_other_parameters_are_refused(
    trainer: Callable[..., Trainer], tmp_path: Path, optimizer: str, spoil: Callable[..., dict[str, torch.Tensor]]
) -> None:
    subject, path = trainer(optimizer=optimizer), tmp_path / "last.safetensors"
    subject.run_steps(batches(), 0, 2, lambda step: step / 10)
    save_checkpoint(
        path, TrainingState(), subject.network.state_dict(), subject.average.state_dict(), subject.optimizer
    )
    tensors, metadata = read_tensors(path, "", TrainingError), read_metadata(path, "", TrainingError)
    write_tensors(path, spoil(tensors), metadata)
    with pytest.raises(TrainingError, match="optimizer's state"):
        load_checkpoint(path, subject.network, subject.average, subject.optimizer)


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ("{", "not a checkpoint"),
        ('{"step": -1}', "'step' cannot be -1"),
        ('{"watchdog": {"foreground_fraction": 7}}', "watchdog.foreground_fraction"),
        ('{"watchdog": {"foreground_fraction": 0.5, "counts": "many"}}', "watchdog.counts"),
        ('{"scaler": {"scale": NaN}}', "scaler.scale"),
    ],
)
def test_progress_that_cannot_be_is_refused(tmp_path: Path, progress: str, reason: str) -> None:
    path = tmp_path / "last.safetensors"
    write_tensors(path, {"x": torch.zeros(1)}, {"progress": progress})
    with pytest.raises(TrainingError, match=reason):
        read_state(path)


def test_statistics_of_batch_normalization_are_part_of_the_average(tiny_plan: Plan) -> None:
    architecture = tiny_plan.architecture.model_copy(update={"name": "unet-2015-padded"})
    trainer = plain_trainer(build_network(1, 2, architecture), tiny_plan)
    trainer.run_steps(batches(), 0, 3, lambda step: 0.5)
    assert flat(trainer.average.buffers()).tolist() == flat(trainer.network.buffers()).tolist()
    assert not torch.equal(flat(trainer.average.parameters()), flat(trainer.network.parameters()))


def test_objects_are_learnt_beside_labels_and_a_batch_has_to_bring_their_targets(tiny_plan: Plan) -> None:
    torch.manual_seed(0)
    plan = tiny_plan.model_copy(update={"objects": ObjectOutputs(values=(1,), targets=("distance",))})
    subject = plain_trainer(build_network(1, 3, plan.architecture), plan, learning_rate=1e-2)
    given = ({"image": b.image, "label": b.label, "targets": 0.6 * b.label.float()} for b in batches())
    learnt = subject.run_steps((as_batch(each) for each in given), 0, 120, lambda step: 0.5)
    subject.network.eval()
    batch = next(batches())
    with torch.no_grad():
        logits = subject.network(batch.image)
    label, depth = logits[:, :2].argmax(1, keepdim=True), logits[:, 2:].sigmoid()
    assert learnt.step == 120
    assert (label == batch.label).float().mean() > 0.97
    assert depth[batch.label == 1].mean().item() == pytest.approx(0.6, abs=0.1)
    assert depth[batch.label == 0].mean() < 0.2
    with pytest.raises(TrainingError, match="targets"):
        subject.run_steps(batches(), 120, 121, lambda step: 0.5)
