"""Who acts, where nobody says so."""

import getpass
import os
import socket


def whoami() -> str:
    """The user of this process at this machine, e.g. `ada@ops-1`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}"  # in a container the user often has no name
    return f"{user}@{socket.gethostname()}"
