"""What a page of the site refers to, which addresses it has, and what its pictures say."""

import posixpath
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

FETCHED = {
    "img": ("src", "srcset"),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
"""{element: attributes whose address the browser fetches by itself}"""

LINKS_OF_HEAD = {"canonical", "author", "help", "index", "license", "next", "prev", "search"}
"""Kinds of <link> that are not fetched."""


@dataclass
class Page:
    """Attributes:

    anchors: Every id.
    links: Where its links lead.
    fetched: What the browser fetches for it.
    pictures: (what is drawn, its text or None) for each picture.
    repeated: Ids that it has twice.
    texts: Its styles and scripts.
    """

    anchors: set = field(default_factory=set)
    links: list = field(default_factory=list)
    fetched: list = field(default_factory=list)
    pictures: list = field(default_factory=list)
    repeated: list = field(default_factory=list)
    texts: list = field(default_factory=list)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page, self.inside, self.hidden = Page(), "", 0

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if identity := given.get("id"):
            self.page.repeated += [identity] * (identity in self.page.anchors)
            self.page.anchors.add(identity)
        if tag in ("a", "area"):
            self.page.links += [given[name] for name in ("href", "xlink:href") if given.get(name)]
        if tag == "link" and LINKS_OF_HEAD.isdisjoint((given.get("rel") or "").split()) and given.get("href"):
            self.page.fetched.append(given["href"])
        self.page.fetched += [given[name].split()[0] for name in FETCHED.get(tag, ()) if given.get(name)]
        if tag == "img":
            self.page.pictures.append((given.get("src") or "a moving picture", given.get("alt")))
        if tag == "svg" and given.get("role") == "img":
            self.page.pictures.append(("a drawing", given.get("aria-label")))
        self.page.texts.append(given.get("style") or "")
        self.inside = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "style":
            self.page.texts.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader.page


def read_pages(site):
    """{address: Page}."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if not name.startswith(("browser/", "_static/")):
            found[name] = read(path.read_text(encoding="utf-8"))
    return found


def is_outside(target):
    return bool(urlsplit(target).netloc)


def complaint(name, target, site, pages):
    """Why a link of the page `name` leads nowhere; None if it leads somewhere, or to another site."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None if parts.scheme in ("http", "https", "mailto", "data") else f"{name}: {target} has an unknown scheme"
    if target.startswith("/"):
        return f"{name}: {target} leads to the root of the server, which need not be the site's"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name
    if path.startswith("..") or not (site / path).exists():
        return f"{name}: {target} leads to {path}, which is not there"
    if (site / path).is_dir():
        return f"{name}: {target} leads to a folder, which only some servers open"
    if parts.fragment and path in pages and unquote(parts.fragment) not in pages[path].anchors:
        return f"{name}: {target} leads to a place that {path} does not have"
    return None
