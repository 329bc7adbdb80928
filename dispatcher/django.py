"""`submit` in the transaction of Django: rows and lead are committed together, or neither is.

    from dispatcher.django import submit

    with transaction.atomic():
        order.save()
        submit({"phone_number": order.phone_number, "campaign_id": 42}, idempotency_key=f"order-{order.pk}")

The database of Django and `DATABASE_URL` must be the same. Needs Django 4.2 or newer with psycopg 3.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections

import dispatcher
from dispatcher.errors import FieldError, InvalidLead
from dispatcher.intake.joining import OpenTransaction

if TYPE_CHECKING:
    from dispatcher.lead.candidate import Item
    from dispatcher.lead.lead import Lead
    from dispatcher.lead.options import BatchResult, Submission


def submit(lead: "Lead | Mapping[str, Any]", *, using: str = DEFAULT_DB_ALIAS, **options: Any) -> "Submission":  # noqa: ANN401 - those of `dispatcher.submit`
    """Store a lead in the open transaction of Django; workers are woken after its commit.

    Args:
        lead: as in `dispatcher.submit`.
        using: the alias of the connection, a key of `DATABASES`.
        options: the other parameters of `dispatcher.submit`, but `session`.

    Returns:
        As `dispatcher.submit`.

    Raises:
        InvalidLead: as `dispatcher.submit`, or `using` has no transaction that can be joined; nothing was stored.

        The other errors of `dispatcher.submit`. A serialization failure or a deadlock is raised as psycopg raises it.
    """
    return dispatcher.submit(lead, session=transaction_of(using), **options)


def submit_many(items: "Iterable[Item]", *, using: str = DEFAULT_DB_ALIAS, **options: Any) -> "BatchResult":  # noqa: ANN401 - as above
    """Store many leads in the open transaction of Django, as `dispatcher.submit_many` does.

    Args:
        items: as in `dispatcher.submit_many`.
        using: the alias of the connection, a key of `DATABASES`.
        options: the other parameters of `dispatcher.submit_many`, but `session`.

    Returns:
        As `dispatcher.submit_many`.

    Raises:
        InvalidLead: `using` has no transaction that can be joined; nothing was stored.

        The other errors of `dispatcher.submit_many`.
    """
    return dispatcher.submit_many(items, session=transaction_of(using), **options)


def transaction_of(using: str = DEFAULT_DB_ALIAS) -> OpenTransaction:
    """Return the open transaction of a connection, for `session=` of `dispatcher.submit`. Raises `InvalidLead`."""
    django = connections[using]
    if django.vendor != "postgresql":
        raise _refusal(using, f"belongs to {django.vendor}", "the lead has to be in the dispatcher's Postgres database")
    if not django.in_atomic_block:
        raise _refusal(using, "has no open transaction", f"begin one: with transaction.atomic(using={using!r}):")
    driver = django.connection
    if not isinstance(driver, psycopg.Connection):
        raise _refusal(using, "uses psycopg2", "let Django use psycopg 3: uninstall psycopg2 and install psycopg")
    return OpenTransaction(driver, django.on_commit)


def _refusal(using: str, fault: str, remedy: str) -> InvalidLead:
    return InvalidLead([FieldError("using", f"{using!r} {fault}", remedy)])
