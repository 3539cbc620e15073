"""Losses by name: MONAI's as MONAI computes them, over heads and regions, and what is refused."""

from pathlib import Path

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceFocalLoss, DiceLoss

from medseg.architecture import Architecture
from medseg.config import Config, load
from medseg.errors import ConfigError
from medseg.labels import IGNORED
from medseg.losses import AdaptedLoss, DiceCrossEntropyLoss, create_loss, loss_for, monai_losses, subsampled
from medseg.networks.registry import build_network
from medseg.plugins import PluginError, forget_plugins, load_plugins

LABELS = torch.randint(0, 3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LOGITS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_loss_of_monai_is_monais_over_all_heads() -> None:
    theirs = DiceFocalLoss(to_onehot_y=True, softmax=True, gamma=3.0)
    heads = [LOGITS, LOGITS[..., ::2, ::2]]
    alone = [float(theirs(head, subsampled(LABELS, head.shape[2:]).long())) for head in heads]
    own = create_loss("monai.DiceFocalLoss", gamma=3.0)
    assert float(own(LOGITS, LABELS)) == pytest.approx(alone[0])
    assert float(own(heads, LABELS)) == pytest.approx((2 * alone[0] + alone[1]) / 3)


def test_regions_are_sigmoids_and_masks() -> None:
    masks = torch.cat([LABELS > 0, LABELS == 2], 1).float()
    theirs = DiceLoss(sigmoid=True)(LOGITS[:, :2], masks)
    own = create_loss("monai.DiceLoss", regions=[(1, 2), (2,)])(LOGITS[:, :2], LABELS)
    assert float(own) == pytest.approx(float(theirs))


@pytest.mark.parametrize("name", sorted(monai_losses()))
def test_every_loss_of_monai_can_be_had(name: str) -> None:
    value = create_loss(f"monai.{name}")(LOGITS.clone().requires_grad_(), LABELS)
    value.backward()
    assert value.isfinite()


def test_ignored_voxels_need_a_loss_that_knows_them() -> None:
    label = LABELS.clone()
    label[..., 6:] = IGNORED
    cut = create_loss("monai.DiceLoss")(LOGITS[..., :6], LABELS[..., :6])
    own = create_loss("monai.DiceLoss", ignore_index=IGNORED)(LOGITS, label)
    assert float(own) == pytest.approx(float(cut))
    with pytest.raises(ConfigError, match="loss.arguments.ignore_index=255"):
        create_loss("monai.DiceLoss")(LOGITS, label)
    regions = create_loss("monai.DiceLoss", regions=[(1, 2), (2,)])
    assert float(regions(LOGITS[:, :2], label)) == pytest.approx(float(regions(LOGITS[:, :2, :, :6], LABELS[..., :6])))


SOME = torch.tensor([[True, True, False], [True, True, True]])  # label 2 was not annotated in the first sample


@pytest.mark.parametrize("name", sorted(monai_losses()))
def test_losses_of_monai_learn_from_cases_in_which_some_labels_were_annotated(name: str) -> None:
    """They depend on the sum of the probabilities of the background and what was not annotated, alone."""
    label, logits = LABELS.clone(), LOGITS.clone().requires_grad_()
    label[0][label[0] == 2] = 0
    value = create_loss(f"monai.{name}")(logits, label, SOME)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    share = logits.grad / logits.detach().softmax(1)
    torch.testing.assert_close(share[0, 2], share[0, 0], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(share[1, 2], share[1, 0], atol=1e-6)


def test_labels_that_were_not_annotated_cost_nothing_by_hand() -> None:
    """Of one sample, the loss of three labels without the third is that of two, and of a Dice of 1 for the third."""
    label = LABELS[:1] % 2
    two = torch.cat([LOGITS[:1, ::2].logsumexp(1, keepdim=True), LOGITS[:1, 1:2]], 1)
    foreground = {"include_background": False}
    alone = create_loss("monai.DiceLoss", **foreground)(two, label)  # type: ignore[arg-type]
    together = create_loss("monai.DiceLoss", **foreground)(LOGITS[:1], label, SOME[:1])  # type: ignore[arg-type]
    assert float(together) == pytest.approx(float(alone) / 2, abs=1e-5)
    heads = [LOGITS, LOGITS[..., ::2, ::2]]
    theirs = AdaptedLoss(DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True)))
    assert theirs(heads, LABELS, SOME).isfinite()
    assert float(theirs(heads, LABELS)) == pytest.approx(float(theirs.loss(heads, LABELS)))


@pytest.mark.parametrize("name", ["DiceLoss", "DiceFocalLoss", "FocalLoss", "TverskyLoss", "GeneralizedDiceLoss"])
def test_regions_with_a_label_that_was_not_annotated_are_not_learnt(name: str) -> None:
    label, logits = LABELS.clone(), LOGITS[:, :2].clone().requires_grad_()
    label[..., 6:] = IGNORED
    create_loss(f"monai.{name}", regions=[(1, 2), (1,)])(logits, label, SOME).backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    assert not logits.grad[0, 0].any() and not logits.grad[..., 6:].any()
    assert bool((logits.grad[0, 1, :, :6] != 0).all()) and bool((logits.grad[1, :, :, :6] != 0).all())


def test_what_a_loss_cannot_be_told_is_refused() -> None:
    """Neither of smoothed labels, nor of a function of which nothing is known."""
    smoothed = create_loss("monai.DiceCELoss", label_smoothing=0.1)
    for loss in (smoothed, AdaptedLoss(lambda logits, target: logits.mean(), name="mine")):
        with pytest.raises(ConfigError, match="only some labels were annotated; take dice-ce.*a parameter 'annotated'"):
            loss(LOGITS, LABELS, SOME)
    label = LABELS.clone()
    label[..., 6:] = IGNORED
    with pytest.raises(ConfigError, match="are to be ignored, where regions are learnt"):
        AdaptedLoss(lambda logits, target: logits.mean(), regions=[(1,)], takes_ignored=True)(LOGITS[:, :1], label)


