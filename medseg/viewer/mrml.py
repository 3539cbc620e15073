"""Scenes of 3D Slicer, written as Slicer 5 writes them itself: MRML, an XML of nodes that refer to each other.

Tags and attributes are those of ``WriteXML`` and ``ReadXMLAttributes`` in Slicer's ``Libs/MRML/Core`` and
``Modules/Loadable/Segmentations/MRML``. What is not said here has Slicer's default.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from medseg.io.seg_nrrd.writer import LABEL_MAP, SURFACE
from medseg.io.structure_names import storable_text
from medseg.volume import Array, Geometry

VERSION = "Slicer4.4.0"  # of the format
FOUR_UP = 3  # vtkMRMLLayoutNode::SlicerLayoutFourUpView: three planes and 3D
GREY = "vtkMRMLColorTableNodeGrey"  # one of Slicer's own nodes

FILL, SEEN_THROUGH = 0.4, 0.35
OUTLINE_WIDTH = 2

PIXELS = 300  # of a slice view; Slicer keeps the scale when its window is larger
MARGIN = 1.1
VIEW_ANGLE = 30.0
FRONT = np.array([0.0, 1.0, 0.0])

# Of each slice view: its name, orientation, the rows of its rotation, and the world axes in and across its plane.
PLANES = (
    ("Red", "Axial", ((-1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 1), 2),
    ("Green", "Coronal", ((-1, 0, 0), (0, 0, 1), (0, 1, 0)), (0, 2), 1),
    ("Yellow", "Sagittal", ((0, 0, -1), (-1, 0, 0), (0, 1, 0)), (1, 2), 0),
)

Attributes = Mapping[str, str | float | bool]


@dataclass(frozen=True)
class MrmlImage:
    """An image of a scene.

    Attributes:
        name: As Slicer lists it.
        file: Its name in the folder of the files.
        black: The value that is shown black.
        white: The value that is shown white.
        in_colours: Whether it is a colour picture.
    """

    name: str
    file: str
    black: float
    white: float
    in_colours: bool = False


@dataclass(frozen=True)
class MrmlMask:
    """A mask of a scene.

    Attributes:
        name: As Slicer lists it.
        file: Its name in the folder of the files.
        filled: Whether it is filled, rather than an outline.
    """

    name: str
    file: str
    filled: bool


def mrml(
    folder: str, images: Sequence[MrmlImage], masks: Sequence[MrmlMask], grid: Geometry, centre: Sequence[float]
) -> bytes:
    """Returns a scene that opens the first image with the masks over it, in three planes and 3D.

    Args:
        folder: Where the files lie, relative to the scene.
        images: Those that can be chosen.
        masks: Those that are laid over it.
        grid: What the views are to show, in RAS mm.
        centre: The place through which the planes lie, RAS mm.
    """
    root = ElementTree.Element("MRML", version=VERSION, userTags="")
    volumes = [
        _add_image(root, number, image, f"{folder}/{image.file}") for number, image in enumerate(images, start=1)
    ]
    first = volumes[0] if volumes else None
    for number, mask in enumerate(masks, start=1):
        _add_mask(root, number, mask, f"{folder}/{mask.file}", first)
    for tag, attributes in _views(first, grid, centre):
        _add(root, tag, attributes)
    ElementTree.indent(root, " ")
    content: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content


def _add(root: ElementTree.Element, tag: str, attributes: Attributes) -> None:
    ElementTree.SubElement(root, tag, {name: _text(value) for name, value in attributes.items()})


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else storable_text(str(value))


def _references(**roles: str | None) -> str:
    return "".join(f"{role}:{node};" for role, node in roles.items() if node)


def _add_image(root: ElementTree.Element, number: int, image: MrmlImage, path: str) -> str:
    """Adds an image to a scene, and returns its node's id."""
    kind = "Vector" if image.in_colours else "Scalar"
    node, display = f"vtkMRML{kind}VolumeNode{number}", f"vtkMRML{kind}VolumeDisplayNode{number}"
    storage = f"vtkMRMLVolumeArchetypeStorageNode{number}"
    levels: Attributes = {
        "window": image.white - image.black,
        "level": (image.white + image.black) / 2,
        "autoWindowLevel": 0,
        "interpolate": 1,
    }
    prefix = "Vector" if image.in_colours else ""
    colour = {} if image.in_colours else {"colorNodeID": GREY}
    _add(root, f"{prefix}VolumeDisplay", {"id": display, "name": "VolumeDisplay", **colour, **levels})
    _add(root, "VolumeArchetypeStorage", _stored(storage, path) | {"centerImage": 0, "UseOrientationFromFile": 1})
    references = _references(display=display, storage=storage)
    _add(root, f"{prefix}Volume", {"id": node, "name": image.name, "references": references})
    return node


