"""The leads of the benchmarks: numbers that belong to nobody, and variables as a call centre sends them."""

from typing import Any, Final

_AREAS: Final = [area for area in range(201, 990) if area % 100 != 11 and (area // 10) % 10 != 9]
"""Where `+1 <area> 555 0100` to `0199` are kept free for fiction."""
_PER_AREA: Final = 100

NUMBERS: Final = len(_AREAS) * _PER_AREA
CAMPAIGN: Final = 42


def phone_number(index: int) -> str:
    """The number of this index, in E.164 form; there are `NUMBERS`."""
    area, line = divmod(index % NUMBERS, _PER_AREA)
    return f"+1{_AREAS[area]}55501{line:02}"


def lead(index: int) -> dict[str, Any]:
    """The lead of this index: the same person and campaign only where the index is the same."""
    return {
        "phone_number": phone_number(index),
        "campaign_id": CAMPAIGN + index // NUMBERS,
        "variables": {"customer_name": f"Ada Lovelace {index}", "order": f"A-{index:07}", "amount": index % 1000},
        "allow_dupplicate": False,
    }
