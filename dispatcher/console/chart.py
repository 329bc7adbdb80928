"""Compute the geometry of the chart of the last hours, which the template draws as SVG."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dispatcher.operator.activity import Activity, Slot

WIDTH: Final = 720
NARROW: Final = 320
HEIGHT: Final = 160
_STEPS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Range:
    """How far back the chart goes: `hours` in slots, with the time below every so many minutes."""

    hours: int
    slot_seconds: int
    label_minutes: int
    narrow_minutes: int

    @property
    def kept_seconds(self) -> float:
        """How long it is drawn again from what was read: a twentieth of a slot, in which no bar changes visibly."""
        return self.slot_seconds / 20


RANGES: Final = {one.hours: one for one in (Range(1, 60, 10, 20), Range(6, 300, 60, 120), Range(24, 1200, 180, 360))}
"""By their hours. A longer one would read each of a week's attempts at each refresh; the metrics have it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a slot; `kind` is its class in the style sheet."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars and lines of the chart. `most` is the value of the highest line."""

    bars: tuple[Bar, ...]
    slots: tuple[tuple[float, float, Slot], ...]  # x, width and the slot
    lines: tuple[tuple[float, int], ...]  # y and its count
    hours: tuple[tuple[float, datetime], ...]
    most: int
    width: int = WIDTH
    height: int = HEIGHT


def chart(activity: Activity, *, width: int = WIDTH, label_minutes: int = 60) -> Chart:
    """Return stacked bars, the accepted attempts at the bottom.

    label_minutes   the time stands below every slot that begins at a multiple of so many minutes of its day
    """
    most = _round_up(max((slot.total for slot in activity.slots), default=0))
    step = width / max(1, len(activity.slots))
    gap = 2 if step > 6 else step / 4
    breadth = max(1.0, step - gap)
    bars: list[Bar] = []
    places: list[tuple[float, float, Slot]] = []
    hours: list[tuple[float, datetime]] = []
    for place, slot in enumerate(activity.slots):
        x = round(place * step + gap / 2, 2)
        places.append((round(place * step, 2), round(step, 2), slot))
        bars += _stack(slot, x, round(breadth, 2), most)
        if (slot.at.hour * 60 + slot.at.minute) % label_minutes == 0 and slot.at.second == 0:
            hours.append((round(place * step, 2), slot.at))
    lines = tuple((round(HEIGHT * (1 - part / 2), 2), most * part // 2) for part in (1, 2) if most * part % 2 == 0)
    return Chart(tuple(bars), tuple(places), lines, tuple(hours), most, width)


def _stack(slot: Slot, x: float, width: float, most: int) -> Iterator[Bar]:
    top = float(HEIGHT)
    for kind, count in (
        ("accepted", slot.accepted),
        ("held", slot.held),
        ("doubtful", slot.in_doubt),
        ("refused", slot.refused),
    ):
        if count:
            height = max(1.5, HEIGHT * count / most)
            top -= height
            yield Bar(kind, x, round(max(0.0, top), 2), width, round(height, 2))


def _round_up(count: int) -> int:
    """Round up to the next of 2, 4, 10, 20, 40, 100 …: even, so that half of it is an integer."""
    size = 1
    while True:
        for step in _STEPS:
            if count <= 2 * step * size:
                return 2 * step * size
        size *= 10
