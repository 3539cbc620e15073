import json
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk


@pytest.mark.slow
@pytest.mark.parametrize("dims", ["2", "3"])
def test_the_demo_goes_the_whole_way(dims: str, tmp_path: Path) -> None:
    """With little training: what is tested is that everything is there and fits together, not how good it is."""
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "medseg", "demo", "-o", folder, "--dims", dims, "--max-time", "20s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text())
    assert set(metrics["cases"]) == {"unseen_01", "unseen_02", "unseen_03"}
    assert metrics["summary"]["labels"]["liver"]["metrics"]["dice"]["mean"] > 0.3
    assert (folder / "overlay.png").stat().st_size > 10_000
    image, mask = (sitk.ReadImage(next(folder.glob(f"export/*_{name}.nii.gz"))) for name in ("image", "mask"))
    assert image.GetSize() == mask.GetSize()
    assert image.GetDirection() == pytest.approx(mask.GetDirection(), abs=1e-5)
    assert image.GetOrigin() == pytest.approx(mask.GetOrigin(), abs=1e-3)
    assert len(list(folder.glob("export/*_masks/*.nii.gz"))) == 5
    assert "Open in 3D Slicer" in done.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert again.returncode == 1
    assert "is not empty; choose another folder" in " ".join(again.stderr.split())
