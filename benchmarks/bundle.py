"""Draws the slice views of a bundle for 3D Slicer (``medseg view … --slicer scene.mrb``) by its own scene.

python benchmarks/bundle.py scene.mrb OUTPUT.png
"""

import argparse
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import slicerio

PIXELS = 300
LPS = np.array([-1.0, -1.0, 1.0])


def sampled(image: sitk.Image, to_world: npt.NDArray[np.float64], side: float) -> npt.NDArray[np.float32]:
    """Nearest voxels on a square of ``side`` mm, rows from the top; 0 outside."""
    grid = sitk.Image([PIXELS, PIXELS, 1], sitk.sitkUInt8)
    axes = to_world[:3, :3] * (1, -1, 1)
    corner = to_world[:3, 3] - axes @ (side / 2, side / 2, 0)
    if np.linalg.det(axes * LPS[:, None]) < 0:
        axes[:, 2] *= -1
    grid.SetDirection((axes * LPS[:, None]).ravel().tolist())
    grid.SetOrigin((corner * LPS).tolist())
    grid.SetSpacing([side / PIXELS, side / PIXELS, 1])
    found: npt.NDArray[np.float32] = sitk.GetArrayFromImage(
        sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    )[0]
    return found.astype(np.float32)


def draw(folder: Path, output: Path) -> None:
    (scene,) = folder.glob("*/*.mrml")
    nodes = {node.attrib["id"]: node.attrib | {"tag": node.tag} for node in ElementTree.parse(scene).getroot()}

    def to(node: dict[str, str], role: str) -> dict[str, str]:
        return nodes[dict(each.split(":") for each in node["references"].split(";") if each)[role]]

    def file(node: dict[str, str]) -> str:
        return str(scene.parent / unquote(to(node, "storage")["fileName"]))

    volume = next(node for node in nodes.values() if node["tag"] == "Volume")
    display, image = to(volume, "display"), sitk.ReadImage(file(volume))
    level, window = float(display["level"]), float(display["window"])
    masks = [node for node in nodes.values() if node["tag"] == "Segmentation"]
    views = [node for node in nodes.values() if node["tag"] == "Slice"]
    figure, plots = plt.subplots(1, len(views), figsize=(9, 3.2), facecolor="black")
    for plot, view in zip(plots, views, strict=True):
        to_world, side = (
            np.reshape([float(n) for n in view["sliceToRAS"].split()], (4, 4)),
            float(view["fieldOfView"].split()[0]),
        )
        plot.imshow(sampled(image, to_world, side), "gray", vmin=level - window / 2, vmax=level + window / 2)
        for mask in masks:
            label_map = sampled(sitk.ReadImage(file(mask)), to_world, side)
            filled = to(mask, "display")["Visibility2DFill"] == "true"
            for segment in slicerio.read_segmentation(file(mask))["segments"]:
                where = (label_map == segment["labelValue"]).astype(float)
                if where.any() and filled:
                    plot.contourf(
                        where, [0.5, 2], colors=[segment["color"]], alpha=float(to(mask, "display")["Opacity2DFill"])
                    )
                elif where.any():
                    plot.contour(where, [0.5], colors=[segment["color"]], linewidths=1.5)
        plot.set_title(view["orientation"], color="white", fontsize=9)
        plot.axis("off")
    figure.tight_layout(pad=1)
    figure.savefig(output, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(arguments.bundle) as bundle:
        bundle.extractall(folder)
        draw(Path(folder), arguments.output)


if __name__ == "__main__":
    main()
