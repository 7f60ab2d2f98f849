from tests.cluster.fixtures import network  # noqa: F401  a fixture
