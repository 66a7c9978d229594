"""``python -m workloadplane.agent``: run the agent of one cluster, or stop the replicas of one that is down.

Exit codes: 0 it was told to stop (replicas go on) or ``stop-replicas`` is done, 1 the state directory can't
be used, 2 wrong usage, 3 another agent holds the state directory.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop

from workloadplane.agent.agent import Agent, AgentOptions
from workloadplane.agent.disk import StateDir, StateDirBusyError
from workloadplane.agent.notices import NoticeEndpoint
from workloadplane.agent.notices.sources import PROVIDERS
from workloadplane.agent.stopping import stop_on_purpose
from workloadplane.agent.timings import AgentTimings
from workloadplane.engines import engine_named
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes.base import Runtime, RuntimeBusyError
from workloadplane.runtimes.process import ProcessRuntime
from workloadplane.words import counted

EXIT_UNUSABLE, EXIT_BUSY = 1, 3


def main(arguments: list[str], timings: AgentTimings) -> int:
    """Parse the command line and run; the exit code."""
    _log_as_json()
    try:
        if arguments[:1] == ["stop-replicas"]:
            return _stop_replicas(_stop_parser().parse_args(arguments[1:]))
        return _run(_run_parser().parse_args(arguments), timings)
    except (StateDirBusyError, RuntimeBusyError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return EXIT_BUSY
    except (OSError, ValueError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return EXIT_UNUSABLE


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workloadplane.agent", description="The agent of one cluster."
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="the agent's own directory")
    parser.add_argument(
        "--gateway-state-dir", type=Path, required=True, help="the gateway's: its usage spool is read there"
    )
    parser.add_argument("--control-url", type=_url, required=True, help="the control plane")
    parser.add_argument(
        "--gateway-url", type=_url, required=True, help="where clients reach this cluster's gateway"
    )
    parser.add_argument(
        "--enrolment-token-file", type=Path, required=True, help="holds the one-time token; may appear later"
    )
    parser.add_argument("--engines-dir", type=Path, required=True, help="environments of the engines")
    parser.add_argument("--cache-dir", type=Path, required=True, help="compile caches that outlive replicas")
    parser.add_argument(
        "--substitute",
        type=_substitution,
        action="append",
        default=[],
        metavar="ENGINE=ENGINE",
        help="run the second engine wherever the first is wanted; may be given several times",
    )
    parser.add_argument(
        "--notice-file",
        type=Path,
        help="tells of capacity that is taken back (JSON); default: notices.json in the state directory",
    )
    parser.add_argument(
        "--notice-endpoint",
        type=_notice_endpoint,
        action="append",
        default=[],
        metavar="PROVIDER=POOL[/NODE]=URL",
        help="a provider's metadata service (aws, gcp or azure) that tells the same of a pool or a node of it;"
        " may be given several times",
    )
    return parser


def _stop_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workloadplane.agent stop-replicas",
        description="Stop all replicas of a state directory whose agent is down.",
    )
    parser.add_argument("--state-dir", type=Path, required=True)
    return parser


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r}: give a URL like http://127.0.0.1:8800")
    return text.rstrip("/")


def _substitution(text: str) -> tuple[str, str]:
    wanted, separator, used = text.partition("=")
    if not wanted or not separator or not used:
        raise argparse.ArgumentTypeError(f"{text!r}: give ENGINE=ENGINE, for example vllm=simulator")
    engine = engine_named(used)
    if isinstance(engine, Refusal):
        raise argparse.ArgumentTypeError(str(engine))
    return wanted, used


def _notice_endpoint(text: str) -> NoticeEndpoint:
    provider, _, rest = text.partition("=")
    place, _, url = rest.partition("=")
    pool, separator, node = place.partition("/")
    known = next((each for each in PROVIDERS if each == provider), None)
    if known is None or not pool or bool(separator) != bool(node):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give PROVIDER=POOL[/NODE]=URL, for example aws=spot/node-1=http://169.254.169.254;"
            f" providers are {', '.join(PROVIDERS)}"
        )
    return NoticeEndpoint(provider=known, pool=pool, node=node or None, url=_url(url))


def _run(given: argparse.Namespace, timings: AgentTimings) -> int:
    options = AgentOptions(
        state_dir=given.state_dir.resolve(),
        gateway_state_dir=given.gateway_state_dir,
        control_url=given.control_url,
        gateway_url=given.gateway_url,
        enrolment_token_file=given.enrolment_token_file,
        notice_file=given.notice_file or given.state_dir.resolve() / "notices.json",
        notice_endpoints=tuple(given.notice_endpoint),
        substitutions=dict(given.substitute),
    )
    disk = StateDir(options.state_dir)
    runtime = ProcessRuntime(
        state_dir=options.state_dir, engines_dir=given.engines_dir, cache_dir=given.cache_dir
    )
    try:
        uvloop.run(_until_stopped(options, disk, runtime, timings))
    finally:
        disk.close()
    return 0


async def _until_stopped(
    options: AgentOptions, disk: StateDir, runtime: Runtime, timings: AgentTimings
) -> None:
    """Run until SIGTERM or SIGINT."""
    async with runtime:
        agent = Agent(options, disk, runtime, timings)
        work = asyncio.create_task(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work


def _stop_replicas(given: argparse.Namespace) -> int:
    stopped = asyncio.run(stop_on_purpose(given.state_dir.resolve()))
    sys.stdout.write(f"{counted(stopped, 'replica')} stopped\n")
    return 0


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], AgentTimings()))
