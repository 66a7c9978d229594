"""Wait for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")


def eventually(
    condition: Callable[[], T | None], *, within_s: float = 30.0, what: str = "the condition"
) -> T:
    """The first truthy result of ``condition``; raises AssertionError with the last result after ``within_s``."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {within_s} s; last seen: {result!r}")
        time.sleep(0.02)


@overload
async def eventually_async(
    condition: Callable[[], Coroutine[Any, Any, T]], *, within_s: float = ..., what: str = ...
) -> T: ...
@overload
async def eventually_async(condition: Callable[[], T], *, within_s: float = ..., what: str = ...) -> T: ...
async def eventually_async(
    condition: Callable[[], T | Awaitable[T]], *, within_s: float = 30.0, what: str = "the condition"
) -> T:
    """``eventually`` for a condition that may be a coroutine function."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {within_s} s; last seen: {result!r}")
        await asyncio.sleep(0.02)
