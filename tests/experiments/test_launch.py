"""Whole benchmarks, in worker processes, through the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from some_jobs import Here

from recon.cli.dispatch import main
from recon.experiments import Plan, RunsFailed, benchmark
from recon.experiments.executors import executor
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.result import RESULT
from recon.experiments.run import execute
from recon.files.checksum import sealed

PlanFactory = Callable[..., Plan]
FileFactory = Callable[..., Path]
VARIANTS = ["plain", "recon", "random", "first", "last"]
PNG = b"\x89PNG\r\n\x1a\n"


def recon(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """The command, as the leader of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "recon", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def group_is_gone(leader: int, seconds: float) -> bool:
    """Whether no process of the group is left, after some time at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def results(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    return content


# A finished benchmark -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_file: FileFactory) -> tuple[Path, str, str]:
    """The folder of a benchmark of all variants, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    process = recon("benchmark", tiny_file(folder, methods=METHODS), "--out", folder / "out", "--jobs", "2")
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return folder / "out", printed, errors


METHODS = [{"method": "joint", "variants": VARIANTS, "seeds": [3]}]
RUNS = ["single-digit-seed3", "single-letter-seed3", *(f"joint-{variant}-seed3" for variant in VARIANTS)]
Finished = tuple[Path, str, str]


def test_results_hold_plan_runs_and_summary(finished: Finished, tiny: PlanFactory) -> None:
    content = results(finished[0])
    assert list(content) == ["plan", "runs", "summary", "differences", "verdict"]
    assert content["plan"] == tiny(methods=METHODS).to_dict()
    assert [run["id"] for run in content["runs"]] == RUNS
    for run in content["runs"]:
        assert run.keys() == {*RESULT, "delta_m", "delta_m_per_metric"}
        assert (run["delta_m"] is None) == (run["variant"] == "single")
        assert (run["conflict_rate"] is None) == (run["variant"] == "single")
    assert [(row["method"], row["variant"]) for row in content["summary"]] == [
        ("single", "single"),
        *(("joint", variant) for variant in VARIANTS),
    ]


def test_delta_m_is_that_of_the_metrics_beside_it(finished: Finished) -> None:
    digit, letter, *others = results(finished[0])["runs"]
    base = {**digit["metrics"], **letter["metrics"]}
    for run in others:
        gains = [run["metrics"][task]["accuracy"] / base[task]["accuracy"] - 1 for task in ("digit", "letter")]
        assert run["delta_m"] == pytest.approx(50 * sum(gains))


def test_rows_of_one_seed_differ_without_an_interval(finished: Finished) -> None:
    content = results(finished[0])
    deltas = {run["variant"]: run["delta_m"] for run in content["runs"] if run["method"] == "joint"}
    found = {(one["first"], one["second"]): one for one in content["differences"]}
    assert len(found) == 7  # each variant over plain, + Recon over each control
    assert found["joint + Recon", "joint + random layers"]["mean"] == deltas["recon"] - deltas["random"]
    assert {one["verdict"] for one in found.values()} == {"one seed: no interval"}


def test_the_table_is_printed_and_kept_and_every_path_named_exists(finished: Finished) -> None:
    out, printed, _ = finished
    table = (out / "table.md").read_text()
    assert table in printed
    assert "\n\nOne seed a row, so neither spread nor interval" in table
    rows_of_table = [line for line in table.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in rows_of_table[2:]] == [
        "single-task",
        "joint",
        "joint + Recon",
        "joint + random layers",
        "joint + first layers",
        "joint + last layers",
    ]
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert [row["variant"] for row in rows] == ["single", *VARIANTS]
    named = [Path(line) for line in printed.splitlines() if line.startswith(str(out))]
    assert {path.name for path in named} == {
        "results.json",
        "table.md",
        "table.csv",
        *(
            f"{name}.{kind}"
            for name in ("conflict_by_layer", "cosine_histograms", "delta_m", "prices")
            for kind in ("png", "pdf")
        ),
    }
    assert all(path.read_bytes().startswith(PNG) for path in named if path.suffix == ".png")


def test_lightning_says_nothing_and_each_run_that_ends_is_a_line(finished: Finished) -> None:
    errors = finished[2]
    for chatter in ("GPU available", "Tip", "Seed set", "stopped", "Restor", "warn"):
        assert chatter not in errors
    assert "7/7 runs, 14/14 epochs" in errors
    assert "\r" not in errors
    assert sum(line.endswith(" finished") for line in errors.splitlines()) == 7


