"""Ids that look like OneSpan's, drawn from a random generator so that a seed reproduces them."""

import base64
import string
from random import Random
from uuid import UUID

BASE62 = string.ascii_letters + string.digits


def package_id(rng: Random) -> str:
    """Return a package id: 28 characters of base64url that end in `=`."""
    return base64.urlsafe_b64encode(rng.randbytes(20)).decode()


def sender_id(rng: Random) -> str:
    """Return a sender id of 12 letters and digits."""
    return "".join(rng.choices(BASE62, k=12))


def uuid(rng: Random) -> str:
    """Return a UUID as the id of a signer, role, approval or attachment."""
    return str(UUID(int=rng.getrandbits(128), version=4))


def document_id(rng: Random) -> str:
    """Return a document id of 48 hexadecimal digits."""
    return rng.randbytes(24).hex()
