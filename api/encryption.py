"""Encrypt data that is stored for a client, with a key that only the client has.

The encryption key is derived from the client's key and SECRET_KEY. A copy of the database is not
enough to read the data, even with SECRET_KEY. A client's key may be easy to guess, but without
SECRET_KEY a guess cannot be tested.
"""

from __future__ import annotations

import hashlib
import json
import logging
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

logger = logging.getLogger(__name__)


def digest_of(key: str) -> str:
    """Return the SHA-256 of a client's key, which identifies its row."""
    return hashlib.sha256(key.encode()).hexdigest()


def encrypt(document: dict[str, Any], *, key: str, purpose: str) -> str:
    """Return the document as text, which `decrypt` reads with the same key and purpose.

    Args:
        document: anything that JSON can hold.
        key: the client's key.
        purpose: the use of the document, such as its owner; part of the encryption key.
    """
    return _cipher(key, purpose).encrypt(json.dumps(document).encode()).decode()


def decrypt(encrypted: str, *, key: str, purpose: str) -> dict[str, Any] | None:
    """Return the document, or None if it was erased.

    Return None also if the document cannot be decrypted, since its SECRET_KEY is gone. That is
    logged as an error.
    """
    if not encrypted:
        return None
    try:
        document: dict[str, Any] = json.loads(_cipher(key, purpose).decrypt(encrypted.encode()))
    except InvalidToken:
        _log_unreadable(purpose)
        return None
    return document


def _log_unreadable(purpose: str) -> None:
    # Log neither keys nor the encrypted text, so that nobody can test keys against the log.
    logger.error(
        "The stored answer %s (user:path) cannot be decrypted, so a repeated request gets 409 "
        "(idempotency_answer_gone). Its row is damaged, or SECRET_KEY was changed since it was "
        "stored, at most a day ago. In that case add the former key to SECRET_KEY_FALLBACKS and "
        "restart the web processes.",
        purpose,
    )


def _cipher(key: str, purpose: str) -> MultiFernet:
    """Return a cipher that encrypts with SECRET_KEY and decrypts with its fallbacks, too."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([_fernet(secret, key, purpose) for secret in secrets])


def _fernet(secret: str, key: str, purpose: str) -> Fernet:
    derive = HKDF(
        algorithm=SHA256(), length=32, salt=None, info=f"api.encryption:{purpose}".encode()
    )
    # Both have a fixed length, so that no two pairs give the same input.
    material = hashlib.sha256(secret.encode()).digest() + hashlib.sha256(key.encode()).digest()
    return Fernet(urlsafe_b64encode(derive.derive(material)))
