"""The console's world for every test here."""

import pytest

from tests.console.world import World, world_make


@pytest.fixture
def world(db: None) -> World:
    return world_make()
