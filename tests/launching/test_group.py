"""Real processes: they start in seconds, so that each test is of one outcome."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recon.launching.ends import ProcessDied, ProcessFailed
from recon.launching.group import train_together

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for parts, which the processes import

import parts  # noqa: E402


def test_processes_work_together_and_the_first_speaks() -> None:
    heard: list[str] = []
    environment = dict(os.environ)
    assert train_together(2, parts.sum_of_ranks, threads=1, heard=heard.append) == 1.0
    assert heard == ["connected"]
    assert dict(os.environ) == environment


def test_the_error_of_one_ends_all_and_is_the_one_that_is_told() -> None:
    with pytest.raises(ProcessFailed, match=r"^the second has bad data$") as error:
        train_together(2, parts.second_fails, threads=1)
    assert 'raise ValueError("the second has bad data")' in str(error.value.__cause__)


@pytest.mark.slow
def test_the_death_of_one_ends_all() -> None:
    with pytest.raises(ProcessDied, match=r"process 2 of 2 died \(killed by SIGKILL") as error:
        train_together(2, parts.second_is_killed, threads=1)
    assert error.value.how == "killed by SIGKILL, as when memory runs out"


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import functools, pathlib, sys; sys.path.insert(0, sys.argv[1]); import parts;"
        "from recon.launching.group import train_together;"
        "train_together(2, functools.partial(parts.wait_for_the_parent, pathlib.Path(sys.argv[2])), 1)"
    )
    command = [sys.executable, "-c", code, str(HERE), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
        files = [tmp_path / f"{rank}.pid" for rank in range(2)]
        until(lambda: all(file.exists() and file.read_text() for file in files))
        processes = [int(file.read_text()) for file in files]
        parent.send_signal(number)
        parent.wait(60)
    until(lambda: not any(map(alive, processes)))


def until(condition: object) -> None:
    """Wait until a condition holds, a minute at most."""
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
