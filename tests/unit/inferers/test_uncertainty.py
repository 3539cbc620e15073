from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from sliding import CPU, Ramps, plan

from medseg.config import InferenceConfig
from medseg.decoding import SOFTMAX
from medseg.errors import MedsegError
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.predictor import Predictor
from medseg.inferers.segmentation import segment
from medseg.inferers.uncertainty import Maps
from medseg.transforms.prepared import Prepared
from medseg.transforms.resample import grid_with_spacing, resample
from medseg.volume import Geometry


@pytest.mark.parametrize("labels_at_once", [1, 2**22])
def test_maps_are_those_of_the_whole_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels_at_once: int
) -> None:
    monkeypatch.setattr("medseg.transforms.restoring.VALUES_AT_ONCE", max(labels_at_once, 64))
    affine = np.diag([-0.7, -0.8, 2.0, 1.0])  # other axes than the model's, and another spacing
    source = Geometry((19, 14, 9), affine)
    grid = grid_with_spacing(source.oriented_as("RAS"), (1, 1, 1))
    image = torch.randn(1, *grid.shape, generator=torch.Generator().manual_seed(0))
    observers = [
        Maps(["one", "two"], partial(SOFTMAX.probabilities, unions={"one": (1,), "two": (2,)}), source, "RAS"),
        Maps(["entropy"], SOFTMAX.entropy, source, "RAS"),
    ]
    prepared = Prepared(image, None, grid, source)
    segment(Predictor(Ramps(), plan(3), CPU), prepared, InferenceConfig(), observers=observers)
    written = [path for maps in observers for path in maps.write(lambda name: tmp_path / f"{name}.nii.gz")]
    logits = predict_logits(Ramps(), image, plan(3), InferenceConfig(), CPU)
    whole = resample(logits, grid, source.oriented_as("RAS"), "linear")
    expected = torch.cat([whole.softmax(0)[1:], SOFTMAX.entropy(whole)]).flip(1, 2).numpy()
    for path, wanted in zip(written, expected, strict=True):
        nifti = nibabel.load(path)
        assert np.allclose(nifti.affine, affine)
        assert np.abs(nifti.get_fdata() - wanted).max() <= 0.5 / 255 + 1e-3
    assert expected[2].max() > 0.1


def test_a_sheared_source_is_refused() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    with pytest.raises(MedsegError, match="sheared"):
        Maps(["entropy"], SOFTMAX.entropy, Geometry((3, 3, 3), affine), "RAS")
