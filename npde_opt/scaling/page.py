"""One page of a study, with everything in it: it needs no network and no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:85%}"
    "td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}pre{white-space:pre-wrap}"
)


def page(
    title: str,
    notes: Sequence[str],
    tables: Mapping[str, Sequence[Sequence[str]]],
    figures: Mapping[str, Path],
) -> str:
    """HTML.

    Args:
        tables: rows by heading, the first of them names.
    """
    parts = [
        "<!doctype html><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>Scaling study</h1><pre>{html.escape(title)}</pre>",
        "<ul>" + "".join(f"<li>{html.escape(n)}</li>" for n in notes) + "</ul>",
    ]
    for heading, path in figures.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>{_image(path)}")
    for heading, rows in tables.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>{_table(rows)}")
    return "\n".join(parts) + "\n"


def _image(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{html.escape(path.stem)}' src='data:image/png;base64,{content}'>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        cells = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row)
        lines.append(f"<tr>{cells}</tr>")
    return "<table>" + "".join(lines) + "</table>"
