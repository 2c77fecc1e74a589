"""Several benchmarks in one table: of the same tasks and data, told apart where they differ."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recon.cli.dispatch import main
from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.report.joined import _Benchmark, join
from recon.experiments.reuse.identity import RunIdentity

sys.path.insert(0, str(Path(__file__).parents[1]))  # for some_jobs

from some_jobs import Here, fit, runs_of

PlanFactory = Callable[..., Plan]


@pytest.fixture(scope="module")
def folders(tiny: PlanFactory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Benchmarks of a fraction of a second a run, by name."""
    root = tmp_path_factory.mktemp("folders")
    joint: dict[str, Any] = {"method": "joint", "variants": ["plain", "first"]}
    plans: dict[str, dict[str, Any]] = {
        "one": {"methods": [joint]},
        "seeds": {"methods": [{**joint, "seeds": [0, 1]}], "single": False},
        "two": {"methods": [joint, {"method": "mgda", "variants": ["plain"]}], "top": 2, "single": False},
        "longer": {"methods": [joint], "fit": fit(trainer={"max_epochs": 2})},
        "others": {"methods": [joint], "single": False, "fit": fit(data={"init_args": {"train_size": 9}})},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "draw_figures", lambda *arguments: [])
        for name, changes in plans.items():
            plan = tiny(**{"fit": fit(), "top": 1, **changes})
            benchmark(plan, root / name, executor=Here(), reuse=[root / "one"] if name != "one" else [])
    return root


def joined(folders: Path, out: Path, *names: str) -> dict[str, Any]:
    join([folders / name for name in names], out)
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    return content


@pytest.mark.slow
def test_rows_of_the_same_settings_have_the_seeds_of_all_folders(folders: Path, tmp_path: Path) -> None:
    content = joined(folders, tmp_path, "one", "seeds")
    seeds = {(row["method"], row["variant"]): row["seeds"] for row in content["summary"]}
    assert seeds == {("single", "single"): [0], ("joint", "plain"): [0, 1], ("joint", "first"): [0, 1]}
    assert all(run["delta_m"] is not None for run in content["runs"] if run["variant"] != "single")
    assert list(content["plans"]) == [str(folders / "one"), str(folders / "seeds")]
    assert (tmp_path / "delta_m.png").exists()


@pytest.mark.slow
def test_entries_of_one_label_and_other_settings_are_told_apart(folders: Path, tmp_path: Path) -> None:
    rows = [(row["method"], row["variant"]) for row in joined(folders, tmp_path, "one", "two")["summary"]]
    assert ("mgda", "plain") in rows
    labels = {label for label, _ in rows} - {"mgda", "single"}
    assert labels == {"joint (one)", "joint (two)"}  # their first layers are one and two


@pytest.mark.slow
def test_folders_of_one_name_are_told_apart_and_one_folder_counts_once(folders: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", folders / "two" / ".." / "two"
    same = [shutil.copytree(folders / name, tmp_path / name / "results") for name in ("one", "two")]
    join([*same, same[0].parent / "results"], out / "same")
    content = json.loads((out / "same/results.json").read_text())
    rows = {(row["method"], row["variant"]) for row in content["summary"]}
    assert {label for label, _ in rows} == {"single", "joint (one/results)", "joint (two/results)", "mgda"}
    assert [row["method"] for row in joined(folders, out, "two", str(again))["summary"]] == ["joint", "joint", "mgda"]


def test_a_wider_network_is_one_row_whatever_its_width_with_each_seed(tiny: PlanFactory) -> None:
    plan = tiny(methods=[{"method": "joint", "variants": ["plain", "recon", "wide_flops"], "seeds": [0, 1]}])
    folder = _Benchmark(Path(), plan.to_dict(), plan, [], "")

    def setting(seed: int, width: int, base: int = 4) -> RunIdentity:
        wide, plain = ({"class_path": "ResNet18", "init_args": {"width": number}} for number in (width, base))
        model = {"backbone": wide, "branch": {"layers": []}}
        identity = RunIdentity({"model": model, "base": plain, "seed_everything": seed})
        return folder.setting(runs_of(plan)[f"joint-wide_flops-seed{seed}"], identity)

    assert setting(seed=0, width=6).hash == setting(seed=1, width=7).hash
    assert setting(seed=0, width=6).hash != setting(seed=0, width=6, base=5).hash


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("others", "one and .*others have different data: Glyphs.train_size=8, .*; Glyphs.train_size=9"),
        ("longer", "single-task networks of .*one and .*longer differ in trainer.max_epochs"),
        ("nothing", "nothing holds no benchmark; give folders"),
    ],
)
def test_what_does_not_compare_is_refused(other: str, message: str, folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        join([folders / "one", folders / other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_joins_folders_and_replaces_no_benchmark(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["table", str(folders / "one"), str(folders / "two"), "--out"]
    main([*words, str(tmp_path)])
    printed = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() in printed
    with pytest.raises(SystemExit) as end:
        main([*words, str(folders / "one")])
    assert "one holds a benchmark, whose table would be replaced" in str(end.value.code)
