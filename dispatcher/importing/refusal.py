"""Why a file is not imported, or not beyond a line; a bad row refuses only itself."""

from dispatcher.errors import DispatcherError


class UnreadableFile(DispatcherError):
    """The message names the line or column and the way out, and what was imported before it, if anything was."""


class UnwritableRejects(DispatcherError):
    """The account of refused rows cannot be written. The message says why, and in the end how far it came."""


class ImportStopped(DispatcherError):
    """Somebody asked it to stop. The message says how many rows are done and how to go on."""
