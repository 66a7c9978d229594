"""Places as the console shows them: by kind, and regions as dots on the map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from apps.console import worldmap
from apps.fleet.models import Region
from apps.incidents.services import PlaceShown

#: Word of a state -> the tone in which it is shown.
STATE_TONES: Final[Mapping[str, str]] = {
    "healthy": "ok", "suspect": "warn", "ejected": "bad", "probation": "busy", "unknown": "idle",
}  # fmt: skip
_TITLES: Final = {"region": "Regions", "cluster": "Clusters", "pool": "Pools", "provider": "Providers",
           "control_plane": "Control plane"}  # fmt: skip


@dataclass(frozen=True)
class PlaceRow:
    """A place with the tone of its state."""

    place: PlaceShown
    tone: str


@dataclass(frozen=True)
class PlaceGroup:
    """All places of one kind."""

    kind: str
    title: str
    rows: tuple[PlaceRow, ...]


def place_groups(places: Sequence[PlaceShown]) -> tuple[PlaceGroup, ...]:
    """Regions first, then what they hold, then who rents them out. Replicas have pages of their own."""
    return tuple(
        PlaceGroup(
            kind,
            title,
            tuple(PlaceRow(row, STATE_TONES.get(row.state, "idle")) for row in places if row.kind == kind),
        )
        for kind, title in _TITLES.items()
    )


def places_on_map(places: Sequence[PlaceShown], regions: Mapping[str, Region]) -> tuple[worldmap.Place, ...]:
    """Each region where it lies."""
    return tuple(
        worldmap.place(
            name=row.name,
            tone=STATE_TONES.get(row.state, "idle"),
            said=f"{row.state}, {row.evidence}",
            longitude=regions[row.name].longitude,
            latitude=regions[row.name].latitude,
        )
        for row in places
        if row.kind == "region" and row.name in regions
    )
