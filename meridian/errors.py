"""What can go wrong for a caller, cut by what the caller must do; and the exit codes of the command."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of ``meridian``; part of its interface."""

    OK = 0
    FAILED = 1  # the server said no, or what was waited for ended badly
    USAGE = 2  # wrong arguments, or a file that cannot be read
    NOT_AUTHORISED = 3  # log in, or use a key with the scope that is named
    NOT_FOUND = 4
    CONFLICT = 5  # the object exists, or has changed since it was read
    UNREACHABLE = 6  # nothing answers at the address
    TIMED_OUT = 7  # still under way when --timeout was over


class MeridianError(Exception):
    """A failure that is told in one line."""

    exit_code: ExitCode = ExitCode.FAILED


class UsageError(MeridianError):
    """The caller gave something that cannot be used."""

    exit_code = ExitCode.USAGE


class NotLoggedIn(MeridianError):
    """No address or no key is known."""

    exit_code = ExitCode.NOT_AUTHORISED


class NotFound(MeridianError):
    """There is nothing of that name."""

    exit_code = ExitCode.NOT_FOUND


class Unreachable(MeridianError):
    """Nothing answers, or it stopped answering."""

    exit_code = ExitCode.UNREACHABLE


class TimedOut(MeridianError):
    """It was not finished in the time that the caller gave."""

    exit_code = ExitCode.TIMED_OUT


_EXIT_CODES: Mapping[int, ExitCode] = {
    401: ExitCode.NOT_AUTHORISED,
    403: ExitCode.NOT_AUTHORISED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
}


class ApiError(MeridianError):
    """The API answered with a problem document (RFC 9457) or, at a gateway, with OpenAI's error object."""

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        self.status = status
        self.document = dict(document)
        self.exit_code = _EXIT_CODES.get(status, ExitCode.FAILED)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        if isinstance(self.document.get("error"), dict):
            return f"{self.document['error'].get('message', 'refused')} ({self.status})"
        said = str(self.document.get("detail") or self.document.get("title") or "refused")
        errors = self.document.get("errors", [])
        # The detail of a document's problem sums its errors up: then these say it all, and more.
        summed_up = bool(errors) and all(_told(error) in said for error in errors)
        parts = [] if summed_up else [said]
        parts.extend(_told(error, in_full=True) for error in errors)
        return f"{'; '.join(parts)} ({self.status})"


#: What the API says where the detail has said it all; beside the detail it says nothing.
UNSPECIFIC_REMEDY = "correct it as the detail says"


def _told(error: Mapping[str, Any], *, in_full: bool = False) -> str:
    """What is wrong with a field; in full with the value that was sent and the remedy."""
    where = error.get("pointer") or error.get("parameter") or "the document"
    detail = str(error.get("detail", ""))
    if not in_full:
        return f"{where}: {detail}"
    value = f" {error['value']!r}" if error.get("value") is not None else ""
    said = error.get("remedy")
    remedy = f"; {said}" if said and said != UNSPECIFIC_REMEDY else ""
    return f"{where}{value}: {detail.rstrip('.')}{remedy}"
