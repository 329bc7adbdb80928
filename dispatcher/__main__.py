"""`dispatcher`, also `python -m dispatcher`: exits with 0 (done), 1 (failed or refused), 2 (misused), 130 (Ctrl-C).

With `--json` an error is one JSON object on standard error: `error` (`failed`, `misused` or `bug`), `message`,
`exit_code`.
"""

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from dispatcher.errors import DispatcherError, interrupt
from dispatcher.printable import printable

_GARBAGE_THRESHOLD: Final = 2_000_000
"""New objects between two searches for cycles; with Python's 700 they cost a short command a tenth of its time."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main() -> None:
    """Run the command line. A failure is a sentence on standard error, in one line for a log; never a traceback."""
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
    lines = [" ".join(message.split("\n"))]  # one line for a log
    if _wants_json():
        import json

        lines = [json.dumps({"error": kind, "message": lines[0], "exit_code": exit_code}, ensure_ascii=False)]
    elif sys.stderr.isatty():
        lines = list(_for_a_terminal(message))
    for line in lines:
        sys.stderr.write(printable(line) + "\n")
    sys.exit(exit_code)


def _for_a_terminal(message: str) -> Iterator[str]:
    """Break between words, where the terminal would break anywhere."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    for line in message.split("\n"):
        indent = "  " if line.startswith("- ") else ""
        yield from textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]


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
