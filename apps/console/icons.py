"""The console's few icons, drawn for it: strokes on a grid of 16, in the colour of the text around them."""

from collections.abc import Mapping

PATHS: Mapping[str, str] = {
    "overview": "M3 8h10M8 2.5c-3.3 3.2-3.3 7.8 0 11c3.3-3.2 3.3-7.8 0-11M2.5 8a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0",
    "deployments": "M8 2l5.5 3L8 8L2.5 5zM2.5 8L8 11l5.5-3M2.5 11L8 14l5.5-3",
    "plans": "M3 3.5h4v4H3zM9 8.5h4v4H9zM7 5.5h4v3M5 7.5v3h4",
    "clusters": "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01M8 5h3M8 11h3",
    "drains": "M2.5 3h11v4h-11zM8 9v5M5.5 11.5L8 14l2.5-2.5",
    "drills": "M8 2.5a5.5 5.5 0 1 0 5.5 5.5M8 5.5a2.5 2.5 0 1 0 2.5 2.5M8 8l5.5-5.5M10.5 2.5v3h3",
    "health": "M8 13.5C3.5 10.5 2 8 2.5 5.5c.6-2.6 4-3 5.5-.6c1.5-2.4 4.9-2 5.5.6C14 8 12.5 10.5 8 13.5",
    "incidents": "M8 2.5L14 13.5H2zM8 6.5v3M8 11.5h.01",
    "models": "M8 2l5.2 3v6L8 14l-5.2-3V5zM2.8 5L8 8l5.2-3M8 8v6",
    "engines": "M4.5 4.5h7v7h-7zM6.5 2v2.5M9.5 2v2.5M6.5 11.5V14M9.5 11.5V14M2 7h2.5M2 9h2.5M11.5 7H14M11.5 9H14",
    "keys": "M2.8 10.5a2.7 2.7 0 1 0 5.4 0a2.7 2.7 0 1 0-5.4 0M7.5 8.5l5.5-5.5M10.5 5.5l2 2",
    "events": "M2 8h2.5l2-5l3 10l2-5H14",
    "audit": "M4 2.5h8v11H4zM6.3 5.5h3.4M6.3 8h3.4M6.3 10.5h2",
    "chevrons": "M5 6l3-3l3 3M5 10l3 3l3-3",
}
