import pytest

from medseg.dataset.label_values import stray_values


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({0: 900, 255: 100}, None),
        ({0: 9000, 255: 1000, 254: 3, 1: 2, 128: 1}, {1: 0, 128: 255, 254: 255}),
        ({0: 9000, 1: 500, 2: 20, 3: 1}, None),  # counted, not drawn: each may be a structure
        ({0: 9000, 85: 500, 170: 400, 255: 300, 171: 2}, {171: 170}),
        ({255: 5000, 250: 10}, {250: 255}),  # no background at all
        ({0: 9000, 255: 1000, 240: 900}, None),  # as large as what it would be a stray of: rather a structure
        (dict.fromkeys(range(200), 1000), None),  # numbered objects
        ({0: 9000, 255: 1000, **dict.fromkeys(range(1, 250), 2)}, dict.fromkeys(range(1, 128), 0)
         | dict.fromkeys(range(128, 250), 255)),
        ({}, None),
    ],
)  # fmt: skip
def test_strays(counts: dict[int, int], expected: dict[int, int] | None) -> None:
    assert stray_values(counts) == expected
