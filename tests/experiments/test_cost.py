"""The cost of networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recon.data import Glyphs
from recon.experiments import Plan
from recon.experiments.cost import flops_of_sample
from recon.models import LeNet
from recon.training import MultiTaskModule

PlanFactory = Callable[..., Plan]
Searched = tuple[Plan, Path, dict[str, Any]]


def test_flops_are_those_of_one_sample_and_a_multiply_add_is_two() -> None:
    module = MultiTaskModule(LeNet(), Glyphs().tasks)
    convolutions = 28**2 * 10 * 9**2 + 10**2 * 20 * 10 * 5**2
    linear = 20 * 5 * 5 * 50 + 2 * 50 * 10
    assert flops_of_sample(module, Glyphs()) == 2 * (convolutions + linear)
    assert flops_of_sample(module.double(), Glyphs()) == 2 * (convolutions + linear)
