"""The text of a file in whatever encoding: by its byte order mark, or by trying."""

from __future__ import annotations

from pathlib import Path

from npde_opt.errors import InputError


def decoded(path: Path, encoding: str | None = None) -> str:
    """The text of a file: by its byte order mark, else UTF-8, UTF-16 without a mark, Latin-1
    (Windows 1252)."""
    content = path.read_bytes()
    if encoding is None:
        encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except (ValueError, LookupError) as error:
        raise InputError(
            f"encoding of {path}",
            f"{encoding} ({error})",
            "the encoding of the file: utf-8, utf-16, latin-1, ...",
        ) from None
    if "\0" in text:
        raise InputError(str(path), "bytes that are no text", "a text table")
    return text.removeprefix("\ufeff")


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = content[:400]
    for name, half in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
        if half and half.count(0) > 0.8 * len(half):
            return name
    for name in ("utf-8", "cp1252"):
        try:
            content.decode(name)
            return name
        except UnicodeDecodeError:
            continue
    return "latin-1"
