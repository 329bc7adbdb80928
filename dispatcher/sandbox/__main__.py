"""`python -m dispatcher.sandbox`: print the base URL as one line, then serve until SIGINT or SIGTERM."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dispatcher.errors import CannotListen, NotConfigured
from dispatcher.sandbox.fault import rules_from_json
from dispatcher.sandbox.options import DuplicateForm, SandboxOptions, require_server


def parser() -> argparse.ArgumentParser:
    """Return the parser; each flag has the default of `SandboxOptions`."""
    made = argparse.ArgumentParser(
        prog="python -m dispatcher.sandbox",
        description="A stand-in for the Voicery API.",
    )
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=0, help="0 takes any free port (default)")
    made.add_argument("--chaos", type=float, default=0.0, help="probability of a fault, 0 to 1")
    made.add_argument("--seed", type=int, help="makes the mixture of faults repeatable")
    made.add_argument("--late-seconds", type=float, default=0.5, help="how late chaos creates a lead")
    made.add_argument("--latency", type=float, default=0.0, help="seconds between effect and answer")
    made.add_argument("--rate-limit", default="off", help="e.g. '100/minute; 20/10 seconds'")
    made.add_argument("--state-dir", type=Path, help="leads and ids survive a restart in it")
    made.add_argument(
        "--log",
        type=Path,
        help="log of requests (default: requests.jsonl in the state directory)",
    )
    made.add_argument("--token-file", type=Path, help="the only token to let in (default: any)")
    made.add_argument("--faults", type=Path, help="JSON file of fault rules")
    made.add_argument(
        "--phone-suffixes",
        action="store_true",
        help="faults by the last four digits of the number",
    )
    made.add_argument("--duplicate-form", choices=[*DuplicateForm], default=DuplicateForm.CONFLICT)
    made.add_argument("--no-control", action="store_true", help="switch off /_sandbox/")
    made.add_argument("--certificate", type=Path, help="PEM chain; speaks TLS together with --key")
    made.add_argument("--key", type=Path)
    made.add_argument("--tls-stall", action="store_true", help="accept connections and never answer")
    return made


def read_options(arguments: Sequence[str]) -> SandboxOptions:
    """Return the options. Raise `NotConfigured` if a value or a file cannot be used."""
    given = parser().parse_args(arguments)
    try:
        token = given.token_file.read_text().strip() if given.token_file else None
        faults = rules_from_json(given.faults.read_bytes()) if given.faults else []
    except OSError as error:
        raise NotConfigured(f"Cannot read {error.filename}: {error.strerror}.") from error
    return SandboxOptions(
        host=given.host,
        port=given.port,
        chaos=given.chaos,
        seed=given.seed,
        chaos_late_seconds=given.late_seconds,
        latency_seconds=given.latency,
        rate_limit=given.rate_limit,
        state_dir=given.state_dir,
        log=given.log,
        token=token,
        faults=tuple(faults),
        phone_suffixes=given.phone_suffixes,
        duplicate_form=DuplicateForm(given.duplicate_form),
        control=not given.no_control,
        certificate=given.certificate,
        key=given.key,
        tls_stall=given.tls_stall,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve. Return 0 after a stop; with one sentence on standard error 1 for a taken port, 2 for a bad setting."""
    try:
        options = read_options(sys.argv[1:] if arguments is None else arguments)
        require_server()
        from dispatcher.sandbox.server import serve

        serve(options, on_ready=lambda url: print(url, flush=True))  # noqa: T201 - what it announces is its output
    except (NotConfigured, CannotListen) as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return 2 if isinstance(error, NotConfigured) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
