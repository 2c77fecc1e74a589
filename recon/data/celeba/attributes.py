"""The attributes of CelebA, by the names of its files and as names of tasks."""

from collections.abc import Sequence

from recon.errors import unknown_name
from recon.tasks.names import check_task_names

ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)
"""The 40 attributes in the order of ``list_attr_celeba.txt``."""

_RENAMED = {"5_o_Clock_Shadow": "Five_o_Clock_Shadow"}  # a task's name is an identifier

TASKS = tuple(_RENAMED.get(name, name) for name in ATTRIBUTES)
"""The names of the tasks: those of the attributes, but ``Five_o_Clock_Shadow``."""


def columns_of(tasks: Sequence[str]) -> dict[str, int]:
    """The column of each task's labels, by the task's name.

    >>> columns_of(["Smiling", "5_o_Clock_Shadow"])
    {'Smiling': 31, 'Five_o_Clock_Shadow': 0}

    Args:
        tasks: Names of tasks or of attributes.

    Raises:
        ValueError: There is none, one is unknown, or one is given twice.
    """
    if isinstance(tasks, str):
        raise ValueError(f"tasks is {tasks!r}; give a list of attributes, such as [Smiling, Male]")
    if not tasks:
        raise ValueError("tasks is empty; give some of the 40 attributes, such as [Smiling, Male]")
    names = [_RENAMED.get(name, name) for name in tasks]
    for name in names:
        if name not in TASKS:
            raise unknown_name("attribute", name, TASKS, "CelebA")
    return {name: TASKS.index(name) for name in check_task_names(names)}
