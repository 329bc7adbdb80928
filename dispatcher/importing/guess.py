"""Which column of a table is likely the phone number, or the campaign, by its name in the languages of users.

A guess is shown, in a plan or on the page of an upload, and never acted upon: a person says it with `--map`.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Final

_PHONE_WORDS: Final = (
    # The likeliest first: a list with Mobile and Phone has a landline in the other one.
    re.compile(
        r"^(mobil|cell|celul|cel$|handy(?!m)|movil|telemov|portable|gsm|msisdn|whats(app)?$|komorka|мобил|手机|携帯)"
    ),
    re.compile(r"phone|^(tel|tlf|tfno?|fone)$|telef|rufn|puhelin|тел(?!ек|ег)|τηλ|电话|電話|전화|هاتف|טלפון|フォン"),
    re.compile(r"^(number|nummer|numero|no|nr)$"),
)
_CAMPAIGN_WORDS: Final = (re.compile(r"^([ck]amp(aign|agn|an|anj|ani)|кампан)"),)
_OTHERS: Final = re.compile(r"fax|telegr|^(account|client|contract|customer|invoice|kunden|order|rechnung|vat)")
_WORD: Final = re.compile(r"[^\W\d_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LONGEST: Final = 80  # characters of a name that are looked at


def like_phones(header: Sequence[str], taken: Collection[int] = ()) -> list[int]:
    """Return the positions of the columns whose names sound like a phone number, the likeliest first."""
    return _ranked(header, taken, _PHONE_WORDS)


def like_campaigns(header: Sequence[str], taken: Collection[int] = ()) -> list[int]:
    """Return the positions of the columns whose names sound like a campaign, the likeliest first."""
    return _ranked(header, taken, _CAMPAIGN_WORDS)


def _ranked(header: Sequence[str], taken: Collection[int], ranks: Sequence[re.Pattern[str]]) -> list[int]:
    found: list[tuple[int, int]] = []
    for position, name in enumerate(header):
        words = list(_words(name))
        if position in taken or any(_OTHERS.search(word) for word in words):
            continue
        rank = next((place for place, rank in enumerate(ranks) if any(map(rank.search, words))), None)
        if rank is not None:
            found.append((rank, position))
    return [position for _, position in sorted(found)]


def _words(name: str) -> Iterator[str]:
    """Yield the words of a name in small letters, without accents: `Teléfono móvil`, `mobilePhone`, `TEL_NR`."""
    bare = "".join(
        one for one in unicodedata.normalize("NFKD", _CAMEL.sub(" ", name[:_LONGEST])) if not unicodedata.combining(one)
    )
    for found in _WORD.finditer(unicodedata.normalize("NFC", bare)):  # Hangul was taken apart
        yield found.group().casefold()
