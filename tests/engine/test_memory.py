"""Refusals of steps that need more than Gramians."""

import pytest

from recon.engine.memory import check_alone


def test_several_processes_are_refused_with_the_reason() -> None:
    check_alone("gramian", several=False)
    check_alone("jacobian", several=True)
    with pytest.raises(RuntimeError, match="have to be summed before their inner products"):
        check_alone("gramian", several=True)
