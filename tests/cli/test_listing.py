"""``recon list`` and ``recon --version``."""

from pathlib import Path

import pytest

import recon
from recon.cli.dispatch import main
from recon.cli.imports import imported


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """Name -> what it is, as the command prints them."""
    main(["list", *arguments])
    parts = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    return {name: what.strip() for name, what in parts}


def test_all_names_of_a_kind_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    methods = listed(capsys, "methods")
    assert list(methods) == recon.list_methods()
    assert methods["joint"] == "The sum of the losses, each times a fixed weight."
    assert list(listed(capsys, "architectures")) == recon.list_architectures()
    assert {"recon.data.Glyphs", "recon.data.NYUv2"} <= set(listed(capsys, "data"))
    assert {"recon.models.LeNet", "recon.models.timm_backbone"} <= set(backbones := listed(capsys, "backbones"))
    assert not {"recon.models.CGC", "recon.models.ColumnEmbedding"} & set(backbones)
    assert {"recon.tasks.depth", "recon.tasks.regression"} <= set(tasks := listed(capsys, "tasks"))
    assert "recon.tasks.Task" not in tasks
    assert all((methods | tasks | backbones).values())


def test_alone_it_lists_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = listed(capsys)
    assert list(kinds) == ["methods", "backbones", "data", "tasks", "architectures"]
    assert kinds["methods"] == "The methods that combine task gradients."


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*GRAD", ["cagrad", "fairgrad", "pcgrad", "sdmgrad", "upgrad"]), ("imtl?g", ["imtl_g"]), ("mgda", ["mgda"])],
)
def test_a_pattern_selects(pattern: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert set(names) <= set(listed(capsys, "methods", pattern)) < set(recon.list_methods())


def test_a_pattern_may_leave_out_the_modules_of_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(listed(capsys, "data", "nyu*")) == ["recon.data.NYUv2"]
    assert list(listed(capsys, "data", "recon.data.nyu*")) == ["recon.data.NYUv2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method"], "unknown kind 'method'; nearest: 'methods'"),
        (["methods", "*cagard*"], "no name of methods matches '*cagard*'; nearest: 'cagrad'"),
        (["data", "nyu"], "no name of data matches 'nyu'; nearest: 'recon.data.NYUv2'"),
        (["data", "zzzz"], "no name of data matches 'zzzz'; recon list data lists all"),
    ],
)
def test_nothing_found_is_told_with_the_nearest(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="recon: ") as end:
        main(["list", *arguments])
    assert str(end.value.code).startswith(f"recon: {message}")


def test_classes_of_ones_own_are_listed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "listed_plugin.py").write_text(
        "import pytorch_lightning as pl\n"
        "import recon\n"
        "from recon.data import Glyphs\n"
        "@recon.register_method('listed_one')\n"
        "class Listed(recon.GramianMethod):\n"
        "    '''One of my own.'''\n"
        "class Blobs(pl.LightningDataModule):\n"
        "    '''Blobs.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("recon.methods.base.registry._registered", {**recon.methods.base.registry._registered})
    main(["--import", "listed_plugin", "list", "methods", "listed*"])
    main(["--import", "listed_plugin", "list", "data", "blobs"])
    printed = capsys.readouterr().out
    imported.clear()
    assert printed == "listed_one  One of my own.\nlisted_plugin.Blobs  Blobs.\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"recon {recon.__version__}\n"
