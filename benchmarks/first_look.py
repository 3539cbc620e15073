"""A case in which a first look saves time: one small organ, small patches, a scan four times as long as the abdomen.

    python benchmarks/first_look.py [--max-time 4m]

Draws sixteen synthetic CT studies (those of 'medseg demo') in which only the left kidney is labelled, trains a 3D
network on them, and runs skipping.py on two more, with a leg below.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

import medseg
from medseg.config import load
from medseg.phantom.study_set import make_study_set

ORGAN = "kidney_left"
SETTINGS = ["planning.patch_size=[32,32,16]", "training.batch_size=8"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-time", default="4m")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        studies = make_study_set(folder / "studies", n_train=16, n_test=2)
        for part in (studies.train, studies.test):
            keep_one_label(part)
        medseg.preprocess(studies.train, folder / "prepared")
        config = load(overrides=[*SETTINGS, f"training.max_time={arguments.max_time}"])
        medseg.train(folder / "prepared", folder / "run", dims=3, config=config)
        script = Path(__file__).with_name("skipping.py")
        command = [sys.executable, script, folder / "run", studies.test, "--longer", "4", "--overlap", "0.25"]
        subprocess.run([str(part) for part in command], check=True)


def keep_one_label(part: Path) -> None:
    record = part / "dataset.json"
    content = json.loads(record.read_text())
    value = content["labels"][ORGAN]
    record.write_text(json.dumps({**content, "labels": {"background": 0, ORGAN: value}}))
    for path in (part / "labels").glob("*.nii.gz"):
        image = nibabel.load(path)
        label_map = np.where(np.asarray(image.dataobj) == value, value, 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(label_map, image.affine), path)


if __name__ == "__main__":
    main()
