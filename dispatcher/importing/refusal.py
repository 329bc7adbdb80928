"""Why a file cannot be imported, or not beyond a line; a bad row refuses only itself."""

from dispatcher.errors import DispatcherError


class UnreadableFile(DispatcherError):
    """The message names the line or column and the way out, and what was imported before it, if anything was."""
