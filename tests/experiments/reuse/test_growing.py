"""A plan that changes: what is the same is reused, what is new is trained, the rest is kept aside."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from some_jobs import Here, fit

from recon.cli.dispatch import main
from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.executors.executor import Died, RunsFailed
from recon.files.checksum import sealed

PlanFactory = Callable[..., Plan]

JOINT = [{"method": "joint", "variants": ["plain", "recon"]}]
ALL = ["single-digit-seed0", "single-letter-seed0", "joint-plain-seed0", "joint-recon-seed0"]


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])


@pytest.fixture
def small(tiny: PlanFactory) -> PlanFactory:
    """A plan of a fraction of a second a run."""
    return lambda **changes: tiny(**{"fit": fit(), "methods": JOINT, "top": 1, **changes})


def trained(plan: Plan, out: Path, **options: Any) -> list[str]:
    """The runs that a benchmark trains, sorted."""
    executor = Here()
    benchmark(plan, out, executor=executor, **options)
    return sorted(executor.begun)


def rows(out: Path) -> list[str]:
    return [run["id"] for run in json.loads((out / "results.json").read_text())["runs"]]


def results(out: Path) -> dict[str, dict[str, Any]]:
    return {run["id"]: run for run in json.loads((out / "results.json").read_text())["runs"]}


def joint(**keys: Any) -> list[dict[str, Any]]:
    return [{**JOINT[0], **keys}]


@pytest.fixture(scope="module")
def once(tiny: PlanFactory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished folder, to copy."""
    out = tmp_path_factory.mktemp("once") / "out"
    plan = tiny(fit=fit(), methods=JOINT, top=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "draw_figures", lambda *arguments: [])
        assert trained(plan, out) == sorted(ALL)
    return out


@pytest.fixture
def out(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "out"))


