"""Which numbers are canonical as they stand, told from `phonenumbers`' tables ten times faster than by parsing them.

Most numbers that producers hand over are. A number of which this says no may still be fine: then the library decides,
so this must say yes only where the library changes nothing (a property test holds them equal).
"""

import re
from dataclasses import dataclass
from functools import cache

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

_NON_GEOGRAPHIC = "001"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How long the numbers of a country are, and what may be cut off their beginning."""

    lengths: frozenset[int]
    prefix: re.Pattern[str] | None


def is_canonical(digits: str) -> bool:
    """Whether `digits` (`+` and ASCII digits) are a possible number that parsing and formatting leave as it is."""
    for end in (1, 2, 3):
        if (country_code := digits[1 : 1 + end]).isdecimal() and country_code[0] != "0":
            plan = _plan(country_code)
            if plan is not None:
                number = digits[1 + end :]
                return len(number) in plan.lengths and (plan.prefix is None or plan.prefix.match(number) is None)
    return False


@cache  # a thousand country codes at most
def _plan(country_code: str) -> _Plan | None:
    """The plan that numbers with this country code are parsed by; None: no country has it."""
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(country_code))
    if regions is None:
        return None
    if regions[0] == _NON_GEOGRAPHIC:
        metadata = PhoneMetadata.metadata_for_nongeo_region(int(country_code))
    else:
        metadata = PhoneMetadata.metadata_for_region(regions[0])
    if metadata is None or metadata.general_desc is None:
        return _Plan(frozenset(), None)
    prefix = metadata.national_prefix_for_parsing
    return _Plan(frozenset(metadata.general_desc.possible_length), re.compile(prefix) if prefix else None)
