import pytest

from medseg.dataset.layouts.file_names import image_core, mask_core, rest_after, safe, split_channel, unique
from medseg.io.structure_names import RESERVED, file_name


@pytest.mark.parametrize(
    ("stem", "core"),
    [
        ("CT_mask", "CT"),
        ("case7-seg", "case7"),
        ("BraTS20_001_seg", "BraTS20_001"),
        ("scan.label", "scan"),
        ("label_07", "07"),
        ("mask07", "07"),
        ("segmentation-12", "12"),
        ("Segmentation", ""),
        ("a_label_map", "a"),
        ("CT_image", None),
        ("masked_image", None),
        ("labels_of_love", "of_love"),
        ("segment", None),
    ],
)
def test_mask_core(stem: str, core: str | None) -> None:
    assert mask_core(stem) == core


@pytest.mark.parametrize(
    ("stem", "core"),
    [("CT_image", "CT"), ("volume-12", "12"), ("imaging", ""), ("CT", "CT"), ("imagery", "imagery")],
)
def test_image_core(stem: str, core: str) -> None:
    assert image_core(stem) == core


def test_split_channel() -> None:
    assert split_channel("liver_07_0001") == ("liver_07", "0001")
    assert split_channel("liver_07") == ("liver_07", "")
    assert split_channel("0001") == ("0001", "")


def test_rest_after() -> None:
    assert rest_after("case1", "case1_t1") == "t1"
    assert rest_after("case1", "case1-t1") == "t1"
    assert rest_after("case1", "case10_t1") is None
    assert rest_after("case1", "case1") is None
    assert rest_after("", "t1") == "t1"


def test_safe() -> None:
    assert safe("T1 post (3/4) *") == "T1_post_3_4"
    assert safe("../..") == ""
    assert safe(".hidden") == "hidden"


@pytest.mark.parametrize("name", ["con", "AUX.nii", "lpt1", "a" * 119 + ".b", "end.", "a:b", "a?*|<>b", "ends with "])
def test_names_are_legal_on_windows(name: str) -> None:
    """No device, no colon or the like, and nothing at the end that Windows would drop."""
    for legal in (safe(name), file_name(name)):
        assert not RESERVED.match(legal)
        assert not set(legal) & set('<>:"/\\|?* ')
        assert legal[-1] not in ". "


def test_unique() -> None:
    assert unique(["a", "b", "a", "A", "a_2", ""]) == ["a", "b", "a_3", "A_4", "a_2", "case"]
    names = unique(["x"] * 5 + ["x_3", "X"])
    assert len({name.lower() for name in names}) == 7


def test_names_of_cases_are_short_in_bytes_and_no_devices() -> None:
    assert safe("肝" * 120) == "肝" * 40
    assert safe("con") == "case_con"
    assert safe("NUL.1") == "case_NUL.1"
    assert safe("console") == "console"
