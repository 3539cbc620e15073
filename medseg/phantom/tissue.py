"""Tissues of the phantom: what each looks like in CT, and which label it belongs to."""

from enum import IntEnum, auto
from typing import NamedTuple

LABELS: dict[str, int] = {"liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4, "spine": 5}


class Tissue(IntEnum):
    """What fills a point of the phantom."""

    AIR = 0
    COUCH = auto()
    FAT = auto()
    MUSCLE = auto()
    LUNG = auto()
    BLOOD = auto()
    RIB = auto()
    BOWEL_WALL = auto()
    CHYME = auto()
    FLUID = auto()
    GAS = auto()
    PANCREAS = auto()
    BILE = auto()
    LIVER = auto()
    LIVER_VEIN = auto()
    SPLEEN = auto()
    LEFT_CORTEX = auto()
    LEFT_MEDULLA = auto()
    RIGHT_CORTEX = auto()
    RIGHT_MEDULLA = auto()
    VERTEBRA_SHELL = auto()
    VERTEBRA_CORE = auto()
    DISC = auto()
    SPINAL_CANAL = auto()


class Appearance(NamedTuple):
    """What a tissue looks like in CT.

    Attributes:
        plain: HU without contrast medium.
        enhancement: HU that a full dose adds.
        spread: How patients differ: the standard deviation in HU.
        texture: How rough it is: the standard deviation in HU.
    """

    plain: float
    enhancement: float
    spread: float
    texture: float


# Orders of magnitude of abdominal CT in the portal venous phase. Liver, spleen, muscle, pancreas and
# bowel overlap.
APPEARANCES: dict[Tissue, Appearance] = {
    Tissue.AIR: Appearance(-1000, 0, 0, 0),
    Tissue.COUCH: Appearance(-700, 0, 40, 10),
    Tissue.FAT: Appearance(-105, 0, 5, 9),
    Tissue.MUSCLE: Appearance(55, 25, 6, 12),
    Tissue.LUNG: Appearance(-830, 0, 30, 40),
    Tissue.BLOOD: Appearance(42, 100, 8, 5),
    Tissue.RIB: Appearance(330, 0, 50, 60),
    Tissue.BOWEL_WALL: Appearance(42, 50, 8, 15),
    Tissue.CHYME: Appearance(50, 15, 25, 40),
    Tissue.FLUID: Appearance(15, 0, 8, 6),
    Tissue.GAS: Appearance(-930, 0, 30, 15),
    Tissue.PANCREAS: Appearance(42, 50, 8, 14),
    Tissue.BILE: Appearance(8, 0, 5, 4),
    Tissue.LIVER: Appearance(56, 42, 8, 9),
    Tissue.LIVER_VEIN: Appearance(42, 90, 8, 5),
    Tissue.SPLEEN: Appearance(48, 62, 7, 9),
    Tissue.LEFT_CORTEX: Appearance(34, 120, 8, 12),
    Tissue.LEFT_MEDULLA: Appearance(30, 70, 8, 12),
    Tissue.RIGHT_CORTEX: Appearance(34, 120, 8, 12),
    Tissue.RIGHT_MEDULLA: Appearance(30, 70, 8, 12),
    Tissue.VERTEBRA_SHELL: Appearance(430, 0, 60, 60),
    Tissue.VERTEBRA_CORE: Appearance(180, 20, 35, 40),
    Tissue.DISC: Appearance(85, 0, 8, 10),
    Tissue.SPINAL_CANAL: Appearance(25, 5, 5, 8),
}

STRUCTURES: dict[Tissue, str] = {
    Tissue.LIVER: "liver",
    Tissue.LIVER_VEIN: "liver",
    Tissue.SPLEEN: "spleen",
    Tissue.LEFT_CORTEX: "kidney_left",
    Tissue.LEFT_MEDULLA: "kidney_left",
    Tissue.RIGHT_CORTEX: "kidney_right",
    Tissue.RIGHT_MEDULLA: "kidney_right",
    Tissue.VERTEBRA_SHELL: "spine",
    Tissue.VERTEBRA_CORE: "spine",
    Tissue.DISC: "spine",
}
