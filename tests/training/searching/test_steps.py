import math
from typing import Any

import pytest
import pytorch_lightning as pl

from recon.training.searching.steps import steps_of_training


@pytest.mark.parametrize(
    ("options", "batches", "steps"),
    [
        ({"max_epochs": 3}, 5, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 5, 9),
        ({"max_epochs": 3, "max_steps": 7}, 5, 7),
        ({"max_epochs": 3}, math.inf, math.inf),
        ({"max_epochs": 3, "max_steps": 7}, math.inf, 7),
        ({"max_epochs": -1}, 5, math.inf),
        ({"max_steps": 7}, 5, 7),
    ],
)
def test_the_shorter_of_epochs_and_steps_counts(options: dict[str, Any], batches: float, steps: float) -> None:
    trainer = pl.Trainer(**options, logger=False, enable_checkpointing=False, accelerator="cpu")
    assert steps_of_training(trainer, batches) == steps
