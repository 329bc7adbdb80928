"""The encoding of a file: by its byte order mark, by the zeros between its letters, as UTF-8, else a guess.

A few broken bytes do not make another encoding of a file that is UTF-8 otherwise: they are kept as marks in the text,
and spoil the rows that they stand in.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

BROKEN: Final = re.compile("[\udc80-\udcff]")
"""What stands in a text for a byte that its encoding does not have."""
KEEP_BROKEN: Final = "dispatcher.broken-bytes"
"""How to decode so: for the `errors` of Python's codecs."""


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 | byte | 0x80) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEEP_BROKEN, _marked)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes are read. The repr shows none of them.

    name      as Python calls it
    guessed   nothing in the file says so: `example` is to be looked at
    example   a word that reads differently in another encoding; empty where there is none
    """

    name: str
    guessed: bool = False
    example: str = field(default="", repr=False)

    def shown(self, *, reveal: bool = False) -> str:
        """Return the example; without `reveal` only two of its unusual letters, each with the one before it."""
        return self.example if reveal else "…".join(re.findall(r".?[^\x00-\x7f]", self.example)[:2])


def check_encoding(name: str) -> str:
    """Return Python's name of a text encoding. Raises `ValueError` for any other."""
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(f"{name!r} is no encoding of text; write e.g. utf-8, cp1252, cp1250 or utf-16") from None


_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of_start(start: bytes) -> str | None:
    """Return the encoding that the first bytes show, by a mark or by the zeros beside Latin letters; else None."""
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if marked is not None or b"\0" not in start:
        return marked
    whole = start[: len(start) // 4 * 4]
    many = tuple(_share_of_zeros(whole[place::4]) > 0.15 for place in range(4))
    all_but = [_share_of_zeros(whole[place::4]) > 0.95 for place in range(4)]
    if not many[0] and all_but[2] and all_but[3]:
        return "utf-32-le"
    if not many[3] and all_but[0] and all_but[1]:
        return "utf-32-be"
    if many == (False, True, False, True):
        return "utf-16-le"
    return "utf-16-be" if many == (True, False, True, False) else None


def _share_of_zeros(text: bytes) -> float:
    return text.count(0) / len(text) if text else 0.0


# Begins only where a run of letters does, and never goes back in it: a block of ASCII letters costs one pass.
_WORD: Final = re.compile(rb"(?<![A-Za-z\x80-\xff'])[A-Za-z']*+[\x80-\xff][A-Za-z\x80-\xff']*+")
_MOST_WORDS: Final = 2000
_LONGEST_WORD: Final = 40  # bytes of it are looked at

_CANDIDATES: Final = ("cp1252", "cp1250", "mac-roman", "cp1251", "cp1253", "koi8-r", "cp850", "latin-1")
"""The earlier one where two fit equally well."""


class Survey:
    """Looks at the bytes of a file, block by block, and says in the end what they are."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(KEEP_BROKEN)
        self._good = 0
        self._broken = 0
        self._words: list[bytes] = []

    def add(self, block: bytes, *, final: bool = False) -> None:
        """Look at the next block."""
        text = self._utf8.decode(block, final)
        if not (text.isascii() and block.isascii()):  # the decoder may keep the last bytes of a block for the next
            broken = len(BROKEN.findall(text))
            self._broken += broken
            self._good += len(text) - len(text.encode("ascii", "ignore")) - broken
            if len(self._words) < _MOST_WORDS:
                self._words += [word[:_LONGEST_WORD] for word in _WORD.findall(block)][:_MOST_WORDS]

    def encoding(self) -> Encoding | None:
        """Return UTF-8 if most that is not ASCII is that, else what makes the words look like words, or None."""
        if self._good >= self._broken:
            return Encoding("utf-8")
        scores = {name: _score(self._words, name) for name in _CANDIDATES}
        name = max(scores, key=scores.__getitem__)  # the first of equal ones
        if scores[name] < 0:
            return None
        longest = max((word.decode(name, "replace") for word in self._words[:100]), key=_letters)
        return Encoding(name, guessed=True, example=longest)


def _letters(word: str) -> int:
    return sum(map(str.isalpha, word))


def _score(words: Sequence[bytes], name: str) -> float:
    """Return how much the words look like words: letters, no capital inside, one script, few accents in a row."""
    score = 0.0
    for word in words:
        try:
            text = word.decode(name)
        except UnicodeDecodeError:
            return -float("inf")
        latin = [character.isascii() or "À" <= character <= "ɏ" for character in text if character.isalpha()]
        score -= 3 * (any(latin) and not all(latin))
        accents = 0
        for before, character, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
            if character.isascii():
                accents = 0
            else:
                accents += "À" <= character <= "ɏ"
                score += _worth(character, before, after) - (accents > 2)
    return score


def _worth(character: str, before: str, after: str) -> int:
    if not character.isalpha():
        return -1
    inside = before.islower() or (before.isalpha() and after.islower())
    return -2 if character.isupper() and inside else 1
