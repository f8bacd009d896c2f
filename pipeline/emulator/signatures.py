"""How messages are signed: with a shared secret (Standard Webhooks), or with a key of the service's own (JWT)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.emulator.clock import SECOND

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_ID = "emulator-1"
ISSUER = "https://generativelanguage.googleapis.com"
AUDIENCE = "emulator"
LIFE = 300  # seconds


def secret_of(what: str) -> str:
    return "whsec_" + base64.b64encode(hashlib.sha256(what.encode()).digest()).decode()


class Signer:
    """Signs messages. Its private key is made when it is first needed."""

    def __init__(self) -> None:
        self._key: RSAPrivateKey | None = None

    def headers(
        self, message: str, body: bytes, *, now: int, secrets: Sequence[str], forged: bool
    ) -> dict[str, str]:
        """What goes with a message. A forged one is signed as well, but not over these bytes."""
        at = now // SECOND
        content = body + b" " if forged else body
        if secrets:
            signature = " ".join(shared(secret, message, at, content) for secret in secrets)
        else:
            signature = self._token(message, at, content)
            if forged:
                head, claims, _ = signature.split(".")
                signature = f"{head}.{claims}.{packed(b'forged' * 43)[:342]}"
        return {
            "content-type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": str(at),
            "webhook-signature": signature,
        }

    def _token(self, message: str, at: int, body: bytes) -> str:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": at, "exp": at + LIFE, "jti": message}
        claims["body_sha256"] = hashlib.sha256(body).hexdigest()
        header = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        signed = f"{packed(json.dumps(header).encode())}.{packed(json.dumps(claims).encode())}"
        return f"{signed}.{packed(self._private().sign(signed.encode(), PKCS1v15(), SHA256()))}"

    def keys(self) -> dict[str, Any]:
        """The public half, as a JSON Web Key Set."""
        numbers = self._private().public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        exponent = numbers.e.to_bytes(3, "big")
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID}
        return {"keys": [key | {"n": packed(modulus), "e": packed(exponent)}]}

    def state(self) -> bytes | None:
        if self._key is None:
            return None
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def take_up(self, key: bytes | None) -> None:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        loaded = None if key is None else load_der_private_key(key, None)
        self._key = loaded if isinstance(loaded, RSAPrivateKey) else None

    def _private(self) -> "RSAPrivateKey":
        if self._key is None:
            from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

            self._key = generate_private_key(65537, 2048)
        return self._key


def shared(secret: str, message: str, at: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
