from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from recon.data import Glyphs


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """A quiet trainer on the CPU."""

    def build(**options: Any) -> pl.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        plain = {"accelerator": "cpu", "enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": 1}
        return pl.Trainer(**{"default_root_dir": str(tmp_path), **quiet, **plain, **options})

    return build


@pytest.fixture
def glyphs() -> Glyphs:
    """Real images whose last batches are smaller: 16, 16, 8 to train on and 10, 10, 7 to test on."""
    return Glyphs(train_size=40, test_size=27, batch_size=16, eval_batch_size=10)
