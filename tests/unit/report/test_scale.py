from medseg.report.scale import Scale


def test_values_keep_their_order_and_stay_inside() -> None:
    scale = Scale.over([3.0, 17.0, 8.0], 100, 300)
    assert 100 < scale(3) < scale(8) < scale(17) < 300


def test_up_is_up() -> None:
    scale = Scale.over([0.0, 1.0], 200, 10)
    assert scale(1) < scale(0)


def test_ticks_are_round_and_few() -> None:
    assert [text for _, text in Scale.over([0.0, 1.0], 0, 100).ticks] == ["0", "0.5", "1"]
    assert [text for _, text in Scale.over([-31.0, 42.0], 0, 100).ticks] == ["-20", "0", "20", "40"]
    assert all(2 <= len(Scale.over([0, 10.0**k * 7], 0, 1).ticks) <= 6 for k in range(-6, 7))


def test_one_value_is_no_division_by_zero() -> None:
    scale = Scale.over([0.0, 0.0], 0, 100)
    assert scale(0.0) == 50