def _stored(storage: str, path: str) -> dict[str, str | float | bool]:
    return {"id": storage, "name": "Storage", "fileName": quote(path), "useCompression": 1}


def _add_mask(root: ElementTree.Element, number: int, mask: MrmlMask, path: str, image: str | None) -> None:
    node, display = f"vtkMRMLSegmentationNode{number}", f"vtkMRMLSegmentationDisplayNode{number}"
    storage = f"vtkMRMLSegmentationStorageNode{number}"
    shown: Attributes = {
        "visibility": True,
        "visibility2D": True,
        "visibility3D": True,
        "sliceIntersectionThickness": OUTLINE_WIDTH,
        "PreferredDisplayRepresentationName2D": LABEL_MAP,
        "PreferredDisplayRepresentationName3D": SURFACE,
        "Visibility2DFill": mask.filled,
        "Visibility2DOutline": not mask.filled,
        "Opacity3D": 1 if mask.filled else SEEN_THROUGH,
        "Opacity2DFill": FILL,
        "Opacity2DOutline": 1,
    }
    _add(root, "SegmentationDisplay", {"id": display, "name": "SegmentationDisplay", **shown})
    _add(root, "SegmentationStorage", _stored(storage, path))
    references = _references(display=display, storage=storage, referenceImageGeometryRef=image)
    _add(root, "Segmentation", {"id": node, "name": mask.name, "references": references})


def _views(image: str | None, grid: Geometry, centre: Sequence[float]) -> Iterator[tuple[str, Attributes]]:
    corners = grid.world(np.array(list(product(*((-0.5, n - 0.5) for n in grid.shape)))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    layout = "vtkMRMLLayoutNode"
    yield (
        "Layout",
        {
            "id": f"vtkMRMLLayoutNode{layout}",
            "name": "Layout",
            "singletonTag": layout,
            "currentViewArrangement": FOUR_UP,
        },
    )
    yield from _slices(image, grid, np.asarray(centre), (low + high) / 2, high - low)
    yield "View", {"id": "vtkMRMLViewNode1", "name": "View1", **_placed("1"), "layoutLabel": "1", "visibility": True}
    yield "Camera", _camera((low + high) / 2, high - low)


def _slices(
    image: str | None, grid: Geometry, centre: Array, middle: Array, extent: Array
) -> Iterator[tuple[str, Attributes]]:
    for name, orientation, rotation, in_plane, across in PLANES:
        side = MARGIN * extent[list(in_plane)].max()
        origin = middle.copy()
        origin[across] = centre[across]
        rows = [(*row, at) for row, at in zip(rotation, origin, strict=True)]
        view: Attributes = {
            "layoutLabel": name[0],
            "orientation": orientation,
            "defaultOrientation": orientation,
            "orientationReference": orientation,
            "fieldOfView": _numbers((side, side, min(grid.spacing))),
            "dimensions": f"{PIXELS} {PIXELS} 1",
            "sliceToRAS": _numbers([*(number for row in rows for number in row), 0, 0, 0, 1]),
            "sliceVisibility": False,
        }
        yield "Slice", {"id": f"vtkMRMLSliceNode{name}", "name": name, **_placed(name), **view}
        composite: Attributes = {
            "id": f"vtkMRMLSliceCompositeNode{name}",
            "name": f"SliceComposite{name}",
            "references": _references(backgroundVolume=image),
            "linkedControl": 1,
        }
        yield "SliceComposite", {**composite, **_placed(name)}


def _camera(middle: Array, extent: Array) -> Attributes:
    """Returns a camera that looks from the front, with all in view."""
    away = float(np.linalg.norm(extent)) / 2 / np.sin(np.radians(VIEW_ANGLE / 2))
    return {
        "id": "vtkMRMLCameraNode1",
        "name": "Camera",
        "singletonTag": "1",
        "position": _numbers(middle + away * FRONT),
        "focalPoint": _numbers(middle),
        "viewUp": "0 0 1",
        "viewAngle": VIEW_ANGLE,
    }


def _placed(view: str) -> dict[str, str]:
    return {"singletonTag": view, "layoutName": view}


def _numbers(values: Sequence[float] | Array) -> str:
    return " ".join(f"{float(value) + 0.0:.6g}" for value in values)
