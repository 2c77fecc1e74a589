import copy
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import Page, browser, chromium
from some_folders import folder, plan, runs

from recon.cli.commands import report
from recon.experiments.report.html.document import write_report
from recon.experiments.report.html.pictures import cosines, gains, training
from recon.experiments.report.html.source import Source

HOSTILE = "<script>alert(1)</script>"


class Read(HTMLParser):
    """The tags of a page with their attributes, and its text by the tag that it stands in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def written(folders: list[Path], out: Path) -> str:
    write_report(folders, out)
    return out.read_text()


def test_the_command_writes_a_page_with_everything_that_the_folder_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report([folder(tmp_path / "tiny")])
    assert capsys.readouterr().out == f"{tmp_path / 'tiny' / 'report.html'}\n"
    page = (tmp_path / "tiny" / "report.html").read_text()
    titles = re.findall(r"<h[23]>(.*?)</h[23]>", page)
    assert titles == [
        "Verdict", "Results", "Delta-m and its price", "Conflict along depth", "Cosines of task gradients",
        "Conflict while training goes on", "The branched network", "Training curves", "Predictions", "Origin",
        "Settings",
    ]  # fmt: skip
    assert "joint + Recon gains 2.2 points, more than the 1.9 points that joint loses to single-task networks" in page
    assert "better in 2 of 2 seeds" in page
    assert page.count("<svg") == 7
    assert '<p class="missing">' not in page
    assert "1 of 3 layers branched; the trunk is 2 layers" in page
    assert "recon benchmark plan.yaml" in page
    assert re.search(r"joint \+ Recon +&amp; +0\.501\d \$\\pm\$ 0.0018", page)
    assert re.search(r"\| joint \+ Recon +\| +0\.501\d ± 0\.0018", page)


def test_nothing_comes_from_elsewhere_and_names_of_files_are_escaped(tmp_path: Path) -> None:
    results = json.loads(json.dumps(runs()).replace('"joint"', json.dumps(HOSTILE)))
    for run in results:
        run["origin"]["device"] = f'" onload="alert(1)"{HOSTILE}'
        run["conflict_by_layer"] = {f"{HOSTILE}$x${layer}": rate for layer, rate in run["conflict_by_layer"].items()}
    named = plan(name="a&b'\" onclick=alert(1)", methods=[{"method": "joint", "name": HOSTILE, "seeds": [0, 1],
                                                       "variants": ["plain", "recon"]}])  # fmt: skip
    path = tmp_path / "a <b onmouseover=alert(1)>"
    folder(path, results=runs())
    (path / "results.json").write_text(json.dumps({"plan": named, "runs": results}))
    (path / "plan.json").unlink()
    read = Read(written([path], tmp_path / "report.html"))
    assert [attributes for tag, attributes in read.tags if tag == "script"] == [{}]
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in "".join(read.text)
    assert f"recon benchmark plan.yaml --out '{path}'" in read.text
    assert f"recon report '{path}'" in read.text
    outward = [
        value
        for _, attributes in read.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href") and not (value or "").startswith(("#", "data:"))
    ]
    assert outward == []


@pytest.mark.slow
def test_folders_are_compared_side_by_side_with_their_differing_settings(tmp_path: Path) -> None:
    better = copy.deepcopy(runs())
    for run in better:
        run["delta_m"] = None if run["delta_m"] is None else run["delta_m"] + 1 + 0.1 * run["seed"]
    folders = [folder(tmp_path / "one"), folder(tmp_path / "two", plan(top=7), better)]
    page = written(folders, tmp_path / "report.html")
    assert page.index("Side by side") < page.index('id="part-1"') < page.index('id="part-2"')
    assert "joint + Recon, two over joint + Recon, one" in page
    assert re.findall(r'<tr class="differs"><th scope="row">(.*?)</th>', page) == ["top"]
    assert "as a share of the map" in page


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_in_a_browser_it_sorts_copies_prints_and_fits_a_phone(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report([folder(tmp_path / "one"), folder(tmp_path / "two")], out)
    program = chromium()
    assert program is not None
    with browser(program, tmp_path / "profile") as page:
        for width in (390, 768, 1280):
            page.open(out, width)
            assert page.value("innerWidth") == width
            assert page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.value(  # a wide window shows tables whole
            "[...document.querySelectorAll('.tabled > .scroll')].every(one => one.scrollWidth <= one.clientWidth)"
        )
        check_sorting(page)
        copy_button = "document.querySelector('#part-1 details button.copy')"
        page.value(f"{copy_button}.closest('details').open = true; {copy_button}.click()")
        page.value("new Promise(done => setTimeout(done, 300))")
        assert page.value(f"{copy_button}.textContent") == "copied"
        page.pdf(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        assert page.told == []


FAINT = """
(() => {
  const light = ([r, g, b]) => [r, g, b]
    .map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const ground = one => {
    const [r, g, b, alpha = 1] = numbers(getComputedStyle(one).backgroundColor);
    return alpha ? [r, g, b] : one.parentElement ? ground(one.parentElement) : [255, 255, 255];
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = new Set();
  while (words.nextNode()) {
    const one = words.currentNode.parentElement;
    if (!words.currentNode.data.trim() || one.closest('svg, script, style')) continue;
    const [more, less] = [light(numbers(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    if ((more + 0.05) / (less + 0.05) < 4.5) faint.add(`${one.tagName}.${one.className}`);
  }
  return [...faint];
})()
"""
"""Kinds of elements whose text has less contrast than WCAG's level AA asks for."""


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="needs Chromium")
def test_both_colour_schemes_are_readable_and_print_is_light(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    unfinished = folder(tmp_path / "two", plan(top=7), runs()[:-1])  # with a warning, and a setting that differs
    write_report([folder(tmp_path / "one"), unfinished], out)
    program = chromium()
    assert program is not None
    ground = "getComputedStyle(document.body).backgroundColor"
    with browser(program, tmp_path / "profile") as page:
        found = {}
        for medium in ("screen", "print"):
            for scheme in ("light", "dark"):
                page.show_as(medium, scheme)
                page.open(out, 390)
                page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
                assert page.value("document.querySelectorAll('.warning, tr.differs').length") >= 2
                assert page.value(FAINT) == []
                found[medium, scheme] = page.value(ground)
        assert found.pop(("screen", "dark")) == "rgb(20, 23, 26)"
        assert set(found.values()) == {"rgb(255, 255, 255)"}
        page.show_as("screen", "dark")
        page.value("document.body.style.color = '#444'")
        assert page.value(FAINT) != []


def test_captions_tell_the_two_kinds_of_whiskers_and_the_layers_of_each_seed(tmp_path: Path) -> None:
    source = Source.read(folder(tmp_path / "tiny"))
    said = gains(source).said
    assert "First picture: whiskers are the standard deviation over seeds." in said
    assert "whiskers are the 95% interval of the mean" in said
    assert cosines(source).said == "Joint training, over the 2 layers that stay shared."


def test_logs_without_losses_are_told_apart_from_no_logs(tmp_path: Path) -> None:
    path = folder(tmp_path / "tiny")
    for log in path.glob("runs/*/logs/version_0/metrics.csv"):
        log.write_text("epoch,step,test/digit\n1,1,0.5\n")
    assert "The logs (runs/*/logs/) have no losses, so no curves" in training(Source.read(path)).said
    shutil.rmtree(path / "runs")
    assert training(Source.read(path)).said == "The folder keeps no logs (runs/*/logs/), so no curves."


def check_sorting(page: Page) -> None:
    table = "document.querySelectorAll('#part-1 table.sortable')[0]"
    rows = f"[...{table}.tBodies[0].rows].map(row => row.cells[0].textContent)"
    button = f"{table}.querySelectorAll('th button')[1]"
    assert page.value(f"{button}.textContent") == "delta-m %"
    page.value(f"{button}.click()")
    assert page.value(rows) == ["joint", "joint + Recon", "single-task"]
    page.value(f"{button}.click()")
    assert page.value(rows) == ["joint + Recon", "joint", "single-task"]
