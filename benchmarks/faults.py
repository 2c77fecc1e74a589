"""Count the effects of faults on a benchmark: kills, a run that kills its process, damaged files.

    python benchmarks/faults.py [--kills 30] [--mutations 300] [--seed 0] [--out FOLDER]

A small benchmark (three runs, one of which needs another's conflict map) is started again and
again, and at a random moment the whole process group, the parent alone, or one process alone gets
SIGKILL, or the group gets SIGINT. What is finished before a kill is compared with what is there
after the next start, and every folder in the end with one that was never interrupted. The files of
that one are then damaged in single places, and read.

    lost               a finished run or epoch that was there before a start is not there after it
    repeated           a finished run was written once more
    different          a result, map or weight in the end is not that of the uninterrupted benchmark
    wrongly accepted   a damaged file was read, and says something else than before
"""

import argparse
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from recon.conflict import ConflictMap
from recon.data import Glyphs
from recon.data.contract import tasks_of
from recon.experiments import Plan
from recon.experiments.folder import ResultsFolder
from recon.tasks.task import Task
from recon.training.checkpoints import WholeCheckpoints

EPOCHS = 3
PLAN: dict[str, Any] = {
    "name": "faults",
    "fit": {
        "trainer": {"max_epochs": EPOCHS, "accelerator": "cpu"},
        "model": {"backbone": {"class_path": "recon.models.LeNet"}},
        "data": {
            "class_path": "recon.data.Glyphs",
            "init_args": {"train_size": 160, "test_size": 50, "batch_size": 16},
        },
    },
    "methods": [{"method": "joint", "variants": ["plain", "recon"]}, {"method": "graddrop", "variants": ["plain"]}],
    "single": False,
    "top": 1,
}

DEADLY = """
import os

import recon


@recon.register_method("deadly")
class Deadly(recon.GramianMethod):
    def weights(self, gramian, losses=None):
        os._exit(9)
"""


@dataclass
class Faults:
    """What was found."""

    kills: Counter[str] = field(default_factory=Counter)
    benchmarks: int = 0
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return len(self.lost), len(self.repeated), len(self.different), len(self.accepted)


# Kills -------------------------------------------------------------------------------------------


def start(plan: Path, out: Path) -> subprocess.Popen[bytes]:
    """The benchmark, as the leader of a process group of its own."""
    command = [sys.executable, "-m", "recon", "benchmark", str(plan), "--out", str(out), "--jobs", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(plan.parent), *sys.path])}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, env=environment
    )


def members(group: int) -> list[int]:
    """The processes of a group."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid, pgid in map(str.split, listed.splitlines()) if int(pgid) == group]


def kill(process: subprocess.Popen[bytes], way: str, choose: random.Random) -> None:
    with contextlib.suppress(ProcessLookupError):
        if way == "the group":
            os.killpg(process.pid, signal.SIGKILL)
        elif way == "the parent":
            process.kill()
        elif way == "one process":
            os.kill(choose.choice(members(process.pid) or [process.pid]), signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGINT)


def wait_at_random(process: subprocess.Popen[bytes], out: Path, seconds: float, choose: random.Random) -> None:
    """Wait for the moment of a kill: one in five while the program starts, else while it works."""
    starts = choose.random() < 0.2
    while not starts and process.poll() is None and not (out / ".lock").exists():
        time.sleep(0.05)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(choose.uniform(0, seconds))


def wait_until_gone(process: subprocess.Popen[bytes]) -> None:
    process.communicate()
    end = time.monotonic() + 60
    while members(process.pid):
        assert time.monotonic() < end, "processes outlive their benchmark"
        time.sleep(0.05)


def state(out: Path) -> dict[str, tuple[Any, int]]:
    """For each finished run its result with the file's inode, and the epochs of its checkpoint."""
    found = {}
    for run in sorted((out / "runs").glob("*")):
        result, checkpoint = run / "result.json", run / "last.ckpt"
        kept = (result.read_bytes(), result.stat().st_ino) if result.exists() else None
        found[run.name] = (kept, torch.load(checkpoint)["epoch"] + 1 if checkpoint.exists() else 0)
    return found


