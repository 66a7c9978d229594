"""Every bound of the gateway in one place; each is an option of the program."""

import argparse
from dataclasses import dataclass, field, fields


def _limit(default: float, text: str) -> float:
    made: float = field(default=default, metadata={"help": text})
    return made


def _count(default: int, text: str) -> int:
    made: int = field(default=default, metadata={"help": text})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what clients, replicas and peers may cost this process."""

    header_bytes_max: int = _count(16 * 1024, "request line and headers of one request")
    body_bytes_max: int = _count(32 * 1024 * 1024, "body of one request")
    body_bytes_total_max: int = _count(512 * 1024 * 1024, "bodies of all requests in this process together")
    connections_max: int = _count(20_000, "client connections open at once")
    pipelined_requests_max: int = _count(16, "requests that a client may send ahead on one connection")
    header_timeout_s: float = _limit(10.0, "for a request's headers to arrive")
    body_timeout_s: float = _limit(60.0, "for a request's body to arrive")
    keep_alive_timeout_s: float = _limit(75.0, "an idle client connection is kept")
    client_stall_timeout_s: float = _limit(
        60.0, "a client may leave its stream unread, or an engine its session"
    )
    connect_timeout_s: float = _limit(2.0, "for a connection to a replica or peer")
    first_byte_timeout_s: float = _limit(600.0, "for the first byte, or a stream's first event, of an answer")
    stream_idle_timeout_s: float = _limit(60.0, "between two events of a stream")
    upstream_idle_timeout_s: float = _limit(30.0, "an unused connection to a replica or peer is kept")
    upstream_idle_connections_max: int = _count(256, "unused connections kept for each replica or peer")
    hold_timeout_s: float = _limit(180.0, "a request is held while replicas start or are full")
    hold_requests_max: int = _count(2_000, "requests held at once")
    hold_bytes_max: int = _count(256 * 1024 * 1024, "bodies of held requests together")
    hold_requests_per_project_max: int = _count(1_000, "requests of one project held at once")
    hold_bytes_per_project_max: int = _count(128 * 1024 * 1024, "bodies of one project's held requests")
    hold_comment_interval_s: float = _limit(10.0, "between keep-alive comments to a held client of a stream")
    ejection_s: float = _limit(1.0, "a replica that broke a connection is avoided, at first")
    ramp_rung_s: float = _limit(
        5.0, "a region that returns keeps each share of the traffic (1, 5, 25, 100 percent)"
    )
    stuck_first_token_s: float = _limit(10.0, "of silence, at least, make a replica stuck before an answer")
    stuck_stream_s: float = _limit(5.0, "of silence, at least, make a replica stuck in mid-stream")
    websockets_max: int = _count(10_000, "WebSocket sessions open at once")
    websockets_per_project_max: int = _count(5_000, "WebSocket sessions of one project open at once")
    websockets_per_replica_max: int = _count(256, "WebSocket sessions open at one replica, busy or not")
    websocket_message_bytes_max: int = _count(32 * 1024 * 1024, "one WebSocket message")
    websocket_idle_timeout_s: float = _limit(600.0, "a WebSocket session may go without a message")
    resume_bytes_max: int = _count(128 * 1024 * 1024, "bodies kept so that their streams can be resumed")
    explained_requests_max: int = _count(4_096, "requests whose choices are kept for /debug/explain")
    explained_one_in: int = _count(1, "of so many requests one has its choices kept")
    standby_probe_s: float = _limit(15.0, "between two tests of a deployment that this cluster stands by for")
    drain_timeout_s: float = _limit(120.0, "for running requests to finish after SIGTERM")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option a bound, ``--header-bytes-max`` and so on, with its default."""
    for each in fields(Limits):
        kind = int if isinstance(each.default, int) else float
        parser.add_argument(
            "--" + each.name.replace("_", "-"),
            type=kind,
            default=each.default,
            metavar="N" if kind is int else "SECONDS",
            help=f"{each.metadata['help']} (default {each.default})",
        )


def from_arguments(arguments: argparse.Namespace) -> Limits:
    """The bounds as given. Raises ValueError naming the option that is not positive."""
    values = {each.name: getattr(arguments, each.name) for each in fields(Limits)}
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"--{name.replace('_', '-')}: {value} is not above 0; give a positive number")
    return Limits(**values)
