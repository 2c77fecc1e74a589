"""Processes played by threads of one process, which notice a wait without end at once."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.gradients.processes import Processes


class Board:
    """The place where the threads put their tensors for each other."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._changed = threading.Condition()
        self._rounds: list[dict[int, Any]] = []
        self._next = [0] * number
        self._ended: set[int] = set()

    def exchange(self, rank: int, kind: str, value: Any) -> list[Any]:
        """The values of all threads, which all enter the same operation."""
        with self._changed:
            number = self._next[rank]
            self._next[rank] += 1
            if number == len(self._rounds):
                self._rounds.append({})
            entered = self._rounds[number]
            entered[rank] = (kind, value)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(entered) == self.number or self._ended - entered.keys(), timeout=60)
            if len(entered) < self.number:
                raise TimeoutError(f"process {rank} waits without end in operation {number}, {kind}")
        kinds = {kind for kind, _ in entered.values()}
        if len(kinds) > 1:
            raise TimeoutError(f"the processes are in different operations: {sorted(kinds)}")
        return [entered[other][1] for other in range(self.number)]

    def end(self, rank: int) -> None:
        with self._changed:
            self._ended.add(rank)
            self._changed.notify_all()


class ThreadProcesses(Processes):
    def __init__(self, board: Board, rank: int) -> None:
        self.group, self.number, self.rank, self._board = None, board.number, rank, board

    @property
    def current(self) -> bool:
        return True

    def _all(self, name: str, tensor: Tensor) -> list[Tensor]:
        kind = f"{name} of {tuple(tensor.shape)} {tensor.dtype}"
        tensors: list[Tensor] = self._board.exchange(self.rank, kind, tensor.detach().clone())
        return tensors

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(torch.stack(self._all("sum", tensor)).sum(0))

    def begin_sum(self, tensor: Tensor) -> None:
        self.sum(tensor)

    def begin_shard_sum(self, tensor: Tensor, shard: Tensor) -> None:
        assert tensor.numel() == self.number * shard.numel()
        shard.copy_(torch.stack(self._all("shard sum", tensor)).sum(0).split(shard.numel() or 1)[self.rank])

    def join(self, shard: Tensor) -> Tensor:
        return torch.cat(self._all("join", shard))

    def gather_objects(self, own: Any) -> list[Any]:
        return self._board.exchange(self.rank, "objects", own)

    def copy_of_first(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.detach().copy_(self._all("copy", tensor)[0])


class Threads:
    """Runs a function in each of several threads, whose engines take them for processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._own = threading.local()
        alone = Processes()
        monkeypatch.setattr(
            "recon.engine.shared_part.Processes", lambda group=None: getattr(self._own, "processes", alone)
        )

    def run(self, number: int, function: Callable[[ThreadProcesses], Any]) -> list[Any]:
        """The result of each thread, or its error."""
        board, results = Board(number), [None] * number

        def one(rank: int) -> None:
            self._own.processes = ThreadProcesses(board, rank)
            try:
                results[rank] = function(self._own.processes)
            except Exception as error:
                results[rank] = error
            finally:
                board.end(rank)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results
