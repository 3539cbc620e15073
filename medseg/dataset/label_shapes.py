"""How small and how thin the structures of label maps are, and what helps to learn them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from scipy.ndimage import find_objects

from medseg.labels import MOST_LABELS, Labels
from medseg.progress import counted
from medseg.volume import Array, Spacing3

LARGEST_MAP = 3 * 10**8  # voxels; larger label maps are not looked at: it would take minutes
MOST_COMPONENTS = 5000  # of a label and case, whose sizes are kept
FEWEST_CASES, FEWEST_COMPONENTS = 3, 10  # of fewer nothing is said
SPECK = 3  # voxels: components of fewer are slips of the pen
SMALL = 100  # voxels: below, a component is small
FEW_VOXELS = 0.1  # of a label: what its small components may have together for Dice to overlook them
MANY_SMALL = 0.25  # of its components
THIN, ELONGATED = 5.0, 20.0
RARE = 0.2  # of the cases


@dataclass(frozen=True)
class LabelShape:
    """What one label looks like in one case.

    Attributes:
        sizes: Voxels of its connected components, of up to 5,000 of them.
        thickness: About the diameter of most of it, in voxels along their shortest edge.
        elongation: The volume of its largest component, as a multiple of the largest ball in that: 1 for a ball,
            hundreds for a tree of vessels.
    """

    sizes: tuple[int, ...]
    thickness: float
    elongation: float


class ShapeNote(NamedTuple):
    """What is worth knowing about a label before a network is trained on it.

    Attributes:
        rule: "small-components", "thin-label" or "rare-label".
        label: Its name.
        what: What was found.
        to_do: What helps.
    """

    rule: str
    label: str
    what: str
    to_do: str

    def __str__(self) -> str:
        return f"{self.label} {self.what}; {self.to_do}"


def label_shapes(label_map: Array, spacing: Spacing3, ignore: int | None = None) -> dict[int, LabelShape]:
    """Returns the shape of each label of a label map, by its value; of a very large one none.

    Args:
        label_map: ``(x, y, z)``, of whole numbers from 0 on.
        spacing: Edges of a voxel in mm.
        ignore: The value of voxels that nobody annotated.

    Examples:
        >>> import numpy as np
        >>> label_map = np.zeros((40, 20, 20), np.uint8)
        >>> label_map[5:9, 5:9, 5:9] = 1
        >>> label_map[:, 14:17, 14:17] = 2
        >>> shapes = label_shapes(label_map, (1.0, 1.0, 1.0))
        >>> shapes[1].sizes, shapes[1].elongation < 3, shapes[2].elongation > 8
        ((64,), True, True)
    """
    if label_map.size > LARGEST_MAP or label_map.min(initial=0) < 0 or label_map.max(initial=0) > 2**16:
        return {}
    drawn = label_map.astype(np.int32) if label_map.dtype.kind != "u" else label_map
    if ignore is not None:
        drawn = np.where(drawn == ignore, 0, drawn)
    drawn = np.require(drawn, requirements=["C", "W"])  # cc3d reads nothing that cannot be written
    edges = np.asarray(spacing) / min(spacing)
    # A picture is as flat as it is: nothing lies before or behind it.
    flat = tuple(axis for axis, n in enumerate(drawn.shape) if n == 1)[:1]
    planar, edges = np.ascontiguousarray(drawn.squeeze(flat)), np.delete(edges, flat)
    components = cc3d.connected_components(drawn, connectivity=26)
    components = components.squeeze(flat)
    depth = edt.edt(planar, anisotropy=tuple(edges.tolist()), black_border=False)
    boxes = {value: box for value, box in enumerate(find_objects(planar), start=1) if box is not None}
    if len(boxes) > MOST_LABELS:
        return {}
    voxel = float(np.prod(edges))
    return {value: _shape(components[box], depth[box], planar[box] == value, voxel) for value, box in boxes.items()}


def _shape(components: Array, depth: Array, mask: Array, voxel: float) -> LabelShape:
    counts = np.bincount(components[mask])
    sizes = np.sort(counts[counts > 0])[::-1]
    inside = depth[mask]
    radius = float(inside[components[mask] == counts.argmax()].max())
    ball = 4 / 3 * np.pi * radius**3 if mask.ndim == 3 else np.pi * radius**2
    # In a round tube nine tenths of the voxels lie less deep than .68 of its radius.
    thickness = 2 * float(np.percentile(inside, 90)) / 0.68
    return LabelShape(tuple(sizes[:MOST_COMPONENTS].tolist()), thickness, float(sizes[0]) * voxel / ball)


def shape_notes(shapes: Sequence[Mapping[int, LabelShape]], labels: Labels | None) -> Iterator[ShapeNote]:
    """Yields which labels are small, thin or rare, and what would help; of fewer than three cases nothing is said, and
    of labels whose objects are told apart.

    Args:
        shapes: Of each case, by value.
        labels: Their names; None: nothing is said.
    """
    names = dict(zip(labels.values, labels.names, strict=True)) if labels else {}
    for value, name in names.items():
        if labels and name in labels.instances:
            continue
        own = [each[value] for each in shapes if value in each]
        if len(shapes) < FEWEST_CASES or not own:
            continue
        yield from _small(name, own)
        if (
            len(own) >= FEWEST_CASES
            and median(each.elongation for each in own) >= ELONGATED
            and median(each.thickness for each in own) <= THIN
        ):
            thickness = median(each.thickness for each in own)
            what = f"is long, and about {thickness:.1f} voxels thick"
            to_do = "train with --set loss.name=cldice --metric centreline_dice; loss.name=tversky takes less time"
            yield ShapeNote("thin-label", name, what, to_do)
        if len(names) > 1 and len(own) < RARE * len(shapes):
            what = f"is in {len(own)} of {counted(len(shapes), 'case')} only"
            to_do = "train with --set training.foreground_by=components, so that it comes as often as other labels"
            yield ShapeNote("rare-label", name, what, to_do)


def _small(name: str, shapes: Sequence[LabelShape]) -> Iterator[ShapeNote]:
    """Yields that many components of a label are small, where there are several in a case."""
    sizes = np.array([size for each in shapes for size in each.sizes if size >= SPECK])
    small = sizes < SMALL
    if len(sizes) < max(FEWEST_COMPONENTS, 2 * len(shapes)) or small.mean() < MANY_SMALL:
        return
    share = sizes[small].sum() / sizes.sum()
    if share <= FEW_VOXELS:
        what = (
            f"has {len(sizes)} components, of which {small.sum()} are of fewer than {SMALL} voxels and have "
            f"{share:.1%} of its voxels together, so that Dice hardly notices them"
        )
    else:
        what = f"has {len(sizes)} components, of which {small.sum()} are of fewer than {SMALL} voxels"
    to_do = "train with --set loss.name=cc-dice-ce --metric lesion_f1"
    yield ShapeNote("small-components", name, what, to_do)
