"""Releases in the soak happen in the same world as those of the end-to-end tests."""

from tests.release_world import release_world

__all__ = ["release_world"]
