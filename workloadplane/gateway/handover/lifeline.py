"""A child ends when its parent is gone, however that went.

The parent holds the writing end of a pipe and never writes; when it ends, by a signal that nobody can catch, too,
the kernel closes it and the child reads the pipe's end. (It needs no system call of one kind of Unix alone.)
"""

import asyncio
import os
from collections.abc import Callable

VARIABLE = "MERIDIAN_PARENT_FD"


def on_parent_gone(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    """Call ``act`` once the process that named its pipe in the environment is gone; never if none did."""
    number = os.environ.pop(VARIABLE, "")
    if not number.isdigit():
        return
    pipe = int(number)

    def gone() -> None:
        loop.remove_reader(pipe)
        os.close(pipe)
        act()

    loop.add_reader(pipe, gone)
