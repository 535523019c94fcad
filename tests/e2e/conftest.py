"""Fixtures of the end-to-end tests."""

from tests.release_world import quiet_release_world, release_world

__all__ = ["quiet_release_world", "release_world"]
