"""What `import` prints: the plan, and the account of every row."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from dispatcher.cli import screen
from dispatcher.importing.forecast import Forecast
from dispatcher.importing.importer import ImportResult
from dispatcher.importing.plan import Plan
from dispatcher.records import moments


def plan_dict(plan: Plan, *, reveal: bool) -> dict[str, Any]:
    """The plan as JSON takes it."""
    return {
        "batch_id": str(plan.batch_id),
        "form": plan.form,
        "encoding": plan.encoding,
        "rows": plan.rows,
        "submitted": plan.submitted,
        "duplicates_in_file": plan.duplicates_in_file,
        "duplicates_in_store": plan.duplicates_in_store,
        "repeated": plan.repeated,
        "rejected": plan.rejected,
        "waiting": plan.forecast.waiting,
        "finish_in_seconds": plan.forecast.finish_in_seconds,
        "paused": list(plan.forecast.paused),
        "samples": [sample.as_dict(reveal=reveal) for sample in plan.samples],
        "refusals": [
            {"line": line, "field": fault.field, "reason": fault.fault, "remedy": fault.remedy}
            for line, faults in plan.refusals
            for fault in faults
        ],
    }


def show_plan(plan: Plan, *, reveal: bool) -> None:
    """Print the plan."""
    _show_form(plan.form, plan.encoding)
    screen.say(f"{screen.plural(plan.rows, 'row')}, of which the import would")
    screen.say(("  deliver ", "green"), screen.plural(plan.submitted, "lead"))
    screen.say(("  not call ", "magenta"), screen.plural(plan.duplicates_in_file, "duplicate"), " within the file")
    screen.say(("  not call ", "magenta"), screen.plural(plan.duplicates_in_store, "duplicate"), " of leads we have")
    screen.say(("  skip ", "cyan"), screen.plural(plan.repeated, "row"), " imported before")
    screen.say(("  refuse ", "red"), screen.plural(plan.rejected, "row"))
    for line, faults in plan.refusals:
        for fault in faults:
            screen.say(f"    line {line}: {fault}")
    if plan.submitted:
        _show_forecast(plan.forecast)
    for sample in plan.samples:
        shown = sample.as_dict(reveal=reveal)
        screen.say(f"  line {shown.pop('line')} → {orjson.dumps(shown).decode()}")
    screen.say("Nothing was stored. Leave out --plan to import it.")


def _show_forecast(seen: Forecast) -> None:
    if seen.finish_in_seconds is not None:
        finish = datetime.now(UTC) + timedelta(seconds=seen.finish_in_seconds)
        waiting = f"; {screen.plural(seen.waiting, 'lead')} of the account wait already" if seen.waiting else ""
        screen.say(
            f"At the rate limits the last is sent in about {moments.span(seen.finish_in_seconds)}, at "
            f"{moments.clock(finish)} UTC (if campaigns take turns and nothing else comes{waiting})."
        )
    for name in seen.paused:
        screen.warn(
            ("! ", "yellow"), f"The {name} is paused: nothing of it is sent, nor its time begins, until resumed."
        )


def result_dict(result: ImportResult, rejected_path: Path) -> dict[str, Any]:
    """The account of an import as JSON takes it."""
    return {
        "batch_id": str(result.batch_id),
        "form": result.form,
        "encoding": result.encoding,
        "rows": result.rows,
        "submitted": result.submitted,
        "duplicates": result.duplicates,
        "repeated": result.repeated,
        "rejected": result.rejected,
        "rejected_file": str(rejected_path) if result.rejected else None,
        "seconds": round(result.seconds, 3),
    }


def show_result(result: ImportResult, rejected_path: Path) -> None:
    """Print the account of an import. What was refused is told even if nobody reads the rest."""
    with screen.reader_may_leave():
        _show_stored(result)
    if result.rejected:
        count = screen.plural(result.rejected, "row")
        screen.warn(("✗ ", "red"), f"{count} refused: {rejected_path} has each with its reason.")


def _show_stored(result: ImportResult) -> None:
    _show_form(result.form, result.encoding)
    speed = f"{result.rows_per_second:,.0f} rows/s, batch {result.batch_id}"
    screen.say(("✓ ", "green"), f"{screen.plural(result.submitted, 'lead')} stored ({speed}).")
    if result.duplicates:
        screen.say(("= ", "magenta"), f"{screen.plural(result.duplicates, 'duplicate')}: nobody is called for these.")
    if result.repeated:
        screen.say(("= ", "cyan"), f"{screen.plural(result.repeated, 'row')} had been imported before.")


def _show_form(form: str, encoding: str) -> None:
    guessed = encoding in {"cp1252", "latin-1"}
    note = " (a guess: it is not UTF-8; check names with accents)" if guessed else ""
    left_out = " Empty cells are variables left out." if form.startswith("table") else ""
    screen.say(f"Read as {form}, {encoding}{note}.{left_out}")
