"""What is rented how: reserved, on demand, or spot?

``reserve(demand, alternative, reserved_micro_usd_per_h)`` how many instances to commit to for a term, and
``outlook(instances_by_h, term_h)`` the demand to do that for;
``Blend(markets, policy).step(state, event, now_s) -> (state, actions, reasons)`` how a wanted number is served by spot
and on-demand instances; ``deadline.step(work, state, event, now_s)`` where asynchronous work runs so that it keeps its
deadline; ``FadingRate`` and ``FadingShare`` what is believed of a hazard and of an obtainability.

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Money is micro-dollars. Never imports Django,
``apps`` or the rooms that load and apply what is decided here.
"""

from controlplane.procurement.blend import TOGETHER_S, Blend
from controlplane.procurement.blend_state import BlendPolicy, BlendState
from controlplane.procurement.cover import cover
from controlplane.procurement.door import Door, DoorPolicy
from controlplane.procurement.market import (
    Action,
    Event,
    Held,
    Holdings,
    Launch,
    Lost,
    Market,
    NotObtained,
    Obtained,
    Policy,
    Priced,
    Ready,
    Rented,
    Stop,
    Wanted,
)
from controlplane.procurement.outlook import OutlookPolicy, outlook
from controlplane.procurement.rates import FadingRate, FadingShare
from controlplane.procurement.reserved import Alternative, DemandSample, ReservedPlan, plan_cost, reserve

__all__ = [
    "TOGETHER_S",
    "Action",
    "Alternative",
    "Blend",
    "BlendPolicy",
    "BlendState",
    "DemandSample",
    "Door",
    "DoorPolicy",
    "Event",
    "FadingRate",
    "FadingShare",
    "Held",
    "Holdings",
    "Launch",
    "Lost",
    "Market",
    "NotObtained",
    "Obtained",
    "OutlookPolicy",
    "Policy",
    "Priced",
    "Ready",
    "Rented",
    "ReservedPlan",
    "Stop",
    "Wanted",
    "cover",
    "outlook",
    "plan_cost",
    "reserve",
]