def test_the_same_plan_trains_nothing_and_moves_nothing(
    small: PlanFactory, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained(small(name="renamed"), out) == []
    assert rows(out) == ALL
    assert not (out / "aside").exists()
    assert capfd.readouterr().err == ""


def test_layers_are_not_chosen_again_for_the_same_request(
    small: PlanFactory, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*")}
    monkeypatch.setattr("recon.experiments.reuse.identity.RunIdentity.of", pytest.fail)
    assert trained(small(single=False, methods=[*joint(variants=["recon", "plain"])]), out) == []
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*")}.items() <= written.items()


@pytest.mark.slow
def test_a_seed_a_method_and_a_top_are_trained_and_nothing_else(small: PlanFactory, out: Path) -> None:
    before = results(out)
    mgda = {"method": "mgda", "variants": ["plain"]}
    grown = small(methods=[*joint(seeds=[0, 1]), mgda], single=False)
    assert trained(grown, out) == ["joint-plain-seed1", "joint-recon-seed1", "mgda-plain-seed0"]
    wider = small(methods=[*joint(), {"method": "joint", "name": "two", "variants": ["recon"], "top": 2}, mgda])
    assert trained(wider, out) == ["two-recon-seed0"]
    assert rows(out) == [*ALL, "two-recon-seed0", "mgda-plain-seed0"]
    assert {run: results(out)[run]["metrics"] for run in ALL} == {run: before[run]["metrics"] for run in ALL}


def test_a_plan_that_shrinks_puts_aside_and_has_all_back(
    small: PlanFactory, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = results(out)
    kept = (out / "runs/joint-recon-seed0/last.ckpt").read_bytes()
    assert trained(small(methods=joint(variants=["plain"]), single=False), out) == []
    assert rows(out) == ["joint-plain-seed0"]
    assert [path.name for path in (out / "runs").iterdir()] == ["joint-plain-seed0"]
    assert len(list((out / "aside").iterdir())) == 3
    aside = f"not in the plan, kept in {out}/aside: joint-recon-seed0, single-digit-seed0, single-letter-seed0\n"
    assert capfd.readouterr().err == aside
    assert trained(small(), out) == []
    assert results(out) == before
    assert (out / "runs/joint-recon-seed0/last.ckpt").read_bytes() == kept
    assert list((out / "aside").iterdir()) == []
    assert f"back from {out}/aside: single-digit-seed0, single-letter-seed0" in capfd.readouterr().err


@pytest.mark.slow
def test_a_key_of_the_plan_trains_anew_the_runs_that_it_concerns(
    small: PlanFactory, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained(small(every=2), out) == ["joint-plain-seed0", "joint-recon-seed0"]
    assert f"changed by every, the earlier run kept in {out}/aside: joint-plain-seed0" in capfd.readouterr().err
    assert trained(small(init="reset", every=2), out) == ["joint-plain-seed0", "joint-recon-seed0"]
    assert trained(small(fit=fit(trainer={"max_epochs": 2})), out) == sorted(ALL)
    assert trained(small(), out) == []  # the first ones come back


def test_a_run_with_another_name_is_the_same_run(small: PlanFactory, out: Path) -> None:
    before = results(out)["joint-recon-seed0"]
    assert trained(small(methods=joint(name="base")), out) == []
    after = results(out)["base-recon-seed0"]
    assert after == {**before, "id": "base-recon-seed0", "method": "base"}


@pytest.mark.slow
def test_runs_that_change_places_are_found(small: PlanFactory, out: Path) -> None:
    def plan(one: str, other: str) -> Plan:
        methods = [{"method": one, "name": "one"}, {"method": other, "name": "other"}]
        return small(methods=[{**entry, "variants": ["plain"]} for entry in methods], single=False)

    assert trained(plan("mgda", "pcgrad"), out) == ["one-plain-seed0", "other-plain-seed0"]
    before = results(out)
    assert trained(plan("pcgrad", "mgda"), out) == []
    assert results(out)["one-plain-seed0"]["metrics"] == before["other-plain-seed0"]["metrics"]


@pytest.mark.slow
def test_two_entries_that_are_the_same_are_trained_once(small: PlanFactory, tmp_path: Path) -> None:
    methods = [{"method": "joint", "name": name, "variants": ["plain"]} for name in ("one", "other")]
    assert trained(small(methods=methods, single=False), tmp_path) == ["one-plain-seed0"]
    assert rows(tmp_path) == ["one-plain-seed0", "other-plain-seed0"]


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_put_aside_and_one_of_the_same_is_resumed(small: PlanFactory, out: Path) -> None:
    plan = small(methods=joint(variants=["plain"]), single=False)
    run = out / "runs/joint-plain-seed0"
    (run / "result.json").unlink()
    (run / "last.ckpt").write_bytes(b"of a run that another epoch would end")
    assert trained(small(methods=joint(variants=["plain"]), single=False, every=3), out) == ["joint-plain-seed0"]
    with pytest.raises(ValueError, match="damaged, or no checkpoint"):  # from which it would have gone on
        trained(plan, out)
    assert (run / "last.ckpt").read_bytes() == b"of a run that another epoch would end"


@pytest.mark.slow
def test_a_folder_of_the_version_before_is_taken_over(small: PlanFactory, out: Path, tmp_path: Path) -> None:
    for path in (out / "runs").iterdir():
        (path / "identity.json").unlink()
        record = json.loads((path / "result.json").read_text())
        del record["origin"]
        (path / "result.json").write_text(json.dumps(sealed(record)))
    record = json.loads((out / "plan.json").read_text())
    for entry in record["methods"]:
        del entry["at"], entry["model"], entry["tree"]  # of an earlier version still
    (out / "plan.json").write_text(json.dumps(record))
    old = shutil.copytree(out, tmp_path / "old")
    assert trained(small(methods=joint(seeds=[0, 1]), every=1, single=False), out) == [
        "joint-plain-seed1",
        "joint-recon-seed1",
    ]
    assert trained(small(), tmp_path / "new", reuse=[old]) == []
    assert not list(old.rglob("identity.json"))  # of another benchmark nothing is written


@pytest.mark.parametrize("damage", ["", "{", "[]", lambda text: text.replace("metrics", "metricx")])
def test_a_damaged_result_is_refused_and_nothing_moves(damage: Any, small: PlanFactory, out: Path) -> None:
    path = out / "runs/joint-recon-seed0/result.json"
    path.write_text(damage(path.read_text()) if callable(damage) else damage)
    before = {file: file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}
    with pytest.raises(ValueError, match=r"joint-recon-seed0.result\.json .*remove it to repeat the run"):
        trained(small(every=2, single=False), out)
    assert {file: file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()} == before


def test_a_damaged_identity_is_refused(small: PlanFactory, out: Path) -> None:
    path = out / "runs/joint-recon-seed0/identity.json"
    path.write_text(path.read_text().replace("conv", "conw"))
    with pytest.raises(ValueError, match=r"identity\.json: its checksum .*; remove the folder"):
        trained(small(), out)


def test_a_run_repeated_by_removing_its_result_keeps_those_that_have_its_layers(small: PlanFactory, out: Path) -> None:
    (out / "runs/joint-plain-seed0/result.json").unlink()
    (out / "runs/joint-plain-seed0/last.ckpt").unlink()
    assert trained(small(), out) == ["joint-plain-seed0"]
    assert rows(out) == ALL


@pytest.mark.slow
def test_a_benchmark_killed_while_it_grows_loses_nothing(
    small: PlanFactory, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each move of a folder in turn, before it and after it."""
    before, plan = results(out), small(methods=joint(name="base"))
    rename, left = Path.rename, [0]

    class Killed(BaseException):
        pass

    def killing(path: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return rename(path, target)

    for moves in range(4):
        copy = Path(shutil.copytree(out, out.with_name(f"killed{moves}")))
        left[0] = moves
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "rename", killing)
            trained(plan, copy)
        assert trained(plan, copy) == []
        assert results(copy)["base-recon-seed0"]["metrics"] == before["joint-recon-seed0"]["metrics"]


@pytest.mark.slow
def test_finished_runs_of_other_folders_are_copied_whole(
    small: PlanFactory, out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    new = tmp_path / "new"
    assert trained(small(methods=joint(seeds=[0, 1], name="base"), single=False), new, reuse=[out]) == [
        "base-plain-seed1",
        "base-recon-seed1",
    ]
    assert f"copied from {out}: base-plain-seed0\n" in capfd.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    for name in ("conflict_map.json", "last.ckpt", "config.yaml"):
        copy, original = (folder / name for folder in (new / "runs/base-recon-seed0", out / "runs/joint-recon-seed0"))
        assert copy.read_bytes() == original.read_bytes()
    assert not (new / "incoming").exists()


def test_a_folder_without_a_benchmark_cannot_be_reused(small: PlanFactory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere holds no benchmark whose runs could be reused"):
        trained(small(), tmp_path / "out", reuse=[tmp_path / "nowhere"])
    assert not (tmp_path / "out").exists()


def test_runs_of_different_versions_are_told_below_the_table(small: PlanFactory, out: Path) -> None:
    assert "differ" not in (out / "table.md").read_text()
    path = out / "runs/joint-plain-seed0/result.json"
    record = json.loads(path.read_text())
    record["origin"]["torch"] = "1.0"
    path.write_text(json.dumps(sealed(record)))
    trained(small(), out)
    told = (out / "table.md").read_text().splitlines()[-1]
    assert told.startswith("The runs differ in torch: ")
    assert "1.0 (1 run)" in told


@pytest.mark.slow
def test_a_failed_run_leaves_a_folder_that_is_gone_on_with(small: PlanFactory, out: Path) -> None:
    plan = small(methods=joint(seeds=[0, 2], variants=["plain"]), single=False)
    with pytest.raises(RunsFailed):
        benchmark(plan, out, executor=Here(Died("killed"), Died("killed")))
    assert trained(plan, out) == ["joint-plain-seed2"]


@pytest.mark.slow
def test_the_command_grows_a_folder_and_two_at_a_time_are_refused(
    small: PlanFactory, out: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(small(methods=joint(seeds=[0, 1])).to_dict()))
    words = ["benchmark", str(plan), "--out", str(tmp_path / "new"), "--jobs", "1", "--reuse", str(out)]
    first = subprocess.Popen([sys.executable, "-m", "recon", *words], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "new/plan.json").exists():
        assert first.poll() is None, first.communicate()
    with pytest.raises(SystemExit) as end:
        main(words)
    assert "another benchmark is running in" in str(end.value.code)
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert "8/8 runs" in errors
    assert "5/8 runs" in errors
    assert "4/8 runs" not in errors
    main(words)
    assert "seed" not in capfd.readouterr().err
