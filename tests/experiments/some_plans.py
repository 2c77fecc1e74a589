"""Plans as their YAML has them."""

import copy
from typing import Any

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "fit": {
        "trainer": {"max_epochs": 2},
        "model": {"backbone": {"class_path": "recon.models.LeNet"}},
        "data": {"class_path": "recon.data.Glyphs"},
    },
    "methods": [{"method": "joint", "seeds": [0, 1]}, {"method": "cagrad", "options": {"c": 0.2}}],
}


def changed(path: str, value: Any = None) -> dict[str, Any]:
    """The plan with one key changed, or taken out."""
    content = copy.deepcopy(CONTENT)
    *parents, key = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner: Any = content
    for part in parents:
        inner = inner[part]
    if value is None:
        del inner[key]
    else:
        inner[key] = value
    return content


SMALL = {"backbone": {"class_path": "recon.models.LeNet", "init_args": {"features": 9}}}


def other_network(**changes: Any) -> dict[str, Any]:
    """The plan with another network for CAGrad."""
    entry = {**CONTENT["methods"][1], "name": "small", "model": SMALL, "variants": ["plain"], **changes}
    return changed("methods.1", entry)


def own_tree(**changes: Any) -> dict[str, Any]:
    """The plan with a task tree for CAGrad."""
    return other_network(**{"model": {}, "tree": "tree.json", **changes})
