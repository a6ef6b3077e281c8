"""No network: none to build the pages, and none to read them."""

import ipaddress
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

# Attributes that make a browser load something. A link that a reader may follow is none of them.
_LOADED = {"src", "srcset", "poster", "data", "background"}
_ELSEWHERE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:[a-z][a-z0-9+.-]*:)?//[^\"')\s]+)", re.IGNORECASE)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a connection to another machine, or a look-up of its name."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"  # a file of this machine
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_here(host):
        msg = f"the pages are built without the network: refused to reach {host!r}."
        raise SphinxError(msg)


def _is_here(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class _Resources(HTMLParser):
    """Collects the addresses of what a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            if name in _LOADED or (tag == "link" and name == "href") or (tag in ("use", "image") and "href" in name):
                self.found.append(value or "")
            elif name == "style":
                self.found += _IN_STYLE.findall(value or "")

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += _IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def resources_elsewhere(folder: Path) -> list[str]:
    """List what pages and style sheets load from another place than the folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".html":
            reader = _Resources()
            reader.feed(path.read_text(encoding="utf-8"))
            loaded = reader.found
        elif path.suffix == ".css":
            loaded = _IN_STYLE.findall(path.read_text(encoding="utf-8"))
        else:
            continue
        found += [f"{path.relative_to(folder)}: {address}" for address in loaded if _ELSEWHERE.match(address)]
    return found


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception is None:
        found = resources_elsewhere(Path(app.outdir))
        if found:
            msg = f"the pages must not load anything from elsewhere: {'; '.join(found)}."
            raise SphinxError(msg)


def setup(app: Sphinx) -> dict[str, Any]:
    """Refuse connections from now on, and look at the pages when they are written."""
    sys.addaudithook(_refuse)
    app.connect("build-finished", _check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
