"""The map of the world."""

import pytest

from apps.console.worldmap import HEIGHT, WIDTH, land_path, place, project


@pytest.mark.parametrize(("longitude", "latitude"), [(-180, 90), (180, -90), (0, 0), (139.7, 35.7)])
def test_every_place_on_earth_is_on_the_map(longitude: float, latitude: float) -> None:
    """Also what lies beyond the map's edges is drawn, at the edge."""
    x, y = project(longitude, latitude)
    assert 0 <= x <= WIDTH
    assert 0 <= y <= HEIGHT


def test_labels_in_the_far_east_stay_inside() -> None:
    """A region near the map's right edge is named to its left."""
    tokyo = place(name="tokyo", tone="ok", said="", longitude=139.7, latitude=35.7)
    dublin = place(name="dublin", tone="ok", said="", longitude=-6.3, latitude=53.4)
    assert (tokyo.anchor, dublin.anchor) == ("end", "start")


def test_land_is_where_land_is() -> None:
    """A third of the map or less is land, and it is small enough to travel with a page."""
    dots = land_path().count("M")
    assert 1000 < dots < 2200
    assert len(land_path()) < 30_000