class Told(torch.nn.Module):
    """Sums the logits of what was annotated."""

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        if annotated is None:
            return logits.sum()
        assert annotated.shape == logits.shape[:2]
        return (logits * annotated[:, :, None, None]).sum()


def test_a_loss_that_asks_is_told_what_was_annotated() -> None:
    assert float(AdaptedLoss(Told())(LOGITS, LABELS)) == pytest.approx(float(LOGITS.sum()), rel=1e-4)
    told = LOGITS.sum() - LOGITS[0, 2].sum()
    assert float(AdaptedLoss(Told())(LOGITS, LABELS, SOME)) == pytest.approx(float(told), rel=1e-4)
    of_regions = AdaptedLoss(Told(), regions=[(1, 2), (1,)])(LOGITS[:, :2], LABELS, SOME)
    assert float(of_regions) == pytest.approx(float(LOGITS[:, :2].sum() - LOGITS[0, 0].sum()), rel=1e-4)


def test_weights_of_labels_are_given_as_a_list() -> None:
    theirs = DiceLoss(to_onehot_y=True, softmax=True, weight=torch.tensor([1.0, 2.0, 3.0]))(LOGITS, LABELS.long())
    assert float(create_loss("monai.DiceLoss", weight=[1, 2, 3])(LOGITS, LABELS)) == pytest.approx(float(theirs))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dice-c", {}, "loss.name: there is no loss 'dice-c'; did you mean 'dice-ce'"),
        ("monai.DiceFocalLos", {}, "did you mean 'DiceFocalLoss'"),
        ("monai.PerceptualLoss", {}, "MONAI has no segmentation loss 'PerceptualLoss'"),
        ("monai.DiceLoss", {"softmax": True}, "loss.arguments.softmax: follows from the data"),
        ("monai.DiceLoss", {"squared": True}, "loss.arguments.squared: monai.DiceLoss has no such argument"),
        ("monai.DiceLoss", {"reduction": "men"}, "loss.arguments: monai.DiceLoss cannot be built|cannot be computed"),
        ("dice-ce", {"dice_wait": 2}, "loss.arguments.dice_wait: dice-ce has no such .* 'dice_weight'"),
    ],
)
def test_what_is_no_loss_is_refused(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_loss(name, **arguments)(LOGITS, LABELS)  # type: ignore[arg-type]


def plan_and_network(name: str = "unet"):  # type: ignore[no-untyped-def]
    from fingerprints import measured

    from medseg.planning.derive import derive_plans

    plan = derive_plans(measured((32, 32, 32), (1.0, 1.0, 1.0), n=4), ["CT"], Config()).plan_2d
    architecture = Architecture(
        name=name, features=(4, 8), strides=((1, 1), (2, 2)), kernel_sizes=((3, 3), (3, 3)), deep_supervision=False
    )
    return plan, build_network(1, 3, architecture)


def test_the_settings_name_the_loss() -> None:
    plan, network = plan_and_network()
    own = loss_for(Config(), plan, network)
    assert isinstance(own, DiceCrossEntropyLoss)
    config = load(overrides=["loss.name=monai.DiceFocalLoss", "loss.arguments={gamma: 3}"])
    theirs = DiceFocalLoss(to_onehot_y=True, softmax=True, gamma=3.0)(LOGITS, LABELS.long())
    assert float(loss_for(config, plan, network)(LOGITS, LABELS)) == pytest.approx(float(theirs))
    weighed = loss_for(load(overrides=["training.dice_weight=0"]), plan, network)
    assert float(weighed(LOGITS, LABELS)) == pytest.approx(float(DiceCrossEntropyLoss(0, 1)(LOGITS, LABELS)))
    with pytest.raises(ConfigError, match="loss.arguments.margin: follows from the network"):
        loss_for(load(overrides=["loss.arguments={margin: [1, 1]}"]), plan, network)


def test_a_loss_of_valid_convolutions_is_that_of_the_centre() -> None:
    loss = create_loss("monai.DiceLoss", margin=(1, 2))
    plain = create_loss("monai.DiceLoss")(LOGITS[:, :, 1:-1, 2:-2], LABELS[:, :, 1:-1, 2:-2])
    assert float(loss(LOGITS[:, :, 1:-1, 2:-2], LABELS)) == pytest.approx(float(plain))


PLUGIN = """
import torch
from medseg.plugins import register_loss

@register_loss("own")
class Own(torch.nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.power = power

    def forward(self, logits, target):
        if self.power == 0:
            return 1 / self.power
        if self.power == 3:
            return (logits - target) ** 3
        return torch.nn.functional.cross_entropy(logits, target[:, 0]) ** self.power
"""


def test_a_loss_of_a_plugin_and_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    load_plugins([file])
    try:
        expected = torch.nn.functional.cross_entropy(LOGITS, LABELS[:, 0].long()) ** 2
        assert float(create_loss("own", power=2)(LOGITS, LABELS)) == pytest.approx(float(expected))
        with pytest.raises(PluginError, match=r"mine.py, line 13: ZeroDivisionError: division by zero"):
            create_loss("own", power=0)(LOGITS, LABELS)
        with pytest.raises(ConfigError, match="own gives no single number"):
            create_loss("own", power=3)(LOGITS, LABELS)
        with pytest.raises(ConfigError, match="loss.arguments of own: got an unexpected keyword argument 'strength'"):
            create_loss("own", strength=2)
    finally:
        forget_plugins()
    with pytest.raises(ConfigError, match="there is no loss 'own'.*--plugin"):
        create_loss("own")
