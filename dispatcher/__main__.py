"""`dispatcher`, also `python -m dispatcher`: exits with 0 (done), 1 (failed or refused), 2 (misused), 130 (Ctrl-C)."""

import errno
import gc
import os
import signal
import sys
from typing import Final, NoReturn

from dispatcher.errors import DispatcherError, interrupt
from dispatcher.printable import printable

_GARBAGE_THRESHOLD: Final = 50_000
"""New objects between two searches for cycles; Python's 700 costs a short command a tenth of its time."""
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

        app(prog_name="dispatcher")
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


def _report(error: Exception) -> NoReturn:
    where = _where(error)
    _complain(f"This is a bug of the dispatcher: {type(error).__name__} in {where}. Please report it.")


def _complain(message: str) -> NoReturn:
    sys.stderr.write(printable(message.replace("\n", " ")) + "\n")
    sys.exit(1)


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
