"""What `import` prints: the plan, and the account of every row."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dispatcher import moments
from dispatcher.cli import screen
from dispatcher.lead.masking import safe_name

if TYPE_CHECKING:
    from dispatcher.importing.encoding import Encoding
    from dispatcher.importing.importer import ImportResult
    from dispatcher.importing.plan import Forecast, Plan
    from dispatcher.operator.edited_rows import EditedRow

_MOST_CAMPAIGNS: Final = 10
_MOST_COLUMNS: Final = 40


def plan_dict(plan: "Plan", *, reveal: bool) -> dict[str, Any]:
    """The plan as JSON takes it."""
    return {
        "batch_id": str(plan.batch_id),
        "form": plan.form,
        **_encoding_dict(plan.encoding, reveal=reveal),
        "notes": list(plan.notes),
        "columns": [{"column": one.column, "field": one.field, "guessed": one.guessed} for one in plan.columns],
        "map": list(_maps(plan)),
        "rows": plan.rows,
        "submitted": plan.submitted,
        "duplicates_in_file": plan.duplicates_in_file,
        "duplicates_in_store": plan.duplicates_in_store,
        "repeated": plan.repeated,
        "rejected": plan.rejected,
        "blocked": plan.blocked,
        "waiting": plan.forecast.waiting,
        "finish_in_seconds": plan.forecast.finish_in_seconds,
        "paused": list(plan.forecast.paused),
        "campaigns": {str(campaign_id): count for campaign_id, count in sorted(plan.campaigns.items())},
        "completed": sum(plan.completed.values()),
        "completed_by_country_code": {str(code): count for code, count in sorted(plan.completed.items())},
        "completions": [completion.as_dict(reveal=reveal) for completion in plan.completions],
        "samples": [sample.as_dict(reveal=reveal) for sample in plan.samples],
        "refusals": [
            {"line": line, "field": fault.field, "reason": fault.fault, "remedy": fault.remedy}
            for line, faults in plan.refusals
            for fault in faults
        ],
    }


def show_plan(plan: "Plan", *, reveal: bool) -> None:
    """Print the plan."""
    _show_form(plan.form, plan.encoding, plan.notes, reveal=reveal)
    _show_columns(plan)
    screen.say(f"{screen.plural(plan.rows, 'row')}, of which the import would")
    screen.say(("  deliver ", "green"), screen.plural(plan.submitted, "lead"))
    screen.say(("  not call ", "magenta"), screen.plural(plan.duplicates_in_file, "duplicate"), " within the file")
    screen.say(("  not call ", "magenta"), screen.plural(plan.duplicates_in_store, "duplicate"), " of leads we have")
    if plan.blocked:
        screen.say(("  not call ", "magenta"), screen.plural(plan.blocked, "lead"), " of persons who are blocked")
    screen.say(("  skip ", "cyan"), screen.plural(plan.repeated, "row"), " imported before")
    screen.say(("  refuse ", "red"), screen.plural(plan.rejected, "row"))
    for line, faults in plan.refusals:
        for fault in faults:
            screen.indented(f"line {line}: {fault}")
    if plan.completed:
        _show_completed(plan, reveal=reveal)
    if len(plan.campaigns) > 1:
        largest = sorted(plan.campaigns.items(), key=lambda one: -one[1])[:_MOST_CAMPAIGNS]
        more = ", …" if len(plan.campaigns) > _MOST_CAMPAIGNS else ""
        screen.say("By campaign: " + ", ".join(f"{count:,} into {campaign}" for campaign, count in largest) + more)
    if plan.submitted:
        _show_forecast(plan.forecast)
    for sample in plan.samples:
        shown = sample.as_dict(reveal=reveal)
        screen.say(f"  line {shown.pop('line')} → {screen.as_json(shown)}")
    if plan.guesses:
        given = " ".join(f"--map {shlex.quote(one)}" for one in _maps(plan))
        screen.warn(("! ", "yellow"), f"What is guessed is not imported: say it with {given}, or name another column.")
        screen.say("Nothing was stored.")
    else:
        screen.say("Nothing was stored. Leave out --plan to import it.")


def _maps(plan: "Plan") -> tuple[str, ...]:
    """Return what `--map` has to say for the import to take what the plan guessed."""
    return tuple(f"{one.field.removesuffix('_number').removesuffix('_id')}={one.column}" for one in plan.guesses)


def _show_columns(plan: "Plan") -> None:
    if not plan.columns:
        return
    screen.say("Columns:")
    for one in plan.columns[:_MOST_COLUMNS]:
        name = one.field.removeprefix("variables.")
        means = f"the variable {name}" if name != one.field else one.field
        screen.say(f"  {one.column} → {means}", (" (a guess)", "yellow") if one.guessed else "")
    if len(plan.columns) > _MOST_COLUMNS:
        screen.say(f"  and {len(plan.columns) - _MOST_COLUMNS} more variables")


def _show_completed(plan: "Plan", *, reveal: bool) -> None:
    counts = ", ".join(f"{count:,} as +{code}" for code, count in sorted(plan.completed.items()))
    numbers = screen.plural(sum(plan.completed.values()), "number")
    screen.say(f"--country completed {numbers} written without +: {counts}.")
    for completion in plan.completions:
        shown = completion.as_dict(reveal=reveal)
        number = f"{shown['phone_number']} (+{completion.country_code})"
        screen.say(f"    line {completion.line}: {shown['written']} → {number}")


def _show_forecast(seen: "Forecast") -> None:
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


def result_dict(result: "ImportResult", rejected_path: Path) -> dict[str, Any]:
    """The account of an import as JSON takes it."""
    return {
        "batch_id": str(result.batch_id),
        "form": result.form,
        **_encoding_dict(result.encoding, reveal=False),
        "notes": list(result.notes),
        "rows": result.rows,
        "submitted": result.submitted,
        "duplicates": result.duplicates,
        "repeated": result.repeated,
        "rejected": result.rejected,
        "blocked": result.blocked,
        "rejected_file": str(rejected_path) if result.rejected else None,
        "seconds": round(result.seconds, 3),
    }


def show_result(result: "ImportResult", rejected_path: Path) -> None:
    """Print the account of an import; what was refused goes to standard error."""
    with screen.reader_may_leave():
        _show_stored(result)
    if result.rejected:
        count = screen.plural(result.rejected, "row")
        screen.warn(("✗ ", "red"), f"{count} refused: {rejected_path} has each with its reason.")


def _show_stored(result: "ImportResult") -> None:
    _show_form(result.form, result.encoding, result.notes, reveal=False)
    speed = f"{result.rows_per_second:,.0f} rows/s, batch {result.batch_id}"
    screen.say(("✓ ", "green"), f"{screen.plural(result.submitted, 'lead')} stored ({speed}).")
    if result.duplicates:
        screen.say(("= ", "magenta"), f"{screen.plural(result.duplicates, 'duplicate')}: nobody is called for these.")
    if result.blocked:
        blocked = screen.plural(result.blocked, "lead")
        screen.say(("= ", "magenta"), f"{blocked} of persons who must not be called: failed as blocked.")
    if result.repeated:
        screen.say(("= ", "cyan"), f"{screen.plural(result.repeated, 'row')} had been imported before.")


def _show_form(form: str, encoding: "Encoding", notes: tuple[str, ...], *, reveal: bool) -> None:
    left_out = " Empty cells are variables left out." if form != "JSON lines" else ""
    screen.say(f"Read as {form}, {encoding.name}.{left_out}")
    if encoding.guessed:
        screen.warn(("! ", "yellow"), _guess(encoding, reveal=reveal))
    for note in notes:
        screen.warn(("! ", "yellow"), note)


def _guess(encoding: "Encoding", *, reveal: bool) -> str:
    return (
        f"The encoding is a guess: the file is not UTF-8, and as {encoding.name} it has e.g. "
        f"“{encoding.shown(reveal=reveal)}”. If that is wrong, name the right one: --encoding cp1250."
    )


def _encoding_dict(encoding: "Encoding", *, reveal: bool) -> dict[str, Any]:
    return {
        "encoding": encoding.name,
        "encoding_guessed": encoding.guessed,
        "encoding_example": encoding.shown(reveal=reveal) or None,
    }


def show_corrections(done: "Sequence[EditedRow]", *, plan: bool, json: bool) -> None:
    """Print what became of each row of an edited export of failed leads."""
    counts = {kind: sum(one.done == kind for one in done) for kind in ("corrected", "unchanged", "refused")}
    if json:
        screen.emit({"rows": [one.as_dict() for one in done], **counts, "dry_run": plan})
        return
    for one in done:
        if one.done == "corrected":
            screen.say(f"line {one.line}: lead {one.lead_id} ", ("corrected", "green"), f": {_columns(one.changed)}")
        elif one.done == "refused":
            screen.warn(("✗ ", "red"), f"line {one.line}: {one.reason}")
    would = "would be " if plan else ""
    screen.say(
        ("✓ ", "green"), f"{screen.plural(counts['corrected'], 'lead')} {would}corrected and sent again, "
        f"{counts['unchanged']:,} unchanged, {counts['refused']:,} refused."
    )  # fmt: skip


def _columns(names: Sequence[str]) -> str:
    return ", ".join(safe_name(name, place) for place, name in enumerate(names))
