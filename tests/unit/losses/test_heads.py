import pytest
import torch

from medseg.losses import DiceCrossEntropyLoss

LOGITS = torch.zeros(2, 3, 8, 8)
TARGET = torch.ones(2, 1, 8, 8)


@pytest.mark.parametrize(
    "target, told",
    [
        (TARGET[:, 0], r"target \(2, 8, 8\) of logits \(2, 3, 8, 8\): give the label map, \(2, 1, \*spatial\)"),
        (torch.zeros(2, 3, 8, 8), r"argmax\(1, keepdim=True\) makes it of one-hot masks"),
        (TARGET[:1], r"target \(1, 1, 8, 8\)"),
        (TARGET[:, :, :6], r"target \(2, 1, 6, 8\) of logits \(2, 3, 8, 8\): they have to be of one spatial shape"),
        (torch.ones(2, 1, 12, 8), "of one spatial shape"),
        (7 * TARGET, "target: .*7.* It holds 0 to 2, or 255"),
    ],
)
def test_a_target_that_does_not_fit_is_named(target: torch.Tensor, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DiceCrossEntropyLoss()(LOGITS, target)


@pytest.mark.parametrize("annotated", [torch.ones(2, 3), torch.ones(3, dtype=torch.bool), torch.ones(1, 3) > 0])
def test_what_was_annotated_is_truth_values_by_sample_and_label(annotated: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"annotated .*: give \(batch, label\), bool, of 2 samples"):
        DiceCrossEntropyLoss()(LOGITS, TARGET, annotated)


def test_heads_and_channels_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="head_weights: 2 numbers for logits of 1 heads"):
        DiceCrossEntropyLoss(head_weights=(1, 2))(LOGITS, TARGET)
    with pytest.raises(ValueError, match="one structure give regions="):
        DiceCrossEntropyLoss()(LOGITS[:, :1], TARGET)
    with pytest.raises(ValueError, match="2 regions need as many channels"):
        DiceCrossEntropyLoss(regions=[[1, 2], [2]])(LOGITS, TARGET)
    with pytest.raises(ValueError, match="of one spatial shape"):
        DiceCrossEntropyLoss(margin=(2, 2))(LOGITS, TARGET)
