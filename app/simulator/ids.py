"""Ids that look as OneSpan's do, drawn from the dice so that a seed brings the same ones back."""

import base64
import string
from random import Random
from uuid import UUID

BASE62 = string.ascii_letters + string.digits


def package_id(dice: Random) -> str:
    """28 characters of base64url that end in `=`."""
    return base64.urlsafe_b64encode(dice.randbytes(20)).decode()


def sender_id(dice: Random) -> str:
    """12 letters and digits."""
    return "".join(dice.choices(BASE62, k=12))


def uuid(dice: Random) -> str:
    """What signers, roles, approvals and attachments are known by."""
    return str(UUID(int=dice.getrandbits(128), version=4))


def document_id(dice: Random) -> str:
    """48 hexadecimal digits."""
    return dice.randbytes(24).hex()
