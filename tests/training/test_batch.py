import re
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader

import recon
from recon.training.batch import inputs_and_targets, inputs_of, per_task, takes_keywords

X, TARGETS = torch.arange(3.0), {"a": torch.zeros(3), "b": torch.ones(3)}
BATCH = (X, TARGETS)
WRAPPED: dict[str, Any] = {
    "tuple": BATCH,
    "list": [X, TARGETS],
    "one loader by name": {"train": BATCH},
    "one loader in a list": [BATCH],
    "by hand": (BATCH, 4, 0),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_the_two_parts_are_found_however_a_loader_wraps_them(form: str) -> None:
    inputs, targets = inputs_and_targets(WRAPPED[form])
    assert inputs is X
    assert targets is TARGETS
    assert inputs_of(WRAPPED[form]) is X


@pytest.mark.parametrize("loaders", [{"train": "loader"}, ["loader"]], ids=["dict", "list"])
@pytest.mark.parametrize("mode", ["min_size", "max_size_cycle", "max_size", "sequential"])
def test_a_combined_loader_of_one_loader_gives_batches(loaders: Any, mode: Any) -> None:
    loader = DataLoader([BATCH, BATCH], batch_size=None)  # type: ignore[arg-type]
    named = {"train": loader} if isinstance(loaders, dict) else [loader]
    for batch in iter(CombinedLoader(named, mode)):
        inputs, targets = inputs_and_targets(batch)
        assert inputs.equal(X)
        assert targets.keys() == TARGETS.keys()


@pytest.mark.parametrize("form", [X, {"x": X}, {"x": X, "mask": X}, [X]], ids=["tensor", "one", "keywords", "list"])
def test_inputs_for_prediction_come_without_targets_too(form: Any) -> None:
    inputs = inputs_of(form)
    assert inputs is (form[0] if isinstance(form, list) else form)


def test_batches_of_several_loaders_are_refused_with_the_cure() -> None:
    for several in ({"a": BATCH, "b": BATCH}, [BATCH, BATCH, BATCH], {"a": BATCH, "b": None}):
        with pytest.raises(ValueError, match=r"several loaders at a time.*give one loader whose Dataset returns"):
            inputs_and_targets(several)


def test_a_batch_of_another_form_is_described() -> None:
    cases = {
        r"of type Tensor; it should be \(inputs, \{task: target\}\)": X,
        "a tuple of Tensor, Tensor; it should be": (X, X),
        r"a dict with the keys \['x', 'y'\]": {"x": X, "y": X},
        r"a dict with the keys \['sgment'\]; it should be .*, or \{task: \(inputs, target\)\} with": {"sgment": (X, X)},
        r"a dict with the keys \['a'\]; it should be .*, or \{task: \(inputs, target\)\} with names": {"a": X},
        "a tuple of nothing": (),
    }
    for message, batch in cases.items():
        with pytest.raises(ValueError, match=f"a batch is {message}"):
            inputs_and_targets(batch)
    with pytest.raises(ValueError, match=re.escape("a batch is a tuple of Tensor, Tensor; it should be")):
        inputs_of((X, X))


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.fc(ids) if mask is None else self.fc(ids) * mask


class WholeDict(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["ids"]


class Anything(nn.Module):
    def forward(self, **inputs: Tensor) -> Tensor:
        return inputs["ids"]


def test_keywords_are_spread_where_the_forward_takes_them() -> None:
    branched = recon.branch(Keywords(), ["fc"], ["a", "b"])
    for network in (Keywords(), branched, torch.compile(Keywords(), backend="eager"), Anything()):
        assert takes_keywords(network, ["ids"])  # type: ignore[arg-type]
        assert takes_keywords(network, ["ids", "mask"])  # type: ignore[arg-type]
    for network in (Keywords(), branched):
        assert not takes_keywords(network, ["mask"])
        assert not takes_keywords(network, ["ids", "labels"])
    assert not takes_keywords(WholeDict(), ["ids", "mask"])


TASKS = ["a", "b"]
OWN = {"a": (X, TARGETS["a"]), "b": (X, TARGETS["b"])}


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        (OWN, OWN),
        ((OWN, 3, 0), OWN),
        ({"a": [X, TARGETS["a"]]}, {"a": OWN["a"]}),
        ({"a": (X, TARGETS["a"]), "b": None}, {"a": OWN["a"]}),
        ({"a": (X, {"target": X, "mask": X > 0})}, ...),
        ({"a": (X, {"boxes": X})}, ...),
    ],
    ids=["dict", "by hand", "lists", "None", "mask", "boxes"],
)
def test_inputs_of_each_tasks_own_are_told_from_common_ones(batch: Any, parts: Any) -> None:
    found = per_task(batch, TASKS)
    assert found == (batch if parts is ... else parts)


@pytest.mark.parametrize("form", WRAPPED)
def test_a_batch_for_all_tasks_is_not_one_of_each_tasks_own(form: str) -> None:
    assert per_task(WRAPPED[form], TASKS) is None


@pytest.mark.parametrize("batch", [X, {}, {"a": X}, {"x": X, "mask": X}, {"a": BATCH, "b": BATCH}, {"loader": (X, X)}])
def test_other_forms_are_not_of_each_tasks_own_either(batch: Any) -> None:
    assert per_task(batch, TASKS) is None
