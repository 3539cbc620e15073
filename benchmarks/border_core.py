"""Object maps as the three classes of which nnU-Net's authors make objects, and back: border and core.

    PEER/bin/python -P border_core.py classes OBJECTS CLASSES
    PEER/bin/python -P border_core.py objects CLASSES OBJECTS

Both are folders of PNGs. It is run by the Python of an environment with nnunetv2, whose acvl_utils does the work with
its own defaults: a border of two pixels; the components of the core, grown over the border.
"""

import sys
from pathlib import Path

import numpy as np
from acvl_utils.instance_segmentation.instance_as_semantic_seg import (
    convert_instanceseg_to_semantic_patched,
    convert_semantic_to_instanceseg,
)
from PIL import Image


def main():
    direction, source, target = sys.argv[1], *map(Path, sys.argv[2:])
    target.mkdir(parents=True, exist_ok=True)
    convert = {"classes": convert_instanceseg_to_semantic_patched, "objects": convert_semantic_to_instanceseg}
    for path in sorted(source.glob("*.png")):
        numbers = np.array(Image.open(path)).astype(np.uint16)[None]  # it works on volumes
        kind = np.uint8 if direction == "classes" else np.uint16
        Image.fromarray(convert[direction](numbers)[0].astype(kind)).save(target / path.name)


if __name__ == "__main__":
    main()
