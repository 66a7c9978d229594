"""A world map of dots, drawn from our own coarse outlines of the continents.

Good enough to see where a region is, small enough to travel with a page (one path of about 10 KB). Plate carrée: x is
the longitude and y the latitude, so any region's dot lies where its coordinates say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

NORTH, SOUTH = 80.0, -57.0
WIDTH, HEIGHT = 360.0, NORTH - SOUTH
STEP_DEG = 2.9

Point = tuple[float, float]

#: Outlines as (longitude, latitude), by hand and coarse.
_LAND: tuple[tuple[Point, ...], ...] = (
    # North and Central America
    ((-168, 65), (-156, 71), (-128, 70), (-110, 68), (-95, 72), (-85, 69), (-94, 61), (-93, 58), (-82, 55),
     (-79, 52), (-77, 57), (-78, 62), (-66, 59), (-56, 52), (-66, 44), (-74, 40), (-76, 35), (-81, 31),
     (-80, 25), (-83, 29), (-90, 29), (-97, 26), (-97, 20), (-91, 18), (-87, 21), (-88, 16), (-83, 14), (-79, 8),
     (-84, 9), (-92, 14), (-105, 20), (-109, 24), (-112, 29), (-117, 32), (-124, 40), (-124, 48), (-135, 58),
     (-150, 60), (-160, 55), (-165, 61)),
    # Baffin Island, Greenland, Iceland, Cuba
    ((-80, 73), (-62, 66), (-72, 63), (-88, 71)),
    ((-73, 78), (-60, 82), (-20, 82), (-18, 76), (-25, 70), (-42, 60), (-52, 65), (-57, 74)),
    ((-24, 64), (-14, 64), (-14, 67), (-23, 67)),
    ((-85, 22.5), (-75, 19.5), (-75, 21.5), (-84, 23.5)),
    # South America
    ((-78, 9), (-72, 12), (-60, 9), (-50, 1), (-35, -6), (-39, -17), (-48, -26), (-57, -36), (-65, -42), (-68, -54),
     (-74, -52), (-73, -38), (-71, -20), (-80, -6), (-80, 1)),
    # Africa, Madagascar
    ((-6, 35), (10, 37), (20, 31), (32, 31), (37, 22), (43, 12), (51, 12), (41, -2), (40, -15), (33, -27), (27, -34),
     (18, -34), (12, -17), (9, 1), (4, 6), (-8, 4), (-16, 13), (-16, 22), (-9, 31)),
    ((50, -13), (50, -16), (47, -25), (44, -22)),
    # Eurasia
    ((-9, 37), (-9, 43.5), (-2, 44), (-4, 48), (4, 52), (9, 57), (11, 54), (14, 54), (21, 57), (30, 60), (33, 66),
     (45, 68), (68, 69), (75, 73), (100, 77), (115, 74), (140, 73), (160, 70), (180, 69), (178, 65), (163, 60),
     (160, 53), (156, 51), (155, 58), (140, 60), (136, 54), (141, 48), (131, 43), (129, 36), (126, 34), (124, 39),
     (118, 39), (122, 31), (117, 23), (108, 21), (109, 12), (105, 9), (101, 13), (104, 1), (98, 8), (97, 17), (91, 22),
     (87, 21), (80, 13), (77, 8), (72, 20), (66, 25), (57, 26), (50, 30), (56, 25), (59, 22), (45, 13), (39, 21),
     (34, 29), (36, 36), (27, 37), (28, 41), (41, 41), (38, 46), (30, 46), (27, 42), (23, 40), (24, 37), (21, 38),
     (19, 42), (13, 45), (18, 40), (16, 38), (12, 42), (4, 43), (-1, 37)),
    # Scandinavia, Great Britain, Ireland
    ((5, 58.5), (5, 62), (15, 69), (28, 71), (40, 67), (30, 60), (22, 60), (24, 65), (18, 61), (17, 56), (12.5, 55.5)),
    ((-5, 50), (1.5, 51), (-1, 56), (-3, 59), (-6.5, 58), (-3.5, 54)),
    ((-10, 51.5), (-6, 52), (-5.5, 55), (-9.5, 55)),
    # Japan, Sakhalin, Philippines, Taiwan, Sri Lanka
    ((129.5, 31), (131, 34.5), (137, 37.5), (140, 42), (141, 45.5), (145.5, 44), (142, 41), (141, 35), (135, 33.5)),
    ((142, 46), (144, 49), (142.5, 54), (141.5, 50)),
    ((120, 18), (122, 18.5), (126.5, 7), (122, 6)),
    ((120, 22), (122, 25), (120.5, 25)),
    ((79.5, 6), (82, 7), (80, 10)),
    # Sumatra, Java, Borneo, Sulawesi, New Guinea
    ((95, 5.5), (98, 4), (106, -5), (102, -5)),
    ((105, -6), (115, -7.5), (115, -9), (106, -8)),
    ((109, 1), (117, 7), (118.5, 1), (115, -4), (110, -3)),
    ((119, -5.5), (120, 1), (125, 1.5), (122, -3)),
    ((131, -1), (141, -2.5), (150, -10), (141, -9), (133, -4)),
    # Australia, Tasmania, New Zealand
    ((114, -22), (122, -18), (130, -12), (136, -12), (137, -16), (140, -17), (142, -11), (146, -19), (153, -26),
     (150, -37), (141, -38), (132, -32), (116, -35)),
    ((145, -41), (148, -41), (147, -43.5)),
    ((172.5, -34.5), (178.5, -38), (174, -42), (169, -47), (166.5, -46), (172, -41)),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A dot on the map. ``tone`` is one of ok, warn, bad, busy, idle; ``anchor`` keeps labels inside the map."""

    name: str
    tone: str
    said: str
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str


