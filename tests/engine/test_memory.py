"""Refusals of steps that need more than Gramians."""

import pytest

from recon.engine.memory import check_one_process


def test_several_processes_are_refused_with_the_reason() -> None:
    check_one_process(several=False)
    with pytest.raises(RuntimeError, match="have to be summed before their inner products"):
        check_one_process(several=True)
