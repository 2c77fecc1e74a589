from pathlib import Path

from recon.conflict import ConflictMap, agree
from recon.experiments.report.figures import save
from recon.experiments.report.map_agreement import map_agreement


def test_a_picture_has_a_square_for_each_pair_of_maps(tmp_path: Path) -> None:
    published = ConflictMap.load("nyuv2-mtan")
    agreement = agree({"one": published, "two": published, "three": published}, severity=None, k=15)
    figure = map_agreement(agreement)
    left, right = figure.axes
    assert [text.get_text() for text in right.texts] == ["15"] * 9
    assert [text.get_text() for text in left.texts] == ["1.00"] * 9
    assert [label.get_text() for label in left.get_yticklabels()] == ["one", "two", "three"]
    assert right.get_title() == "common to the top 15 (3.1 by chance)"
    assert [path.suffix for path in save(figure, tmp_path / "agreement")] == [".png", ".pdf"]
