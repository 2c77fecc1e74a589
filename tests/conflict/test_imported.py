import json
from pathlib import Path

import pytest
from small_maps import PUBLISHED, changed, record_of

from recon.conflict import ConflictMap


def test_a_published_map_knows_its_scores_in_file_order(published: Path) -> None:
    cmap = ConflictMap.import_scores(published)
    assert cmap.scores(-0.1) == PUBLISHED
    assert cmap.top(8, -0.1) == list(PUBLISHED)
    assert cmap.provenance["source"] == "published.json"
    assert (cmap.severity, cmap.tasks, cmap.parameters) == (-0.1, (), {})


def test_a_published_map_in_another_order_is_ranked_with_ties_in_file_order(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"z": 1, "a": 5, "y": 3, "b": 3}')
    assert ConflictMap.import_scores(tmp_path / "scores.json", severity=0.0).top(4, 0.0) == ["a", "y", "b", "z"]


def test_a_published_map_knows_no_other_severity_and_no_rates(published: Path) -> None:
    cmap = ConflictMap.import_scores(published, severity=-0.02)
    assert cmap.scores(-0.020000000000000001) == PUBLISHED
    for ask in (cmap.scores, lambda severity: cmap.top(3, severity)):
        with pytest.raises(ValueError, match=r"severity 0\.0 of a map imported at severity -0\.02"):
            ask(0.0)
    with pytest.raises(ValueError, match="not on the"):
        cmap.scores(-0.021)
    with pytest.raises(ValueError, match="no rates"):
        cmap.rates(-0.02)


def test_an_imported_map_can_be_saved_and_loaded(published: Path, tmp_path: Path) -> None:
    cmap = ConflictMap.import_scores(published, severity=-0.02)
    cmap.save(tmp_path / "map.json")
    loaded = ConflictMap.load(tmp_path / "map.json")
    assert loaded.severity == -0.02
    assert list(loaded.scores(-0.02).items()) == list(PUBLISHED.items())
    assert loaded.provenance == cmap.provenance


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["severity"], "low", "'severity' of the map is 'low'"),
        (["severity"], 0.5, "severity 0.5 is not on the 0.01 grid"),
        (["layers", 0, "score"], -4, "'score' of layer 'bn1' is -4, not a count"),
    ],
)
def test_a_damaged_imported_map_is_refused(
    published: Path, tmp_path: Path, keys: list[str | int], value: object, message: str
) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(changed(record_of(ConflictMap.import_scores(published), path), *keys, to=value)))
    with pytest.raises(ValueError, match=f"{path} is a damaged conflict map: {message}"):
        ConflictMap.load(path)