def test_finished_runs_are_never_repeated(finished: Finished, tiny: PlanFactory) -> None:
    out = finished[0]
    path = out / "runs" / "joint-plain-seed3" / "result.json"
    original = path.read_text()
    poisoned = json.loads(original)
    poisoned["metrics"]["digit"]["accuracy"] = 0.123456
    path.write_text(json.dumps(sealed(poisoned)))
    try:
        written = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*")}
        report = benchmark(tiny(methods=METHODS), out)
        assert {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*")} == written
        assert results(out)["runs"][2]["metrics"]["digit"]["accuracy"] == 0.123456
        assert "0.1235" in report.table
    finally:
        path.write_text(original)
        benchmark(tiny(methods=METHODS), out)


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_plan_is_refused(damage: str, tiny: PlanFactory, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(damage)
    with pytest.raises(ValueError, match=r"plan\.json .*or give another --out"):
        benchmark(tiny(), tmp_path)


def test_runs_of_an_unknown_plan_are_refused(tiny: PlanFactory, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match=r"holds runs but no plan\.json"):
        benchmark(tiny(), tmp_path)


def test_a_damaged_result_is_refused_before_any_work(tiny: PlanFactory, tmp_path: Path) -> None:
    path = tmp_path / "out" / "runs" / "joint-plain-seed0" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    (tmp_path / "out" / "plan.json").write_text(
        json.dumps({**tiny(single=False).to_dict(), "data": None, "map_sha256": {}})
    )
    with pytest.raises(ValueError, match="remove it to repeat the run"):
        benchmark(tiny(single=False), tmp_path / "out")
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_nothing_is_written_when_the_plan_cannot_work(tiny: PlanFactory, tmp_path: Path) -> None:
    for wrong in ({"top": 0}, {"map": str(tmp_path / "nowhere.json")}):
        with pytest.raises((ValueError, OSError)):
            benchmark(tiny(**wrong), tmp_path / "out")
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        benchmark(tiny(), tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[None]:
    """Another process holds the folder."""
    code = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    yield
    holder.communicate(b"\n")


@pytest.mark.usefixtures("held")
def test_two_benchmarks_in_one_folder_are_refused(tiny: PlanFactory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another benchmark is running in"):
        benchmark(tiny(), tmp_path)


def test_another_executor_carries_out_the_runs(tiny: PlanFactory, tmp_path: Path) -> None:
    report = benchmark(tiny(single=False), tmp_path, executor=Here())
    assert [run["id"] for run in results(tmp_path)["runs"]] == ["joint-plain-seed0"]
    assert report.table == (tmp_path / "table.md").read_text()


def test_a_run_whose_process_died_and_that_then_finishes_is_told(
    tiny: PlanFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(tiny(single=False), tmp_path, executor=Here(executor.Died("killed by SIGKILL")))
    told = "joint-plain-seed0: its process died once (killed by SIGKILL); with no other run beside it, it finished."
    assert told in capsys.readouterr().err
    assert [run["id"] for run in results(tmp_path)["runs"]] == ["joint-plain-seed0"]


def test_a_run_whose_process_dies_twice_has_failed_and_its_folder_says_why(tiny: PlanFactory, tmp_path: Path) -> None:
    dies = Here(executor.Died("killed by SIGKILL"), executor.Died("it ended with status 3"))
    reason = "its process died 2 times (it ended with status 3)"
    with pytest.raises(RunsFailed) as error:
        benchmark(tiny(single=False), tmp_path, executor=dies)
    assert str(error.value).startswith(f"1 of 1 run failed (joint-plain-seed0: {reason}); what is finished is kept in")
    error_file = tmp_path / "runs" / "joint-plain-seed0" / "error.txt"
    assert error_file.read_text() == f"{reason}, at last with no other run beside it\n"


# Failures and interruptions -------------------------------------------------------------------------------------------

MINE = """
from pathlib import Path

import recon


@recon.register_method("mine")
class Mine(recon.GramianMethod):
    def weights(self, gramian, losses=None):
        if Path(__file__).with_name("explode").exists():
            raise ArithmeticError("it exploded")
        return gramian.diagonal().rsqrt()
"""


@pytest.mark.slow
def test_a_failing_run_of_a_method_of_ones_own_is_reported_and_tried_again_alone(
    tiny_file: FileFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_methods.py").write_text(MINE)
    (tmp_path / "explode").touch()
    methods = [{"method": "mine", "variants": ["plain"]}, {"method": "joint", "variants": ["plain"]}]
    plan = tiny_file(tmp_path, methods=methods, single=False)
    out = tmp_path / "out"
    command = ["--import", "my_methods", "benchmark", str(plan), "--out", str(out), "--jobs", "1"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(SystemExit) as end:
        main(command)
    assert str(end.value.code).startswith("recon: 1 of 2 runs failed (mine-plain-seed0); what is finished is kept in")
    trace = out / "runs" / "mine-plain-seed0" / "error.txt"
    assert f"mine-plain-seed0 failed: ArithmeticError: it exploded ({trace} shows where)" in capfd.readouterr().err
    assert "my_methods.py" in trace.read_text()
    assert [run["id"] for run in results(out)["runs"]] == ["joint-plain-seed0"]

    joint = (out / "runs" / "joint-plain-seed0" / "result.json").stat().st_mtime_ns
    (tmp_path / "explode").unlink()
    main(command)
    assert [run["id"] for run in results(out)["runs"]] == ["mine-plain-seed0", "joint-plain-seed0"]
    assert (out / "runs" / "joint-plain-seed0" / "result.json").stat().st_mtime_ns == joint
    assert not trace.exists()


DEADLY = """
import os
from pathlib import Path

import recon


class Deadly(recon.GramianMethod):
    def weights(self, gramian, losses=None):
        diary = Path(__file__).with_name(f"{type(self).__name__}.txt")
        with diary.open("a") as file:
            file.write("x")
        if len(diary.read_text()) <= self.deaths:
            os._exit(3)
        return gramian.diagonal().rsqrt()


@recon.register_method("deadly")
class Always(Deadly):
    deaths = 1000


@recon.register_method("deadly_once")
class Once(Deadly):
    deaths = 1
"""


@pytest.mark.slow
def test_a_run_that_kills_its_process_is_tried_once_more_alone_and_the_others_finish(
    tiny: PlanFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deadly_methods.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    methods = [{"method": name, "variants": ["plain"]} for name in ("deadly", "deadly_once", "joint")]
    plan = tiny(methods=methods, single=False, imports=["deadly_methods"])
    with pytest.raises(RunsFailed) as failure:
        benchmark(plan, tmp_path / "out", jobs=2)
    assert str(failure.value).startswith(
        "1 of 3 runs failed (deadly-plain-seed0: its process died 2 times (it ended with status 3)); what is finished"
    )
    assert [run["id"] for run in results(tmp_path / "out")["runs"]] == ["deadly_once-plain-seed0", "joint-plain-seed0"]
    assert (tmp_path / "Always.txt").read_text() == "xx"
    errors = capfd.readouterr().err
    assert "deadly_once-plain-seed0: its process died once (it ended with status 3); with no other run" in errors
    assert "at last with no other run" in (tmp_path / "out/runs/deadly-plain-seed0/error.txt").read_text()


@pytest.mark.slow
def test_runs_that_need_the_map_of_a_failed_run_fail_with_it(
    tiny: PlanFactory, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exploding = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e30}}
    fit = tiny().fit
    plan = tiny(
        fit={**fit, "model": {**fit["model"], "optimizer": exploding}},
        methods=[{"method": "joint", "variants": ["plain", "recon"]}],
        single=False,
    )
    with pytest.raises(RunsFailed, match=r"2 of 2 runs failed \(joint-plain-seed0, joint-recon-seed0\)"):
        benchmark(plan, tmp_path, jobs=1)
    errors = capfd.readouterr().err
    assert "joint-plain-seed0 failed: NotFinite: " in errors
    assert "is not finite in step" in errors
    assert "joint-recon-seed0 failed: joint-plain-seed0, whose conflict map it needs, failed" in errors
    assert results(tmp_path)["runs"] == []


LONG: dict[str, Any] = {
    "fit": {
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
        "model": {"backbone": {"class_path": "recon.models.ResNet18", "init_args": {"width": 4}}},
        "data": {
            "class_path": "recon.data.Glyphs",
            "init_args": {"train_size": 800, "test_size": 300, "batch_size": 8},
        },
    },
    "single": False,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny: PlanFactory, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plan, threads = tiny(**LONG), torch.get_num_threads()
    torch.set_num_threads(1)
    (run,) = plan.runs(["digit", "letter"])
    folder = ResultsFolder(tmp_path_factory.mktemp("uninterrupted"))
    result = execute(Job(plan, run, Fit(plan.fit), folder), lambda epoch: None)
    torch.set_num_threads(threads)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_benchmark_ends_with_all_its_processes_and_resumes_to_the_same_result(
    interruption: signal.Signals,
    uninterrupted: dict[str, Any],
    tiny: PlanFactory,
    tiny_file: FileFactory,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    jobs = os.cpu_count() or 1  # so that the worker computes in one thread
    process = recon("benchmark", tiny_file(tmp_path, **LONG), "--out", out, "--jobs", str(jobs))
    wait_for(out / "runs" / "joint-plain-seed0" / "last.ckpt", process)
    if interruption == signal.SIGINT:
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches every process of the group
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    assert group_is_gone(process.pid, seconds=20)
    assert "Traceback" not in errors
    if interruption == signal.SIGINT:
        assert process.returncode == 130
        assert errors.rstrip().endswith("recon: interrupted; the same command goes on from what is finished")
    assert not (out / "runs" / "joint-plain-seed0" / "result.json").exists()

    benchmark(tiny(**LONG), out, jobs=jobs)
    (run,) = results(out)["runs"]
    varying = {"seconds": None, "origin": None}
    assert {**run, **varying} == {**uninterrupted, "delta_m": None, "delta_m_per_metric": None, **varying}


@pytest.mark.slow
def test_ctrl_c_while_the_workers_start_is_as_quiet(tiny_file: FileFactory, tmp_path: Path) -> None:
    """And of what lies in the working folder no process executes anything."""
    out = tmp_path / "out"
    strange = tmp_path / "multiprocessing.py"
    strange.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    process = recon("benchmark", tiny_file(tmp_path, **LONG), "--out", out, "--jobs", "2", cwd=tmp_path)
    wait_for(out / "plan.json", process)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert group_is_gone(process.pid, seconds=20)
    assert "Traceback" not in errors
    assert "recon: interrupted" in errors
    assert not (tmp_path / "executed").exists()
