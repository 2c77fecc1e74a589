"""The README shows true things in thirty seconds: its program runs, its diff fits, its links lead somewhere."""

import re
import runpy
from pathlib import Path

import pytest

from recon.conflict import ConflictMap

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


def block(language: str) -> str:
    """The README's only block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    return found


def line_of(text: str) -> int:
    return TEXT[: TEXT.index(text)].count("\n") + 1


def test_picture_and_program_come_early_and_the_whole_is_short() -> None:
    assert line_of("](docs/figures/overview.svg)") <= 20
    assert line_of("```python") <= 45
    assert len(TEXT.split()) < 900


def test_picture_shows_the_measured_maps(tmp_path: Path) -> None:
    docs = README.parent / "docs"
    script = runpy.run_path(str(docs / "figures" / "overview.py"))
    script["main"](docs / "results" / "demo", tmp_path / "overview.svg")
    assert (docs / "figures" / "overview.svg").stat().st_size < 150_000
    paths = [docs / "results" / "demo" / "runs" / name / "conflict_map.json" for name in script["MAPS"]]
    before, after = map(ConflictMap.load, paths)
    upper, lower = script["overview"](before, after).axes
    assert [bar.get_height() for bar in upper.patches] == list(before.rates(-0.1).values())
    assert [bar.get_height() for bar in lower.patches] == list(after.rates(-0.1).values())
    (squares,) = lower.lines
    branched = [before.layers[int(place)] for place in squares.get_xdata()]
    assert set(branched) == set(before.top(25, -0.1)) == set(before.layers) - set(after.layers)


def test_program_runs_as_it_stands_and_prints_the_table_in_its_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(block("python"))
    features = runpy.run_path("program.py")["features"]
    assert {task: tuple(value.shape) for task, value in features.items()} == {"sum": (64, 16), "product": (64, 16)}
    printed = capsys.readouterr().out.splitlines()
    shown = [line.removeprefix("# ") for line in block("python").splitlines() if line.startswith("# ")]
    assert len(printed) == len(shown)
    assert printed[:2] == shown[:2]
    for ours, theirs in zip(map(str.split, printed[2:]), map(str.split, shown[2:]), strict=True):
        assert (*ours[:2], *ours[5:]) == (*theirs[:2], *theirs[5:])  # rank, layer, parameters, cumulative
        for column, tolerance in ((2, 3), (3, 0.01), (4, 0.01)):  # rounding differs between machines
            assert float(ours[column]) == pytest.approx(float(theirs[column]), abs=tolerance)


def test_diff_leads_from_a_plain_loop_to_the_program() -> None:
    program, changes = block("python").splitlines(), block("diff").splitlines()
    added = [line[1:] for line in changes if line.startswith("+")]
    (removed,) = [line[1:] for line in changes if line.startswith("-")]
    (replaced,) = [line for line in added if "engine.backward" in line]
    after = iter(program)
    assert all(line in after for line in [line[1:] for line in changes if line[0] in "+ "])  # in this order
    last = max(program.index(line) for line in added)
    plain = [removed if line == replaced else line for line in program[:last] if line == replaced or line not in added]
    plain.remove("import recon")
    exec("\n".join(plain), {})


@pytest.mark.parametrize("page", [README, *sorted((README.parent / "docs").rglob("*.md"))], ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link, _, part in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]*))?", prose):
        target = page.parent / link if link else page
        assert target.exists(), link
        if part:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert part in anchors, f"{link}#{part}"
