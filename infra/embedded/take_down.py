"""``down``: end all that was started for a state folder, and nothing else.

First the supervisor is let go (or ended, if it hangs), so that nothing is started again; its parts go on.
Then the parts end in the order in which they need each other: clients' side first, servers last. What is
left in the end, because a crash kept it out of the record, is found by its mark.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from infra.embedded import parts, record
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import CHECKOUT, Layout
from infra.embedded.parts import CLUSTERS
from infra.embedded.plain_path import remove_links
from infra.embedded.processes import INSTANCE_VARIABLE, marked, stop, wait_gone
from infra.embedded.record import RecordedPart
from infra.embedded.supervisor_client import SupervisorClient

_SUPERVISOR_WITHIN_S = 5.0
_STRAYS_WITHIN_S = 10.0
_REPLICAS_WITHIN_S = 120.0

_BEFORE_REPLICAS = (
    ("edge",),
    tuple(f"gateway-{cluster}" for cluster in CLUSTERS),
    tuple(f"agent-{cluster}" for cluster in CLUSTERS),
    ("links",),
)
_AFTER_REPLICAS = (("beat",), ("worker",), ("web",), ("valkey",), ("postgres",))


def down(layout: Layout, say: Callable[[str], None]) -> int:
    """End everything of this state folder; returns how many parts were running.

    Safe to call at any time, twice, or after the supervisor was killed.
    """
    if not layout.instance.exists():
        return 0
    instance = layout.instance.read_text().strip()
    _end_supervisor(layout)
    running = record.alive(layout)
    for names in _BEFORE_REPLICAS:
        _stop_together(running, names, instance, say)
    _stop_replicas(layout, instance, say)
    for names in _AFTER_REPLICAS:
        _stop_together(running, names, instance, say)
    _sweep(instance, say)
    remove_links(layout)
    for leftover in (layout.parts, layout.supervisor_pid, layout.supervisor_socket, layout.endpoints):
        leftover.unlink(missing_ok=True)
    return len(running)


def reset(layout: Layout, say: Callable[[str], None], *, keep_cache: bool) -> None:
    """``down``, then forget the state; ``keep_cache`` keeps models and compile caches.

    Raises EmbeddedError when the folder is none of ours or can't be removed.
    """
    if not layout.state.exists():
        return
    if not layout.instance.exists() and any(layout.state.iterdir()):
        raise EmbeddedError(f"{layout.state} was not made by `meridian up`: remove it yourself")
    down(layout, say)
    for entry in list(layout.state.iterdir()):
        if keep_cache and entry == layout.cache:
            continue
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        except OSError as error:
            raise EmbeddedError(f"{entry} can't be removed: {error.strerror}") from None
    if not keep_cache:
        layout.state.rmdir()


def _end_supervisor(layout: Layout) -> None:
    client = SupervisorClient(layout)
    identity = client.identity()
    try:
        client.release()
    except EmbeddedError:
        if identity is None:
            return
    if identity is not None and wait_gone([identity], _SUPERVISOR_WITHIN_S):
        identity.send(signal.SIGKILL)
        wait_gone([identity], _SUPERVISOR_WITHIN_S)


def _stop_together(
    running: dict[str, RecordedPart], names: tuple[str, ...], instance: str, say: Callable[[str], None]
) -> None:
    there = [running[name] for name in names if name in running]
    if not there:
        return
    with ThreadPoolExecutor(max_workers=len(there)) as pool:
        graceful = pool.map(lambda part: _stop_one(part, instance), there)
    for part, was_graceful in zip(there, graceful, strict=True):
        how = "" if was_graceful else f" (killed after {part.spec.stop_grace_s:.0f} s)"
        say(f"{part.spec.name} ended{how}")


def _stop_one(part: RecordedPart, instance: str) -> bool:
    spec = part.spec
    return stop(part.process, instance, signal_number=spec.stop_signal, grace_s=spec.stop_grace_s)


def _stop_replicas(layout: Layout, instance: str, say: Callable[[str], None]) -> None:
    """Replicas outlive their agent on purpose; the agent's own program knows how to end them."""
    for cluster in CLUSTERS:
        if not (layout.plane(cluster) / "agent").exists():
            continue
        try:
            subprocess.run(
                parts.stop_replicas(layout, cluster),
                cwd=CHECKOUT,
                env={**os.environ, INSTANCE_VARIABLE: instance},
                capture_output=True,
                timeout=_REPLICAS_WITHIN_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            say(f"replicas in {cluster} did not end by themselves ({type(error).__name__}): killing them")


def _sweep(instance: str, say: Callable[[str], None]) -> None:
    strays = list(marked(instance))
    if not strays:
        return
    for identity in strays:
        identity.send(signal.SIGTERM)
    for identity in wait_gone(strays, _STRAYS_WITHIN_S):
        identity.send(signal.SIGKILL)
    say(f"processes left over and ended: {len(strays)}")
