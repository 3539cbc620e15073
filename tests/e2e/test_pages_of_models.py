"""The pages for those who have a model: "I have an nnU-Net model", "… TotalSegmentator", "… a MONAI bundle".

Each command of theirs is run, in their order, on models with drawn weights that lie where the pages say.
"""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import nnunet_folder
import numpy as np
import pytest
from bundles import spleen, whole_body, write_bundle
from doc_pages import TWO_STEPS, blocks
from totalsegmentator_weights import write_weights
from typer.testing import CliRunner

from medseg.cli.main import app
from medseg.dataset.store import PreparedDataset

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
NNUNET = Path("nnUNet_results", "Dataset004_Hippocampus", nnunet_folder.NAME)


@pytest.fixture
def here(
    tmp_path: Path, prepared: PreparedDataset, write_slices: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with the scans that the pages speak of, and a prepared dataset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    values = np.random.default_rng(0).normal(0, 150, (14, 36, 40)).astype(np.int16)
    for study in ("study", "dicom_study"):
        write_slices(Path(study), values, spacing=(1.6, 1.6, 4.0), orientation=(1, 0, 0, 0, 1, 0))
    scan = nibabel.Nifti1Image(values.T, np.diag([-1.6, -1.6, 4, 1]))
    Path("scans").mkdir()
    for path in ("scan.nii.gz", "scans/one.nii.gz"):
        nibabel.save(scan, path)
    shutil.copytree(prepared.folder, "prepared")
    return tmp_path


def follow(page: str) -> list[str]:
    """Runs the commands of a page; of two that write the same, each is another way, and the first one's is removed.

    Returns:
        What they told.
    """
    text = (HOW_TO / page).read_text(encoding="utf-8")
    told = []
    for line in filter(None, "".join(blocks(text)).splitlines()):
        program, *arguments = shlex.split(line.replace("/data/weights", "weights"), comments=True)
        assert program == "medseg"
        if "-o" in arguments and arguments[0] != "predict":
            shutil.rmtree(arguments[arguments.index("-o") + 1], ignore_errors=True)
        result = CliRunner().invoke(app, [*arguments, *(TWO_STEPS if arguments[0] == "train" else [])])
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        told.append(" ".join(result.output.split()))
    return told


@pytest.mark.slow
def test_i_have_an_nnunet_model(here: Path) -> None:
    pytest.importorskip("nncf", reason="quantise needs medseg[int8]")
    nnunet_folder.write(
        here / NNUNET,
        nnunet_folder.plans(dataset_name=NNUNET.parts[1]),
        nnunet_folder.DATASET,
        {"0": nnunet_folder.checkpoint(nnunet_folder.state())},
    )
    told = follow("nnunet.md")
    assert (here / "masks" / "one.nii.gz").is_file()
    assert "tumour" in told[3]  # models show
    assert (here / "run" / "model" / "model.json").is_file()


@pytest.mark.slow
def test_i_have_totalsegmentator(here: Path) -> None:
    for task, speed in (("total", "default"), ("total", "fast"), ("total", "fastest"), ("liver_vessels", "default")):
        write_weights(here / "home", task, speed)
    shutil.copytree(here / "home" / "nnunet" / "results", here / "weights")
    follow("totalsegmentator.md")
    assert (here / "masks" / "scan.nii.gz").is_file()
    assert list((here / "masks").glob("*.seg.dcm"))
    assert (here / "vessels" / "recipe.json").is_file()


@pytest.mark.slow
def test_i_have_a_bundle(here: Path) -> None:
    write_bundle(here / "spleen_ct_segmentation", spleen())
    whole = write_bundle(here / "wholeBody_ct_segmentation", whole_body())
    shutil.copy(whole / "models" / "model.pt", whole / "models" / "model_lowres.pt")
    configs = write_bundle(here / "pediatric_abdominal_ct_segmentation", spleen()) / "configs"
    (configs / "inference.json").rename(configs / "inference_segresnet.json")
    follow("monai-bundle.md")
    assert len(list((here / "masks").glob("*.nii.gz"))) == 1
    assert (here / "tuned" / "model" / "model.json").is_file()
    for model in ("spleen", "fast", "ped"):
        assert (here / model / "model.json").is_file()
