"""How long cases take to the model grid and logits back, by each rule, and by the libraries that have them.

    python benchmarks/resampling.py [--shape 512 512 300] [--spacing .78 .78 1] [--wanted 1.5 1.5 1.5] [--labels 60]

An image of noise, one channel in float32, goes to the model grid by each rule of a plan; then logits come back to its
label map slab by slab. Beside them what nnU-Net does: ``skimage.transform.resize`` of the image, of order 3 in float64,
and of one label's logits, of order 1, times the number of labels. Prints a Markdown table: seconds of the processor,
all threads together, and by how much the peak memory of the process grew.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from environment import describe
from skimage.transform import resize

from medseg.plan import Resampling
from medseg.transforms.model_grid import ModelGridRule
from medseg.transforms.restoring import Restoring
from medseg.volume import Geometry

RULES = {
    "medseg, cubic": Resampling(),
    "nnU-Net, B-spline": Resampling(rule="nnunet", separate_z=False),
    "nnU-Net, slice by slice": Resampling(rule="nnunet", separate_z=True),
    "MONAI, linear": Resampling(rule="monai", interpolation="linear"),
    "TotalSegmentator, linear": Resampling(rule="corners", interpolation="linear", restored="labels"),
}
SLAB = 24  # voxels of the model grid that come back at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.78, 0.78, 1.0))
    parser.add_argument("--wanted", type=float, nargs=3, default=(1.5, 1.5, 1.5))
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--libraries", action="store_true", help="scikit-image too, which takes minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = Geometry(tuple(arguments.shape), np.diag([*arguments.spacing, 1.0]))
    image = torch.randn(1, *source.shape, generator=torch.Generator().manual_seed(0))
    print(describe(), end="\n\n")
    print(f"{source.shape} of {source.spacing} mm to {arguments.wanted} mm, {arguments.labels} labels\n")
    print("| rule | to the model grid (s) | peak (MB) | back (s) | peak (MB) |\n" + "| --- " * 5 + "|", flush=True)
    for name, resampling in RULES.items():
        rule = ModelGridRule(arguments.wanted, resampling)
        grid = rule.grid_of(source)
        there = measured(lambda rule=rule, grid=grid: rule.images_on(image, source, grid))
        back = measured(lambda rule=rule, grid=grid: come_back(rule, grid, source, arguments.labels))
        print(f"| {name} | {there} | {back} |", flush=True)
    if arguments.libraries:
        shape = ModelGridRule(arguments.wanted, RULES["nnU-Net, B-spline"]).grid_of(source).shape
        there = measured(lambda: by_scikit_image(image[0].numpy(), shape, 3))
        one = measured(lambda: by_scikit_image(np.zeros(shape), source.shape, 1))
        print(f"| scikit-image | {there} | of each label {one} |")


def come_back(rule: ModelGridRule, grid: Geometry, source: Geometry, labels: int) -> None:
    """Logits that favour another label in each block of voxels, with noise."""
    restoring = Restoring(grid, source, 2, nearest=rule.nearest_axes_back(source))
    generator = torch.Generator().manual_seed(0)
    x, y, z = grid.shape
    blocks = torch.randint(labels, (x // 40 + 1, y // 40 + 1, z // 40 + 1), generator=generator)
    for start in range(0, z, SLAB):
        first, stop = max(start - 1, 0), min(start + SLAB, z)
        places = [torch.arange(low, high) // 40 for low, high in ((0, x), (0, y), (first, stop))]
        favoured = blocks[torch.meshgrid(*places, indexing="ij")]
        logits = torch.rand(*favoured.shape, labels, generator=generator)
        restoring.take(logits.scatter_add_(3, favoured[..., None], torch.full((*favoured.shape, 1), 2.0)), first)


def by_scikit_image(array: np.ndarray, shape: tuple[int, ...], order: int) -> None:
    resize(array.astype(float), shape, order, mode="edge", anti_aliasing=False)


def measured(function: Callable[[], object]) -> str:
    """Returns the processor's seconds, and by how many MB the peak of the process grew: the first call sees it."""
    before, start = peak_mb(), time.process_time()
    function()
    return f"{time.process_time() - start:.1f} | {peak_mb() - before:.0f}"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
