import pytest

from recon.conflict import BIN_EDGES
from recon.conflict.severity import first_severity


def test_edges_are_the_grid() -> None:
    assert BIN_EDGES[0] == -1.0 and BIN_EDGES[90] == -0.1 and BIN_EDGES[100] == 0.0 and BIN_EDGES[-1] == 1.0


def test_the_first_severity_that_is_given_is_taken() -> None:
    assert first_severity((None, -0.02, -0.1), "a map") == -0.02
    assert first_severity((0.0, -0.1), "a map") == 0.0


def test_no_severity_at_all_is_an_error_of_the_map() -> None:
    with pytest.raises(ValueError, match=r"no severity given for 'a map'; give one on the 0\.01 grid in \(-1, 0\]"):
        first_severity((None, None), "a map")
