"""What `import recon` costs, and what it gives."""

import subprocess
import sys

import pytest

import recon

HEAVY = (
    "pytorch_lightning",
    "lightning",
    "wandb",
    "timm",
    "matplotlib",
    "torchvision",
    "torchmetrics",
    "jsonargparse",
    "torchjd",
    "h5py",
    "torch._dynamo",
)


def test_import_recon_takes_nothing_that_a_plain_training_loop_does_not_need() -> None:
    code = f"import sys, recon; print(*(name for name in {HEAVY} if name in sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert process.stdout.split() == []


def test_the_lightning_module_is_loaded_when_asked_for() -> None:
    from recon.training import MultiTaskModule

    assert recon.MultiTaskModule is MultiTaskModule


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(recon, name) is not None for name in recon.__all__)
    with pytest.raises(AttributeError, match="module 'recon' has no attribute 'MultitaskModule'"):
        _ = recon.MultitaskModule
