"""How often one API key or person may call. Counted in the cache; without a cache nobody is refused."""

from typing import Any

from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle


class ApiKeyThrottle(SimpleRateThrottle):
    """One budget for each API key and each person (``MERIDIAN_API_RATE``), new with each minute (or other unit).

    The count is one number that the cache raises, so that calls at the same moment are all counted.
    """

    scope = "api_key"
    duration: int
    num_requests: int
    left_s: float

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        actor = getattr(view, "actor", None)
        return None if actor is None else self.cache_format % {"scope": actor.kind, "ident": actor.id}

    def allow_request(self, request: Request, view: Any) -> bool:
        budget = self.get_cache_key(request, view)
        if budget is None or self.rate is None:
            return True
        now = self.timer()
        window = int(now // self.duration)
        self.left_s = (window + 1) * self.duration - now
        try:
            self.cache.add(f"{budget}_{window}", 0, timeout=self.duration)
            return bool(self.cache.incr(f"{budget}_{window}") <= self.num_requests)
        except (RedisError, OSError):
            return True
        except ValueError:  # the window ended between the two
            return True

    def wait(self) -> float:
        """Seconds until the next budget."""
        return self.left_s


class SolveThrottle(ApiKeyThrottle):
    """A smaller budget beside that one (``MERIDIAN_SOLVE_RATE``), for calls that have a whole plan made."""

    scope = "solve"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        budget = super().get_cache_key(request, view)
        return None if budget is None else f"{self.scope}_{budget}"
