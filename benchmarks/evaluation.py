"""Speed and memory of the surface metrics against MONAI, and of ``evaluate`` on 208 cases; prints Markdown.

    python benchmarks/evaluation.py --data ../shared/data

Ten ellipsoids the size of organs in 512×512×300 voxels of 0.8×0.8×1.5 mm, predictions a few voxels off; a label that
fills such a volume; noise; every hippocampus reference against itself, shifted. Each measurement runs in a process of
its own, whose peak memory counts from after the label maps were made. ``--monai`` off leaves MONAI out, which takes
minutes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from medseg.evaluation.case import Measures, measure_case
from medseg.labels import Labels
from medseg.metrics.definitions import chosen

LabelMaps = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]

SPACING = (0.8, 0.8, 1.5)
TOLERANCE_MM = 2.0
N_LABELS = 10


def organs(shape: tuple[int, int, int] = (512, 512, 300)) -> LabelMaps:
    """Reference and prediction: ellipsoids with half axes of 15 to 100 voxels, in the prediction moved and resized."""
    random = np.random.default_rng(0)
    maps = np.zeros((2, *shape), np.uint8)
    for label in range(1, N_LABELS + 1):
        radii = np.minimum(random.uniform(15, 100, 3), np.array(shape) / 3)
        centre = random.uniform(radii + 4, np.array(shape) - radii - 4)
        for label_map, off, scale in zip(
            maps, (0, random.uniform(-3, 3, 3)), (1, random.uniform(0.95, 1.05)), strict=True
        ):
            axes = (((np.arange(n) - c) / r) ** 2 for n, c, r in zip(shape, centre + off, radii * scale, strict=True))
            x, y, z = np.ix_(*axes)
            label_map[(x + y + z) < 1] = label
    return maps[1], maps[0]


def filling() -> LabelMaps:
    """One label that is all of the volume, but for a side and, in the prediction, a hole."""
    prediction, reference = (np.ones((512, 512, 300), np.uint8) for _ in range(2))
    reference[:3] = prediction[:5] = prediction[200:230, 200:230, 100:130] = 0
    return prediction, reference


def noise() -> LabelMaps:
    random = np.random.default_rng(0)
    prediction, reference = ((random.random((300, 300, 150)) > 0.5).astype(np.uint8) for _ in range(2))
    return prediction, reference


def by_medseg(maps: LabelMaps) -> dict[int, tuple[float | None, float | None]]:
    labels = Labels.from_names({f"organ {i}": i for i in range(1, int(maps[1].max()) + 1)})
    measures = Measures(tuple(chosen(["overlap", "surface"])), TOLERANCE_MM)
    records = measure_case("case", *maps, SPACING, labels, measures)
    return {i: (r.values["hd95_mm"], r.values["surface_dice"]) for i, r in enumerate(records, start=1)}


def by_monai(maps: LabelMaps) -> dict[int, tuple[float | None, float | None]]:
    """Label by label, since all labels at once would be 20 masks of 512×512×300 floats."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    found: dict[int, tuple[float | None, float | None]] = {}
    for label in range(1, int(maps[1].max()) + 1):
        masks = [torch.from_numpy(each == label)[None, None] for each in maps]
        hd95 = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=SPACING)
        nsd = compute_surface_dice(*masks, [TOLERANCE_MM], include_background=True, spacing=SPACING, use_subvoxels=True)
        found[label] = float(hd95), float(nsd)
    return found


def measured(
    make: Callable[[], LabelMaps], measure: Callable[[LabelMaps], dict[int, tuple[float | None, float | None]]]
) -> tuple[float, float, float, dict[int, tuple[float | None, float | None]]]:
    """Processor seconds, MB of the label maps, MB on top of them at the peak, results."""
    measure((np.eye(8, dtype=np.uint8)[None].repeat(8, 0),) * 2)  # imports and tables
    maps = make()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = memory_mb("VmRSS")
    start = time.process_time()
    found = measure(maps)
    seconds = time.process_time() - start
    return seconds, sum(each.nbytes for each in maps) / 2**20, memory_mb("VmHWM") - before, found


def memory_mb(which: str) -> float:
    """``VmRSS`` now, ``VmHWM`` at the peak; Linux only."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[which].split()[0]) / 1024


def hippocampus(data: Path) -> tuple[float, int]:
    """Seconds of ``medseg.evaluate`` on all references against themselves, shifted by a voxel; how many."""
    import medseg

    with tempfile.TemporaryDirectory() as folder:
        references = sorted((data / "hippocampus" / "labelsTr").glob("[!.]*.nii.gz"))
        for path in references:
            image = nibabel.load(path)
            shifted = np.roll(np.asarray(image.dataobj), 1, 0)
            nibabel.save(nibabel.Nifti1Image(shifted, image.affine, image.header), Path(folder) / path.name)
        start = time.perf_counter()
        medseg.evaluate(folder, data / "hippocampus")
        return time.perf_counter() - start, len(references)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--monai", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    columns = (
        "masks",
        "by",
        "HD95 and NSD (processor s)",
        "label maps (MB)",
        "peak on top (MB)",
        "HD95 (mm), NSD off by",
    )
    print("|", " | ".join(columns), "|")
    print("|", " | ".join("---" for _ in columns), "|")
    made = {"512×512×300, 10 organs": organs, "512×512×300, one label": filling, "300×300×150, noise": noise}
    for name, make in made.items():
        results = {}
        for by, measure in (("medseg", by_medseg), *([("MONAI", by_monai)] if arguments.monai else [])):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                seconds, maps_mb, top_mb, results[by] = pool.submit(measured, make, measure).result()
            pairs = [(mine, results[by][label]) for label, mine in results["medseg"].items()]
            far = [max(abs((a[i] or 0) - (b[i] or 0)) for a, b in pairs) for i in (0, 1)]
            row = (name, by, f"{seconds:.1f}", f"{maps_mb:.0f}", f"{top_mb:.0f}", f"{far[0]:.1e}, {far[1]:.1e}")
            print("|", " | ".join(row), "|", flush=True)
    seconds, n = hippocampus(arguments.data)
    print(f"\n{n} hippocampus cases, all default metrics, read and measured: {seconds:.1f} s")


if __name__ == "__main__":
    main()
