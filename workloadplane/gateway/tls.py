"""TLS on both sides: the certificate that clients see, and the authorities that replicas and peers are held to.

Files are read again when they change. What is open goes on with what it began with; only what begins later sees
the change, so a renewed certificate costs no stream. Files that do not fit together (a renewal half written) or
cannot be read leave in force what is, and are said once.
"""

import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)
_Stamp = tuple[tuple[int, int, int], ...]


class Reloading:
    """A context made of files. ``made`` is the one in force."""

    def __init__(self, what: str, paths: tuple[Path, ...], make: Callable[[], ssl.SSLContext]) -> None:
        """Raises OSError (ssl.SSLError is one) if the files do not make a context."""
        self._what = what
        self._paths = paths
        self._make = make
        self._stamp = _stamp(paths)
        self._is_failing = False
        self.made = make()

    def reload_if_changed(self) -> None:
        """To be called now and then."""
        try:
            stamp = _stamp(self._paths)
            if stamp == self._stamp:
                return
            self.made = self._make()
        except OSError as error:
            if not self._is_failing:
                _log.warning("not put in force", what=self._what, reason=str(error))
            self._is_failing = True
        else:
            self._stamp = stamp
            self._is_failing = False
            _log.info("put in force", what=self._what)


class ServerTls:
    """The side that clients see. ``context`` is given to the listening socket once."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises OSError if the files cannot be read or do not fit together."""
        self._current = Reloading(
            "certificate", (certificate, key), lambda: _server_context(certificate, key)
        )
        self.context = _server_context(certificate, key)
        self.context.sni_callback = self._choose

    def reload_if_changed(self) -> None:
        """To be called now and then."""
        self._current.reload_if_changed()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in every handshake, also without a server name: this one gets the certificate now in force."""
        connection.context = self._current.made


def client_tls(authorities: Path | None) -> Reloading:
    """The side that replicas and peers see: their certificates are verified, names too.

    ``authorities``: trust these alone instead of the system's. Raises OSError if the file has none.
    """
    paths = () if authorities is None else (authorities,)
    return Reloading("authorities", paths, lambda: _client_context(authorities))


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _client_context(authorities: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    """An encrypted key is refused; OpenSSL would ask for its password at a terminal."""
    return ""


def _stamp(paths: tuple[Path, ...]) -> _Stamp:
    stats = [path.stat() for path in paths]
    return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in stats)
