"""What the page in the browser asks for: cases as JSON, volumes as NIfTI, surfaces as MZ3."""

import json
import re
import struct
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from medseg.errors import MedsegError
from medseg.io.nifti.writer import nifti_bytes
from medseg.pictures.display import window
from medseg.report.slices import MISSED as MISSED_COLOUR
from medseg.report.slices import WRONG as WRONG_COLOUR
from medseg.viewer.colour_image import colours, is_colour_image
from medseg.viewer.scene import Layer, Scene, ViewedCase, aligned
from medseg.volume import Array, Geometry, box_of

KEPT = 2  # cases in memory

# MZ3, NiiVue's own format of surfaces (https://github.com/neurolabusc/surf-ice/tree/master/mz3).
MZ3_MAGIC = 0x5A4D
FACES_AND_VERTICES = 3
SMOOTHING = 0.8  # voxels
MARGIN = 0.1  # that the smoothed mask keeps from one half: all voxel centres stay on their side of the surface

N = "([0-9]{1,9})"
ADDRESS = re.compile(rf"case/{N}/(?:(scene)\.json|(image|errors)\.nii|layer{N}\.nii|layer{N}-{N}\.mz3)")


class Content(NamedTuple):
    """What is sent to the browser.

    Attributes:
        kind: Its MIME type.
        body: Its bytes.
    """

    kind: str
    body: bytes


class ViewerContents:
    """All that the page in the browser may ask for, by address below the token. What is not listed does not exist.

    Args:
        cases: What can be looked at.
        title: Of the page.
    """

    def __init__(self, cases: Sequence[ViewedCase], title: str) -> None:
        self.cases = cases
        self.lock = threading.Lock()
        self.scene = lru_cache(KEPT)(self._load)
        self.pages: dict[str, Callable[[], Content]] = {
            "": lambda: Content("text/html; charset=utf-8", _file("page.html")),
            "page.css": lambda: Content("text/css; charset=utf-8", _file("page.css")),
            "slices.js": lambda: Content("text/javascript; charset=utf-8", _file("slices.js")),
            "viewer.js": lambda: Content("text/javascript; charset=utf-8", _file("viewer.js")),
            "niivue.js": lambda: Content("text/javascript; charset=utf-8", _file("niivue/niivue.umd.js")),
            "cases.json": lambda: _json({"title": title, "cases": [_listed(case) for case in cases]}),
        }

    def find(self, address: str) -> Content | None:
        """Returns what lies at an address; None where nothing does.

        A case that cannot be read says so in its scene.
        """
        if address in self.pages:
            return self.pages[address]()
        match = ADDRESS.fullmatch(address)
        if match is None or int(match[1]) >= len(self.cases):
            return None
        try:
            scene = self._scene(int(match[1]))
            if match[2]:
                return _json(_described(scene))
        except MedsegError as error:
            return _json({"error": str(error)}) if match[2] else None
        data = _volume(scene, match[3], match[4]) or _surface(scene, match[5], match[6])
        return None if data is None else Content("application/octet-stream", data)

    def _scene(self, number: int) -> Scene:
        with self.lock:  # the browser asks for all parts of a case at once; it is read once
            return self.scene(number)

    def _load(self, number: int) -> Scene:
        return aligned(self.cases[number].load())


def _file(name: str) -> bytes:
    return files("medseg.viewer").joinpath(name).read_bytes()


def _json(content: Any) -> Content:
    return Content("application/json", json.dumps(content, ensure_ascii=False, allow_nan=False).encode())


def _listed(case: ViewedCase) -> dict[str, Any]:
    return {"case_id": case.case_id, "scores": case.scores}


def _described(scene: Scene) -> dict[str, Any]:
    shape, spacing = scene.grid.shape, scene.grid.spacing
    return {
        "window": None if scene.image is None else window(scene.image.array)[1:],
        "layers": [_layer(layer) for layer in scene.layers],
        "errors": None if scene.errors is None else {"missed": MISSED_COLOUR[:3], "wrong": WRONG_COLOUR[:3]},
        "start": scene.start(),
        "flat": min(scene.grid.shape) == 1,
        "grid": f"{'×'.join(map(str, shape))} voxels of {'×'.join(f'{edge:.3g}' for edge in spacing)} mm",
        "notes": scene.notes,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    voxel_ml = layer.geometry.voxel_volume_ml
    shown, items = layer.shown
    counts = np.bincount(shown.ravel(), minlength=len(items) + 1)
    labels = [
        {"name": label.name, "colour": label.colour, "ml": int(n) * voxel_ml, "index": index}
        for index, (label, n) in enumerate(zip(items, counts[1:], strict=True), start=1)
    ]
    objects = {} if layer.objects is None else layer.objects.counts(layer.labels)
    return {"role": layer.role, "name": layer.name, "labels": labels, "objects": objects}


def _volume(scene: Scene, name: str | None, layer: str | None) -> bytes | None:
    if name == "image":
        image = scene.image
        if image is None:
            return nifti_bytes(np.zeros(scene.grid.shape, np.uint8), scene.grid)
        return nifti_bytes(shown_channel(image.array), image.geometry)
    if name == "errors":
        errors = scene.errors
        return None if errors is None else nifti_bytes(errors, scene.layers[0].geometry)
    if layer is not None and int(layer) < len(scene.layers):
        chosen = scene.layers[int(layer)]
        return nifti_bytes(chosen.shown[0], chosen.geometry)
    return None


def shown_channel(array: Array) -> Array:
    """Returns the colours of a picture, else the first channel, finite."""
    shown, black, _ = window(array)
    if is_colour_image(shown):
        return colours(shown)
    first: Array = shown[0]
    return np.nan_to_num(first, nan=black) if first.dtype.kind == "f" else first


def _surface(scene: Scene, layer: str | None, index: str | None) -> bytes | None:
    if layer is None or index is None or int(layer) >= len(scene.layers):
        return None
    chosen = scene.layers[int(layer)]
    shown, items = chosen.shown
    if not 1 <= int(index) <= len(items):
        return None
    return mz3(shown == int(index), chosen.geometry)


def mz3(mask: Array, grid: Geometry) -> bytes | None:
    """Returns the surface of a mask as MZ3, in RAS mm; None where the mask is empty.

    Args:
        mask: Boolean ``(x, y, z)``.
        grid: Its grid, in RAS mm.

    Source:
        https://github.com/neurolabusc/surf-ice/tree/master/mz3.
    """
    box = box_of(mask)
    if box is None:
        return None
    cut = np.pad(mask[box], 1)
    smooth = gaussian_filter(cut.astype(np.float32), SMOOTHING, mode="constant")
    field = np.where(cut, np.maximum(smooth, 0.5 + MARGIN), np.minimum(smooth, 0.5 - MARGIN))
    vertices, faces, _, _ = marching_cubes(field, 0.5, gradient_direction="ascent")
    vertices = grid.world(vertices + [part.start - 1 for part in box])
    if np.linalg.det(grid.affine[:3, :3]) < 0:
        faces = faces[:, ::-1]
    header = struct.pack("<HHIII", MZ3_MAGIC, FACES_AND_VERTICES, len(faces), len(vertices), 0)
    content: bytes = header + faces.astype("<i4").tobytes() + vertices.astype("<f4").tobytes()
    return content
