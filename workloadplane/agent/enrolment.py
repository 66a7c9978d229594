"""Enrolment: once, with a one-time token, an agent binds a key of its own making to its cluster.

The token's file may appear after the agent started, the control plane may be away: it tries until it is let
in. The same key enrols again with a *new* token when the control plane no longer knows or no longer trusts it.
"""

import asyncio
import hashlib
import random
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workloadplane.agent import AGENT_VERSION
from workloadplane.agent.backoff import pause_s
from workloadplane.agent.control import ControlClient, ControlError
from workloadplane.agent.disk import AgentIdentity, raw_public_key
from workloadplane.agent.timings import AgentTimings
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.sync import EnrolRequest, enrol_signed_bytes

_log = structlog.get_logger(__name__)

_TOKEN_BYTES_MAX = 4096
_TOKEN_LOOK_S = 0.2


class Enrolment:
    """Turns the token in a file into an identity."""

    def __init__(
        self,
        client: ControlClient,
        private_key: Ed25519PrivateKey,
        *,
        token_file: Path,
        instance_id: str,
        gateway_url: str,
        timings: AgentTimings,
    ) -> None:
        self._client = client
        self._private_key = private_key
        self._token_file = token_file
        self._instance_id = instance_id
        self._gateway_url = gateway_url
        self._timings = timings

    async def until_enrolled(self) -> AgentIdentity:
        """Try until the control plane accepts the token."""
        failures = 0
        while True:
            try:
                return await self._enrol(await self._token())
            except ControlError as error:
                _log.warning(
                    "not enrolled",
                    reason=str(error),
                    remedy=f"if its token is refused, put a new enrolment token into {self._token_file}",
                )
            failures += 1
            await asyncio.sleep(
                pause_s(
                    failures,
                    base_s=self._timings.back_off_base_s,
                    cap_s=self._timings.back_off_cap_s,
                    random=random.random(),  # noqa: S311
                )
            )

    async def _token(self) -> str:
        """The token, as soon as there is one."""
        token = self._read_token()
        if token is None:
            _log.info("waiting for an enrolment token", file=str(self._token_file))
        while token is None:
            await asyncio.sleep(_TOKEN_LOOK_S)
            token = self._read_token()
        return token

    async def with_new_token(self, identity: AgentIdentity) -> AgentIdentity | None:
        """A new identity if the file holds another token than the one used before. Raises ControlError."""
        token = self._read_token()
        if token is None or _digest(token) == identity.token_sha256:
            return None
        return await self._enrol(token)

    def _read_token(self) -> str | None:
        try:
            with self._token_file.open("rb") as file:
                token = file.read(_TOKEN_BYTES_MAX).decode("ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("enrolment token can't be read", file=str(self._token_file), reason=str(error))
            return None
        return token or None

    async def _enrol(self, token: str) -> AgentIdentity:
        answer = await self._client.enrol(
            EnrolRequest(
                wire_version=WIRE_VERSION,
                token=token,
                public_key=raw_public_key(self._private_key),
                instance_id=self._instance_id,
                gateway_url=self._gateway_url,
                agent_version=AGENT_VERSION,
                proof=self._private_key.sign(enrol_signed_bytes(token)),
            )
        )
        _log.info("enrolled", cluster=answer.cluster_name, cluster_id=answer.cluster_id)
        return AgentIdentity(
            cluster_id=answer.cluster_id,
            cluster_name=answer.cluster_name,
            signing_keys=answer.signing_keys,
            cluster_epoch=answer.cluster_epoch,
            plane_epoch=answer.plane_epoch,
            token_sha256=_digest(token),
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
