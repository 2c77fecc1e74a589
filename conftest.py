"""Settings of the doctests in recon/; the tests have theirs in tests/conftest.py."""

from collections.abc import Iterator

import pytest
from _pytest.doctest import DoctestItem


@pytest.fixture(autouse=True)
def _registry_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget the methods that an example registers."""
    if not isinstance(request.node, DoctestItem):
        yield
        return
    from recon.methods.base import registry

    before = dict(registry._registered)
    yield
    registry._registered.clear()
    registry._registered.update(before)
