"""The processes that take part in a step: one, for now."""

from typing import Any

import torch


def refuse_processes() -> None:
    """Refuse to work in a run of several processes.

    Raises:
        RuntimeError: There are several.
    """
    distributed: Any = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise RuntimeError(
            f"recon trains in one process for now, this run has {distributed.get_world_size()}; start it with devices=1"
        )
