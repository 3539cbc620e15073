"""MONAI Label's own client, as PyPI has it, works against the server."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from model_records import record_of
from promptable import model_of
from serving import OBLIQUE, TOKEN, BrightBox, app_of, draw, on_a_port, served, state_of

from medseg.device import choose_device
from medseg.inferers.model import Model
from medseg.plan import Plan

HARNESS = Path(__file__).parent / "monai_label_client.py"


@pytest.mark.slow
def test_its_calls_are_answered(peer, tiny_plan: Plan, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if subprocess.run([peer.python, "-c", "import monailabel.client"], check=False, capture_output=True).returncode:
        pytest.skip("no monailabel in the peers' environment: pip install --no-deps monailabel==0.8.5")
    draw(tmp_path / "data" / "a.nii.gz", OBLIQUE)
    bright = draw(tmp_path / "sent.nii.gz", OBLIQUE)
    drawn = SimpleITK.ReadImage(str(tmp_path / "data" / "a.nii.gz")) > 0.5
    SimpleITK.WriteImage(drawn, str(tmp_path / "label.nii.gz"))
    automatic = Model(Path("auto"), record_of(tiny_plan, {"box": 1}), BrightBox(), choose_device("cpu"))
    models = {"auto": served(automatic, "auto", tmp_path), "click": served(model_of(), "click", tmp_path)}
    state = state_of(tmp_path / "data", models)
    (tmp_path / "client").mkdir()
    with on_a_port(app_of(state)) as address:
        command = [peer.python, HARNESS, address, TOKEN, tmp_path / "client", tmp_path / "sent.nii.gz"]
        done = subprocess.run([*command, tmp_path / "label.nii.gz"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "client" / "told.json").read_text())
    assert told["auth"] == [True, True] and told["running"] is False
    assert told["sample"]["id"] == "a" and told["params"]["label_names"] == ["box"]
    assert told["saved"] == {"image": "a", "label": "a"} and told["uploaded"] == {"image": "sent"}
    assert "final" in told["objects"]["a"]["labels"] and told["session"]["expiry"] == 3600
    for name in ("mask", "label", "of_session", "clicked"):
        mask = SimpleITK.ReadImage(told[name])
        assert np.allclose(mask.GetDirection(), drawn.GetDirection(), atol=1e-5)
        assert np.allclose(mask.GetOrigin(), drawn.GetOrigin(), atol=1e-4)
        assert np.array_equal(SimpleITK.GetArrayFromImage(mask).T > 0, bright), name
