"""One request on its way, as the request mode holds it."""

from controlplane.simulation.serving.accounts import Account
from workloadplane.gateway.queueing import NORMAL, Ticket

#: Of whom all requests of a world are.
PROJECT = "project"
#: As the gateway estimates: four bytes a token, and an answer's token weighs two of the prompt's.
_BYTES_PER_TOKEN = 4
_OUTPUT_WEIGHT = 2.0


class Request:
    """``steps``: of a full batch, that it still needs; ``work_s``: replica-seconds; ``began_s``: when it got a seat.

    account:   of its clients
    is_during: it came while a region was lost
    """

    __slots__ = (
        "account",
        "began_s",
        "came_s",
        "input_tokens",
        "is_during",
        "output_tokens",
        "steps",
        "ticket",
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
    ) -> None:
        self.account = account
        self.is_during = False
        self.came_s = came_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.steps = prefill_steps + output_tokens
        self.work_s = work_s
        self.began_s: float | None = None
        self.ticket: Ticket[Request] = Ticket(self, PROJECT, NORMAL, self.cost, 0)

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
