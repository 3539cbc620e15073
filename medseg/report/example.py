"""A validated case at a glance: the image, with the reference, with the prediction."""

import numpy as np

from medseg.labels import Labels
from medseg.pictures.display import displayed, window
from medseg.volume import Array, Geometry, Volume

OPACITY = 0.5


def example_picture(image: Array, reference: Array, predicted: Array, grid: Geometry, labels: Labels) -> Array:
    """Returns the axial slice that the reference fills most, three times side by side.

    It is shown as it is, with the reference, and with the prediction.

    Args:
        image: ``(channel, x, y, z)``, of which the first channel is shown.
        reference: ``(x, y, z)`` in network values.
        predicted: ``(x, y, z)`` in network values.
        grid: Of all three.
        labels: For their colours.

    Returns:
        RGB ``(row, column, 3)`` of bytes.
    """
    stacked = np.stack([image[0].astype(np.float32), reference.astype(np.float32), predicted.astype(np.float32)])
    shown = displayed(Volume(stacked, grid)).array
    at = int((shown[1] > 0).sum((0, 1)).argmax())
    grey, referred, found = shown[:, :, :, at].transpose(0, 2, 1)
    _, black, white = window(shown[:1])
    panel = np.repeat((np.clip((grey - black) / (white - black), 0, 1) * 255)[..., None], 3, axis=2)
    colours = np.array([(0, 0, 0), *(label.colour for label in labels.items)], dtype=np.float32)
    panels = [panel]
    for values in (referred, found):
        mask = (values > 0)[..., None]
        panels.append(np.where(mask, (1 - OPACITY) * panel + OPACITY * colours[values.astype(int)], panel))
    picture: Array = np.concatenate(panels, axis=1).astype(np.uint8)
    return picture
