from pathlib import Path

import pytest
from torch import nn

from recon.conflict import ConflictMap, map_file, published_rankings, read_map
from recon.models import ResNet18, SegNet, SegNetMTAN
from recon.training.branch_options import branchable_layers


@pytest.mark.parametrize(
    ("name", "network", "severity", "first"),
    [
        ("multi-fashion-mnist-resnet18", ResNet18(width=2), -0.1, {"bn1": 4427, "layer1.0.bn1": 4168}),
        ("cityscapes-segnet", SegNet(width=2), 0.0, {"decoder_block.0.bn1": 7566}),
        ("nyuv2-mtan", SegNetMTAN(width=2), -0.02, {"decoder_block_att.1.bn1": 25646}),
    ],
)
def test_a_published_ranking_is_of_its_network_at_its_severity(
    name: str, network: nn.Module, severity: float, first: dict[str, int]
) -> None:
    ranking = ConflictMap.load(name)
    assert ranking.severity == severity
    scores = ranking.scores(severity)
    assert dict(list(scores.items())[: len(first)]) == first
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    ranking.check_layers(branchable_layers(network))
    assert "assumed" not in repr(ranking)


def test_a_file_of_that_name_comes_first_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "nyuv2-mtan"
    own.mkdir()
    assert read_map("nyuv2-mtan", None).severity == -0.02
    own.rmdir()
    own.write_text('{"conv1": 3}')
    assert read_map("nyuv2-mtan", None).layers == ("conv1",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nyuv2", "the path is relative to .*unknown published ranking 'nyuv2'; nearest: 'nyuv2-mtan'"),
        ("folder", "it is a folder; as a name: .*known: 'cityscapes-segnet', 'multi-fashion-mnist-resnet18', 'nyuv2-m"),
    ],
)
def test_what_is_neither_a_file_nor_a_ranking_is_refused_with_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for read in (map_file, ConflictMap.load, lambda path: read_map(path, -0.1)):
        with pytest.raises(FileNotFoundError, match=f"there is no conflict map {name}; {message}"):
            read(name)


def test_there_are_the_three_of_the_paper() -> None:
    assert published_rankings() == ["cityscapes-segnet", "multi-fashion-mnist-resnet18", "nyuv2-mtan"]


def test_a_severity_that_nobody_told_is_called_assumed_also_once_saved(tmp_path: Path) -> None:
    (tmp_path / "ranking.json").write_text('{"conv1": 3, "fc": 1}')
    assumed = read_map(tmp_path / "ranking.json", None)
    assumed.save(tmp_path / "saved.json")
    for ranking in (assumed, ConflictMap.load(tmp_path / "saved.json")):
        assert ranking.severity == -0.1
        assert repr(ranking) == "ImportedMap(ranking.json: 2 layers, severity -0.1 (assumed))"
    told = read_map(tmp_path / "ranking.json", -0.1)
    assert repr(told) == "ImportedMap(ranking.json: 2 layers, severity -0.1)"
