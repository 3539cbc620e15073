import numpy as np

from medseg.phantom.canvas import smooth_field
from medseg.volume import Geometry


def test_a_field_has_unit_deviation_and_varies_over_its_wavelength() -> None:
    grid = Geometry((120, 110, 100), np.diag([5.0, 5.0, 5.0, 1.0]))
    field = smooth_field(np.random.default_rng(0), grid, 80.0, n_waves=48)
    assert abs(field.mean()) < 0.1
    assert 0.8 < field.std() < 1.2
    near = np.corrcoef(field[:-1].ravel(), field[1:].ravel())[0, 1]
    far = np.corrcoef(field[:-9].ravel(), field[9:].ravel())[0, 1]
    assert near > 0.9  # 5 mm
    assert abs(far) < 0.5  # 45 mm: about half a wavelength


def test_a_field_is_a_function_of_the_place() -> None:
    """The same world points, reached through the indices of a turned, finer grid."""
    turned = np.array([[0, 2.0, 0, -7], [-2.0, 0, 0, 9], [0, 0, 2.0, 3], [0, 0, 0, 1]])
    plain = Geometry((30, 30, 30), np.diag([1.0, 1.0, 1.0, 1.0]))
    other = Geometry((9, 9, 9), turned)
    on_plain = smooth_field(np.random.default_rng(5), plain, 25.0)
    on_other = smooth_field(np.random.default_rng(5), other, 25.0)
    shared = 0
    for index in np.ndindex(*other.shape):
        x, y, z = np.rint(other.world(index)).astype(int)
        if 0 <= x < 30 and 0 <= y < 30 and 0 <= z < 30:
            shared += 1
            assert abs(on_plain[x, y, z] - on_other[index]) < 1e-3
    assert shared > 50
