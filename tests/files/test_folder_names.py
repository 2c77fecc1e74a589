import pytest

from recon.files.folder_names import check_folder_name


@pytest.mark.parametrize("name", ["joint", "mgda_ub", "PCGrad (ours)", "c=0.4", "größer", "a" * 150])
def test_names_that_every_file_system_takes_are_taken(name: str) -> None:
    check_folder_name(name, "name")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/etc",
        "C:x",
        "a\0b",
        "a\nb",
        "what?",
        " a",
        "a.",
        ".hidden",
        "\udcff",
        "é" * 76,
    ],
)
def test_names_that_some_file_system_refuses_or_takes_for_another_place_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="so no folder can bear it; give another name"):
        check_folder_name(name, "name")
