"""The Python client: one pooled, keep-alive connection to the API and one to the nearest gateway.

For inference any OpenAI client works against ``Client.inference_url``; ``chat`` here is the same call for those
who do not have one at hand.
"""

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx

from meridian.errors import ApiError, MeridianError, Unreachable, UsageError

Document = dict[str, Any]

#: Connections are kept for reuse this long; gateways close idle ones after 75 s.
KEEP_ALIVE_S = 60.0
#: A first token may take a cold start; between two pieces of a stream there is never this much silence.
INFERENCE_TIMEOUT = httpx.Timeout(10.0, read=300.0)
API_TIMEOUT = httpx.Timeout(10.0, read=30.0)


class Client:
    """Everything that the console can do, from Python.

    api_url:       address of the control plane, without a path
    api_key:       a key of the project to work in
    inference_url: address of a gateway (or of the endpoint before them), without a path; only ``chat`` needs it
    """

    def __init__(self, api_url: str, api_key: str, inference_url: str | None = None) -> None:
        limits = httpx.Limits(max_keepalive_connections=8, keepalive_expiry=KEEP_ALIVE_S)
        headers = {"authorization": f"Bearer {api_key}"}
        self._api = httpx.Client(base_url=api_url, headers=headers, timeout=API_TIMEOUT, limits=limits)
        self.inference_url = inference_url
        self._inference = httpx.Client(headers=headers, timeout=INFERENCE_TIMEOUT, limits=limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._api.close()
        self._inference.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        etag: str | None = None,
    ) -> tuple[Document, httpx.Headers]:
        """One call of ``/api/v1``. Raises ApiError with the server's reason, Unreachable if nothing answers.

        UsageError where a number is not finite. A POST carries an idempotency key of its own, so that trying it again
        does not do it twice.
        """
        headers = {} if etag is None else {"if-match": etag}
        if method == "POST":
            headers["idempotency-key"] = str(uuid.uuid4())
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            request = self._api.build_request(
                method, f"/api/v1/{path}", json=body, params=parameters or None, headers=headers
            )
        except ValueError as error:  # JSON has no such numbers
            given = [name for name, value in (body or {}).items() if _is_not_finite(value)]
            raise UsageError(
                f"{', '.join(given) or 'a number'} is not finite; give a finite number"
            ) from error
        response = self._send(request)
        return _document(response), response.headers

    def _send(self, request: httpx.Request) -> httpx.Response:
        attempts = 3 if request.method in {"GET", "POST"} else 1
        for attempt in range(1, attempts + 1):
            try:
                return self._api.send(request)
            except httpx.TransportError as error:
                if attempt == attempts or isinstance(error, httpx.ConnectError):
                    raise Unreachable(
                        f"{request.url.copy_with(path='/', query=None)} does not answer: {error}"
                    ) from error
        raise AssertionError("unreachable")

    def get(self, path: str, **query: Any) -> Document:
        """One object."""
        return self.request("GET", path, query=query)[0]

    def items(self, path: str, **query: Any) -> Iterator[Document]:
        """All objects of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=200, cursor=cursor, **query)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def openapi(self) -> str:
        """The API's own description, OpenAPI 3.1 in YAML."""
        response = self._send(self._api.build_request("GET", "/api/v1/openapi.yaml"))
        if response.status_code >= 400:
            raise ApiError(response.status_code, {"title": response.reason_phrase})
        return response.text

    def deployment_apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Create the deployment, or replace the one of that name; with ``dry_run`` only say what would happen."""
        query = {"dry_run": "true"} if dry_run else None
        try:
            return self.request("POST", "deployments", body=document, query=query)[0]
        except ApiError as error:
            if error.status != 409 or "name" not in document:
                raise
        return self.request("PUT", f"deployments/{document['name']}", body=document, query=query)[0]

    def plan(self, generation: int | str = "latest") -> Document:
        """A plan with all of the project's deployments and their losses, page by page."""
        plan: Document | None = None
        cursor: str | None = None
        while True:
            page = self.get(f"plans/{generation}", limit=200, cursor=cursor)
            if plan is None:
                plan = page
            else:
                plan["deployments"] += page["deployments"]
                plan["certificate"]["losses"] += page["certificate"]["losses"]
            cursor = page.pop("next_cursor", None)
            if not cursor:
                return plan
            generation = plan["plan_generation"]  # whatever is the latest meanwhile

    def plan_what_if(self, changes: Mapping[str, Any]) -> Document:
        """What would be planned with these changes (``lose``, ``prices``, ``add_pools`` ...); writes nothing."""
        return self.request("POST", "plans/what-if", body=changes)[0]

    def regions(self) -> Document:
        """Where inference is served, as the gateway at ``inference_url`` knows it."""
        response = self._inference.get(f"{self._gateway()}/.well-known/meridian/regions")
        return _document(response)

    def chat(self, deployment: str, messages: list[Document], **options: Any) -> Iterator[str]:
        """The answer to a conversation, piece by piece as it is generated."""
        body = {"model": deployment, "messages": messages, "stream": True, **options}
        try:
            with self._inference.stream(
                "POST", f"{self._gateway()}/v1/chat/completions", json=body
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    _document(response)
                yield from _pieces(response)
        except httpx.TransportError as error:
            raise Unreachable(f"{self._gateway()} does not answer: {error}") from error

    def _gateway(self) -> str:
        if self.inference_url is None:
            raise MeridianError("no gateway is known; give the client an inference_url")
        return self.inference_url


class _Answer(Document):
    """An object of an answer. A field that it lacks is told like any failure: whoever answers may be older than we."""

    __slots__ = ("_path",)

    def __init__(self, fields: Document, *, path: str) -> None:
        super().__init__(fields)
        self._path = path

    def __missing__(self, field: str) -> Any:
        raise MeridianError(
            f"the answer of {self._path} has no field {field!r}: what answers may be older than this command;"
            " bring both to one version"
        )


def _document(response: httpx.Response) -> Document:
    """The JSON of an answer; raises ApiError for a refusal."""
    try:
        answer = partial(_Answer, path=response.url.path)
        document = response.json(object_hook=answer) if response.content else {}
    except ValueError:
        document = {"title": f"{response.reason_phrase}: the answer is not JSON"}
        if response.status_code < 400:
            raise MeridianError(f"{response.url} is not Meridian's: its answer is not JSON") from None
    if response.status_code >= 400:
        raise ApiError(response.status_code, document if isinstance(document, dict) else {})
    return document if isinstance(document, dict) else {"items": document}


def _pieces(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        event = json.loads(data)
        if "error" in event:
            raise ApiError(response.status_code, event)
        for choice in event.get("choices", []):
            piece = choice.get("delta", {}).get("content")
            if piece:
                yield piece


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
