"""Objects of a large volume, drawn and grouped slab by slab: time, memory, and whether slabs change the result.

    python benchmarks/grouping.py --edge 1024 --objects 100000

Spheres of several sizes lie on a lattice and touch each other; their depth is disturbed by noise, so that each has many
maxima. The number of objects is known, and so is the label of each.
"""

import argparse
import hashlib
import resource
import time
from math import ceil

import numpy as np

from medseg.instances.grouping import Grouping, Objects
from medseg.instances.rule import GroupingRule

NOISE = 0.05
RULE = GroupingRule(threshold=0.5, smallest=8)


class Spheres:
    """Touching spheres on a lattice of cells; label 1 or 2 in turn."""

    def __init__(self, edge: int, n_objects: int) -> None:
        self.edge, self.cells = edge, ceil(n_objects ** (1 / 3) - 1e-9)
        self.pitch = edge / self.cells
        self.radius = self.pitch * np.random.default_rng(0).uniform(0.4, 0.6, (self.cells,) * 3).astype(np.float32)

    def planes(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and depths of the planes from ``start`` to ``stop`` along the first axis."""
        cell = (np.arange(self.edge) / self.pitch).astype(int)
        square = (np.arange(self.edge, dtype=np.float32) + 0.5 - (cell + 0.5) * self.pitch) ** 2
        values = np.empty((stop - start, self.edge, self.edge), np.uint8)
        score = np.empty(values.shape, np.float32)
        for i, x in enumerate(range(start, stop)):
            distance = np.sqrt(square[x] + square[:, None] + square[None])
            depth = 1 - distance / self.radius[cell[x]][cell][:, cell]
            noise = np.random.default_rng(x).random(depth.shape, np.float32)
            inside = depth > 0
            score[i] = np.clip(np.where(inside, depth + NOISE * noise, 0), 0, 1)
            values[i] = inside * (1 + (cell[x] + cell[:, None] + cell[None]) % 2)
        return values, score


def group(spheres: Spheres, height: int) -> tuple[Objects, float, float]:
    """Objects of slabs of some height, with the seconds that drawing and grouping took."""
    drawing, start = 0.0, time.perf_counter()
    grouping = Grouping((spheres.edge,) * 3, 0, RULE)
    for first in range(0, spheres.edge, height):
        before = time.perf_counter()
        values, score = spheres.planes(first, min(first + height, spheres.edge))
        drawing += time.perf_counter() - before
        grouping.take(values, score, first)
    objects = grouping.objects()
    return objects, drawing, time.perf_counter() - start - drawing


def digest(objects: Objects) -> str:
    """A hash of the object map and its table."""
    total = hashlib.sha256()
    for plane in objects.object_map:
        total.update(np.ascontiguousarray(plane).tobytes())
    total.update(objects.values.tobytes() + objects.voxels.tobytes())
    return total.hexdigest()[:12]


def main() -> None:
    """Groups once for each height, and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--heights", type=int, nargs="+", default=[32])
    arguments = parser.parse_args()
    spheres = Spheres(arguments.edge, arguments.objects)
    digests = set()
    for height in arguments.heights:
        objects, drawing, seconds = group(spheres, height)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        digests.add(digest(objects))
        print(
            f"{arguments.edge}³ voxels in slabs of {height}: {len(objects.values):,} objects of {spheres.cells**3:,}, "
            f"{np.bincount(objects.values)[1:].tolist()} of each label; {seconds:.0f} s of grouping "
            f"({drawing:.0f} s of drawing), peak memory {peak:.2f} GB, {objects.object_map.dtype}"
        )
    assert len(digests) == 1, "the height of slabs changed the objects"


if __name__ == "__main__":
    main()
