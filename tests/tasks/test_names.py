import pytest

from recon.tasks.names import check_folder_name, check_task_names, unknown_name


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


# Names of tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("5_o_Clock_Shadow", "task_5_o_Clock_Shadow"),
        ("NR-AR", "NR_AR"),
        ("NR-AR-LBD", "NR_AR_LBD"),
        ("hair color (blond)", "hair_color_blond"),
        ("class", "class_task"),
        ("items", "items_task"),
        ("keys", "keys_task"),
        ("", "task"),
        ("-", "task"),
        ("größe!", "größe"),
        (3, "task_3"),
    ],
)
def test_a_task_name_that_is_not_allowed_comes_with_one_that_is(name: str, proposed: str) -> None:
    with pytest.raises(ValueError, match=f"'{proposed}'$"):
        check_task_names(["other", name])
    assert check_task_names(["other", proposed]) == ("other", proposed)


def test_the_proposed_name_is_not_another_tasks() -> None:
    with pytest.raises(ValueError, match="such as 'NR_AR_3'"):
        check_task_names(["NR_AR", "NR-AR", "NR_AR_2"])


def test_all_attributes_of_celeba_can_be_named() -> None:
    names = ["5_o_Clock_Shadow", "Arched_Eyebrows", "Male", "Young"]
    for _ in names:
        try:
            check_task_names(names)
        except ValueError as error:
            names[0] = str(error).split("'")[-2]
    assert check_task_names(names)[0] == "task_5_o_Clock_Shadow"
