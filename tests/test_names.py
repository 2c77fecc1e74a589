import pytest

from recon.names import check_folder_name, unknown_name


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        (
            "layer1.0.con1",
            ["conv1", "layer1.0.conv1"],
            "unknown layer 'layer1.0.con1' in Net; nearest: 'layer1.0.conv1'",
        ),
        ("backbone.conv1", ["conv1", "fc"], "unknown layer 'backbone.conv1' in Net; nearest: 'conv1'"),
        ("zzz", ["conv1", "fc"], "unknown layer 'zzz' in Net; known: 'conv1', 'fc'"),
        ("zzz", [], "unknown layer 'zzz' in Net; there is none"),
    ],
)
def test_error_names_what_is_nearest(name: str, known: list[str], message: str) -> None:
    assert str(unknown_name("layer", name, known, "Net")) == message


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
