"""One request on its way, as the request mode holds it."""

from typing import TYPE_CHECKING

from controlplane.simulation.serving.accounts import Account
from workloadplane.gateway.queueing import NORMAL, Ticket

if TYPE_CHECKING:
    from controlplane.simulation.serving.cluster import Cluster

#: Of whom all requests of a world are.
PROJECT = "project"
#: As the gateway estimates: four bytes a token, and an answer's token weighs two of the prompt's.
_BYTES_PER_TOKEN = 4
_OUTPUT_WEIGHT = 2.0


class Request:
    """``steps``: of a full batch, that it still needs; ``work_s``: replica-seconds; ``began_s``: when it got a seat.

    account:   of its clients
    origin:    where its client is, as the world counts places; home: whose gateway it came to, and that one's ticket
    back_s:    how long its first token is on the way to the client
    turn:      what is on its way to it from before another turn is void
    is_during: it came while a region was lost; is_outside: it is outside of the SLO; is_over: it has ended
    """

    __slots__ = (
        "account",
        "back_s",
        "began_s",
        "came_s",
        "home",
        "home_ticket",
        "input_tokens",
        "is_during",
        "is_outside",
        "is_over",
        "origin",
        "output_tokens",
        "steps",
        "ticket",
        "turn",
        "work_s",
    )

    def __init__(
        self,
        came_s: float,
        input_tokens: int,
        output_tokens: int,
        prefill_steps: float,
        work_s: float,
        *,
        account: Account,
        origin: int = 0,
        is_during: bool = False,
    ) -> None:
        self.account = account
        self.origin = origin
        self.is_during = is_during
        self.is_outside = self.is_over = False
        self.home: Cluster | None = None
        self.back_s = 0.0
        self.turn = 0
        self.came_s = came_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.steps = prefill_steps + output_tokens
        self.work_s = work_s
        self.began_s: float | None = None
        self.ticket = self.home_ticket = self.new_ticket()

    def new_ticket(self) -> "Ticket[Request]":
        """For the waiting room of a gateway that it has not come to before."""
        return Ticket(self, PROJECT, NORMAL, self.cost, 0)

    @property
    def cost(self) -> float:
        """In weighted tokens, as the waiting room charges it."""
        return self.input_tokens + _OUTPUT_WEIGHT * self.output_tokens

    @property
    def prompt_bytes(self) -> int:
        """As the picker weighs it."""
        return self.input_tokens * _BYTES_PER_TOKEN


#: In the place of those that have ended.
NOBODY = Request(0.0, 0, 0, 0.0, 0.0, account=Account())
