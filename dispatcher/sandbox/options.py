"""How the sandbox behaves, fixed at its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from dispatcher.errors import NotConfigured
from dispatcher.sandbox.fault import Rule


def require_server() -> None:
    """Raise `NotConfigured` where the extra with the sandbox's server is not installed. Loads nothing."""
    if find_spec("aiohttp") is None:
        raise NotConfigured("The sandbox needs aiohttp: pip install 'voicery-dispatcher[sandbox]'.")


class DuplicateForm(StrEnum):
    """How a refused duplicate is answered; which one Voicery uses is not known."""

    CONFLICT = "409"
    UNPROCESSABLE = "422"
    EXISTING = "existing"  # 200 with the lead that is already there


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Every default is the documented behaviour of the API, without limit, latency or fault.

    Without `log` and `state_dir` the log lives only as long as the sandbox. An existing log is read at the start:
    its leads are there again and ids go on.
    """

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free port
    token: str | None = field(default=None, repr=False)  # None: any non-empty token is let in
    state_dir: Path | None = None  # the log is `requests.jsonl` in it, unless `log` is given
    log: Path | None = None
    campaigns: Mapping[int, str] | None = None  # id → name; None: every positive id exists
    duplicate_form: DuplicateForm = DuplicateForm.CONFLICT
    known_variables: frozenset[str] | None = None  # names that are kept and echoed; None: all
    ids_as_strings: bool = False
    wrap_in_list: bool = False  # the answer to a creation comes in a list of one, as once seen
    created_status: int = 200  # 201 was seen elsewhere
    utc_offset_hours: float = 0.0  # zone of created_at and of date_from/date_to
    rate_limit: str = "off"  # "100/minute; 20/10 seconds", per token
    latency_seconds: float = 0.0  # between the effect and the answer
    chaos: float = 0.0  # probability of a fault, 0 to 1
    seed: int | None = None  # of chaos; None: another mixture each time
    chaos_late_seconds: float = 0.5  # must stay below the client's settle time, or a resend is no error of the client
    phone_suffixes: bool = False  # faults by the last four digits of the number
    faults: tuple[Rule, ...] = ()
    control: bool = True  # /_sandbox/…, for callers on this machine only
    certificate: Path | None = None  # PEM chain; with `key`, the sandbox speaks TLS
    key: Path | None = None
    tls_stall: bool = False  # connections are accepted and no byte is ever sent

    def __post_init__(self) -> None:
        if not 0 <= self.chaos <= 1:
            raise NotConfigured("The sandbox's chaos is a probability from 0 to 1.")
        if self.latency_seconds < 0 or self.chaos_late_seconds < 0:
            raise NotConfigured("The sandbox's latency and lateness are seconds from 0 up.")
        if not 0 <= self.port <= 65535:
            raise NotConfigured("The sandbox's port is a number from 0 to 65535.")
        if self.token == "":
            raise NotConfigured("The sandbox's token is empty; leave it out to let any token in.")
        if (self.certificate is None) != (self.key is None):
            raise NotConfigured("The sandbox needs both `certificate` and `key` to speak TLS.")

    @property
    def log_path(self) -> Path | None:
        """Where the log is kept; None: nowhere beyond the sandbox's own life."""
        return self.log or (self.state_dir / "requests.jsonl" if self.state_dir else None)
