"""Rows in every state, as the dispatcher would have left them: one factory per state."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import uuid_utils.compat
from sqlalchemy import text

from dispatcher.store.database import Database

ADA = "+12025550101"
BOB = "+12025550102"


class Store:
    """One database, by statements of the test's own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def run(self, statement: str, **values: Any) -> None:
        """Execute and commit."""
        with self.database.transaction() as connection:
            connection.execute(text(statement), values)

    def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        """Return the rows of a query."""
        with self.database.autocommit() as connection:
            return connection.execute(text(statement), values).all()

    def one(self, statement: str, **values: Any) -> Any:
        """Return the only row of a query."""
        (row,) = self.rows(statement, **values)
        return row

    def insert_lead(self, expressions: Mapping[str, str], **columns: Any) -> uuid.UUID:
        """Insert a lead of the default account in campaign 42; `expressions` are columns by SQL. Return its id."""
        values: dict[str, Any] = {
            "id": uuid_utils.compat.uuid7(),
            "account": "default",
            "campaign_id": 42,
            "state": "pending",
            "variables": json.dumps({"customer_name": "Ada"}),
            "payload_hash": "hash",
            **columns,
        }
        others = {name: expression for name, expression in expressions.items() if name not in values}
        names = ", ".join([*values, *others])
        places = ", ".join([*(f":{name}" for name in values), *others.values()])
        self.run(f"INSERT INTO dispatcher.leads ({names}) VALUES ({places})", **values)
        lead_id: uuid.UUID = values["id"]
        return lead_id


class Rows(Store):
    """Makes rows in one database and reads them back."""

    def lead(
        self,
        state: str = "pending",
        *,
        phone: str = ADA,
        campaign_id: int = 42,
        failure_class: str | None = None,
        allow_dupplicate: bool = False,
        attempt_id: uuid.UUID | None = None,
        **columns: Any,
    ) -> uuid.UUID:
        """A lead, with a lease where its state asks for one."""
        expressions = {"due_at": "now()"}
        if state == "sending":
            expressions["lease_until"] = "now() + interval '90 s'"
        if state in {"accepted", "duplicate", "failed", "cancelled"}:
            expressions["finished_at"] = "now()"
        return self.insert_lead(
            expressions,
            phone_number=phone,
            campaign_id=campaign_id,
            state=state,
            failure_class=failure_class,
            allow_dupplicate=allow_dupplicate,
            attempt_id=attempt_id,
            **{"variables": json.dumps({"customer_name": "Ada Lovelace"}), **columns},
        )

    def attempt(
        self,
        lead_id: uuid.UUID,
        attempt_id: uuid.UUID,
        *,
        outcome: str | None = None,
        finished: bool = True,
        evidence: Mapping[str, Any] | None = None,
        minutes_ago: float = 0,
    ) -> None:
        """An attempt of the lead."""
        self.run(
            """
            INSERT INTO dispatcher.lead_attempts
                (id, lead_id, number, account, campaign_id, phone_number, watermark, started_at, ended_at, finished_at,
                 outcome, error, evidence, worker)
            SELECT :id, id, 1, account, campaign_id, phone_number, 0, now() - make_interval(secs => :ago),
                now() - make_interval(secs => :ago) + interval '20 s', CASE WHEN :finished THEN now() END, :outcome,
                'Voicery did not answer in time, after the lead had been sent; the person may have been called.',
                CAST(:evidence AS jsonb), 'host:1'
            FROM dispatcher.leads WHERE id = :lead_id
            """,
            id=attempt_id,
            lead_id=lead_id,
            outcome=outcome,
            finished=finished,
            evidence=json.dumps(evidence or {}),
            ago=minutes_ago * 60,
        )

    def failed(
        self, failure_class: str = "rejected", *, message: str = "Voicery refused the phone number.", **columns: Any
    ) -> uuid.UUID:
        """A failed lead with its open row."""
        fingerprint = columns.pop("fingerprint", "f1")
        lead_id = self.lead("failed", failure_class=failure_class, attempts=3, **columns)
        self._failure(lead_id, message, fingerprint)
        return lead_id

    def fail(self, lead_id: uuid.UUID) -> None:
        """Make a replayed lead fail once more."""
        self.run(
            "UPDATE dispatcher.leads SET state = 'failed', failure_class = 'rejected', attempts = 3,"
            " finished_at = now() WHERE id = :id",
            id=lead_id,
        )
        self._failure(lead_id, "Voicery refused the phone number.", "f1")

    def _failure(self, lead_id: uuid.UUID, message: str, fingerprint: str) -> None:
        self.run(
            """
            INSERT INTO dispatcher.failed_leads
                (lead_id, account, campaign_id, phone_number, failure_class, http_status, fingerprint, message,
                 response, attempts)
            SELECT id, account, campaign_id, phone_number, failure_class, 422, :fingerprint, :message,
                'said: +12025550101 is bad', attempts
            FROM dispatcher.leads WHERE id = :id
            """,
            id=lead_id,
            message=message,
            fingerprint=fingerprint,
        )

    def unknown(self, *, outcome: str = "unknown", **columns: Any) -> uuid.UUID:
        """An unknown lead with its open attempt."""
        attempt_id = uuid.uuid4()
        lead_id = self.lead("unknown", attempt_id=attempt_id, attempts=1, **columns)
        self.attempt(lead_id, attempt_id, outcome=outcome, finished=False, minutes_ago=2)
        return lead_id

    def failed_unknown(self, *, evidence: Mapping[str, Any] | None = None, **columns: Any) -> uuid.UUID:
        """A lead whose outcome stayed unknown until patience was over."""
        attempt_id = uuid.uuid4()
        lead_id = self.failed("outcome_unknown", attempt_id=attempt_id, **columns)
        self.attempt(lead_id, attempt_id, outcome="unknown", evidence=evidence, minutes_ago=90)
        return lead_id

    def of(self, lead_id: uuid.UUID) -> Any:
        """The row of a lead."""
        return self.one("SELECT * FROM dispatcher.leads WHERE id = :id", id=lead_id)

    def failure_of(self, lead_id: uuid.UUID) -> Any:
        """The only failure of a lead."""
        return self.one("SELECT * FROM dispatcher.failed_leads WHERE lead_id = :id", id=lead_id)

    def audited(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Every line of the audit log: actor, action, subject, detail."""
        with self.database.autocommit() as connection:
            rows = connection.execute(text("SELECT * FROM dispatcher.audit_log ORDER BY id")).all()
        return [(row.actor, row.action, row.subject, row.detail) for row in rows]
