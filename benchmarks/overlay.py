"""Draws the mask that a model predicts for one image, as in the README.

    python benchmarks/overlay.py RUN IMAGE OUTPUT.png --title "…"

IMAGE is a NIfTI file or the folder of a DICOM series.
"""

import argparse
from pathlib import Path

import medseg
from medseg.pictures.overlay import plot_overlay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--title", default="")
    arguments = parser.parse_args()
    result = medseg.predict(arguments.run, arguments.image)
    image = medseg.read_volume(arguments.image)
    label_map = result.predictions[0].label_map.label_map
    plot_overlay(image, label_map, result.labels, arguments.output, title=arguments.title)


if __name__ == "__main__":
    main()
