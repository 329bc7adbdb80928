"""`dispatcher`, also `python -m dispatcher`: exits with 0 (done), 1 (failed or refused), 2 (misused), 130 (Ctrl-C).

With `--json` an error is one JSON object on standard error: `error` (`failed`, `misused` or `bug`), `message`,
`exit_code`.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from dispatcher.errors import DispatcherError, interrupt
from dispatcher.printable import printable

_GARBAGE_THRESHOLD: Final = 2_000_000
"""New objects between two searches for cycles; with Python's 700 they cost a short command a tenth of its time."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main() -> None:
    """Run the command line. A failure is one line on standard error, never a traceback."""
    gc.set_threshold(_GARBAGE_THRESHOLD)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, e.g. `>&-`: the output is discarded
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - to the end
    try:
        from dispatcher.cli.commands import app

        if not _wants_json():
            app(prog_name="dispatcher")
        else:
            _run_for_a_program(app)
    except DispatcherError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader closed the pipe, e.g. `| head`.
        sys.stdout = None  # so that the interpreter does not flush into it
        sys.exit(0)
    except OSError as error:
        if error.errno not in _FULL:
            _report(error)
        sys.stdout = None  # so that the interpreter does not flush into it and end with 120
        _complain(f"The output cannot be written: {error.strerror}.")
    except Exception as error:  # noqa: BLE001 - a traceback may hold a person's values
        _report(error)
    finally:
        # The interpreter searches for cycles once more before it ends: a quarter of a short command's time.
        gc.freeze()


def _wants_json() -> bool:
    given = sys.argv[1:]
    return "--json" in (given[: given.index("--")] if "--" in given else given)


def _run_for_a_program(app: Callable[..., object]) -> None:
    """Run the command line, and tell of its misuse in JSON too."""
    from typer import Abort
    from typer.exceptions import TyperException

    try:
        status = app(prog_name="dispatcher", standalone_mode=False)
    except Abort:
        _complain("Not confirmed: nothing was done.")
    except TyperException as misuse:
        _complain(misuse.format_message(), kind="misused", exit_code=2)
    sys.exit(status if isinstance(status, int) else 0)


def _report(error: Exception) -> NoReturn:
    where = _where(error)
    _complain(f"This is a bug of the dispatcher: {type(error).__name__} in {where}. Please report it.", kind="bug")


def _complain(message: str, *, kind: str = "failed", exit_code: int = 1) -> NoReturn:
    told = " ".join(message.split("\n"))
    if _wants_json():
        import json

        told = json.dumps({"error": kind, "message": told, "exit_code": exit_code}, ensure_ascii=False)
    sys.stderr.write(printable(told) + "\n")
    sys.exit(exit_code)


def _where(error: BaseException) -> str:
    """Return the innermost line of our code; it holds no value."""
    found, trace = "an unknown place", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("dispatcher"):
            found = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


if __name__ == "__main__":
    main()
