"""Asking for the example deployment as any user would, through the API, and chatting with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import yaml

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import CHECKOUT

DOCUMENT = CHECKOUT / "infra" / "examples" / "chat.yaml"

_LOOK_EVERY_S = 0.25
_CHAT_WITHIN_S = 60.0
_CLUSTERS_WITHIN_S = 30.0


@dataclass(frozen=True)
class ExampleDeployment:
    """The deployment of `infra/examples/chat.yaml` on one running set-up."""

    api: str
    api_key: str
    edge: str
    engine: str

    @property
    def name(self) -> str:
        """Its name, which is the `model` that clients send."""
        return str(self._document()["name"])

    def ensure(self) -> None:
        """Create it once its clusters are connected, or give it the engine that is asked for.

        Raises EmbeddedError with the API's reason.
        """
        with self._client() as client:
            found = client.get(f"/api/v1/deployments/{self.name}")
            if found.status_code == httpx.codes.NOT_FOUND:
                _wait_for_clusters(client)
                answer = client.post("/api/v1/deployments", json=self._document())
            elif found.is_success and found.json().get("engine") != self.engine:
                answer = client.patch(f"/api/v1/deployments/{self.name}", json={"engine": self.engine})
            else:
                answer = found
        if not answer.is_success:
            raise EmbeddedError(f"the example deployment was refused: {_reason(answer)}")

    def wait_ready(self, cluster: str, within_s: float, say: Callable[[str], None]) -> None:
        """Wait until all that is wanted is ready, a replica in this cluster among it.

        Ready replicas alone would not do: after a change of engine they may be the old ones. Raises
        EmbeddedError with what stood in the way.
        """
        deadline = time.monotonic() + within_s
        state: dict[str, Any] = {}
        with self._client() as client:
            while time.monotonic() < deadline:
                answer = client.get(f"/api/v1/deployments/{self.name}")
                if answer.is_success:
                    state = answer.json()
                    if _is_settled(state) and _ready_in(state, cluster) >= 1:
                        return
                    say(_what_is_missing(state))
                time.sleep(_LOOK_EVERY_S)
        raise EmbeddedError(
            f"no replica of {self.name} in {cluster} was ready in {within_s:.0f} s: "
            f"{_what_is_missing(state) or 'no condition says why'}"
        )

    def wait_chat(self, within_s: float) -> str:
        """Chat through the edge until an answer comes; returns its text. Raises EmbeddedError."""
        deadline = time.monotonic() + within_s
        reason = "no answer"
        while time.monotonic() < deadline:
            try:
                return self.chat()
            except EmbeddedError as error:
                reason = str(error)
                time.sleep(_LOOK_EVERY_S)
        raise EmbeddedError(f"no chat was answered through the edge in {within_s:.0f} s: {reason}")

    def chat(self) -> str:
        """One chat through the edge; returns its text. Raises EmbeddedError."""
        body = {"model": self.name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        headers = {"Authorization": f"Bearer {self.api_key}"}
        try:
            answer = httpx.post(
                f"{self.edge}/v1/chat/completions", json=body, headers=headers, timeout=_CHAT_WITHIN_S
            )
        except httpx.HTTPError as error:
            raise EmbeddedError(f"{type(error).__name__}: {error}") from None
        if not answer.is_success:
            raise EmbeddedError(f"{answer.status_code}: {_reason(answer)}")
        return str(answer.json()["choices"][0]["message"]["content"])

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.api, headers={"Authorization": f"Bearer {self.api_key}"}, timeout=15.0
        )

    def _document(self) -> dict[str, Any]:
        return {**yaml.safe_load(DOCUMENT.read_text()), "engine": self.engine}


def _wait_for_clusters(client: httpx.Client) -> None:
    """Until all clusters are connected, so that the first plan is the one that stays; for a while at most."""
    deadline = time.monotonic() + _CLUSTERS_WITHIN_S
    while time.monotonic() < deadline:
        answer = client.get("/api/v1/clusters")
        if answer.is_success and all(cluster["connected"] for cluster in answer.json()["items"]):
            return
        time.sleep(_LOOK_EVERY_S)


def _is_settled(state: dict[str, Any]) -> bool:
    """Whether the newest generation has been judged, is ready, and nothing more is under way."""
    conditions = {condition["type"]: condition for condition in state["conditions"]}
    judged = [conditions[kind] for kind in ("Ready", "Progressing") if kind in conditions]
    return [
        condition["status"] for condition in judged if condition["observed_generation"] == state["generation"]
    ] == [True, False]


def _ready_in(state: dict[str, Any], cluster: str) -> int:
    return sum(entry["ready"] for entry in state["replicas"]["by_cluster"] if entry["cluster"] == cluster)


def _what_is_missing(state: dict[str, Any]) -> str:
    good = {"Accepted": True, "Placed": True, "Progressing": False, "Ready": True}
    for condition in state.get("conditions", []):
        if condition["status"] != good.get(condition["type"], condition["status"]):
            return str(condition["message"] or condition["reason"])[:160]
    return ""


def _reason(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}"
    if isinstance(problem.get("error"), dict):
        return str(problem["error"].get("message"))
    return str(problem.get("detail") or problem.get("title") or f"HTTP {answer.status_code}")
