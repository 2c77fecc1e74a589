import pytest

from recon.tasks.names import check_task_names


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
