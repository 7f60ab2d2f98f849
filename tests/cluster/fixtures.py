"""A network for a test: `from tests.cluster.fixtures import network` in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.network import Network, NoNetwork, require


@pytest.fixture
def network() -> Iterator[Network]:
    """Hosts named `one` and `two`."""
    try:
        require()
        with Network(["one", "two"]) as network:
            yield network
    except NoNetwork as error:
        pytest.skip(str(error))
