"""The origin of a result: versions, device, date and commit."""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from recon.version import __version__

_TOLD = {"recon": "Recon", "torch": "torch", "device": "device"}
"""Keys that make results differ by more than the order of sums, and their names."""


def origin_on(device: torch.device) -> dict[str, Any]:
    """The origin of a result that this process has just found.

    >>> sorted(origin_on(torch.device("cpu")).keys() - {"commit"})
    ['date', 'device', 'recon', 'threads', 'torch']

    Args:
        device: The device that it was trained on.

    Returns:
        ``recon`` and ``torch``, their versions; ``threads`` of the process; the name of the
        ``device``; the ``date`` in UTC; and ``commit``, the one checked out in the working folder,
        where that is in a git repository.
    """
    commit = _commit()
    return {
        "recon": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": _name(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **({} if commit is None else {"commit": commit}),
    }


def mixed_origins(runs: Iterable[Mapping[str, Any]]) -> str:
    """A sentence that says which results come from other versions or devices; empty for one origin.

    >>> runs = [{"origin": {"recon": "0.1.0", "torch": "2.9", "device": "cpu"}}] * 2
    >>> mixed_origins([*runs, {"origin": {"recon": "0.1.0", "torch": "3.0", "device": "cpu"}}])
    'The runs differ in torch: 2.9 (2 runs), 3.0 (1 run).'

    Args:
        runs: The runs, as ``results.json`` has them. Those of earlier versions have no origin.
    """
    origins = [run.get("origin") or {} for run in runs]
    found = []
    for key, name in _TOLD.items():
        values = [str(origin.get(key, "unknown")) for origin in origins]
        counts = {value: values.count(value) for value in dict.fromkeys(values)}
        if len(counts) > 1:
            told = (f"{value} ({times} run{'s' if times > 1 else ''})" for value, times in counts.items())
            found.append(f"{name}: {', '.join(told)}")
    return f"The runs differ in {'; in '.join(found)}." if found else ""


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _processor() if device.type == "cpu" else device.type


def _processor() -> str:
    """The name of the processor, as far as the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu ({[*names, platform.processor() or platform.machine()][0]})"


def _commit() -> str | None:
    # It only reads: unlike `git status`, it runs none of the programs that a repository may name.
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()
