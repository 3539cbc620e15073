"""How an abdomen is painted: what comes later lies on top. Positions are those of a patient of size 1
(see ``PhantomPatient``)."""

import numpy as np

from medseg.phantom.canvas import Canvas
from medseg.phantom.patient import PhantomPatient
from medseg.phantom.solid import Solid, column, ellipsoid
from medseg.phantom.tissue import Tissue


def paint_abdomen(canvas: Canvas, patient: PhantomPatient) -> None:
    """Paints an abdomen with all its organs; what comes later lies on top.

    Args:
        canvas: What is painted on.
        patient: Whose abdomen it is.
    """
    for paint in (
        _trunk, _chest, _ribs, _colon, _small_bowel, _stomach, _liver, _pancreas,
        _spleen, _back, _kidneys, _vessels, _spine,
    ):  # fmt: skip
        paint(canvas, patient)


def _trunk(canvas: Canvas, patient: PhantomPatient) -> None:
    skin_mm = patient.wall_mm + patient.fat_mm
    back = -patient.half_depth_mm - skin_mm
    canvas.paint(Tissue.COUCH, column(190, 45, (0, back + 25)).without(column(200, 45, (0, back + 37))))
    part = canvas.near(patient.trunk(skin_mm))
    depth = patient.trunk().depth(part.points) + part.relief
    part.tissue[depth > -skin_mm] = Tissue.FAT
    part.tissue[depth > -patient.wall_mm] = Tissue.MUSCLE
    part.tissue[depth > 0] = Tissue.FAT


def _chest(canvas: Canvas, patient: PhantomPatient) -> None:
    above = patient.trunk().without(patient.diaphragm())
    canvas.paint(Tissue.MUSCLE, above.grown(3.5).within(patient.trunk()))
    canvas.paint(Tissue.LUNG, above)
    canvas.paint(Tissue.FAT, patient.organ((-10, 20, 98), (62, 62, 44)).within(above))
    canvas.paint(Tissue.BLOOD, patient.organ((-18, 26, 102), (54, 46, 40)).within(above))


def _ribs(canvas: Canvas, patient: PhantomPatient) -> None:
    part = canvas.near(patient.trunk(patient.wall_mm))
    x, y, z = part.points
    # A rib runs downwards on its way to the front; the lowest ones do not reach it.
    height = z + 0.4 * y
    apart_mm = 28 * patient.size
    bar = (height + patient.rng.uniform(0, apart_mm)) % apart_mm < 9
    chest = (height > -30) & ((y < 0) | (height > 5)) & (np.abs(x) > 35)
    wall = np.abs(patient.trunk(patient.wall_mm / 2).depth(part.points)) < 3.5
    part.tissue[bar & chest & wall] = Tissue.RIB


def _hollow(canvas: Canvas, organ: Solid, content: Tissue, *, wall_mm: float = 3.0, gas_from: float = 1e3) -> None:
    """Paints a piece of gut; gas collects at the front, above the level ``gas_from`` (y in mm)."""
    part = canvas.near(organ)
    depth = organ.depth(part.points)
    part.tissue[depth > 0] = Tissue.BOWEL_WALL
    part.tissue[depth > wall_mm] = content
    part.tissue[(depth > wall_mm) & (part.points[1] > gas_from)] = Tissue.GAS


def _colon(canvas: Canvas, patient: PhantomPatient) -> None:
    ascending = [(97, -28, -120), (97, -22, -65), (93, -8, -45)]
    transverse = [(90, 0, -45), (58, 55, -55), (0, 66, -62), (-58, 55, -38), (-92, 2, -18)]
    descending = [(-92, -5, -18), (-99, -32, -45), (-97, -32, -120)]
    level = patient.rng.uniform(35, 70)
    for path, radius_mm, gas_from in ((descending, 14, 1e3), (ascending, 19, -5), (transverse, 16, level)):
        _hollow(canvas, patient.inside(patient.vessel(path, radius_mm)), Tissue.CHYME, gas_from=gas_from)


def _small_bowel(canvas: Canvas, patient: PhantomPatient) -> None:
    rng = patient.rng
    for _ in range(16):
        start = rng.uniform([-72, -12, -110], [72, 58, -42])
        path = [start, start + rng.normal(0, 18, 3), start + rng.normal(0, 24, 3)]
        content = rng.choice([Tissue.BOWEL_WALL, Tissue.CHYME, Tissue.FLUID])
        gas_from = start[1] + rng.uniform(0, 25)
        loop = patient.inside(patient.vessel(path, rng.uniform(8, 13)))
        _hollow(canvas, loop, Tissue(content), wall_mm=2.5, gas_from=gas_from)


def _stomach(canvas: Canvas, patient: PhantomPatient) -> None:
    fundus = patient.organ((-52, 18, 36), (36, 40, 40), (0, 15, 0))
    antrum = patient.vessel([(-48, 38, 10), (-25, 52, -12), (10, 52, -18), (30, 38, -12)], 16)
    stomach = patient.inside(fundus.joined(antrum, blend_mm=12))
    content = patient.rng.choice([Tissue.CHYME, Tissue.FLUID])
    _hollow(canvas, stomach, Tissue(content), wall_mm=4.5, gas_from=patient.rng.uniform(22, 55))