def project(longitude: float, latitude: float) -> Point:
    """Degrees to the map's own coordinates; what lies beyond its northern or southern edge is drawn at the edge."""
    return round(longitude + 180.0, 1), round(NORTH - min(NORTH, max(SOUTH, latitude)), 1)


def place(*, name: str, tone: str, said: str, longitude: float, latitude: float) -> Place:
    """A region's dot with the position of its label."""
    x, y = project(longitude, latitude)
    to_the_left = x > WIDTH - 70
    return Place(
        name=name,
        tone=tone,
        said=said,
        x=x,
        y=y,
        label_x=x - 5 if to_the_left else x + 5,
        label_y=y + 2,
        anchor="end" if to_the_left else "start",
    )


@cache
def land_path() -> str:
    """All land as one SVG path of dots: zero-length strokes, to be drawn with round caps."""
    rows = int(HEIGHT / STEP_DEG)
    columns = int(WIDTH / STEP_DEG)
    dots: list[str] = []
    for row in range(rows + 1):
        latitude = NORTH - row * STEP_DEG
        for column in range(columns + 1):
            longitude = -180.0 + column * STEP_DEG
            if any(_inside(longitude, latitude, outline) for outline in _LAND):
                x, y = project(longitude, latitude)
                dots.append(f"M{x:g} {y:g}h0")
    return "".join(dots)


def graticule_path() -> str:
    """Lines of longitude and latitude each 30 degrees."""
    meridians = [f"M{x} 0V{HEIGHT:g}" for x in range(30, 360, 30)]
    parallels = [f"M0 {NORTH - latitude:g}H{WIDTH:g}" for latitude in range(60, -60, -30)]
    return "".join(meridians + parallels)


def _inside(x: float, y: float, outline: Sequence[Point]) -> bool:
    """Even-odd rule: a ray to the east crosses the outline an odd number of times."""
    inside = False
    previous_x, previous_y = outline[-1]
    for point_x, point_y in outline:
        if (point_y > y) != (previous_y > y) and x < (previous_x - point_x) * (y - point_y) / (
            previous_y - point_y
        ) + point_x:
            inside = not inside
        previous_x, previous_y = point_x, point_y
    return inside
