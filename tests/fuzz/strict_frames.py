"""WebSocket frames read a second time, by the letter of RFC 6455, to hold the gateway's scanner against."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """``first``: its first byte; ``payload``: as it was sent, masked or not; ``end``: where it ends."""

    first: int
    payload: bytes
    end: int

    @property
    def is_control(self) -> bool:
        return bool(self.first & 0x08)


@dataclass(frozen=True)
class Reading:
    """What a stream holds. ``passes``: how much of it may go on; ``wrong``: because the next frame breaks a rule."""

    frames: tuple[Frame, ...]
    passes: int
    wrong: bool


class _WrongError(Exception):
    pass


class _CutError(Exception):
    pass


def read(data: bytes, *, masked: bool, reserved_bits: bool, message_bytes_max: int) -> Reading:
    """One direction's bytes from their beginning."""
    frames: list[Frame] = []
    message: int | None = None  # bytes of the message that is under way
    at = 0
    while at < len(data):
        try:
            first, header, length = _header(data[at:], masked, reserved_bits, message is not None)
        except _CutError:
            return Reading(tuple(frames), at, wrong=False)
        except _WrongError:
            return Reading(tuple(frames), at, wrong=True)
        if not first & 0x08:
            message = (message or 0) + length
            if message > message_bytes_max:
                return Reading(tuple(frames), at, wrong=True)
            message = None if first & 0x80 else message
        end = at + header + length
        if end > len(data):
            return Reading(tuple(frames), len(data), wrong=False)
        frames.append(Frame(first, data[at + header : end], end))
        at = end
    return Reading(tuple(frames), at, wrong=False)


def _header(data: bytes, masked: bool, reserved_bits: bool, in_message: bool) -> tuple[int, int, int]:
    """The first byte, the header's size and the payload's length."""
    if len(data) < 2:
        raise _CutError
    first, opcode, length = data[0], data[0] & 0x0F, data[1] & 0x7F
    wrong = (
        bool(data[1] & 0x80) != masked,
        bool(first & 0x70) and not reserved_bits,
        opcode not in (0, 1, 2, 8, 9, 10),
        opcode >= 8 and (length > 125 or not first & 0x80),
        opcode == 0 and not in_message,
        opcode in (1, 2) and in_message,
    )
    if any(wrong):
        raise _WrongError
    size = {126: 4, 127: 10}.get(length, 2)
    if len(data) < size:
        raise _CutError
    if size > 2:
        length = int.from_bytes(data[2:size], "big")
        if not (126 <= length <= 0xFFFF if size == 4 else 0xFFFF < length < 1 << 63):
            raise _WrongError
    size += 4 if masked else 0
    if len(data) < size:
        raise _CutError
    return first, size, length
