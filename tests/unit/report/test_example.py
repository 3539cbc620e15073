import numpy as np

from medseg.labels import Labels
from medseg.report.example import example_picture
from medseg.volume import Geometry


def test_the_fullest_slice_is_shown_thrice_with_right_on_the_left() -> None:
    """On a grid of RAS, as radiologists look at it: the patient's right and front at the upper left."""
    labels = Labels.from_names({"a": 3, "b": 7})
    image = np.zeros((1, 6, 5, 4), np.float32)
    reference, predicted = np.zeros((6, 5, 4), np.uint8), np.zeros((6, 5, 4), np.uint8)
    reference[5, 4, 2] = 1  # right, front
    reference[5, 3, 2] = 1
    predicted[0, 0, 2] = 2  # left, back
    reference[0, 0, 1] = 1
    picture = example_picture(image, reference, predicted, Geometry((6, 5, 4), np.eye(4)), labels)
    assert picture.shape == (5, 18, 3)
    coloured = {(int(row), int(column)) for row, column in np.argwhere(picture.any(-1))}
    assert coloured == {(0, 6), (1, 6), (4, 17)}
    assert tuple(picture[0, 6]) == tuple(channel // 2 for channel in labels.items[0].colour)
    assert tuple(picture[4, 17]) == tuple(channel // 2 for channel in labels.items[1].colour)
