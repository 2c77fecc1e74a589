import pytest

from recon.errors import unknown_name


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
