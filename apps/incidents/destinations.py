"""Where webhooks may go: domains that the settings name, by https, to addresses that are looked up once and checked.

The address that was checked is the one that is connected to, so a name that answers differently a moment later leads
nowhere else. Nothing inside a network is reached: not by name, not by address, not by a redirect.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

URL_CHARS_MAX = 500


class NotAllowed(Exception):
    """A webhook may not go there; the message says why, and what would be right."""


@dataclass(frozen=True)
class Destination:
    """A URL in its parts. ``target``: path and query; ``is_loopback``: it must lead to this machine itself."""

    scheme: str
    host: str
    port: int
    target: str
    is_loopback: bool

    @property
    def authority(self) -> str:
        """As the header ``Host`` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"


def destination_of(url: str, *, domains: Sequence[str], loopback: bool) -> Destination:
    """The parts of a URL that is allowed. Raises NotAllowed."""
    if len(url) > URL_CHARS_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise NotAllowed(
            f"must be at most {URL_CHARS_MAX} printable ASCII characters without spaces or backslashes"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NotAllowed(f"is no URL ({error})") from error
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("https", "http") or not host:
        raise NotAllowed("must begin with https:// and name a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise NotAllowed("must hold no user, password or fragment: whoever reads the list would read them")
    is_loopback = _is_loopback_name(host)
    if is_loopback and not loopback:
        raise NotAllowed("leads to this machine itself; set MERIDIAN_WEBHOOK_LOOPBACK=1 to allow that")
    if not is_loopback:
        if parts.scheme != "https":
            raise NotAllowed("must begin with https://")
        if not any(host == domain or host.endswith(f".{domain}") for domain in domains):
            known = ", ".join(domains) or "none"
            raise NotAllowed(f"{host} is not among the domains of MERIDIAN_WEBHOOK_DOMAINS ({known})")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default_port = 443 if parts.scheme == "https" else 80
    return Destination(parts.scheme, host, default_port if port is None else port, target, is_loopback)


def address_chosen(destination: Destination, addresses: Iterable[str]) -> str:
    """Of the addresses that its name has, the one to connect to. Raises NotAllowed if one of them may not be."""
    found = list(dict.fromkeys(addresses))
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        fits = (
            address.is_loopback if destination.is_loopback else address.is_global and not address.is_multicast
        )
        if not fits:
            raise NotAllowed(
                f"{destination.host} has the address {text}, which is not to be reached from here"
            )
    if not found:
        raise NotAllowed(f"{destination.host} has no address")
    return found[0]


def _is_loopback_name(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
