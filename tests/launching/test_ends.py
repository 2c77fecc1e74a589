import signal

import pytest
import torch

from recon.launching import ends
from recon.launching.ends import how_it_ended, let_another_tell, tells_of_another


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "it ended with status 3"),
        (-signal.SIGKILL, "killed by SIGKILL, as when memory runs out"),
        (-signal.SIGTERM, "killed by SIGTERM"),
    ],
)
def test_an_exit_code_is_told_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "secondary"),
    [
        (torch.distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
        (raised(RuntimeError("step 3 failed"), RuntimeError("Connection reset by peer [127.0.0.1]:29500")), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("the connection closed by peer review"), False),
        (raised(ValueError("bad"), KeyError("seg")), False),
    ],
)
def test_an_error_that_only_tells_of_another_process_is_known(error: Exception, secondary: bool) -> None:
    assert tells_of_another(error) is secondary


@pytest.mark.parametrize(
    ("environment", "error", "waits"),
    [
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}, ValueError("bad"), False),
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}, RuntimeError("Connection closed by peer"), True),
        ({"LOCAL_RANK": "0", "RANK": "4", "WORLD_SIZE": "8"}, ValueError("bad"), True),
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}, RuntimeError("Connection closed by peer"), False),
        ({}, RuntimeError("Connection closed by peer"), False),
    ],
)
def test_of_the_processes_of_a_launcher_the_first_tells_the_error(
    environment: dict[str, str], error: Exception, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(ends.time, "sleep", slept.append)
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    let_another_tell(error)
    assert bool(slept) is waits