def compare(before: dict[str, tuple[Any, int]], out: Path, faults: Faults) -> None:
    after = state(out)
    for run, (result, epochs) in before.items():
        now, epochs_now = after.get(run, (None, 0))
        if (result and not now) or epochs_now < epochs:
            faults.lost.append(f"{run} in {out}")
        elif result and result != now:
            faults.repeated.append(f"{run} in {out}")


def outcome(out: Path) -> dict[str, Any]:
    """All that must not depend on interruptions: results, maps and weights."""
    found: dict[str, Any] = {}
    for run in json.loads((out / "results.json").read_text())["runs"]:
        folder = out / "runs" / run["id"]
        conflict_map = ConflictMap.load(folder / "conflict_map.json")
        weights = torch.load(folder / "last.ckpt")["state_dict"]
        found[f"result of {run['id']}"] = {key: value for key, value in run.items() if key not in ("seconds", "origin")}
        found[f"scores of {run['id']}"] = conflict_map.scores(0.0)
        found[f"weights of {run['id']}"] = {key: value for key, value in weights.items() if "extra_state" not in key}
    return found


def uninterrupted(plan: Path, out: Path) -> float:
    """Carry the benchmark out; how many seconds it works, once it holds its folder."""
    process = start(plan, out)
    while process.poll() is None and not (out / ".lock").exists():
        time.sleep(0.05)
    began = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - began


def kill_at_random(plan: Path, folder: Path, kills: int, seconds: float, seed: int, faults: Faults) -> None:
    """Start benchmarks and kill each within ``seconds``; finish them after ``kills`` kills."""
    choose = random.Random(seed)
    expected = outcome(folder / "uninterrupted")
    while sum(faults.kills.values()) < kills:
        out = folder / f"killed-{faults.benchmarks}"
        faults.benchmarks += 1
        finished = False
        while not finished:
            before = state(out)
            process = start(plan, out)
            if sum(faults.kills.values()) < kills:
                way = choose.choice(["the group", "the parent", "one process", "SIGINT"])
                wait_at_random(process, out, seconds, choose)
                if process.poll() is None:
                    kill(process, way, choose)
                    faults.kills[way] += 1
                    print(f"{sum(faults.kills.values())} of {kills}: {way}", file=sys.stderr, flush=True)
            wait_until_gone(process)
            compare(before, out, faults)
            finished = process.returncode == 0
        for what, value in outcome(out).items():
            if not same(value, expected[what]):
                faults.different.append(f"{what} in {out}")


def dying_run(folder: Path, faults: Faults) -> str:
    """A method that ends its process, among others: what is said, and whether the others finish."""
    (folder / "deadly.py").write_text(DEADLY)
    methods = [{"method": "deadly", "variants": ["plain"]}, *PLAN["methods"]]
    plan = folder / "dying.yaml"
    plan.write_text(yaml.safe_dump({**PLAN, "methods": methods, "imports": ["deadly"]}))
    process = start(plan, folder / "dying")
    _, errors = process.communicate()
    expected = outcome(folder / "uninterrupted")
    found = outcome(folder / "dying")
    faults.lost += [f"{what} beside a dying run" for what in expected if what not in found]
    faults.different += [f"{what} beside a dying run" for what in found if not same(found[what], expected[what])]
    return next(line for line in errors.decode().splitlines() if "runs failed" in line)


# Damage ------------------------------------------------------------------------------------------


def damaged(content: bytes, choose: random.Random) -> bytes:
    """The content, changed in one place."""
    place, size = choose.randrange(len(content)), choose.choice([1, 1, 2, 8, 64])
    ways: list[Callable[[], bytes]] = [
        lambda: content[:place] + bytes([content[place] ^ 1 << choose.randrange(8)]) + content[place + 1 :],
        lambda: content[:place] + bytes([choose.randrange(256)]) + content[place + 1 :],
        lambda: content[:place] + content[place + size :],
        lambda: content[:place] + choose.randbytes(size) + content[place:],
        lambda: content[: place + size] + content[place:],
        lambda: content[:place],
        lambda: other_digit(content, choose),
    ]
    while (changed := choose.choice(ways)()) == content:
        continue
    return changed


