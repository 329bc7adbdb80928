"""docs/operations.md knows every event and every figure."""

import re
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dispatcher.metrics.metrics import Figures, exposition
from dispatcher.operator.overview import Overview

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
EVENT = re.compile(r"(?:info|warning|error|exception|tell)\(\s*f?\"([a-z_]+\.(?:[a-z_]+\"|\{))")
"""A whole name, or of one that is made of a value what comes before that: `gate.{`."""


def test_every_event_has_its_line() -> None:
    events = {event for path in (ROOT / "dispatcher").rglob("*.py") for event in EVENT.findall(path.read_text())}
    assert len(events) > 15
    in_the_page = {event: "`" + event.replace('"', "`").removesuffix("{") in PAGE for event in events}
    assert [event for event, is_there in in_the_page.items() if not is_there] == []
    assert {"sweep.{", "incident.{", "gate.{"} <= events


def test_every_figure_has_its_line() -> None:
    text = exposition(Figures(Overview(at=datetime.now(UTC), counts={}, swept_at=datetime.now(UTC)), doorbells=0))
    figures = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text.decode())
    }
    assert len(figures) > 20
    assert {figure for figure in figures if f"`{figure}`" not in PAGE} == set()
