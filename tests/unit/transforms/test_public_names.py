import medseg.transforms


def test_all_public_names_are_there() -> None:
    assert all(getattr(medseg.transforms, name) for name in medseg.transforms.__all__)
    assert sorted(medseg.transforms._HOMES) == sorted(medseg.transforms.__all__)
