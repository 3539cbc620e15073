"""Names of structures may be any text; file systems and DICOM hold less."""

import pytest

from medseg.io.structure_names import dicom_label, dicom_labels, file_name, file_names, text_names, whole_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("kidney_left", "kidney_left"),
        ("left kidney", "left_kidney"),
        ("a/b\\c", "a_b_c"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("", "_"),
        ("con", "_con"),
        ("Aux.1", "_Aux.1"),
        ("lpt9", "_lpt9"),
        ("console", "console"),
        ("a\nb\0c", "a_b_c"),
        ("脾臓", "脾臓"),
        ("é", "é"),
    ],
)
def test_file_names_are_safe(name: str, safe: str) -> None:
    assert file_name(name) == safe


@pytest.mark.parametrize("name", ["x" * 300, "肝" * 120, "é" * 119])
def test_file_names_are_short_and_of_whole_characters(name: str) -> None:
    assert 110 < len(file_name(name).encode()) <= 120
    assert name.startswith(file_name(name))


def test_no_two_file_names_are_one_file() -> None:
    names = ["Liver", "liver", "liver_2", "LIVER", "a b", "a/b", "é", "e\u0301", "x" * 200, "x" * 201]
    found = file_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    assert found[:4] == ["Liver", "liver_3", "liver_2", "LIVER_4"]
    assert all(len(name.encode()) <= 120 for name in found)


def test_dicom_labels_are_short_distinct_and_one_value() -> None:
    names = ["a\\b", "x" * 100, "x" * 99 + "y", " ", "\t", "liver", "Liver"]
    found = dicom_labels(names)
    assert found == ["a/b", "x" * 64, "x" * 60 + " (2)", "unnamed", "unnamed (2)", "liver", "Liver"]
    assert [whole_name(label, name) for label, name in zip(found, names, strict=True)] == [
        *names[:3], "unnamed", "unnamed (2)", "liver", "Liver"
    ]  # fmt: skip


def test_a_name_is_taken_from_elsewhere_only_where_it_is_the_same() -> None:
    assert whole_name("lesion", "lesion 7 of patient A") == "lesion"
    assert whole_name("lesion (2)", "lesion 7") == "lesion (2)"
    assert whole_name("lesion", "") == "lesion"
    assert dicom_label("a\u00a0b") == "a\u00a0b"


def test_texts_are_distinct() -> None:
    assert text_names(["a\x01b", "a\x02b", "a b (2)", "c"]) == ["a b", "a b (3)", "a b (2)", "c"]
