"""The printable stand-ins of bytes that GPT-2's byte-level BPE and the library use."""

from __future__ import annotations


def _stand_ins() -> tuple[str, ...]:
    """Character of each byte: itself where printable, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = _stand_ins()
BYTE_OF = {character: byte for byte, character in enumerate(BYTES)}


def as_text(entry: str) -> str:
    """What an entry of stand-ins spells; its bytes where that is no text."""
    try:
        data = bytes(BYTE_OF[character] for character in entry)
    except KeyError:  # not made of stand-ins
        return entry
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)
