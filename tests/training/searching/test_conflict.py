import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
from torch import nn

from recon.conflict import ConflictMap
from recon.data import Glyphs
from recon.models import LeNet, ResNet18
from recon.training import MultiTaskModule
from recon.training.searching.proxy import Proxy
from recon.training.searching.stopping import Stable, StopOptions
from recon.training.trainer import Trainer

RULE = Stable(window=10, top=1, severity=0.0, changes=0)


def trainer(tmp_path: Path, epochs: int) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    fit = {"max_epochs": epochs, "limit_val_batches": 0, "accelerator": "cpu", "default_root_dir": str(tmp_path)}
    return Trainer(**quiet, **fit, enable_model_summary=False)


@pytest.fixture
def glyphs() -> Glyphs:
    return Glyphs(train_size=40, test_size=8, batch_size=4)


def lenet(glyphs: Glyphs, backbone: nn.Module | None = None) -> MultiTaskModule:
    pl.seed_everything(0, verbose=False)
    return MultiTaskModule(backbone or LeNet(), glyphs.tasks)


def test_a_stable_search_ends_before_its_training_and_says_how_sure_it_is(
    glyphs: Glyphs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.json"
    search = trainer(tmp_path, epochs=20)
    search.search(lenet(glyphs), glyphs, map_path=str(path), stop=StopOptions(RULE))
    assert 11 <= search.global_step < 200
    found = ConflictMap.load(path)
    assert found.provenance["steps"] == search.global_step
    assert found.provenance["stop"] == {
        "window": 10,
        "top": 1,
        "severity": 0.0,
        "changes": 0,
        "stopped_at": search.global_step,
    }
    assert sum(found.provenance["selection"].values()) == pytest.approx(1)
    printed = capsys.readouterr().out
    assert f"the search ended after step {search.global_step}\nof the top 1, " in printed
    assert printed.endswith(f"conflict map: {path}\n")


def test_a_search_that_does_not_become_stable_says_so(
    glyphs: Glyphs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = trainer(tmp_path, epochs=2)
    rule = Stable(window=19, top=2, severity=-0.99)  # hardly ever below
    search.search(lenet(glyphs), glyphs, map_path=str(tmp_path / "map.json"), stop=StopOptions(rule))
    assert search.global_step == 20
    assert re.search(r"were not stable over 19 steps: the search went to the end", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (Stable(window=20, top=2), "the window of stop.stable has 20 steps, and the whole training 20"),
        (Stable(window=10, top=4), "top=4 of 3 layers"),
    ],
)
def test_rules_that_cannot_be_met_are_refused_before_any_step(
    rule: Stable, error: str, glyphs: Glyphs, tmp_path: Path
) -> None:
    search = trainer(tmp_path, epochs=2)
    with pytest.raises(ValueError, match=error):
        search.search(lenet(glyphs), glyphs, map_path=str(tmp_path / "map.json"), stop=StopOptions(rule))
    assert search.global_step == 0
    assert not (tmp_path / "map.json").exists()


def test_a_proxy_is_trained_and_its_map_is_of_the_network(glyphs: Glyphs, tmp_path: Path) -> None:
    network, narrow = lenet(glyphs, ResNet18(width=4)), lenet(glyphs, ResNet18(width=2))
    before = network.backbone.conv1.weight.detach().clone()
    path = tmp_path / "map.json"
    trainer(tmp_path, epochs=1).search(network, glyphs, map_path=str(path), proxy=Proxy(narrow, {"width": 2}))
    assert network.backbone.conv1.weight.equal(before)
    found = ConflictMap.load(path)
    assert found.parameters["layer4.1.conv2"] == 32 * 32 * 9
    searched = sum(parameter.numel() for parameter in narrow.backbone.parameters())
    assert found.provenance["proxy"] == {"arguments": {"width": 2}, "parameters": searched}
    found.check_layers(found.layers)


def test_a_proxy_with_other_layers_is_refused_by_name(glyphs: Glyphs, tmp_path: Path) -> None:
    search = trainer(tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"of the proxy \{\} differ from those of ResNet18: 'conv2' only in the"):
        search.search(lenet(glyphs, ResNet18(width=2)), glyphs, proxy=Proxy(lenet(glyphs)))
    assert search.global_step == 0