def _liver(canvas: Canvas, patient: PhantomPatient) -> None:
    right = patient.organ((64, -2, 22), (64, 80, 72), (0, -8, 0))
    left = patient.organ((2, 36, 38), (66, 34, 30), (0, 12, -10))
    hilum = patient.organ((8, -14, -38), (42, 50, 50))
    liver = patient.inside(right.joined(left, blend_mm=25).without(hilum))
    canvas.paint(Tissue.LIVER, liver, rough=True)
    veins = (
        ([(12, -4, 2), (32, -2, 14), (62, -12, 22), (95, -8, 20)], 6),
        ([(32, -2, 14), (12, 28, 28), (-12, 40, 34)], 5),
        ([(22, -22, 64), (52, 6, 48), (82, 30, 30)], 5),
        ([(22, -22, 64), (70, -38, 42), (98, -45, 25)], 5),
        ([(22, -22, 64), (10, 18, 48)], 5),
    )
    for path, radius_mm in veins:
        canvas.paint(Tissue.LIVER_VEIN, patient.vessel(path, radius_mm).within(liver.grown(-4)))
    canvas.paint(Tissue.BILE, patient.inside(patient.organ((46, 44, -20), (13, 18, 22), (25, 0, 0))))


def _pancreas(canvas: Canvas, patient: PhantomPatient) -> None:
    pancreas = patient.vessel([(32, 6, -22), (8, 14, -8), (-28, 6, 4), (-64, -14, 16)], 11)
    canvas.paint(Tissue.PANCREAS, patient.inside(pancreas), rough=True)


def _spleen(canvas: Canvas, patient: PhantomPatient) -> None:
    whole = patient.organ((-86, -34, 32), (36, 50, 54), (15, 0, -12))
    hilum = patient.organ((-44, -6, 30), (32, 38, 60))
    spleen = patient.inside(whole.without(hilum))
    canvas.paint(Tissue.FAT, spleen.grown(2.5), rough=True)
    canvas.paint(Tissue.SPLEEN, spleen, rough=True)


def _back(canvas: Canvas, patient: PhantomPatient) -> None:
    under_skin = patient.trunk(patient.wall_mm)
    for side in (1, -1):
        erector = column(33, 21, (side * 37, -patient.half_depth_mm + 1)).within(under_skin)
        canvas.paint(Tissue.MUSCLE, erector, rough=True)
        canvas.paint(Tissue.MUSCLE, patient.vessel([(side * 24, -48, 5), (side * 44, -40, -120)], 15), rough=True)
        canvas.paint(Tissue.MUSCLE, patient.vessel([(side * 62, -72, -5), (side * 78, -66, -120)], 12), rough=True)


def _kidneys(canvas: Canvas, patient: PhantomPatient) -> None:
    for side, height, cortex, medulla in (
        (-1, -16, Tissue.LEFT_CORTEX, Tissue.LEFT_MEDULLA),
        (1, -30, Tissue.RIGHT_CORTEX, Tissue.RIGHT_MEDULLA),
    ):
        centre = patient.place((side * 64, -42, height))
        radii = np.array([29, 25, 52]) * patient.size * patient.rng.uniform(0.92, 1.1, 3)
        turn = np.array([-8, -side * 12, side * 25]) + patient.rng.normal(0, 4, 3)
        hilum = ellipsoid(centre + np.array([-side * 20, 9, 0]), (17, 11, 19), turn)
        kidney = ellipsoid(centre, radii, turn).without(hilum)
        canvas.paint(Tissue.FAT, kidney.joined(hilum).grown(5).within(patient.trunk()), rough=True)
        canvas.paint(cortex, kidney.within(patient.trunk()), rough=True)
        canvas.paint(medulla, kidney.grown(-7))


def _vessels(canvas: Canvas, patient: PhantomPatient) -> None:
    front = -patient.half_depth_mm / patient.size + 63
    aorta = [(-12, front, 130), (-8, front + 4, -75)]
    cava = [(22, front + 6, 75), (20, front + 4, -75)]
    for path, radius_mm in (
        (aorta, 11), (cava, 12), ([aorta[1], (-34, front, -125)], 7), ([aorta[1], (28, front, -125)], 7),
        ([(-8, front + 8, 0), (-4, front + 28, -40), (2, front + 30, -110)], 5),
        ([(20, front, -30), (46, -36, -30)], 5),
        ([(20, front + 4, -18), (-20, front + 14, -16), (-46, -36, -16)], 5),
    ):  # fmt: skip
        canvas.paint(Tissue.BLOOD, patient.vessel(path, radius_mm).within(patient.trunk()))


def _spine(canvas: Canvas, patient: PhantomPatient) -> None:
    """Paints vertebrae and discs, one after the other; behind them arch, spinous and transverse processes."""
    centre = (patient.rng.normal(0, 3), -patient.half_depth_mm + 35)
    body = column(24 * patient.size, 18 * patient.size, centre)
    part = canvas.near(column(50, 70, centre))
    x, y, z = part.points[0] - centre[0], part.points[1] - centre[1], part.points[2]
    depth = body.depth(part.points)
    # Where along one vertebra, from 0 to 1; the first quarter is the disc below it.
    level = (z / (34 * patient.size) + patient.rng.uniform()) % 1
    from_canal = np.hypot(x, (y + 27) * 1.1)
    arch = (from_canal < 15) & (level > 0.15)
    spinous = (np.abs(x) < 4.5) & (y < -36) & (y > -50) & (level > 0.2) & (level < 0.8)
    transverse = (np.abs(y + 22) < 5) & (np.abs(x) < 36) & (level > 0.45) & (level < 0.75)
    part.tissue[arch | spinous | transverse] = Tissue.VERTEBRA_SHELL
    end_plate = (level < 0.3) | (level > 0.94)
    part.tissue[depth > 0] = Tissue.VERTEBRA_CORE
    part.tissue[(depth > 0) & ((depth < 2.5) | end_plate)] = Tissue.VERTEBRA_SHELL
    part.tissue[(depth > 0) & (level < 0.22)] = Tissue.DISC
    part.tissue[(from_canal < 8.5) & (depth <= 0)] = Tissue.SPINAL_CANAL
