"""What 3D Slicer opens of a case: a bundle (.mrb), or a folder with a script; both hold the image as NIfTI and its
masks as .seg.nrrd."""

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medseg.files import ensure_folder, write_text, written_whole
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.nifti.writer import write_nifti
from medseg.io.seg_nrrd.writer import write_seg_nrrd
from medseg.pictures.display import window
from medseg.viewer.colour_image import colours, is_colour_image
from medseg.viewer.mrml import MrmlImage, MrmlMask, mrml
from medseg.viewer.scene import Scene

BUNDLE = ".mrb"
DATA = "Data"  # in a bundle
SCRIPT_FILE = "open_in_slicer.py"

SCRIPT = '''"""Opens this folder in 3D Slicer: Slicer --python-script open_in_slicer.py. Written by medseg."""

from pathlib import Path

import slicer

FOLDER = Path(__file__).resolve().parent
IMAGES = {images!r}  # file: name
MASKS = {masks!r}  # file: how it is shown
CENTRE = {centre!r}  # RAS mm: amid the errors, or the mask

images = [slicer.util.loadVolume(str(FOLDER / file), {{"name": name}}) for file, name in IMAGES.items()]
for file, style in MASKS.items():
    node = slicer.util.loadSegmentation(str(FOLDER / file))
    if images:
        node.SetReferenceImageGeometryParameterFromVolumeNode(images[0])
    node.CreateClosedSurfaceRepresentation()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(style == "filled")
    display.SetVisibility2DOutline(style == "outlined")
    display.SetOpacity2DFill(0.4)
    display.SetSliceIntersectionThickness(2)
    display.SetOpacity3D(1.0 if style == "filled" else 0.35)
if images:
    slicer.util.setSliceViewerLayers(background=images[0], fit=True)
slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
slicer.util.resetSliceViews()
slicer.util.resetThreeDViews()
slicer.modules.markups.logic().JumpSlicesToLocation(*CENTRE, True)
'''


def write_slicer(case_id: str, scene: Scene, output: Path) -> Path:
    """Writes what 3D Slicer opens of a case: a bundle, or a folder with a script.

    Args:
        case_id: The name of the image there.
        scene: What is shown.
        output: A bundle where it is named .mrb, else a folder.

    Returns:
        What Slicer opens: the bundle, or the script.

    Raises:
        OutputError: It cannot be written.
    """
    return (_write_bundle if output.suffix.lower() == BUNDLE else _write_folder)(case_id, scene, output)


def _write_folder(case_id: str, scene: Scene, folder: Path) -> Path:
    ensure_folder(folder)
    images = {image.file: image.name for image in _write_images(case_id, scene, folder)}
    masks = {mask.file: "filled" if mask.filled else "outlined" for mask in _write_masks(scene, folder)}
    return write_text(folder / SCRIPT_FILE, SCRIPT.format(images=images, masks=masks, centre=scene.start()))


def _write_bundle(case_id: str, scene: Scene, path: Path) -> Path:
    """Writes a zip of one folder of the bundle's name, as Slicer packs it; the files in it are compressed already."""
    ensure_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent) as temporary:
        folder = Path(temporary) / path.stem
        data = ensure_folder(folder / DATA)
        images, masks = list(_write_images(case_id, scene, data)), list(_write_masks(scene, data, with_surfaces=True))
        (folder / f"{path.stem}.mrml").write_bytes(mrml(DATA, images, masks, scene.grid, scene.start()))
        with written_whole(path) as whole, zipfile.ZipFile(whole, "w") as bundle:
            for file in sorted(each for each in folder.rglob("*") if each.is_file()):
                bundle.write(file, file.relative_to(temporary).as_posix())
    return path


def _write_images(case_id: str, scene: Scene, folder: Path) -> Iterator[MrmlImage]:
    """Writes one file for a colour picture, else one for each channel."""
    if scene.image is None:
        return
    array, grid = scene.image.array, scene.image.geometry
    if is_colour_image(array):
        write_nifti(folder / "image.nii.gz", colours(array), grid)
        yield MrmlImage(case_id, "image.nii.gz", *window(array)[1:], in_colours=True)
        return
    for number, channel in enumerate(array, start=1):
        several = len(array) > 1
        file = f"image_{number}.nii.gz" if several else "image.nii.gz"
        write_nifti(folder / file, channel, grid)
        yield MrmlImage(f"{case_id} {number}" if several else case_id, file, *window(channel[np.newaxis])[1:])


def _write_masks(scene: Scene, folder: Path, with_surfaces: bool = False) -> Iterator[MrmlMask]:
    for number, layer in enumerate(scene.layers, start=1):
        file = f"{layer.role if layer.role != 'mask' else f'mask_{number}'}.seg.nrrd"
        write_seg_nrrd(
            folder / file, LabelMapVolume(layer.label_map, layer.geometry, layer.labels, scene.source), with_surfaces
        )
        yield MrmlMask(layer.name, file, filled=layer.role != "reference")