def other_digit(content: bytes, choose: random.Random) -> bytes:
    """One digit of text is another: what no parser can notice."""
    places = [place for place, letter in enumerate(content[:100_000]) if chr(letter).isdigit()]
    place = choose.choice(places)
    return content[:place] + choose.choice("0123456789").encode() + content[place + 1 :]


def mutate(path: Path, read: Callable[[], Any], mutations: int, seed: int, faults: Faults) -> tuple[int, int]:
    """Damage and read a file ``mutations`` times; count refusals, and readings of old content."""
    content, original = path.read_bytes(), read()
    choose = random.Random(f"{seed} {path.name}")
    refused = harmless = 0
    for number in range(mutations):
        path.write_bytes(damaged(content, choose))
        try:
            found = read()
        except ValueError:
            refused += 1
            continue
        except Exception as error:
            faults.accepted.append(f"mutation {number} of {path.name} ends in {type(error).__name__}: {error}")
            continue
        if same(found, original):
            harmless += 1
        else:
            faults.accepted.append(f"mutation {number} of {path.name}")
    path.write_bytes(content)
    return refused, harmless


def readers(out: Path, tasks: list[Task]) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """The files that a start reads, and how it does."""
    run = next(run for run in Plan.from_dict(PLAN).runs([]) if run.id == "joint-plain-seed0")
    folder = out / "runs" / run.id
    return {
        "map": (folder / "conflict_map.json", lambda: vars(ConflictMap.load(folder / "conflict_map.json"))),
        "result": (folder / "result.json", lambda: ResultsFolder(out).finished(run, tasks)),
        "checkpoint": (folder / "last.ckpt", lambda: WholeCheckpoints().load_checkpoint(folder / "last.ckpt")),
    }


def same(first: Any, second: Any) -> bool:
    """Whether two nested values are the same, in type too, and where they are not numbers."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (isinstance(first, float) and math.isnan(first) and math.isnan(second))


# All of it ---------------------------------------------------------------------------------------


def examine(folder: Path, kills: int, mutations: int, seed: int) -> Faults:
    """Do all that, and print what comes of it."""
    faults = Faults()
    plan = folder / "plan.yaml"
    plan.write_text(yaml.safe_dump(PLAN))
    seconds = uninterrupted(plan, folder / "uninterrupted")
    print(f"uninterrupted      {len(PLAN['methods']) + 1} runs of {EPOCHS} epochs, {seconds:.0f} s", flush=True)
    kill_at_random(plan, folder, kills, seconds, seed, faults)
    ways = ", ".join(f"{way} {number}" for way, number in sorted(faults.kills.items()))
    print(f"kills              {sum(faults.kills.values())} in {faults.benchmarks} benchmarks ({ways})", flush=True)
    print(f"a dying run        {dying_run(folder, faults).split(';')[0]}", flush=True)
    for name, (path, read) in readers(folder / "uninterrupted", tasks_of(Glyphs())).items():
        refused, harmless = mutate(path, read, mutations, seed, faults)
        print(f"{name:<10} damaged {mutations} times: {refused} refused, {harmless} read as it was", flush=True)
    for what in (*faults.lost, *faults.repeated, *faults.different, *faults.accepted):
        print(f"  {what}")
    print("lost, repeated, different, wrongly accepted: " + ", ".join(map(str, faults.counts)))
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--mutations", type=int, default=300, help="of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="an empty folder to keep; by default a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        faults = examine(folder, arguments.kills, arguments.mutations, arguments.seed)
    sys.exit(any(faults.counts))


if __name__ == "__main__":
    main()
