import pytest
import torch

from recon import ConflictAnalyzer
from recon.errors import number_of, unknown_name


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        (
            "layer1.0.con1",
            ["conv1", "layer1.0.conv1"],
            "unknown layer 'layer1.0.con1' in Net; nearest: 'layer1.0.conv1'",
        ),
        ("backbone.conv1", ["conv1", "fc"], "unknown layer 'backbone.conv1' in Net; nearest: 'conv1'"),
        ("zzz", ["conv1", "fc"], "unknown layer 'zzz' in Net; known: 'conv1', 'fc'"),
        ("zzz", [], "unknown layer 'zzz' in Net; there is none"),
    ],
)
def test_error_names_what_is_nearest(name: str, known: list[str], message: str) -> None:
    assert str(unknown_name("layer", name, known, "Net")) == message


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    assert number_of(1, "batch", "batches") == "1 batch"
    assert number_of(2, "batch", "batches") == "2 batches"
    analyzer = ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["seg", "depth"])
    assert analyzer.observes()
    analyzer.observe(torch.eye(2)[None])
    assert "1 of 1 step observed" in repr(analyzer)
    assert "1 layer, tasks seg, depth, 1 observed step)" in repr(analyzer.conflict_map())
    with pytest.raises(ValueError, match=r"top=2 of 1 layer; give"):
        analyzer.conflict_map().top(2, severity=-0.1)
