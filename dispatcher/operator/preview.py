"""What a bulk action would do, before it is done: one count for each answer that the single action would give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from dispatcher.operator.decided import PROOF_HOLDS
from dispatcher.operator.failures import FailureFilter, where_of
from dispatcher.operator.operation_work import OperationKind
from dispatcher.store.schema import LIVE_STRICT


@dataclass(frozen=True, slots=True)
class Preview:
    """`safe` would be done; `doubtful` may have reached the person and need a look-up; the others would be refused.

    gone          neither failed nor in doubt any more
    rivals        another live lead stands for the person
    twins         the person occurs in the selection before; the first of them is counted as safe
    not_in_doubt  nothing to look up
    """

    total: int
    safe: int
    doubtful: int = 0
    gone: int = 0
    rivals: int = 0
    twins: int = 0
    not_in_doubt: int = 0

    @property
    def refused(self) -> int:
        """Leads that would be left alone for good reasons."""
        return self.gone + self.rivals + self.twins + self.not_in_doubt

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "total": self.total,
            "safe": self.safe,
            "needs_look_up": self.doubtful,
            "refused": self.refused,
            "why_refused": {
                "gone": self.gone,
                "rivals": self.rivals,
                "twins": self.twins,
                "not_in_doubt": self.not_in_doubt,
            },
        }


_SELECTED: Final = """
SELECT given.lead_id, given.position FROM unnest(CAST(:leads AS uuid[])) WITH ORDINALITY AS given (lead_id, position)
"""

_DOUBTFUL: Final = """
EXISTS (
    SELECT FROM dispatcher.lead_attempts AS attempt
    WHERE attempt.lead_id = lead.id AND (
        attempt.evidence -> 'late_answer' ->> 'outcome' IN ('accepted', 'created_id_unknown')
        OR (
            (attempt.outcome IN ('unknown', 'created_id_unknown')
             OR (lead.failure_class = 'outcome_unknown' AND attempt.id = lead.attempt_id))
            AND NOT (
                coalesce(attempt.evidence -> 'proof' = 'true'::jsonb, false)
                AND (attempt.id <> lead.attempt_id
                     OR coalesce(CAST(attempt.evidence -> 'lookups' -> -1 ->> 'at' AS timestamptz) > now() - :holds,
                                 false))
            )
        )
    )
)
"""

_JUDGED: Final = f"""
SELECT target.position, lead.id, lead.state, lead.failure_class, lead.allow_dupplicate,
    lead.account, coalesce(CAST(:to_campaign AS bigint), lead.campaign_id) AS campaign_id, lead.phone_number,
    {_DOUBTFUL} AS doubtful,
    NOT lead.allow_dupplicate AND EXISTS (
        SELECT FROM dispatcher.leads
        WHERE account = lead.account AND campaign_id = coalesce(CAST(:to_campaign AS bigint), lead.campaign_id)
          AND phone_number = lead.phone_number AND id <> lead.id AND {LIVE_STRICT}
    ) AS rival
FROM target JOIN dispatcher.leads AS lead ON lead.id = target.lead_id
"""

_REPLAY: Final = """
SELECT count(*) FILTER (WHERE verdict = 'safe') AS safe, count(*) FILTER (WHERE verdict = 'doubtful') AS doubtful,
    count(*) FILTER (WHERE verdict = 'gone') AS gone, count(*) FILTER (WHERE verdict = 'rival') AS rivals,
    count(*) FILTER (WHERE verdict = 'twin') AS twins, 0 AS not_in_doubt,
    (SELECT count(*) FROM target) AS total
FROM (
    SELECT CASE
        WHEN verdict = 'safe' AND NOT allow_dupplicate
             AND row_number() OVER (PARTITION BY verdict, account, campaign_id, phone_number, allow_dupplicate
                                    ORDER BY position) > 1
        THEN 'twin' ELSE verdict END AS verdict
    FROM (
        SELECT judged.*, CASE
            WHEN state <> 'failed' THEN 'gone'
            WHEN doubtful AND NOT :even_if_called THEN 'doubtful'
            WHEN rival THEN 'rival'
            ELSE 'safe' END AS verdict
        FROM judged
    ) AS one
) AS each
"""

_DISMISS: Final = """
SELECT count(*) FILTER (WHERE open) AS safe, 0 AS doubtful, count(*) FILTER (WHERE NOT open) AS gone, 0 AS rivals,
    0 AS twins, 0 AS not_in_doubt, (SELECT count(*) FROM target) AS total
FROM (
    SELECT lead.state = 'unknown' OR (lead.state = 'failed' AND lead.resolved_at IS NULL) AS open
    FROM target JOIN dispatcher.leads AS lead ON lead.id = target.lead_id
) AS each
"""

_LOOK_UP: Final = """
SELECT count(*) FILTER (WHERE in_doubt) AS safe, 0 AS doubtful, 0 AS gone, 0 AS rivals, 0 AS twins,
    count(*) FILTER (WHERE NOT in_doubt) AS not_in_doubt, (SELECT count(*) FROM target) AS total
FROM (
    SELECT lead.state = 'unknown' OR (lead.state = 'failed' AND lead.failure_class = 'outcome_unknown') AS in_doubt
    FROM target JOIN dispatcher.leads AS lead ON lead.id = target.lead_id
) AS each
"""

_ASKED: Final = {
    OperationKind.REPLAY: (_JUDGED, _REPLAY),
    OperationKind.DISMISS: (None, _DISMISS),
    OperationKind.LOOK_UP: (None, _LOOK_UP),
}


def preview(
    connection: Connection,
    kind: OperationKind,
    leads: Sequence[UUID] | FailureFilter,
    *,
    even_if_called: bool = False,
    campaign_id: int | None = None,
) -> Preview:
    """What `kind` would do to these leads now, in `campaign_id` if given. Those that exist no more count as gone."""
    if isinstance(leads, FailureFilter):
        where, values = where_of(leads)
        named = (
            "SELECT failure.lead_id, row_number() OVER (ORDER BY failure.failed_at, failure.id) AS position"
            f" FROM dispatcher.failed_leads AS failure WHERE {where}"
        )
    else:
        named, values = _SELECTED, {"leads": list(leads)}
    judged, asked = _ASKED[kind]
    parts = [f"target AS MATERIALIZED ({named})"] + ([f"judged AS ({judged})"] if judged else [])
    statement = text(f"WITH {', '.join(parts)} {asked}")
    given: dict[str, Any] = dict(values)
    if judged:
        given |= {"even_if_called": even_if_called, "holds": PROOF_HOLDS, "to_campaign": campaign_id}
    row = connection.execute(statement, given).one()
    found = row.safe + row.doubtful + row.gone + row.rivals + row.twins + row.not_in_doubt
    return Preview(
        total=row.total,
        safe=row.safe,
        doubtful=row.doubtful,
        gone=row.gone + row.total - found,
        rivals=row.rivals,
        twins=row.twins,
        not_in_doubt=row.not_in_doubt,
    )
