"""Every setting of the dispatcher, in one frozen object; `docs/settings.md` is generated from here.

`Settings.from_environment()` reads the variables; `Settings(database_url=..., lease_seconds=120)` takes the same values
by attribute and never looks at the environment. The setting `lease_seconds` is the variable `DISPATCHER_LEASE`.
Both raise `NotConfigured` with every fault at once, by the name of the variable and without any value.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from dispatcher.config.account import AccountSettings, RateWindow, parse_rate_limit
from dispatcher.config.environment import (
    TOKENS,
    UnknownName,
    UnusableSettings,
    contradictions,
    explain,
    read_accounts,
    read_settings,
    unknown_names,
    variable,
)
from dispatcher.config.key_forms import encryption_keys, signing_key
from dispatcher.config.secret_files import secrets, with_secret_files
from dispatcher.config.setting import DAY_SECONDS, Secret, count, days, seconds, setting
from dispatcher.config.urls import Network, check_webhook_url, networks, normal_database_url, normal_redis_url
from dispatcher.errors import FieldError, NotConfigured
from dispatcher.lead.options import DEFAULT_ACCOUNT

if TYPE_CHECKING:  # loaded by who uses them: a producer does not
    from dispatcher.decisions.gate import GateLimits
    from dispatcher.decisions.outcome import Rules
    from dispatcher.decisions.policy import Budget


class Settings(BaseModel):
    """Frozen, and masked wherever it is shown. Attributes carry their unit; `docs/settings.md` lists their dangers."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    # Where things are
    database_url: Secret | None = setting(
        None,
        "an address like postgresql://user:password@host:5432/name",
        "Postgres, which is the queue.",
        "Two deployments on one database are one queue: their workers deliver each other's leads.",
    )
    database_read_url: Secret | None = setting(
        None,
        "an address like postgresql://reader:password@replica:5432/name",
        "A streaming replica of it, from which lists, exports and metrics are read; nothing is decided there.",
        "What lists show is as old as the replica is behind; they say so.",
    )
    read_lag_max_seconds: float = seconds(
        60, "While the replica is further behind, lists are read from `DATABASE_URL`.", greatest=3600
    )
    pooler: bool = setting(
        False,
        "true or false",
        "`DATABASE_URL` leads to a transaction-pooling proxy: no prepared statements, no options of a session.",
        "The role must then carry those options (docs/operations.md): `synchronous_commit = off` may forget a claim.",
    )
    redis_url: Secret | None = setting(
        None,
        "an address like redis://host:6379/0, rediss://…, unix:///path or sentinel://host,host,host/0?master=NAME",
        "Redis, one server or a primary that sentinels name: the doorbell and the rate limit.",
        "Workers that share a token but not a Redis exceed the rate limit together.",
    )
    accounts: Mapping[str, AccountSettings] = Field(default_factory=dict, validate_default=True)
    allow_http: bool = setting(
        False,
        "true or false",
        "Allow a plain http `VOICERY_BASE_URL` that is not on this machine.",
        "The token and people's numbers travel readable: only for a sandbox in a private network.",
    )
    proxy: Secret | None = setting(
        None,
        "an address that begins with http:// or https://",
        "The proxy for requests to Voicery. The proxy variables of the environment are ignored.",
    )
    ca_bundle: Path | None = setting(
        None,
        "the path of a PEM file",
        "Certificate authorities to trust instead of the public ones.",
        "The holder of a key of these authorities can read the token and people's numbers.",
    )

    # How fast
    rate_limit: tuple[RateWindow, ...] = setting(
        parse_rate_limit("100/minute; 20/10 seconds"),
        "windows like 100/minute; 20/10 seconds, or off",
        "How many requests of one account all workers together may send, every window kept at once.",
        "Above Voicery's own limit every further request is refused, and the account is held back.",
    )
    concurrency: int = count(
        64,
        "Requests in flight at most in one delivery run: it begins with 8, and widens while answers come well.",
        "After a worker is killed, up to this number of leads per run are in doubt.",
        greatest=256,
    )
    run_for_seconds: float = seconds(
        3, "How long a delivery run lasts, before another channel has its turn.", greatest=60
    )

    # How often, and how long
    max_attempts: int = count(
        8,
        "A lead fails after this number of attempts that count, if `DISPATCHER_RETRY_FOR` is over too.",
        greatest=1000,
    )
    retry_for_seconds: float = seconds(
        DAY_SECONDS,
        "How long since its first attempt a lead is tried at least, before it fails as `exhausted`.",
        "A short time turns a night's outage into failed leads.",
        greatest=366 * DAY_SECONDS,
    )
    backoff_base_seconds: float = seconds(2, "The longest wait after the first failed attempt; it doubles with each.")
    backoff_max_seconds: float = seconds(900, "The longest wait between two attempts.")
    connect_timeout_seconds: float = seconds(5, "For a connection to Voicery: name, TCP and TLS.", greatest=600)
    read_timeout_seconds: float = seconds(
        20, "For each piece of Voicery's answer.", "A POST given up while it is worked on is in doubt.", greatest=600
    )
    deadline_seconds: float = seconds(
        30, "For a whole exchange with Voicery.", "A POST given up while it is worked on is in doubt.", greatest=600
    )
    lease_seconds: float = seconds(
        90,
        "How long a claimed lead belongs to its worker: at least 1.1 × (connect timeout + deadline).",
        "A short lease puts leads in doubt whose answer is only slow; a long one delays the look-up after a crash.",
        greatest=3600,
    )
    park_seconds: float = seconds(
        30, "How long a lead waits at most behind another lead of the same person before it is looked at again."
    )
    safe_statuses: frozenset[int] = setting(
        frozenset(),
        "HTTP statuses from 500 to 599, separated by commas",
        "Answers that this deployment has proven to mean that no lead was made; they are simply sent again.",
        "A status that even once follows a created lead calls that person twice.",
    )

    # When it is unknown whether a lead was created
    settle_seconds: float = seconds(
        120,
        "How long Voicery may still be working on a request whose answer was lost; then the lead is looked up.",
        "If Voicery can take longer, a lead that appears late is taken for absent, and sent again.",
    )
    proof_for_seconds: float = seconds(
        600,
        "How long a proof that a lead is not at Voicery allows it to be sent again; then it is looked up once more.",
        "A lead that appears at Voicery after it was proven absent is called twice; a long time makes that likelier.",
        greatest=3600,
    )
    unknown_for_seconds: float = seconds(
        3600, "How long an unknown lead is looked for, before it fails as `outcome_unknown`.", greatest=30 * DAY_SECONDS
    )
    on_unknown: Literal["auto", "hold", "resend"] = setting(
        "auto",
        "auto, hold or resend",
        "A lead that is not found is sent again once if its absence is proven, never, or once without proof.",
        "`resend` calls people twice where Voicery's list hides or delays leads.",
    )
    reference_variable: str | None = setting(
        None,
        "a name of letters, digits and _, up to 64",
        "The variable that carries the lead's id to Voicery, which makes look-ups exact.",
        "The campaign's assistant must know this variable, or Voicery may drop it or refuse the lead.",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
    )
    duplicate_rule: re.Pattern[str] = setting(
        re.compile(r"(?i)dup+licate|already (exists|been added|in (this|the) campaign)"),
        "a regular expression",
        "Which text in a refusal (400, 422) says that Voicery has this lead already; 409 always does.",
        "If it matches too much, leads refused for other reasons end as duplicates, without a failure to look at.",
    )

    balance_rule: re.Pattern[str] = setting(
        re.compile(
            r"(?i)\b(insufficient|not enough|out of|low|negative|zero|no)( \w+)? (balance|credits?(?! card)|funds?)\b"
            r"|\b(balance|credits?|funds)\b[^.!?]{0,40}"
            r"\b(insufficient|not sufficient|exhausted|depleted|used up|too low|not enough|empty|negative|run out)\b"
            r"|\btop[ -]?up\b"
        ),
        "a regular expression",
        "Which text in a refusal (400-499) says that the account has no balance; 402 always does.",
        "If it matches too much, one refused lead holds all leads of the account back until somebody looks.",
    )

    # What holds leads back
    blocked_contact: Literal["hold", "drop"] = setting(
        "hold",
        "hold or drop",
        "A lead with a blocked secondary contact is held back as a whole, or sent without that contact.",
        "With `drop` somebody is called about a person who asked not to be called.",
    )
    gate_wait_seconds: float = seconds(
        5, "How long a gate stays closed at first; it doubles with each failure.", greatest=3600
    )
    gate_wait_max_seconds: float = seconds(300, "The longest wait between two probes of a closed gate.")
    outage_after: int = count(5, "The number of consecutive failures that closes a gate as `outage`.", greatest=1000)
    rejecting_after: int = count(
        10,
        "The number of equal consecutive refusals that closes a channel's gate as `rejecting`.",
        "The leads refused until then have failed; they can be replayed.",
        greatest=10_000,
    )

    # Maintenance
    sweep_interval_seconds: float = seconds(
        1, "The time between two sweeps.", "Scheduled leads may go later by this time.", greatest=60
    )
    retention_days: float = days(
        90,
        "Ended leads are deleted after this, with contacts and attempts; imports and operations too.",
        "Once an accepted lead is deleted, the same person can be submitted, and called, again.",
    )
    failed_retention_days: float = days(
        365,
        "Leads that failed are deleted after this, dealt with or not, if `DISPATCHER_RETENTION_DAYS` is over too.",
        "What nobody has dealt with by then is forgotten, and a lead in doubt no longer stands for its person.",
    )
    audit_retention_days: float = days(
        1095,
        "Entries of the audit log are deleted after this.",
        "Who did what before can then no longer be told.",
    )
    incident_retention_days: float = days(365, "Incidents are deleted after this, seen or not.")
    response_retention_days: float = days(
        30, "The stored answers of ended attempts are emptied after this: they may hold personal data."
    )
    key_retention_days: float = days(
        400,
        "Idempotency keys are forgotten after this, but not before the leads.",
        "A repetition under a forgotten key is a new lead.",
    )
    privacy_key: Secret | None = setting(
        None,
        "a text of at least 32 characters, e.g. from `openssl rand -hex 32`",
        "The key of the hashes by which persons are known whose number is not kept: one for all processes.",
        "Without it nobody can be blocked by hash alone. If it is lost or changed, those blocks cannot be checked, and "
        "nothing is sent until it is back. Whoever has it and the database can find the numbers by trying all.",
        min_length=32,
    )
    privacy_key_file: Path | None = setting(
        None, "the path of a file that holds only the key", "The same in a file, read when a process starts."
    )
    encryption_keys: Secret | None = setting(
        None,
        "keys of 64 hexadecimal digits each, separated by spaces, e.g. from `openssl rand -hex 32`; or off before them",
        "Encrypts variables, contacts, Voicery's answers and refused rows in the database: the first key encrypts, all "
        "decrypt; with `off` before them new values are stored plain. Needs the extra `encryption`.",
        "A lead whose key is lost can neither be sent nor read. A worker without one of the keys in use sends nothing.",
    )
    alert_webhook_url: Secret | None = setting(
        None,
        "an address that begins with https:// (http:// on this machine)",
        "Gets a signed POST for incidents, for failures as `outcome_unknown`, and when a gate closes by itself.",
        "Its operator learns how many leads of which campaign are in trouble; never a number or a variable.",
    )
    alert_webhook_secret: Secret | None = setting(
        None,
        "whsec_ and a key in base64 (`openssl rand -base64 32`), or any text",
        "Signs these POSTs, so that the receiver can tell them from forged ones.",
    )
    alert_webhook_secret_next: Secret | None = setting(
        None, "as DISPATCHER_ALERT_WEBHOOK_SECRET", "Signs them too, while receivers change over to it."
    )
    alert_headers: Literal["both", "standard"] = setting(
        "both", "both or standard", "`standard` sends the headers of Standard Webhooks without the Dispatcher-… ones."
    )
    alert_quiet_seconds: float = seconds(
        600,
        "The time without a further alert of the same cause; what happens meanwhile is counted in the next.",
    )
    metrics_token: Secret | None = setting(
        None, "any text", "The bearer token that `/metrics` asks for; needed to serve it beyond this machine."
    )
    log_format: Literal["auto", "json", "console"] = setting(
        "auto", "auto, json or console", "How a worker logs; `auto` is console on a terminal and json elsewhere."
    )

    # The web console
    console_users: Secret | None = setting(
        None,
        "name:role:hash or name:role:hash:account,account, separated by spaces; `dispatcher console --hash` writes one",
        "Who may log in to the console: viewers read, operators act, admins set limits too.",
        "A reader of the hashes can try passwords on them.",
    )
    console_users_file: Path | None = setting(
        None, "the path of a file with such a user a line", "The same in a file, read again at each request."
    )
    console_origin: str | None = setting(
        None,
        "an origin like https://leads.example.com",
        "Where browsers reach the console, if not at the address it listens on. Other `Host` headers are refused.",
        "A name that others can point at this machine lets their pages talk to the console.",
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$",
    )
    console_trusted_proxies: tuple[Network, ...] = setting(
        (),
        "addresses or networks, separated by spaces, e.g. 10.0.0.5 or 10.0.0.0/24",
        "The reverse proxies whose `X-Forwarded-For` names the client of the console: failed logins lock "
        "a client, not a proxy.",
        "Whoever can connect from such an address can pretend to be any client.",
    )
    console_idle_seconds: float = seconds(1800, "A console session ends after this time without a request.")
    console_upload_mb: int = count(
        50, "The largest file of leads, in MB, that operators may upload in the console.", greatest=2000
    )

    # The HTTP intake
    intake_trusted_proxies: tuple[Network, ...] = setting(
        (),
        "addresses or networks, separated by spaces, e.g. 10.0.0.5 or 10.0.0.0/24",
        "The reverse proxies that end TLS for `dispatcher intake`, and whose `X-Forwarded-For` names the client.",
        "Whoever can connect from such an address can pretend to be any client.",
    )

    unknown_names: tuple[UnknownName, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the variables (of this process by default); raises `NotConfigured` with every fault at once."""
        settings, faults = cls._read(os.environ if environ is None else environ)
        if settings is None:
            raise UnusableSettings(faults)  # here, where no local variable holds a value: tracebacks show locals
        return settings

    def require_database_url(self) -> str:
        """Return Postgres' address as SQLAlchemy takes it (`postgresql+psycopg://…`), or raise `NotConfigured`."""
        if self.database_url is None:
            raise NotConfigured(
                "DATABASE_URL is not set; `dispatcher up` starts a local one; then `source .dispatcher/sandbox/env`."
            )
        return self.database_url.reveal()

    def require_redis_url(self) -> str:
        """Return Redis' address as redis-py takes it (`redis://`, `rediss://`, `unix://`), or raise `NotConfigured`."""
        if self.redis_url is None:
            raise NotConfigured(
                "REDIS_URL is not set; `dispatcher up` starts a local one; then `source .dispatcher/sandbox/env`."
            )
        return self.redis_url.reveal()

    @property
    def budget(self) -> "Budget":
        """How often and how long a lead is tried."""
        from dispatcher.decisions.policy import Budget

        return Budget(self.max_attempts, self.retry_for_seconds, self.backoff_base_seconds, self.backoff_max_seconds)

    @property
    def gate_limits(self) -> "GateLimits":
        """What closes a gate, and for how long."""
        from dispatcher.decisions.gate import GateLimits

        return GateLimits(self.gate_wait_seconds, self.gate_wait_max_seconds, self.outage_after, self.rejecting_after)

    @property
    def rules(self) -> "Rules":
        """How answers are classified."""
        from dispatcher.decisions.outcome import Rules

        return Rules(self.duplicate_rule, self.safe_statuses, self.balance_rule)

    def account(self, name: str) -> AccountSettings:
        """Return the account of this name, with a token or without; raise `NotConfigured` if no setting names it."""
        if name not in self.accounts:
            account = AccountSettings(name=name)
            raise NotConfigured(f"The account {name} has no {account.variable('VOICERY_API_TOKEN')} here; set it.")
        return self.accounts[name]

    @classmethod
    def expectations(cls) -> dict[str, str]:
        """Each setting that has a variable of its own, in the order of the documentation, and how it is written."""
        return {
            name: str(field.json_schema_extra["expected"])
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict)
        }

    @field_validator("database_url", "database_read_url")
    @classmethod
    def _postgres(cls, value: Secret | None) -> Secret | None:
        return None if value is None else Secret(normal_database_url(value.reveal()))

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: Secret | None) -> Secret | None:
        return None if value is None else Secret(normal_redis_url(value.reveal()))

    @field_validator("console_trusted_proxies", "intake_trusted_proxies", mode="before")
    @classmethod
    def _read_networks(cls, given: object) -> object:
        return networks(given) if isinstance(given, str) else given

    @field_validator("proxy", "alert_webhook_url")
    @classmethod
    def _http(cls, value: Secret | None) -> Secret | None:
        if value is not None and re.fullmatch(r"https?://[!-~]+", value.reveal()) is None:
            raise ValueError("is not an address that begins with https:// or http://")
        return value

    @field_validator("alert_webhook_secret", "alert_webhook_secret_next")
    @classmethod
    def _a_key(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            signing_key(value.reveal())
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _key_ring(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            encryption_keys(value.reveal())
        return value

    @field_validator("accounts")
    @classmethod
    def _named(cls, value: Mapping[str, AccountSettings]) -> Mapping[str, AccountSettings]:
        named = {name: account.model_copy(update={"name": name}) for name, account in value.items()}
        return MappingProxyType({DEFAULT_ACCOUNT: AccountSettings(), **named})

    @field_serializer("accounts")
    def _dumped(self, value: Mapping[str, AccountSettings]) -> dict[str, AccountSettings]:
        return dict(value)

    @field_validator("rate_limit", mode="before")
    @classmethod
    def _windows(cls, value: object) -> object:
        return parse_rate_limit(value) if isinstance(value, str) else value

    @field_validator("safe_statuses", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("safe_statuses")
    @classmethod
    def _server_errors(cls, value: frozenset[int]) -> frozenset[int]:
        if not all(500 <= status <= 599 for status in value):
            raise ValueError("names a status that is not 500-599; only those may be declared safe")
        return value

    @field_validator("duplicate_rule", "balance_rule")
    @classmethod
    def _selective(cls, value: re.Pattern[str]) -> re.Pattern[str]:
        if value.search(""):
            raise ValueError("matches every text, so that it would hold for every refusal")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _all_faults(cls, values: dict[str, Any], handler: ModelWrapValidatorHandler[Self]) -> Self:
        settings, faults, broken = cls._validated(values, handler)
        faults += contradictions(settings.__dict__, broken)
        for account in settings.accounts.values():
            faults += account.faults(allow_http=settings.allow_http)
        faults += _webhook_faults(settings)
        if faults:
            raise UnusableSettings(faults)
        return settings

    @classmethod
    def _validated(
        cls, values: dict[str, Any], handler: ModelWrapValidatorHandler[Self]
    ) -> tuple[Self, list[FieldError], set[str]]:
        """Return the settings, with defaults in the place of broken ones, so that the rest can be checked too."""
        try:
            return handler(values), [], set()
        except ValidationError as error:
            faults = explain(error, cls.expectations())
            broken = {str(detail["loc"][0]) for detail in error.errors(include_url=False, include_input=False)}
        return handler({name: value for name, value in values.items() if name not in broken}), faults, broken

    @classmethod
    def _read(cls, environ: Mapping[str, str]) -> tuple[Self | None, list[FieldError]]:
        faults: list[FieldError] = []
        held = secrets(cls.model_fields).items()
        environ = with_secret_files(
            environ,
            read_now=[variable(name) for name, has_setting in held if not has_setting],
            read_later=[*TOKENS, *(variable(name) for name, has_setting in held if has_setting)],
            faults=faults,
        )
        accounts = read_accounts(environ, faults)
        values: dict[str, Any] = dict(read_settings(environ, cls.expectations()))
        settings = None
        try:
            settings = cls(**values, accounts=accounts, unknown_names=unknown_names(environ, cls.expectations()))
        except UnusableSettings as error:
            faults += error.errors
        return (None if faults else settings), faults


def _webhook_faults(settings: Settings) -> list[FieldError]:
    if settings.alert_webhook_url is None:
        return []
    faults = check_webhook_url(settings.alert_webhook_url.reveal(), allow_http=settings.allow_http)
    way_out = "copy it again from the receiver's settings"
    return [FieldError(variable("alert_webhook_url"), fault, way_out) for fault in faults]
