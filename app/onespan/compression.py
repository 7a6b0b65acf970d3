"""Decompress the bodies of callbacks. The functions do no I/O."""

import zlib
from contextlib import suppress

from app.errors import BodyTooLarge
from app.onespan.callback_members import GZIP_START

MAX_BODY_BYTES = 64 * 1024
COMPRESSIONS = ("gzip", "x-gzip", "deflate")
WITH_HEADER, WITHOUT_HEADER = 47, -15  # window bits of zlib: the header of gzip or zlib, or none, as in some "deflate"
ZLIB_START = b"x"  # the usual first byte of zlib's header; no JSON begins with it


def decompressed(body: bytes, encoding: str) -> bytes:
    """Return a body without its content encodings, such as `gzip`.

    A body in an unknown encoding, and one that is not what `encoding` says, is returned as it is. A stream that is
    damaged is read up to the damage if that part names a package. Raises `BodyTooLarge` if the result has more than
    `MAX_BODY_BYTES`.
    """
    for name in reversed(encoding.lower().split(",")):
        if name.strip() in COMPRESSIONS:
            body = _inflated(body, WITH_HEADER, WITHOUT_HEADER)
    return _inflated(body, WITH_HEADER) if body.startswith((GZIP_START, ZLIB_START)) else body


def _inflated(body: bytes, *window_bits: int) -> bytes:
    """Return what zlib makes of a body with the first window bits that suit it; the body itself if none do."""
    for bits in window_bits:
        plain, is_whole = _inflate(body, bits)
        if is_whole or b"packageId" in plain:
            return plain
    return body


def _inflate(body: bytes, bits: int) -> tuple[bytes, bool]:
    """Return what zlib reads of a body, which may be several streams of gzip, and whether these are the whole body.

    zlib gets single bytes, so that an error loses nothing that was read before it.
    """
    plain, inflater = bytearray(), zlib.decompressobj(bits)
    with suppress(zlib.error):
        for position in range(len(body)):
            if inflater.eof and not body.startswith(GZIP_START, position):
                return bytes(plain), False
            if inflater.eof:
                inflater = zlib.decompressobj(bits)
            plain += inflater.decompress(body[position : position + 1])
            if len(plain) > MAX_BODY_BYTES:
                raise BodyTooLarge(f"it has more than {MAX_BODY_BYTES} bytes")
    return bytes(plain), inflater.eof
