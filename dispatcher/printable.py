r"""Foreign text made visible: what a terminal, a browser or a reader would obey instead of show is written as `\x1b`.

One rule for logs, the command line, JSON, CSV and the console. Escaped are C0 and C1 controls (a terminal executes
them; OSC 52 fills the clipboard), line and paragraph separators, bidirectional marks and other invisible format
characters (they show another text than the one that is stored), surrogates, and what is no character. Letters of every
script stay, spaces of any width too, and the two joiners without which Persian, Hindi and emoji are not readable.
"""

import unicodedata
from typing import Final

_JOINERS: Final = "\u200c\u200d"
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, keep: str = "") -> str:
    r"""Return the text with every such character written out, as `\n`, `\x1b` or `\u202e`; those in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(one if _is_harmless(one, keep) else _SHORT.get(one) or _written(one) for one in text)


def printable_json(document: str) -> str:
    r"""Return a JSON document with such characters as `\u202e`, which JSON reads as the same text; line breaks stay."""
    if document.isprintable():
        return document
    return "".join(one if _is_harmless(one, "\n") else _in_json(one) for one in document)


def _is_harmless(character: str, keep: str) -> bool:
    return (
        character.isprintable()
        or character in keep
        or character in _JOINERS
        or unicodedata.category(character) == "Zs"  # spaces of any width
    )


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_json(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
