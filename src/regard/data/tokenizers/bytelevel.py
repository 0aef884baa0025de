"""The printable stand-ins of bytes that GPT-2's byte-level BPE and the library use."""

from __future__ import annotations


def _stand_ins() -> tuple[str, ...]:
    """Character of each byte: itself where printable, else the next one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = _stand_ins()
BYTE_OF = {character: byte for byte, character in enumerate(BYTES)}
