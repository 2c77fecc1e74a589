"""The JSON schema of plans, by which editors complete and check them."""

import inspect
import json
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytorch_lightning as pl
from docstring_parser import parse

from recon.experiments.entry import VARIANTS
from recon.experiments.fit import SET_IN_MODEL
from recon.experiments.plan import Plan
from recon.methods import list_methods
from recon.training import MultiTaskModule

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", NoneType: "null"}

_SEEDS = {
    "description": "Seeds of the entries that name none: their number, or a list of them.",
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}],
}


def print_schema() -> None:
    """Print the JSON schema of plans, by which an editor completes and checks them."""
    print(json.dumps(plan_schema(), indent=2))


def plan_schema() -> dict[str, Any]:
    """The JSON schema of a plan.

    It knows the keys of plan, entries, trainer and network, and the types of those of a plan.
    Values that depend on each other are left to ``recon benchmark``.

    >>> schema = plan_schema()
    >>> schema["required"], schema["properties"]["top"]["type"]
    (['name', 'fit', 'methods'], 'integer')
    """
    schema = _of(Plan)
    schema["properties"] |= {"fit": _fit(), "seeds": _SEEDS}
    entry = schema["properties"]["methods"]["items"]["properties"]
    entry["variants"]["items"] = {"enum": list(VARIANTS)}
    entry["method"]["anyOf"] = [{"enum": list_methods()}, {"type": entry["method"].pop("type")}]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Plan of a benchmark by Recon"}
    return head | schema


def _of(kind: Any) -> dict[str, Any]:
    """The schema of a type of plans; the types are those of :mod:`recon.experiments.typed`."""
    if is_dataclass(kind):
        told = _descriptions(kind)
        needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
        keys = {one.name: {**told.get(one.name, {}), **_of(one.type)} for one in fields(kind)}
        return {"type": "object", "properties": keys, "required": needed, "additionalProperties": False}
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return {"anyOf": [_of(member) for member in get_args(kind)]}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _of(get_args(kind)[0])}
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    return {"type": _TYPES[get_origin(kind) or kind]}


def _fit() -> dict[str, Any]:
    """The schema of a plan's ``fit``: keys of trainer and network, and the class of the data."""
    trainer = _arguments(pl.Trainer, without=("callbacks", "enable_checkpointing", "plugins"))
    network = _arguments(MultiTaskModule, without=("tasks", *SET_IN_MODEL))
    data = {"type": "object", "properties": {"class_path": {"type": "string"}, "init_args": {"type": "object"}}}
    return {
        "description": _descriptions(Plan)["fit"]["description"],
        "type": "object",
        "properties": {
            "trainer": {**trainer, "required": ["max_epochs"]},
            "model": {**network, "required": ["backbone"]},
            "data": {**data, "required": ["class_path"], "additionalProperties": False},
        },
        "required": ["trainer", "model", "data"],
        "additionalProperties": False,
    }


def _arguments(kind: type, without: tuple[str, ...]) -> dict[str, Any]:
    """The schema of the arguments of a class, of any value."""
    told = _descriptions(kind)
    names = [name for name in inspect.signature(kind).parameters if name not in without]
    keys = {name: told.get(name, {}) for name in names}
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _descriptions(kind: Any) -> dict[str, dict[str, str]]:
    """Name -> its description, of the arguments and attributes that a docstring tells of."""
    told = parse(inspect.getdoc(kind) or "").params + parse(inspect.getdoc(kind.__init__) or "").params
    return {one.arg_name: {"description": " ".join(one.description.split())} for one in told if one.description}
