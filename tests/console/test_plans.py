"""No page reads a large table from end to end: each of its queries has an index that serves it."""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event, text

from dispatcher.console.auth import Role
from dispatcher.store.database import Database
from tests.console.conftest import Seat
from tests.support.rows import ADA, Rows

LARGE = (
    "leads|lead_attempts|failed_leads|lead_contacts|audit_log|idempotency_keys|operation_leads|lead_revisions"
    "|import_rejections"
)
WHOLE = {
    # Read from end to end on purpose: they hold what waits, what failed, or are left at a LIMIT.
    "leads_due", "leads_unknown", "leads_leased", "failed_leads_open", "failed_leads_open_cause",
    "failed_leads_one_open", "failed_leads_resolved", "audit_log_pkey",
}  # fmt: skip
BOUNDED = {"leads_pkey", "leads_finished"}
"""Read backwards by a list of leads, up to `leads.MOST_READ`, or up to its LIMIT where it has no filter at all."""
UP_TO_A_BOUND = re.compile(r"LIMIT %\(bound\)s|OFFSET %\(skipped\)s|WHERE true AND true (ORDER BY id DESC )?LIMIT")
COUNTS_A_SMALL_TABLE = "WHERE state IN ('accepted', 'duplicate', 'cancelled')"  # only below 64 MB; estimated above


def test_every_page_is_served_by_indexes(seat: Seat, database: Database, rows: Rows) -> None:
    lead = rows.failed(phone=ADA)
    rows.run("INSERT INTO dispatcher.channels (account, campaign_id) VALUES ('default', 42)")
    rows.run(
        "INSERT INTO dispatcher.operations (id, kind, actor, total) VALUES (gen_random_uuid(), 'replay', 'ada', 0)"
    )
    rows.run(
        "INSERT INTO dispatcher.imports (batch_id, file_name, account, actor)"
        " VALUES (gen_random_uuid(), 'f', 'default', 'ada')"
    )
    operation = rows.one("SELECT id FROM dispatcher.operations").id
    number = rows.one("SELECT id FROM dispatcher.imports").id
    asked: dict[str, object] = {}

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked[statement] = parameters

    event.listen(Engine, "before_cursor_execute", note)
    browser = seat.browser(Role.ADMIN)
    for path in (
        "/", "/failed", "/failed?campaign=42&class=rejected", "/failed/rows", "/failed/rows?resolved=yes",
        "/failed/rows?cause=f1&http_status=422&text=phone&phone=0101&attempts=1&since=2h&account=default",
        "/failed/rows?variable=plan%3Dpro&submitted_since=2w&submitted_before=today&replayed_before=yes",
        "/failed?variable=plan%3Dpro&replayed_before=no",
        "/failed/rows?reference=crm-1", "/failed/rows?batch=00000000-0000-4000-8000-000000000000", f"/leads/{lead}",
        f"/leads/{lead}/correct", "/leads", "/leads?state=accepted&campaign=42", "/leads?due=yes&campaign=42",
        "/leads?id=abc&phone=01&text=x&variable=a%3Db&attempts=1&since=2d&before=1h",
        "/leads?ended_since=today&state=failed", "/leads?batch=00000000-0000-4000-8000-000000000000&state=failed",
        "/leads?reference=x", "/leads?voicery_id=5", "/search?q=abcd", "/search?q=0101",
        "/campaigns", "/blocked", "/operations", f"/operations/{operation}", "/imports",
        f"/imports/{number}",
        "/incidents", "/inbox", "/workers", "/audit", "/audit?actor=ada&action=replay", f"/audit?subject={lead}",
        f"/search?q={lead}", "/search?q=crm-1", "/search?q=123456", "/search?q=%2B12025550101",
    ):  # fmt: skip
        assert browser.get(path).status_code in {200, 303}, path
    for fields in (
        {"verb": "replay", "scope": "all"},
        {"verb": "look_up", "scope": "all"},
        {"verb": "dismiss", "lead": lead},
    ):
        assert browser.post("/failed/preview", fields).status_code == 200
    event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) > 30
    with database.engine.connect() as connection:
        # With so few rows a planner reads the table; what it cannot avoid when forbidden has no index.
        connection.execute(text("SET enable_seqscan = off"))
        for statement, parameters in asked.items():
            if COUNTS_A_SMALL_TABLE in statement or not re.match(r"\s*(--[^\n]*\n\s*)*(SELECT|WITH|\()", statement):
                continue
            ((plan,),) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            for node in nodes(plan[0]["Plan"]):
                if node.get("Index Name") not in BOUNDED or not UP_TO_A_BOUND.search(statement):
                    assert not reads_all(node), f"{node} in\n{statement}"


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node of a plan and all below it."""
    yield {name: value for name, value in node.items() if name != "Plans"}
    for below in node.get("Plans", ()):
        yield from nodes(below)


def reads_all(node: dict[str, Any]) -> bool:
    """Whether it goes through a large table without a condition that an index answers."""
    if node["Node Type"] == "Seq Scan":
        return re.fullmatch(LARGE, node["Relation Name"]) is not None
    if "Index Name" not in node or "Index Cond" in node:
        return False
    large = re.fullmatch(LARGE, node.get("Relation Name", "")) is not None
    return large and node["Index Name"] not in WHOLE
