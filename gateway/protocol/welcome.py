"""What the endpoint's root says: what this is, and where an app developer goes from here."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable

HEADERS = {"content-security-policy": "default-src 'none'", "x-content-type-options": "nosniff"}
SAYS = (
    "An OpenAI-compatible endpoint for language models. Traffic is recorded; bulk harvesting of answers is looked for."
)
KEY = "Keys come from whoever runs this service."
BASE = "Point your SDK's base URL at /v1 of this address; GET /v1/models lists what your key may use, `auto` chooses."


def as_json(paths: Iterable[str], help_url: str) -> str:
    """Return the page for programs."""
    where = {"documentation": help_url} if help_url else {}
    return json.dumps({"service": "spiritsafe", "about": [SAYS, BASE, KEY], "endpoints": sorted(paths)} | where)


def as_html(paths: Iterable[str], help_url: str) -> str:
    """Return the page for people: no script, no style, nothing from elsewhere."""
    escaped = html.escape(help_url)
    where = f'<p>Documentation and help: <a href="{escaped}">{escaped}</a></p>\n' if help_url else ""
    rows = "".join(f"<li><code>{html.escape(path)}</code></li>\n" for path in sorted(paths))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>Spiritsafe</title>\n<h1>Spiritsafe</h1>\n'
        f"<p>{SAYS}</p>\n<p>{BASE.replace('`auto`', '<code>auto</code>')}</p>\n<p>{KEY}</p>\n{where}"
        f"<h2>Endpoints</h2>\n<ul>\n{rows}</ul>\n</html>\n"
    )
