"""A control plane that says what a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.meridian.stand_in import ECHO, Answers


@pytest.fixture
def server() -> Iterator[Callable[[Answers], str]]:
    """A control plane that says what a test tells it to; returns its address."""
    running: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, document = answers.get(self.path.split("?")[0], (404, {"detail": "nothing here"}))
                sent = self.rfile.read(int(self.headers.get("content-length", "0")))
                body = sent if document is ECHO else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_DELETE = do_PATCH = do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Quietly."""

        listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        running.append(listening)
        return f"http://127.0.0.1:{listening.server_address[1]}"

    yield start
    for listening in running:
        listening.shutdown()
        listening.server_close()
