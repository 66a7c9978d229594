"""``python -m workloadplane.gateway``: options, signals, exit status.

Exit status: 0 after an orderly end, 1 when the port, the state directory or a TLS file can't be had, 2 for wrong
options.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TextIO, cast

import structlog
import uvloop

from workloadplane.gateway import limits
from workloadplane.gateway.collector import collector
from workloadplane.gateway.handover import lifeline
from workloadplane.gateway.handover.family import SUCCEEDED, Family, child_command
from workloadplane.gateway.outlet import Lines, outlet_of
from workloadplane.gateway.process import GatewayProcess, Options

_PROCESSES_MAX = 64
_GC_YOUNG_OBJECTS = 50_000


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    if (given.tls_certificate is None) != (given.tls_key is None):
        parser.error("--tls-certificate and --tls-key: give both, or neither to serve without TLS")
    index: int | None = given.process_index
    try:
        options = _options(given)
    except ValueError as error:
        parser.error(str(error))
    _log_as_json()
    try:
        if given.processes > 1 and index is None:
            return asyncio.run(_run_family(options, child_command(arguments)))
        succeeded = uvloop.run(_run(options))
    except OSError as error:
        where = f"{options.host}:{options.port}, {options.state_dir} or a TLS file"
        sys.stderr.write(f"gateway: {where}: {error}\n")
        return 1
    return SUCCEEDED if succeeded and index is not None else 0


def _options(given: argparse.Namespace) -> Options:
    """Raises ValueError naming the option that cannot be."""
    index: int | None = given.process_index
    return Options(
        agent_state_dir=given.agent_state_dir.absolute(),
        state_dir=given.state_dir.absolute(),
        host=given.host,
        port=given.port,
        share_port=given.share_port or index is not None,
        take_over=given.take_over,
        tls_certificate=_absolute(given.tls_certificate),
        tls_key=_absolute(given.tls_key),
        tls_ca=_absolute(given.tls_ca),
        otlp=collector(given.otlp_endpoint, os.environ),
        trace_ratio=_ratio(given.trace_ratio),
        process_index=_index(index, given.processes),
        process_count=given.processes,
        operator_networks=tuple(ip_network(each.strip()) for each in given.operator_networks.split(",")),
        limits=limits.from_arguments(given),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workloadplane.gateway", description=__doc__)
    parser.add_argument("--agent-state-dir", type=Path, required=True, help="where the agent keeps its state")
    parser.add_argument("--state-dir", type=Path, required=True, help="where usage is spooled")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 = any free one")
    parser.add_argument(
        "--operator-networks",
        default="127.0.0.0/8,::1/128",
        help="networks that may read /metrics (default: this machine)",
    )
    _add_processes(parser)
    _add_tls(parser)
    _add_tracing(parser)
    limits.add_arguments(parser)
    return parser


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--share-port",
        action="store_true",
        help="let further gateway processes listen on the same port (SO_REUSEPORT)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="run as this many processes on the port, each the owner of some deployments' queues (default 1)",
    )
    parser.add_argument("--process-index", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="take the listening socket and the idle connections over from the gateway that serves this state "
        "directory, if there is one; it finishes what it has begun and ends",
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tls-certificate", type=Path, metavar="FILE", help="serve TLS with this chain (PEM)"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM, not encrypted)")
    parser.add_argument(
        "--tls-ca",
        type=Path,
        metavar="FILE",
        help="hold replicas and peers that speak TLS to these authorities alone (default: the system's)",
    )


def _add_tracing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--otlp-endpoint",
        metavar="URL",
        help="send spans to this OTLP/HTTP collector, as http://127.0.0.1:4318 (default: what OpenTelemetry's"
        " OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT says, else no spans; headers come from"
        " OTEL_EXPORTER_OTLP_[TRACES_]HEADERS)",
    )
    parser.add_argument(
        "--trace-ratio",
        type=float,
        default=0.01,
        metavar="RATIO",
        help="of the requests that bring no trace context, how many begin a trace: 0 ... 1 (default 0.01)",
    )


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path is not None else None


def _ratio(ratio: float) -> float:
    if not 0 <= ratio <= 1:
        raise ValueError(f"--trace-ratio: {ratio} is not in 0 ... 1")
    return ratio


def _index(index: int | None, processes: int) -> int:
    if not 1 <= processes <= _PROCESSES_MAX:
        raise ValueError(f"--processes: {processes} is not in 1 ... {_PROCESSES_MAX}")
    if index is not None and not 0 <= index < processes:
        raise ValueError(f"--process-index: {index} is not below --processes {processes}")
    return index or 0


async def _run_family(options: Options, command: list[str]) -> int:
    family = Family(
        command,
        count=options.process_count,
        host=options.host,
        port=options.port,
        state_dir=options.state_dir,
    )
    return await family.run(takes_over=options.take_over)


async def _run(options: Options) -> bool:
    """Whether it ended because a successor serves."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lifeline.on_parent_gone(loop, stop.set)
    process = GatewayProcess(options)
    # What lives as long as the process need not be looked at by every collection.
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind, so what is young goes by itself; looking for it every few requests only costs.
    gc.set_threshold(_GC_YOUNG_OBJECTS, 10, 10)
    return await process.serve(stop)


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Lines(outlet_of(sys.stderr)))),
    )
