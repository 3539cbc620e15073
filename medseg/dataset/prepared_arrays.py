"""The arrays of a prepared case: how they are written and read.

    PREPARED/cases/<case_id>/image.npy       float16 (channel, x, y, z), normalized, on the model grid
                             label_map.npy   uint8 (x, y, z), network values
                             objects.npy     int32 (x, y, z), the objects of instance labels, from 1; only where there
                                             are such labels
                             distance_2d.npy and the like: uint8 (x, y, z), what networks learn of objects, 255 for 1;
                                             'medseg train' makes them when it first needs them
                             foreground.npy  int32 (n, 4): label, x, y, z of up to 2,000 voxels a label
                             components.npy  int32 (n, 5): label, component, x, y, z of up to 50 voxels of each
                                             connected component, and of up to 2,000 components a label
                             annotated.npy   int32 (n, 3): x, y, z of up to 20,000 voxels that are not ignored; only
                                             where some are

They are plain ``.npy`` files, memory-mapped when read: a patch costs the pages that it lies on, not the case.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import cc3d
import numpy as np
import numpy.typing as npt

from medseg.dataset.prepared_json import AGAIN
from medseg.errors import SourceError, reading
from medseg.files import written_whole
from medseg.labels import IGNORED
from medseg.plan import TargetKind
from medseg.volume import Array, Shape3

# float16 keeps eleven bits: normalized values are known to better than one part in a thousand, at half the disk.
IMAGE_DTYPE = np.float16
LARGEST_VALUE = float(np.finfo(IMAGE_DTYPE).max)
FOREGROUND_VOXELS_PER_LABEL = 2000
COMPONENTS_PER_LABEL, VOXELS_PER_COMPONENT = 2000, 50
ANNOTATED_VOXELS = 20_000
FULL = 255  # what stands for 1 in targets of objects


def target_name(kind: TargetKind, dims: int) -> str:
    """Returns the name of the targets of objects for networks of so many spatial axes."""
    return f"{kind}_{dims}d"


# Arrays that not every case has.
OF_SOME = ("annotated", "objects", *(target_name(kind, dims) for kind in get_args(TargetKind) for dims in (2, 3)))


def read_array(path: Path, dtype: npt.DTypeLike, shape: Sequence[int | None]) -> Array:
    """Returns an array, memory-mapped.

    Args:
        path: The file.
        dtype: The type that it has to have.
        shape: The shape that it has to have; None in it: as many as there are.

    Raises:
        SourceError: It has another type or shape.
    """
    with reading(path, "an array", AGAIN):
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        fits = len(array.shape) == len(shape) and all(
            wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype != dtype:
            raise SourceError(f"{path}: holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; {AGAIN}")
    return array


def read_voxels(path: Path, before: int, grid: Shape3) -> Array:
    """Returns rows of ``before`` numbers and x, y, z.

    Raises:
        SourceError: Voxels lie outside of ``grid``; and as ``read_array`` does.
    """
    voxels = read_array(path, np.int32, (None, before + 3))
    if (voxels < 0).any() or (voxels[:, before:] >= grid).any():
        raise SourceError(f"{path}: has voxels outside of the image; {AGAIN}")
    return voxels


def write_case_arrays(
    folder: Path, image: Array, label_map: Array | None, seed: int, objects: Array | None = None
) -> None:
    """Writes the arrays of one case into its folder.

    Args:
        folder: PREPARED/cases/<case_id>, which is there.
        image: (channel, x, y, z), normalized, of any float type.
        label_map: (x, y, z) uint8, network values; None without labels.
        seed: which voxels of many are kept as foreground.
        objects: (x, y, z) int32, from 1; None where labels tell no objects apart.

    Raises:
        SourceError: for values that float16 cannot hold.
    """
    largest = float(np.abs(image).max())
    if not largest <= LARGEST_VALUE:  # also NaN, as a transform of the user may make
        raise SourceError(
            f"normalized values reach {largest:.3g}, which cannot be stored; check the image for outliers, or add "
            "a clipping transform to preprocessing.transforms"
        )
    arrays: dict[str, Array] = {"image": image.astype(IMAGE_DTYPE)}
    if label_map is not None:
        arrays |= {"label_map": label_map, "foreground": _foreground(label_map, seed)}
        arrays["components"] = _components(label_map, seed)
        if (label_map == IGNORED).any():
            arrays["annotated"] = _annotated(label_map, seed)
    if objects is not None:
        arrays["objects"] = objects
    for name in OF_SOME:
        (folder / f"{name}.npy").unlink(missing_ok=True)  # of an earlier label map
    for name, array in arrays.items():
        with written_whole(folder / f"{name}.npy") as temporary:
            np.save(temporary, array, allow_pickle=False)


def _foreground(label_map: Array, seed: int) -> Array:
    """Returns some voxels of each label, so that a patch can be centred on a label without searching for it."""
    random = np.random.default_rng(seed)
    rows = []
    flat = label_map.ravel()
    for value in range(1, int(label_map.max(initial=0, where=label_map != IGNORED)) + 1):
        found = np.flatnonzero(flat == value)
        if len(found) > FOREGROUND_VOXELS_PER_LABEL:
            found = np.sort(random.choice(found, FOREGROUND_VOXELS_PER_LABEL, replace=False))
        if len(found):
            position = np.stack(np.unravel_index(found, label_map.shape), axis=1)
            rows.append(np.hstack([np.full((len(found), 1), value), position]))
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 4), np.int32)


def _components(label_map: Array, seed: int) -> Array:
    """Returns some voxels of each connected component, so that a patch can be centred on a small one as often as on a
    large one."""
    random = np.random.default_rng(seed)
    drawn = np.where(label_map == IGNORED, 0, label_map)
    components, n = cc3d.connected_components(drawn, connectivity=26, return_N=True)
    voxels = np.flatnonzero(components)
    component_of = components.ravel()[voxels]
    label_of = np.zeros(n + 1, np.uint8)
    label_of[component_of] = drawn.ravel()[voxels]
    chosen = np.zeros(n + 1, bool)
    for value in np.unique(label_of[1:]):
        of_label = np.flatnonzero(label_of == value)
        if len(of_label) > COMPONENTS_PER_LABEL:
            of_label = random.choice(of_label, COMPONENTS_PER_LABEL, replace=False)
        chosen[of_label] = True
    # Of a large one about four times as many as are kept, so that few have to be sorted.
    part = 4 * VOXELS_PER_COMPONENT / np.bincount(component_of, minlength=n + 1).clip(min=1)
    kept = chosen[component_of] & (random.random(len(voxels)) < part[component_of])
    order = random.permutation(np.flatnonzero(kept))
    order = order[np.argsort(component_of[order], kind="stable")]
    voxels, component_of = voxels[order], component_of[order]
    first = np.flatnonzero(np.diff(component_of, prepend=0))  # of each component
    place = np.arange(len(voxels)) - np.repeat(first, np.diff(first, append=len(voxels)))
    voxels, component_of = voxels[place < VOXELS_PER_COMPONENT], component_of[place < VOXELS_PER_COMPONENT]
    position = np.stack(np.unravel_index(voxels, label_map.shape), axis=1)
    return np.column_stack([label_of[component_of], component_of, position]).astype(np.int32).reshape(-1, 5)


def _annotated(label_map: Array, seed: int) -> Array:
    """Returns some of the voxels that are not ignored."""
    found = np.flatnonzero(label_map != IGNORED)
    if len(found) > ANNOTATED_VOXELS:
        found = np.sort(np.random.default_rng(seed).choice(found, ANNOTATED_VOXELS, replace=False))
    return np.stack(np.unravel_index(found, label_map.shape), axis=1).astype(np.int32)
