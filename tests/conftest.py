"""Fixtures for all suites: the real servers, once per run, and a world in which one partner's files travel."""

from tests.servers.openssh import openssh
from tests.servers.prefect import prefect_server
from tests.world import ecm, world

__all__ = ["ecm", "openssh", "prefect_server", "world"]
