"""Nuclei of the Data Science Bowl 2018 told apart: trained in so much time, measured on images that were held back.

    python benchmarks/nuclei.py ../shared/data/nuclei_dsb2018/fluorescence --work /tmp/nuclei --max-time 30m

The split is ``KFold(5, shuffle=True, random_state=0)`` of scikit-learn over the sorted names, of which fold 0 is held
back: nothing of it is seen before the end, not even by the choice of thresholds. Another script of the same data and
split can be measured by ``--predicted FOLDER``, which holds an object map for each held-back image.

With ``--peer PEER/bin/python``, of an environment with nnunetv2, nnU-Net learns border and core of the same images in
the same time, by the clock as in datasets.py, and its authors' own functions make objects of them (border_core.py).
``--peer-gb`` is the memory that it plans for.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
from dataset_runs import nnunet_run
from dataset_runs.outcome import timed
from PIL import Image

import medseg
from medseg.config import load
from medseg.metrics.objects import USUAL_IOUS, object_pairs

FOLDS = 5
HERE = Path(__file__).parent
PEER_NAME = "Dataset001_nuclei"


def held_back(names: list[str]) -> list[str]:
    """Fold 0 of scikit-learn's KFold with a shuffle of seed 0."""
    order = np.arange(len(names))
    np.random.RandomState(0).shuffle(order)
    return sorted(names[i] for i in order[: -(-len(names) // FOLDS)])


def split(data: Path, work: Path) -> None:
    """Copies images and object maps into ``train`` and ``test``."""
    names = sorted(path.name for path in (data / "images").iterdir())
    test = set(held_back(names))
    for name in names:
        for kind in ("images", "labels"):
            folder = work / ("test" if name in test else "train") / kind
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / kind / name, folder / name)


def measured(references: Path, predicted: Path) -> dict[str, float]:
    """The average precision at each IoU, the mean of them, PQ and the error of the count, over the images."""
    rows = []
    for path in sorted(references.iterdir()):
        reference, found = (np.array(Image.open(each)) for each in (path, predicted / path.name))
        pairs = object_pairs(reference, found)
        wanted, given = len(np.unique(reference)) - 1, len(np.unique(found)) - 1
        row = {f"AP@{iou}": pairs.average_precision(iou) for iou in USUAL_IOUS}
        row["mean AP"] = float(np.mean(list(row.values())))
        row["PQ"] = pairs.iou[pairs.iou > 0.5].sum() / max(1, (wanted + given) / 2)
        row["counting error"] = abs(given - wanted) / max(1, wanted)
        rows.append(row)
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}


def by_nnunet(work: Path, python: Path, seconds: float, gigabytes: float) -> dict[str, float | str]:
    """What nnU-Net makes of the same images, with classes of border and core."""
    base, log = work / f"nnunet-{gigabytes:g}gb", work / "nnunet.log"
    places, raw, plans = nnunet_run.places_in(base), base / "raw" / PEER_NAME, base / "preprocessed" / PEER_NAME
    for part, folder in (("train", raw / "imagesTr"), ("test", base / "images")):
        folder.mkdir(parents=True)
        for path in (work / part / "images").iterdir():
            shutil.copyfile(path, folder / f"{path.stem}_0000.png")
    border_core = [python, "-P", HERE / "border_core.py"]
    timed([*border_core, "classes", work / "train" / "labels", raw / "labelsTr"], log)
    cases = sorted(path.stem for path in (raw / "labelsTr").iterdir())
    labels = {"background": 0, "core": 1, "border": 2}
    record = {"channel_names": {"0": "fluorescence"}, "labels": labels, "file_ending": ".png"}
    (raw / "dataset.json").write_text(json.dumps({**record, "numTraining": len(cases)}))
    nnunet_run.plan(python, places, 1, "2d", gigabytes, log)
    nnunet_run.write_split(plans, cases, cases[:1])
    predicted = base / "images", base / "classes"
    told = nnunet_run.trained(python, places, plans, "2d", base, seconds, 0, predicted)
    timed([*border_core, "objects", base / "classes", base / "objects"], log)
    return {"plan": told["plan"], "steps": told["steps"], **measured(work / "test" / "labels", base / "objects")}


def main() -> None:
    """Prepares, trains, predicts and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with images/ and labels/, whose values number objects")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--max-time", default="30m")
    parser.add_argument("--set", action="append", default=[], help="further settings, as of medseg train")
    parser.add_argument("--mirror", action="store_true", help="average over mirrored images when predicting")
    parser.add_argument("--predicted", type=Path, help="measure the object maps of another program only")
    parser.add_argument("--peer", type=Path, help="python of an environment with nnunetv2, which is measured instead")
    parser.add_argument("--peer-gb", type=float, default=8)
    arguments = parser.parse_args()
    work = arguments.work
    if not (work / "test").is_dir():
        split(arguments.data, work)
    if arguments.predicted is not None:
        print(json.dumps(measured(work / "test" / "labels", arguments.predicted)))
        return
    if arguments.peer is not None:
        seconds = load(overrides=[f"training.max_time={arguments.max_time}"]).training.max_time
        print(json.dumps(by_nnunet(work, arguments.peer, seconds, arguments.peer_gb)))
        return
    config = load(overrides=[f"training.max_time={arguments.max_time}", "training.folds=10", *arguments.set])
    medseg.preprocess(work / "train", work / "prepared", config=config, instances=["nucleus"])
    started = time.monotonic()
    run = medseg.train(work / "prepared", work / "run", dims=2, config=config)
    seconds = time.monotonic() - started
    medseg.predict(run.model, work / "test" / "images", work / "masks", mirror=arguments.mirror or None)
    found = measured(work / "test" / "labels", work / "masks" / "objects")
    print(json.dumps({"steps": run.steps, "seconds": round(seconds), **found}))


if __name__ == "__main__":
    main()
