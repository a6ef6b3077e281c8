"""Pieces of HTML. Every text passes through `escape`."""

from collections.abc import Iterable, Sequence
from html import escape


def heading(text: str) -> str:
    """Begin a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """Write a paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """Write a table, in a box that scrolls if it is too wide; the last columns may be `numbers`."""
    first = len(columns) - numbers
    head = "".join(_cell("th", column, i >= first, ' scope="col"') for i, column in enumerate(columns))
    lines = ("".join(_cell("td", cell, i >= first) for i, cell in enumerate(row)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _cell(tag: str, text: str, is_number: bool, more: str = "") -> str:
    kind = ' class="n"' if is_number else ""
    return f"<{tag}{kind}{more}>{escape(text)}</{tag}>"


def definitions(of: dict[str, str]) -> str:
    """Write a list of words and what they mean."""
    items = "\n".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in of.items())
    return f"<dl>\n{items}\n</dl>"
