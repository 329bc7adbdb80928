"""`keys` and `mapping` on real Postgres."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.errors import DispatcherError
from dispatcher.http_intake.keys import KEY, digest_of
from dispatcher.operator import retention
from tests.support.doubles import Line
from tests.support.rows import ADA, Rows

SAMPLE = {
    "id": 77,
    "properties": {"phone": "12", "first.name": "Ada", "empty": "", "mail": None},
    "field_data": [{"name": "city", "values": ["Ulm"]}],
}
SET = (
    "mapping", "set", "hubspot", "--field", "phone_number=properties.phone", "--value", "campaign_id=42",
    "--field", 'variables.customer_name=properties."first.name"', "--field", "variables.mail=properties.mail",
    "--field", "variables.city=field_data[name=city].values[0]", "--field", "idempotency_key=id",
)  # fmt: skip


def told(result: Any) -> str:
    """What the user reads of a refusal, which the entry point prints."""
    return " ".join(f"{result.stderr} {result.exception}".replace("│", " ").split())


def test_a_key_is_shown_once_and_stored_as_a_hash(run: Line, rows: Rows) -> None:
    made = run.json("keys", "create", "shop", "--campaign", "42", "--campaign", "7", "--expires", "365d")
    secret = made["secret"]

    found = KEY.fullmatch(secret)
    assert found is not None
    assert made["key"]["campaigns"] == [7, 42]
    row = rows.one("SELECT to_jsonb(k)::text AS whole, digest FROM dispatcher.api_keys AS k")
    assert secret[15:] not in row.whole
    assert row.digest == digest_of(secret)
    (listed,) = run.json("keys", "list")["items"]
    assert (listed["prefix"], listed["name"], listed["active"]) == (found["prefix"], "shop", True)
    assert secret not in run.ok("keys", "list") + json.dumps(listed)
    assert secret not in rows.one("SELECT string_agg(to_jsonb(a)::text, '') AS log FROM dispatcher.audit_log AS a").log


def test_a_rotated_key_ends_after_the_overlap_and_a_revoked_one_at_once(run: Line, rows: Rows) -> None:
    first = run.json("keys", "create", "shop", "--campaign", "42", "--rate", "5/second", "--hook", "crm")["key"]

    turned = run.json("keys", "rotate", "shop", "--overlap", "2h")

    left = datetime.fromisoformat(turned["replaced"]["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=118) < left < timedelta(minutes=121)
    assert turned["replaced"]["active"] is True
    rights = ("name", "account", "campaigns", "rate_limit", "mapping")
    assert [turned["key"][one] for one in rights] == [first[one] for one in rights]
    assert "Several active keys" in told(run("keys", "revoke", "shop"))
    assert run.json("keys", "revoke", f"vdk_{first['prefix']}")["key"]["active"] is False
    assert "No active key" in told(run("keys", "revoke", first["prefix"]))
    assert run.json("keys", "rotate", "shop", "--overlap", "0")["replaced"]["active"] is False
    actions = [row.action for row in rows.rows("SELECT action FROM dispatcher.audit_log ORDER BY id")]
    assert actions == ["key.create", "key.rotate", "key.revoke", "key.rotate"]


def test_a_dry_run_makes_no_key_and_shows_none(run: Line, rows: Rows) -> None:
    assert run.json("keys", "create", "shop", "--dry-run")["secret"] is None
    assert "vdk_" not in run("keys", "create", "shop", "--dry-run").stdout
    assert rows.rows("SELECT 1 FROM dispatcher.api_keys") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["keys", "create", ADA], "phone number"),
        (["keys", "create", "shop", "--rate", "many"], "rate limit"),
        (["keys", "create", " "], "printable"),
        (["keys", "create", "shop", "--account", "No One"], "account"),
        (["keys", "revoke", "nobody"], "keys list"),
        (["mapping", "remove", "nobody"], "mapping list"),
        (["mapping", "set", "crm", "--field", "phone_number=phone"], "--value campaign_id=ID"),
        (["mapping", "set", "crm", "--field", "phone=phone", "--value", "campaign_id=42"], "phone is no field"),
        (["mapping", "set", "crm", "--field", "phone_number=a..b", "--value", "campaign_id=42"], "is no path"),
        (["mapping", "set", "CRM", "--field", "phone_number=a", "--value", "campaign_id=42"], "the name is not"),
        (["mapping", "set", "crm", "--field", "phone_number=a", "--value", "phone_number=b"], "give one"),
        (["mapping", "set", "crm", "--field", "phone_number"], "FIELD=PATH"),
    ],
)
def test_a_bad_key_or_mapping_is_one_sentence_with_the_way_out(
    run: Line, rows: Rows, words: list[str], said: str
) -> None:
    refused = run(*words)

    assert refused.exit_code in {1, 2}
    assert said in told(refused)
    assert isinstance(refused.exception, SystemExit | DispatcherError)
    assert ADA not in told(refused)
    assert rows.rows("SELECT 1 FROM dispatcher.api_keys UNION ALL SELECT 1 FROM dispatcher.webhook_mappings") == []


def test_a_mapping_is_tried_with_a_sample_before_anybody_sends_one(run: Line, tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps(SAMPLE))
    run.ok(*SET, "--country", "DE")

    failing = run("mapping", "try", "hubspot", str(sample), "--json")
    assert failing.exit_code == 1
    assert [one["field"] for one in json.loads(failing.stdout)["errors"]] == ["phone_number"]
    SAMPLE["properties"]["phone"] = "0176 04069012"  # type: ignore[index]
    sample.write_text(json.dumps(SAMPLE))
    tried = run.json("mapping", "try", "hubspot", str(sample), "--reveal")
    assert tried["errors"] == []
    assert tried["lead"] == {
        "phone_number": "+4917604069012",
        "campaign_id": 42,
        "variables": {"customer_name": "Ada", "city": "Ulm"},
        "idempotency_key": "77",
    }
    masked = run.ok("mapping", "try", "hubspot", str(sample))
    assert "4069012" not in masked
    assert "Ada" not in masked
    SAMPLE["properties"]["phone"] = "12"  # type: ignore[index]


def test_a_mapping_is_listed_shown_replaced_and_removed(run: Line, rows: Rows) -> None:
    assert run.json(*SET)["created"] is True
    assert run.json(*SET)["created"] is False
    assert [one["name"] for one in run.json("mapping", "list")["items"]] == ["hubspot"]
    assert "properties.phone" in run.ok("mapping", "show", "hubspot")
    run.ok("mapping", "remove", "hubspot")
    assert run.json("mapping", "list")["items"] == []
    assert "no mapping" in told(run("mapping", "show", "hubspot"))
    actions = [row.action for row in rows.rows("SELECT action FROM dispatcher.audit_log ORDER BY id")]
    assert actions == ["mapping.set", "mapping.set", "mapping.remove"]


def test_a_key_that_ended_long_ago_is_pruned(run: Line, rows: Rows) -> None:
    for name in ("old", "new", "kept"):
        run.ok("keys", "create", name)
    rows.run("UPDATE dispatcher.api_keys SET revoked_at = now() - interval '91 days' WHERE name = 'old'")
    rows.run("UPDATE dispatcher.api_keys SET expires_at = now() - interval '89 days' WHERE name = 'new'")

    with rows.database.transaction() as connection:
        assert retention.prune_records(connection, datetime.now(UTC) - timedelta(days=90)) == 1
        assert retention.prune_records(connection, datetime.now(UTC) - timedelta(days=90)) == 0
    assert {row.name for row in rows.rows("SELECT name FROM dispatcher.api_keys")} == {"new", "kept"}


def test_doctor_tells_of_keys_that_end_soon(run: Line) -> None:
    def told() -> list[dict[str, Any]]:
        found = json.loads(run("doctor", "--json").stdout)
        (checks,) = (value for value in found.values() if isinstance(value, list))
        return [one for one in checks if "active key" in str(one)]

    assert told() == []
    run.ok("keys", "create", "shop", "--expires", "365d")
    assert "1 active key, none ends soon" in str(told())
    run.ok("keys", "create", "crm", "--expires", "10d")
    assert "1 of 2 active keys end within two weeks" in str(told())
    assert "keys rotate" in str(told())


def test_the_lists_of_keys_and_mappings_have_one_shape(run: Line, rows: Rows) -> None:
    run.ok("keys", "create", "shop", "--campaign", "42", "--account", "north")
    run.ok("mapping", "set", "hubspot", "--field", "phone_number=a", "--value", "campaign_id=42", "--account", "north")
    for command, name in (("keys", "shop"), ("mapping", "hubspot")):
        header, first, *_ = (line.split() for line in run.ok(command, "list").splitlines())
        assert (header[:2], header[-2:]) == (["Name", "account"], ["by", "since"])
        assert first[:2] == [name, "north"]
        assert run.ok(command, "list", "--csv").splitlines()[0]
        listed = run.json(command, "list", "--account", "north")["items"]
        assert [(one["name"], one["account"]) for one in listed] == [(name, "north")]
        assert run.json(command, "list", "--account", "south")["items"] == []
