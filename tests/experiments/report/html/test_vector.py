import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from recon.experiments.report.html.vector import data_address, inline_svg


def drawn(label: str) -> str:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o")
    axes.set_title('<b> id="x" &amp;')
    return inline_svg(figure, label)


def test_figures_of_one_page_share_no_names_and_keep_their_letters() -> None:
    one, other = drawn("one"), drawn("other")
    names = [set(re.findall(r' id="([^"]*)"(?=[ />])', svg.replace(' id="x"', ""))) for svg in (one, other)]
    assert names[0]
    assert not names[0] & names[1]
    assert '&lt;b&gt; id="x" &amp;amp;</text>' in one
    assert one.startswith('<svg role="img" aria-label="one"')
    assert drawn("one") == one


def test_a_picture_becomes_the_address_of_its_own_content(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 300), "red").save(tmp_path / "wide.png")
    assert data_address(tmp_path / "wide.png").startswith("data:image/webp;base64,")
    (tmp_path / "none.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"none\.png is no picture"):
        data_address(tmp_path / "none.png")
