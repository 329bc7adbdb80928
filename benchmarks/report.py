"""The results as text, as JSON and as the table of README.md: no number is typed by hand.

python -m benchmarks.report      # writes the table into benchmarks/README.md
"""

import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.figure import Check, Figure

_HERE: Final = Path(__file__).parent
RESULTS: Final = _HERE / "results.json"
README: Final = _HERE / "README.md"
_BEGIN: Final = "<!-- results: written by `python -m benchmarks.report` -->"
_END: Final = "<!-- end of results -->"


def keep(figure: Figure, path: Path, commit: str, seconds: float) -> None:
    """Put one figure into the file; the others stay as they were measured."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"figures": {}}
    kept["figures"][figure.name] = {
        **figure.as_json(),
        "commit": commit,
        "measured_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "seconds": round(seconds),
        "machine": machine(),
    }
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def machine() -> str:
    """What it was measured on."""
    gigabytes = psutil.virtual_memory().total / 2**30
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()} {platform.machine()}, {python}"


def text(figure: Figure) -> str:
    """For the terminal."""
    lines = [f"  {figure.title}"]
    for one in figure.samples.values():
        beside = ", ".join(f"{name} {sum(values) / len(values):.3g}" for name, values in one.beside.items())
        lines.append(f"    {one.label:72} {one.median:12,.2f} {one.unit:8} {beside}")
    lines += [f"    {_mark(check.holds)} {check.what}: {_said(check)}" for check in figure.checks]
    return "\n".join(lines)


def _said(check: Check) -> str:
    unit = _unit(check.unit)
    return f"{_rounded(check.value, check.target)}{unit} (target {check.sense} {check.target:g}{unit})"


def _rounded(value: float, target: float) -> str:
    """Two decimals; more where two would hide on which side of the target it is."""
    decimals = 2
    while value != target and decimals < 6 and round(value, decimals) == target:
        decimals += 1
    return f"{value:.{decimals}f}"


def _unit(unit: str) -> str:
    return unit if unit in {"×", "%", ""} else f" {unit}"


def _mark(holds: bool) -> str:  # noqa: FBT001 - a bool is what it turns into a sign
    return "✓" if holds else "✗"


def markdown(kept: dict[str, Any]) -> Iterator[str]:
    """The lines of the tables."""
    yield "| figure | beside | found | target | |"
    yield "|---|---|---|---|---|"
    for figure in kept["figures"].values():
        for check in figure["checks"]:
            unit = _unit(check["unit"])
            found = f"{_rounded(check['value'], check['target'])}{unit}"
            target = f"{check['sense']} {check['target']:g}{unit}"
            yield f"| {figure['title']} | {check['what']} | **{found}** | {target} | {_mark(check['holds'])} |"
    for figure in kept["figures"].values():
        yield ""
        measured = f"{figure['measured_at']}, {figure['commit']}, {figure['machine']}, load {figure['load_average']}"
        yield f"**{figure['title']}** ({measured})"
        yield ""
        yield "| | median | rounds | beside it |"
        yield "|---|---|---|---|"
        for sample in figure["samples"]:
            rounds = " · ".join(f"{value:,.4g}" for value in sample["values"])
            beside = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in sample["beside"].items())
            yield f"| {sample['label']} | {sample['median']:,.4g} {sample['unit']} | {rounds} | {beside} |"


def write() -> None:
    """Write the tables between the marks of README.md."""
    before, _, rest = README.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    tables = "\n".join(markdown(json.loads(RESULTS.read_text())))
    README.write_text(f"{before}{_BEGIN}\n{tables}\n{_END}{after}")


if __name__ == "__main__":
    write()
