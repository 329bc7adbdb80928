"""Secrets that come from files instead of variables: `NAME_FILE`, and the credentials that systemd gives a service.

The variable `NAME` wins over a credential of that name. What is read at each use (a token, the console's users) stays a
path; everything else is read here, once.
"""

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, get_args

from pydantic.fields import FieldInfo

from dispatcher.config.setting import Secret
from dispatcher.errors import FieldError, NotConfigured

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable that names systemd's directory of credentials (systemd.exec, `LoadCredential=`)."""

_FILE: Final = "_FILE"
_MOST_BYTES: Final = 65_536


def secrets(fields: Mapping[str, FieldInfo]) -> dict[str, bool]:
    """Return the settings that hold a secret, and of each whether a setting of its own, `…_file`, names its file."""
    return {name: f"{name}_file" in fields for name, field in fields.items() if Secret in get_args(field.annotation)}


def with_secret_files(
    environ: Mapping[str, str], *, read_now: Collection[str], read_later: Collection[str], faults: list[FieldError]
) -> dict[str, str]:
    """Return the environment in which each secret that a file holds is set.

    read_now    variables of secrets: their file is read, and the variable gets its content
    read_later  variables beside which a setting `NAME_FILE` exists: that gets the path of a credential; an account's
                suffix is part of the name, as in `VOICERY_API_TOKEN__SALES`
    faults      gets what is wrong, by the name of the variable and without any content
    """
    result = dict(environ)
    for name in read_now:
        if named := environ.get(name + _FILE, "").strip():
            del result[name + _FILE]
            if environ.get(name, "").strip():
                faults.append(FieldError(name, f"is set beside {name}{_FILE}", "unset one of the two"))
            else:
                result[name] = _content(Path(named), name + _FILE, faults)
    for path in _credentials(environ):
        name, separator, suffix = path.name.partition("__")
        if name in read_now and not separator and not result.get(name, "").strip():
            result[name] = _content(path, f"the credential {name}", faults)
        if name in read_later and not _is_set(result, name, separator + suffix):
            result[f"{name}{_FILE}{separator}{suffix}"] = str(path)
    return result


def secret_in(path: Path, variable: str) -> str:
    """Return what a file holds that is read at each use; empty if that is no text, or too long a one.

    Raises `NotConfigured`, which names the variable, if the file cannot be read.
    """
    try:
        return _text_of(path)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise NotConfigured(f"{variable}: the file cannot be read ({why}); mount it or correct the path.") from None


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    try:
        return content.decode("utf-8").strip() if len(content) <= _MOST_BYTES else ""
    except UnicodeDecodeError:
        return ""


def _is_set(environ: Mapping[str, str], name: str, suffix: str) -> bool:
    taken = {f"{name}{suffix}".upper(), f"{name}{_FILE}{suffix}".upper()}
    return any(known.upper() in taken and text.strip() for known, text in environ.items())


def _credentials(environ: Mapping[str, str]) -> Iterator[Path]:
    directory = environ.get(CREDENTIALS, "").strip()
    if directory:
        try:
            yield from sorted(Path(directory).iterdir())
        except OSError:  # of another unit, or gone: what is missing is told where it is needed
            return


def _content(path: Path, told: str, faults: list[FieldError]) -> str:
    way_out = "mount it, correct the path, or let this user read it"
    try:
        text = _text_of(path)
    except OSError as error:
        why = errno.errorcode.get(error.errno or 0, "") and os.strerror(error.errno or 0)
        faults.append(FieldError(told, f"names a file that cannot be read ({why or type(error).__name__})", way_out))
        return ""
    if not text:
        faults.append(FieldError(told, "names a file without a text, or with too long a one", "write the secret there"))
        return ""
    return text
