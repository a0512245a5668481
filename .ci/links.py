"""Whether a built site stands alone and has no dead link: `python .ci/links.py SITE`.

Every link, picture, script and style of every page must lead to a file of the site, and to a place in it where one is
named. Only links that a reader clicks may leave the site; what a browser fetches by itself may not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
FETCHED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "preconnect", "dns-prefetch"}
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """What a page links to, fetches, and can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = re.findall(r"url\(\s*[\"']?([^\"')]+)", text)
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of one element."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in FETCHED and given.get(FETCHED[tag]):
            is_fetched = tag != "link" or FETCHED_LINKS & {*given.get("rel", "").split()}
            (self.fetched if is_fetched else self.links).append(given[FETCHED[tag]])


def problems(site: Path) -> Iterator[str]:
    """A sentence each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for style in sorted(site.rglob("*.css")):
        pages[style] = Page(f"<style>{style.read_text(encoding='utf-8')}</style>")
    if not pages:
        yield f"{site} has no page"
    for path, page in pages.items():
        where = path.relative_to(site)
        yield from (f"{where} fetches {each}" for each in page.fetched if ELSEWHERE.match(each))
        for link in [*page.links, *page.fetched]:
            if (said := _dead(link, path, site, pages)) is not None:
                yield f"{where}: {link} {said}"


def _dead(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    """What is wrong with a link; None: nothing, or it leaves the site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    base = site if parts.path.startswith("/") else path.parent
    target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return "is not there"
    place = unquote(parts.fragment)
    if place and target in pages and place not in pages[target].places:
        return "names a place that is not there"
    return None


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "no dead link, and nothing is fetched from elsewhere")
    sys.exit(bool(found))
