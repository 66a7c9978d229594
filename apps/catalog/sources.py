"""Where weights may come from, and in which form. Pure; nothing is fetched here."""

from urllib.parse import urlsplit

from workloadplane.protocol.refusal import Refusal

SCHEMES = ("file", "s3", "gs", "az", "hf")
SAFE_FORMAT = "safetensors"


def source_check(source_uri: str) -> Refusal | None:
    """Whether an address of weights is acceptable: a known scheme, a place, no credentials in it."""

    def no(rule: str, remedy: str) -> Refusal:
        return Refusal(rule=rule, subject="source_uri", value=source_uri[:80], remedy=remedy)

    try:
        parts = urlsplit(source_uri)
        has_credentials = parts.username is not None or parts.password is not None
    except ValueError:
        return no("source_form", "write it as scheme://place/path")
    if parts.scheme not in SCHEMES:
        return no("source_scheme", f"use one of: {', '.join(scheme + '://' for scheme in SCHEMES)}")
    if has_credentials or parts.query or parts.fragment:
        return no(
            "source_without_credentials",
            "leave out user, password, query and fragment; agents hold credentials",
        )
    if any(character.isspace() or not character.isprintable() for character in source_uri):
        return no("source_form", "percent-encode blanks and control characters")
    segments = parts.path.split("/")
    if ".." in segments or "." in segments:
        return no("source_form", "write the path without . and ..")
    if parts.scheme == "file":
        is_whole = parts.netloc == "" and parts.path.startswith("/") and parts.path.strip("/") != ""
        return None if is_whole else no("source_form", "write it as file:///absolute/path")
    if not parts.netloc or not parts.path.strip("/"):
        return no("source_form", f"write it as {parts.scheme}://place/path")
    return None


def format_check(weight_format: str) -> Refusal | None:
    """Only safetensors. Anything pickled runs whatever code it carries when it is loaded."""
    if weight_format == SAFE_FORMAT:
        return None
    return Refusal(
        rule="weights_never_pickled",
        subject="format",
        value=weight_format[:80],
        remedy="convert the weights to safetensors: loading pickled weights runs whatever code they carry",
    )
