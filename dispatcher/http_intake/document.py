"""The intake described: OpenAPI 3.1 at `/openapi.json`, and a page for people at `/docs`.

The schema of a lead is made from the bounds that validation uses; a test compares its fields with those of `Lead` and
of the options of `submit`, and its verdicts with theirs.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from dispatcher.http_intake.answers import MEANINGS
from dispatcher.http_intake.bodies import FORM, JSON, LINES
from dispatcher.http_intake.problems import KINDS, MEDIA_TYPE
from dispatcher.http_intake.reading import BATCH_BYTES, BATCH_ITEMS, CHUNK_ITEMS, LEAD_BYTES
from dispatcher.lead.lead import MAX_CONTACTS
from dispatcher.lead.options import MAX_CAMPAIGN_ID, MAX_KEY_LENGTH
from dispatcher.lead.variables import MAX_BYTES, MAX_DEPTH, MAX_NAMES

Schema = dict[str, Any]

_PHONE: Final[Schema] = {
    "type": "string",
    "description": "The number in E.164 form, with or without separators.",
    "examples": ["+14155550100"],
}
_VARIABLES: Final[Schema] = {
    "type": "object",
    "maxProperties": MAX_NAMES,
    "description": f"What the assistant may say. At most {MAX_BYTES // 1024} KiB as JSON and {MAX_DEPTH} levels.",
    "examples": [{"customer_name": "Ada"}],
}


def lead_schema() -> Schema:
    """Return the schema of a lead with its options."""
    time = {"type": ["string", "null"], "format": "date-time"}
    return {
        "type": "object",
        "required": ["phone_number", "campaign_id"],
        "additionalProperties": False,
        "not": {"required": ["allow_dupplicate", "allow_duplicate"]},
        "properties": {
            "phone_number": _PHONE,
            "campaign_id": {"type": "integer", "minimum": 1, "maximum": MAX_CAMPAIGN_ID, "examples": [42]},
            "variables": _VARIABLES,
            "allow_dupplicate": {
                "type": "boolean",
                "default": False,
                "description": "Call the number also if the campaign has it already. The spelling is Voicery's.",
            },
            "allow_duplicate": {"type": "boolean", "description": "The same, as it is usually spelled. Give one."},
            "secondary_contacts": {
                "type": "array",
                "maxItems": MAX_CONTACTS,
                "items": {
                    "type": "object",
                    "required": ["phone_number"],
                    "additionalProperties": False,
                    "properties": {"phone_number": _PHONE, "variables": _VARIABLES},
                },
            },
            "idempotency_key": {
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": MAX_KEY_LENGTH,
                "description": "As the field Idempotency-Key; for items of a batch.",
            },
            "priority": {"type": "integer", "minimum": 0, "maximum": 9, "default": 0},
            "not_before": {**time, "description": "No delivery earlier; with its zone."},
            "expires_at": {**time, "description": "No delivery later; with its zone."},
        },
    }


@cache
def document() -> Schema:
    """Return the OpenAPI document."""
    lead, one = {"$ref": "#/components/schemas/Lead"}, {"$ref": "#/components/schemas/Submitted"}
    repeat = {"$ref": "#/components/parameters/IdempotencyKey"}
    created = {
        "201": _answer("The lead is committed.", one, {"Location": {"schema": {"type": "string"}}}),
        "200": _answer("The same submission was made before; this is its lead.", one),
    }
    hook = {
        "summary": "Submit the lead that a webhook's body describes",
        "description": "The body is read by the mapping of this name, see `dispatcher mapping`.",
        "security": [{"key": []}, {"password": []}],
        "parameters": [_path("name"), repeat],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {"type": "object"}}, FORM: {"schema": {"type": "object"}}},
        },
        "responses": created | _refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Voicery lead dispatcher: HTTP intake",
            "version": _version(),
            "description": "Takes leads, and answers once they are committed to Postgres. Workers deliver them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": {
            "/v1/leads": {
                "post": {
                    "operationId": "submitLead",
                    "summary": "Submit one lead",
                    "description": f"Up to {LEAD_BYTES // 1024} KiB.",
                    "parameters": [repeat],
                    "requestBody": {"required": True, "content": {JSON: {"schema": lead}}},
                    "responses": created | _refusals(400, 401, 403, 406, 408, 413, 415, 422, 429, 500, 503),
                }
            },
            "/v1/leads/batch": {
                "post": {
                    "operationId": "submitBatch",
                    "summary": "Submit many leads",
                    "description": f"Up to {BATCH_ITEMS} leads and {BATCH_BYTES // 1024 // 1024} MiB. They are stored"
                    f" in chunks of up to {CHUNK_ITEMS}, each in one transaction: good items of a chunk together, bad"
                    " ones not at all. The same batch under the same Idempotency-Key is stored once.",
                    "parameters": [repeat],
                    "requestBody": {
                        "required": True,
                        "content": {
                            JSON: {"schema": {"type": "array", "maxItems": BATCH_ITEMS, "items": lead}},
                            **{kind: {"schema": {"type": "string"}} for kind in LINES},
                        },
                    },
                    "responses": {
                        "200": _answer("What became of each item.", {"$ref": "#/components/schemas/Batch"}),
                        **_refusals(400, 401, 403, 406, 408, 413, 415, 429, 500, 503),
                    },
                }
            },
            "/v1/leads/{id}": {
                "get": {
                    "operationId": "showLead",
                    "summary": "Ask for the state of a lead",
                    "parameters": [_path("id")],
                    "responses": {
                        "200": _answer("The lead.", {"$ref": "#/components/schemas/State"}),
                        **_refusals(401, 404, 406, 429, 500, 503),
                    },
                }
            },
            "/v1/hooks/{name}": {"post": {"operationId": "submitHook", **hook}},
            "/v1/hooks/{name}/{secret}": {
                "post": {
                    **hook,
                    "operationId": "submitHookByUrl",
                    "summary": "The same, for senders that cannot set a header",
                    "description": "`secret` is a key that was made for this webhook alone: `keys create --hook`.",
                    "security": [],
                    "parameters": [_path("name"), _path("secret"), repeat],
                }
            },
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "`dispatcher keys create` makes one."},
                "password": {"type": "http", "scheme": "basic", "description": "The key as the password."},
            },
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": False,
                    "description": "Your name for this submission. The same again is the same lead.",
                    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
                }
            },
            "schemas": _schemas(),
        },
    }


def _schemas() -> Schema:
    an_id, text = {"type": "string", "format": "uuid"}, {"type": "string"}
    maybe_id, maybe_text = {"type": ["string", "null"], "format": "uuid"}, {"type": ["string", "null"]}
    states = sorted(set(MEANINGS) - {"blocked"})
    results = ["submitted", "duplicate", "blocked", "repeated", "rejected"]
    return {
        "Lead": lead_schema(),
        "Submitted": _object(
            id=an_id,
            state={"enum": ["pending", "duplicate", "failed"]},
            created={"type": "boolean"},
            duplicate_of=maybe_id,
            meaning=text,
        ),
        "State": _object(
            id=an_id,
            state={"enum": states},
            meaning=text,
            campaign_id={"type": "integer"},
            phone_number={**text, "description": "Masked."},
            failure_class=maybe_text,
            duplicate_of=maybe_id,
            due_at=maybe_text,
            created_at=maybe_text,
            finished_at=maybe_text,
        ),
        "Batch": _object(
            batch_id=an_id,
            **{result: {"type": "integer"} for result in results},
            items={"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
        ),
        "Item": {
            "type": "object",
            "required": ["index", "result"],
            "properties": {
                "index": {"type": "integer"},
                "result": {"enum": results},
                "id": an_id,
                "duplicate_of": an_id,
                "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
            },
        },
        "Fault": _object(pointer=text, field=text, fault=text, remedy=text),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"enum": [f"/docs#{kind.name}" for kind in KINDS]},
                "title": text,
                "status": {"type": "integer"},
                "detail": text,
                "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
            },
        },
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _answer(description: str, schema: Schema, headers: Schema | None = None) -> Schema:
    answer: Schema = {"description": description, "content": {JSON: {"schema": schema}}}
    return answer | ({"headers": headers} if headers else {})


def _refusals(*statuses: int) -> Schema:
    return {str(status): _refusal(status) for status in statuses}


def _refusal(status: int) -> Schema:
    titles = " Or: ".join(kind.title for kind in KINDS if kind.status == status)
    answer: Schema = {
        "description": f"{titles}.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}
    return answer


def _version() -> str:
    try:
        return version("voicery-dispatcher")
    except PackageNotFoundError:
        return "0"


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font-family:ui-monospace,monospace}dt{font-weight:600;margin-top:1rem}"
)
STYLE_HASH: Final = f"sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}"


@cache
def page() -> str:
    """Return the page for people."""
    info = document()["info"]
    paths = "".join(
        f"<dt><code>{method.upper()} {escape(path)}</code></dt><dd>{escape(said['summary'])}."
        f" {escape(said.get('description', ''))}</dd>"
        for path, methods in document()["paths"].items()
        for method, said in methods.items()
    )
    problems = "".join(
        f'<dt id="{kind.name}">{kind.status} · {escape(kind.title)}</dt><dd>{escape(kind.remedy)}</dd>'
        for kind in KINDS
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])}</h1><p>{escape(info['description'])}"
        ' The whole description for programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<h2>Paths</h2><dl>{paths}</dl><h2>Refusals</h2><p>Every refusal is <code>{MEDIA_TYPE}</code> (RFC 9457);"
        f" its <code>type</code> leads here.</p><dl>{problems}</dl></html>\n"
    )
