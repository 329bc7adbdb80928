"""Why a whole file cannot be imported; a bad row refuses only itself."""

from dispatcher.errors import DispatcherError


class UnreadableFile(DispatcherError):
    """Nothing of the file was imported; the message names the line or column and the way out."""
