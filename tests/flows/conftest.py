"""Releases happen in the world of the end-to-end tests."""

from tests.release_world import release_world

__all__ = ["release_world"]
