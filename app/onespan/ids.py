"""Ids that cannot be part of a URL path."""

import re
from urllib.parse import unquote

PART_ENDS = re.compile(r"[/\\;]")  # servers may read these characters, even encoded, as the end of a part of a path


def can_be_requested(object_id: str) -> bool:
    """Whether an id is safe as one part of a URL path.

    A part `.` or `..` would lead a server to another path, however often the id is percent-encoded.
    """
    decoded, shorter = object_id, unquote(object_id)
    while shorter != decoded:
        decoded, shorter = shorter, unquote(shorter)
    return bool(object_id) and not {".", ".."} & set(PART_ENDS.split(decoded))
