from pathlib import Path
from typing import Any

import pytest
import yaml

from recon.configuration import read_yaml
from recon.experiments.plan_schema import plan_schema

ROOT = Path(__file__).parents[2]
FILES = [*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "recon" / "experiments").glob("*.yaml")]
PLANS = [path for path in sorted(FILES) if "methods" in yaml.safe_load(path.read_text())]

TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value meets a schema, by the keywords that ours has."""
    known = {"$schema", "title", "description", "type", "enum", "anyOf", "properties", "required", "items", "minimum"}
    assert set(schema) <= known | {"additionalProperties", "minItems"}
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        extra = set(value) - set(properties)
        if ("additionalProperties" in schema and extra) or not set(schema.get("required", ())) <= set(value):
            return False
        if not all(accepts(properties[key], each) for key, each in value.items() if key in properties):
            return False
    if isinstance(value, list) and not all(accepts(schema.get("items", {}), each) for each in value):
        return False
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return False
    if isinstance(value, bool) and schema.get("type") in ("integer", "number"):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    return "anyOf" not in schema or any(accepts(one, value) for one in schema["anyOf"])


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return plan_schema()


def test_every_plan_that_comes_with_recon_is_accepted(schema: dict[str, Any]) -> None:
    assert len(PLANS) > 15
    assert [path.name for path in PLANS if not accepts(schema, read_yaml(path, "plan"))] == []


@pytest.mark.parametrize(
    "where",
    [(), ("methods", 0), ("fit",), ("fit", "trainer"), ("fit", "model"), ("fit", "data")],
    ids=str,
)
def test_a_misspelled_key_is_refused(schema: dict[str, Any], where: tuple[Any, ...]) -> None:
    plan = read_yaml(PLANS[0], "plan")
    place = plan
    for key in where:
        place = place[key]
    place["misspeled"] = 1
    assert not accepts(schema, plan)


def test_the_trainer_may_have_loggers_and_no_callbacks(schema: dict[str, Any]) -> None:
    plan = read_yaml(PLANS[0], "plan")
    plan["fit"]["trainer"]["logger"] = [{"class_path": "TensorBoardLogger"}]
    assert accepts(schema, plan)
    plan["fit"]["trainer"]["callbacks"] = []
    assert not accepts(schema, plan)


@pytest.mark.parametrize(
    ("key", "value", "is_right"),
    [
        ("top", 3, True),
        ("top", "three", False),
        ("top", True, False),
        ("severity", -0.1, True),
        ("init", "copy", True),
        ("init", "cpy", False),
        ("seeds", 5, True),
        ("seeds", [0, 4], True),
        ("seeds", "all", False),
        ("select", {"flops": 0.25}, True),
        ("select", {"flop": 0.25}, False),
        ("methods", [{"method": "mine", "variants": ["plain"]}], True),
        ("methods", [{"method": "joint", "variants": ["plane"]}], False),
        ("methods", [{"variants": ["plain"]}], False),
    ],
)
def test_values_have_the_types_of_plans(schema: dict[str, Any], key: str, value: Any, is_right: bool) -> None:
    plan = {**read_yaml(PLANS[0], "plan"), key: value}
    assert accepts(schema, plan) == is_right


def test_keys_are_explained(schema: dict[str, Any]) -> None:
    plan, entry = schema["properties"], schema["properties"]["methods"]["items"]["properties"]
    assert plan["severity"]["description"] == "Severity S at which the conflict map ranks."
    assert "description" in entry["growth"]
    assert "description" in plan["fit"]["properties"]["trainer"]["properties"]["max_epochs"]
