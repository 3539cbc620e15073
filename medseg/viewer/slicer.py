"""A folder that 3D Slicer opens: the image, its masks as .seg.nrrd, and a script that loads and arranges them."""

from pathlib import Path

from medseg.files import ensure_folder, write_text
from medseg.io.masks.seg_nrrd import write_seg_nrrd
from medseg.io.masks.segmented import Segmented
from medseg.io.nifti import write_nifti
from medseg.viewer.scene import Layer, Scene

SCRIPT_FILE = "open_in_slicer.py"
IMAGE_FILE = "image.nii.gz"

SCRIPT = '''"""Opens this folder in 3D Slicer: Slicer --python-script open_in_slicer.py. Written by medseg."""

from pathlib import Path

import slicer

FOLDER = Path(__file__).resolve().parent
IMAGE = {image!r}
MASKS = {masks!r}  # file: how it is shown
CENTRE = {centre!r}  # RAS mm: amid the errors, or the mask

image = slicer.util.loadVolume(str(FOLDER / IMAGE), {{"name": {name!r}}}) if IMAGE else None
for file, style in MASKS.items():
    node = slicer.util.loadSegmentation(str(FOLDER / file))
    if image is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(image)
    node.CreateClosedSurfaceRepresentation()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(style == "filled")
    display.SetVisibility2DOutline(True)
    display.SetOpacity2DFill(0.4)
    display.SetSliceIntersectionThickness(2)
    display.SetOpacity3D(1.0 if style == "filled" else 0.35)
slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
slicer.util.resetSliceViews()
slicer.util.resetThreeDViews()
slicer.modules.markups.logic().JumpSlicesToLocation(*CENTRE, True)
'''


def write_slicer(case_id: str, scene: Scene, folder: Path) -> Path:
    """Returns the script. Raises ``OutputError`` when the folder cannot be written to."""
    ensure_folder(folder)
    if scene.image is not None:
        write_nifti(folder / IMAGE_FILE, scene.image.array, scene.image.geometry)
    masks = {}
    for number, layer in enumerate(scene.layers, start=1):
        file = f"{layer.role if layer.role != 'mask' else f'mask_{number}'}.seg.nrrd"
        write_seg_nrrd(folder / file, _segmented(layer, scene))
        masks[file] = "outlined" if layer.role == "reference" else "filled"
    image = IMAGE_FILE if scene.image is not None else ""
    script = SCRIPT.format(image=image, masks=masks, centre=scene.start(), name=case_id)
    return write_text(folder / SCRIPT_FILE, script)


def _segmented(layer: Layer, scene: Scene) -> Segmented:
    return Segmented(layer.label_map, layer.geometry, layer.labels, scene.source)
