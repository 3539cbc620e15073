"""Training with what a MONAI user brings: a network, a loss, transforms, an optimizer, batches and callbacks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import SwinUNETR, UNet
from monai.transforms import Compose, RandFlipd, RandShiftIntensityd

from medseg.config import Config, TrainingConfig
from medseg.device import Device
from medseg.errors import ConfigError, TrainingError
from medseg.training import Callback, Epoch, Trainer
from medseg.training.callbacks import Checkpoint, TimeBudget, Watchdog
from medseg.training.clock import Clock

CPU = Device(torch.device("cpu"), torch.float32)


def samples(n: int = 4, size: int = 16) -> list[dict[str, torch.Tensor]]:
    """Blocks that are brighter than what lies around them."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(1, size, size, size)
    label[:, size // 4 : size // 2, size // 4 : size // 2] = 1
    return [{"image": label + 0.1 * torch.randn(label.shape, generator=generator), "label": label} for _ in range(n)]


def small_unet() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(3, 1, 2, channels=(4, 8), strides=(2,), norm="instance")


def loss() -> torch.nn.Module:
    return DiceCELoss(to_onehot_y=True, softmax=True)


def adamw(parameters: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2)


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 3, "steps_per_epoch": 5, "threads": 1, **changes})


class Losses(Callback):
    """Keeps the loss of each epoch, and how many there were in the state."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.closed = False

    def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
        self.losses.append(epoch.loss)
        before = trainer.state.extra.get("epochs", 0)
        assert isinstance(before, int)
        trainer.state.extra["epochs"] = before + 1

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("transforms", [None, Compose([RandFlipd(["image", "label"], 0.5, 0)]), lambda batch: batch])
def test_a_monai_user_needs_no_plan(transforms: Any) -> None:
    loader = DataLoader(Dataset(samples()), batch_size=2)
    losses = Losses()
    trainer = Trainer(None, small_unet(), loss(), adamw, transforms, [losses], settings=settings(), device=CPU)
    state = trainer.fit(loader)
    assert (state.step, trainer.finished, state.extra, losses.closed) == (15, True, {"epochs": 3}, True)
    assert losses.losses[-1] < losses.losses[0]
    with torch.no_grad():
        assert trainer.average(samples(1)[0]["image"][None]).shape == (1, 2, 16, 16, 16)


@pytest.mark.slow
def test_swin_unetr_with_an_optimizer_of_two_rates() -> None:
    network = SwinUNETR(in_channels=1, out_channels=2, feature_size=12)
    body, head = list(network.swinViT.parameters()), list(network.out.parameters())
    optimizer = torch.optim.SGD([{"params": body, "lr": 0.01}, {"params": head, "lr": 0.1}])
    trainer = Trainer(None, network, loss(), optimizer, settings=settings(epochs=1, steps_per_epoch=2), device=CPU)
    trainer.fit([{"image": torch.randn(1, 1, 64, 32, 32), "label": torch.zeros(1, 1, 64, 32, 32)}])
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[1] == pytest.approx(10 * rates[0])


def test_a_checkpoint_of_any_parts_is_resumed(tmp_path: Path) -> None:
    """To the weights of an unbroken training, since what is drawn follows from the step."""
    batch = [{key: torch.stack([each[key] for each in samples()]) for key in ("image", "label")}]
    draws = Compose([RandFlipd(["image", "label"], 0.5, 0), RandShiftIntensityd(["image"], 0.5)])

    def trainer(*callbacks: Callback, **changes: Any) -> Trainer:
        parts = loss(), torch.optim.RAdam, draws, callbacks
        return Trainer(None, small_unet(), *parts, settings=settings(**changes), device=CPU)

    class Stop(Callback):
        def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
            trainer.stop_reason = "Enough"

    whole = trainer()
    whole.fit(batch)
    trainer(Stop(), Checkpoint(tmp_path / "last.safetensors")).fit(batch)
    again = trainer()
    again.resume(tmp_path / "last.safetensors")
    assert again.state.step == 5
    again.fit(batch)
    pairs = zip(whole.average.parameters(), again.average.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_it_is_told_that_other_data_than_medsegs_begin_anew(capsys: pytest.CaptureFixture[str]) -> None:
    batch = [{key: torch.stack([each[key] for each in samples()]) for key in ("image", "label")}]
    trainer = Trainer(None, small_unet(), loss(), adamw, settings=settings(epochs=1), device=CPU)
    trainer.fit(batch)
    assert "from their beginning" not in capsys.readouterr().err
    again = Trainer(None, small_unet(), loss(), adamw, settings=settings(epochs=2), device=CPU, state=trainer.state)
    again.fit(DataLoader(Dataset(samples()), batch_size=2))
    told = [line for line in capsys.readouterr().err.splitlines() if "from their beginning" in line]
    assert len(told) == 1
    assert "Going on at step 5 with data from their beginning: a DataLoader" in told[0]


def test_the_watchdog_goes_back_without_a_sampler(tmp_path: Path) -> None:
    class Once(torch.nn.Module):
        """Gives no number at its seventh call."""

        def __init__(self) -> None:
            super().__init__()
            self.loss, self.calls = loss(), 0

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            result: torch.Tensor = self.loss(logits, target) * (float("nan") if self.calls == 7 else 1)
            return result

    watchdog = Watchdog(tmp_path / "good.safetensors")
    trainer = Trainer(None, small_unet(), Once(), adamw, None, [watchdog], settings=settings(), device=CPU)
    state = trainer.fit(DataLoader(Dataset(samples()), batch_size=2))
    assert (state.step, trainer.schedule.factor) == (15, pytest.approx(1 / 3))
    assert state.watchdog is not None
    assert len(state.watchdog.notes) == 1


def test_settings_and_device_may_be_said_in_short() -> None:
    """Settings as a dictionary, checked; the device by its name, in the precision and threads of the settings."""
    given = {"epochs": 1, "steps_per_epoch": 2, "precision": "fp32", "threads": 1}
    trainer = Trainer(None, small_unet(), loss(), adamw, settings=given, device="cpu")
    assert trainer.settings == TrainingConfig(**given)
    assert (trainer.device, trainer.device.threads.fixed) == (CPU, 1)
    batch = {"image": torch.randn(1, 1, 16, 16, 16), "label": torch.zeros(1, 1, 16, 16, 16)}
    assert trainer.fit([batch]).step == 2
    assert isinstance(trainer.optimizer, torch.optim.AdamW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"epoch": 3}}, r"settings: there is no setting 'training.epoch'; did you mean 'training.epochs'"),
        ({"settings": {"epochs": 0}}, r"settings: training.epochs cannot be 0"),
        ({"settings": Config()}, r"settings: a Config holds none of training; give a .* config.training"),
        ({"device": "gpu"}, "--device gpu: is no device; give auto, cpu, cuda"),
        ({"optimizer": "adamw"}, "optimizer: is a str; give an optimizer of PyTorch, or a function"),
        ({"optimizer": lambda parameters: list(parameters)}, "optimizer: gave a list; give an optimizer of PyTorch"),
    ],
)
def test_what_cannot_be_an_argument_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(None, small_unet(), loss(), **{"optimizer": adamw, **changes})


def test_batches_that_end_stop_the_training() -> None:
    batch = {"image": torch.randn(1, 1, 16, 16, 16), "label": torch.zeros(1, 1, 16, 16, 16)}
    trainer = Trainer(None, small_unet(), loss(), adamw, settings=settings(), device=CPU)
    assert trainer.fit(iter([batch] * 7)).step == 7


def test_a_time_budget_ends_the_training() -> None:
    batch = [{"image": torch.randn(1, 1, 16, 16, 16), "label": torch.zeros(1, 1, 16, 16, 16)}]
    budget = TimeBudget(1.0)
    trainer = Trainer(None, small_unet(), loss(), adamw, None, [budget], settings=settings(epochs=10**6), device=CPU)
    assert 0 < trainer.fit(batch).step < 10**5


def test_a_time_budget_tells_the_steps_by_the_first_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(None, small_unet(), loss(), adamw, None, [TimeBudget(100.0)], settings=settings(), device=CPU)
    seconds = iter([10.0, 10.0, 30.0, 30.0, 50.0, 50.0])  # of the clock: imports took ten, ten steps took twenty
    monkeypatch.setattr(Clock, "seconds", property(lambda self: next(seconds)))
    budget = trainer.callbacks[0]
    budget.on_fit_begin(trainer)
    for step in (10, 20):
        budget.on_epoch_end(trainer, Epoch(step, 0.5, 1.0, 0.01, 1.0, None))
    assert capsys.readouterr().err.splitlines() == ["There is time for about 45 steps of 2 s"]


def test_other_batches_are_refused() -> None:
    trainer = Trainer(None, small_unet(), loss(), adamw, settings=settings(), device=CPU)
    with pytest.raises(TrainingError, match='a dictionary with "image" and "label"'):
        trainer.fit([{"img": torch.zeros(1)}])
    with pytest.raises(TrainingError, match=r'"image" \(2, 1, 8, 8\) and "label" \(2, 8, 8\): give \(sample, channel'):
        trainer.fit([{"image": torch.zeros(2, 1, 8, 8), "label": torch.zeros(2, 8, 8)}])


def test_a_patch_that_does_not_fit_is_told_with_one_that_does() -> None:
    torch.manual_seed(0)
    network = UNet(3, 1, 2, channels=(4, 8, 8), strides=(2, 2), norm="instance")
    trainer = Trainer(None, network, loss(), adamw, settings=settings(), device=CPU)
    message = r"network: UNet cannot be trained on patches of 18×16×16 voxels: .*; give it patches of 20×16×16, which"
    with pytest.raises(TrainingError, match=message) as error:
        trainer.fit([{"image": torch.zeros(1, 1, 18, 16, 16), "label": torch.zeros(1, 1, 18, 16, 16)}])
    assert "\n" not in str(error.value)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_what_has_nothing_to_do_with_the_shape_is_raised_as_it_is() -> None:
    class Broken(torch.nn.Conv3d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if image.device.type == "cpu":
                raise KeyError("as it has to")
            return super().forward(image)

    batch = {"image": torch.zeros(1, 1, 16, 16, 16), "label": torch.zeros(1, 1, 16, 16, 16)}
    for network in (Broken(1, 2, 3, padding=1), torch.nn.Conv3d(2, 2, 3, padding=1)):
        trainer = Trainer(None, network, loss(), adamw, settings=settings(), device=CPU)
        with pytest.raises((KeyError, RuntimeError), match="as it has to|to have 2 channels"):
            trainer.fit([batch])


def test_a_schedule_is_a_function_of_what_is_done() -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_epoch_end(self, trainer: Trainer, epoch: Epoch) -> None:
            rates.append(epoch.learning_rate)

    batch = [{"image": torch.randn(1, 1, 16, 16, 16), "label": torch.zeros(1, 1, 16, 16, 16)}]
    own = settings(steps_per_epoch=1, epochs=4, warm_up=0)
    parts: Any = {"schedule": lambda done: 1 - done, "settings": own, "device": CPU}
    Trainer(None, small_unet(), loss(), adamw, None, [Rates()], **parts).fit(batch)
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])
    parts["schedule"] = lambda done: -done
    with pytest.raises(ConfigError, match="schedule gave -0.25 at 0.250; give a part of the rate"):
        Trainer(None, small_unet(), loss(), adamw, **parts).fit(batch)
