"""The metadata services of three clouds on one port, as a machine finds them on its link-local address."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class FakeMetadata:
    """Use as a context manager. Fields are set by tests.

    aws_action:   what ``spot/instance-action`` answers; None: 404
    token:        the one that counts; another is answered with 401
    is_down:      everything is answered with 503
    """

    def __init__(self) -> None:
        self.aws_action: dict[str, str] | None = None
        self.token = "token-1"
        self.gcp_preempted = "FALSE"
        self.gcp_maintenance = "NONE"
        self.azure_events: list[dict[str, object]] = []
        self.is_down = False
        self.asked: list[str] = []
        fake = self

        class Handler(_Handler):
            metadata = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Status and body, by the headers that each cloud insists on."""
        self.asked.append(path)
        if self.is_down:
            return 503, "down"
        if (method, path) == ("PUT", "/latest/api/token"):
            return (200, self.token) if "x-aws-ec2-metadata-token-ttl-seconds" in headers else (400, "")
        if path == "/latest/meta-data/spot/instance-action":
            if headers.get("x-aws-ec2-metadata-token") != self.token:
                return 401, ""
            return (404, "") if self.aws_action is None else (200, json.dumps(self.aws_action))
        if path.startswith("/computeMetadata/v1/instance/") and headers.get("metadata-flavor") == "Google":
            return 200, self.gcp_preempted if path.endswith("/preempted") else self.gcp_maintenance
        if path == "/metadata/scheduledevents?api-version=2020-07-01" and headers.get("metadata") == "true":
            return 200, json.dumps({"DocumentIncarnation": 1, "Events": self.azure_events})
        return 403, ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    metadata: FakeMetadata

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        told = {name.lower(): value for name, value in self.headers.items()}
        status, text = self.metadata.answer(method, self.path, told)
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
