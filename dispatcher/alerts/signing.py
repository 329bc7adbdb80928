"""How the receiver of an alert can trust it: the headers of Standard Webhooks, and those of before.

The specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from dispatcher.config.key_forms import signing_key
from dispatcher.config.setting import Secret


@dataclass(frozen=True, slots=True)
class Signing:
    """Makes the headers of one POST.

    `secrets`: the current one first; a second one signs too while receivers change over. `former`: whether to send
    `Dispatcher-Alert-Id` and `Dispatcher-Signature` as well, which knows only the current secret.
    """

    secrets: tuple[Secret, ...]
    former: bool = True

    def headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers by which a receiver knows a repetition, a forgery and an old message.

        Args:
            message_id: the same for each try of one alert.
            timestamp: of this try, in seconds since 1970.
            body: the bytes that are sent.
        """
        headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
        if self.secrets:
            signed = f"{message_id}.{timestamp}.".encode() + body
            signatures = (hmac.digest(signing_key(secret.reveal()), signed, "sha256") for secret in self.secrets)
            headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures)
        if self.former:
            headers["Dispatcher-Alert-Id"] = message_id
            if self.secrets:
                headers["Dispatcher-Signature"] = former_signature(self.secrets[0].reveal(), timestamp, body)
        return headers


def former_signature(secret: str, timestamp: int, body: bytes) -> str:
    """Return `t=<unix seconds>,v1=<hex>`: HMAC-SHA256 over `<t>.<body>`, with the secret as it is written."""
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"
