"""What a benchmark found: samples of each contender, and checks of a target."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Sense = Literal["≥", "≤"]


@dataclass(slots=True)
class Sample:
    """One contender's values, one a round, and further medians beside them: CPU per lead and the like."""

    label: str
    unit: str
    values: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)

    def add(self, value: float, **beside: float) -> None:
        """One more round."""
        self.values.append(value)
        for name, one in beside.items():
            self.beside.setdefault(name, []).append(one)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Check:
    """One target of the table. `value` and `target` share the unit."""

    what: str
    value: float
    sense: Sense
    target: float
    unit: str = "×"

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.sense == "≥" else self.value <= self.target


@dataclass(slots=True)
class Figure:
    """One line of the table of targets, with all that was measured for it."""

    name: str
    title: str
    samples: dict[str, Sample] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    load_average: float = 0.0

    def sample(self, name: str, label: str, unit: str) -> Sample:
        """The sample of this name; made if new."""
        return self.samples.setdefault(name, Sample(label, unit))

    def check_ratio(self, what: str, ours: str, peer: str, sense: Sense, target: float) -> None:
        """Compare the medians of two samples."""
        self.checks.append(Check(what, self.samples[ours].median / self.samples[peer].median, sense, target))

    def as_json(self) -> Mapping[str, object]:
        """What goes into the file of results."""
        return {
            "title": self.title,
            "load_average": round(self.load_average, 2),
            "samples": [
                {
                    "label": one.label,
                    "unit": one.unit,
                    "median": one.median,
                    "values": one.values,
                    "beside": {name: statistics.median(values) for name, values in one.beside.items()},
                }
                for one in self.samples.values()
            ],
            "checks": [
                {
                    "what": one.what,
                    "value": one.value,
                    "sense": one.sense,
                    "target": one.target,
                    "unit": one.unit,
                    "holds": one.holds,
                }
                for one in self.checks
            ],
        }
