"""Wire: how much a protocol buffer holds, told from its bytes before a parser makes objects of them.

Two bytes can be a whole empty message, and a parsed one takes eighty: a file of some megabytes would fill the memory.
"""

from typing import Any

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PACKED = 64
"""Bytes of packed numbers that count as one part: parsed, they take eight times their room at most."""


def count_parts(data: bytes, kind: Any, most: int) -> int:
    """Fields in a message and in all that it holds, `kind` being its descriptor; counting ends soon after `most`.

    What is no sound encoding counts up to where it breaks: saying so is the parser's work.
    """
    parts, position, inside = 0, 0, [(len(data), kind)]
    while inside and parts <= most:
        end, descriptor = inside[-1]
        if position >= end:
            inside.pop()
            continue
        tag, position = _number(data, position, end)
        field, wire = descriptor.fields_by_number.get(tag >> 3), tag & 7
        parts += 1
        if wire == _VARINT:
            _, position = _number(data, position, end)
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, position = _number(data, position, end)
            if length > end - position:
                break
            if field is not None and field.message_type is not None:
                inside.append((position + length, field.message_type))
                continue
            if field is not None and field.type not in (field.TYPE_BYTES, field.TYPE_STRING):
                parts += length // _PACKED
            position += length
        else:
            break
    return parts


def _number(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The varint at a position, and where the next thing begins; a broken one ends the message."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return 0, end
