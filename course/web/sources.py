"""Pages with the source of a file: every line has a number and an address."""

from html import escape

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

from course.web.addresses import ROOT, documents
from crosscheck.catalogue import chapters

LARGEST = 400_000
"""Bytes of a file that is shown whole."""

LINE = """<span class="line" id="L{number}"><a class="at" href="#L{number}" aria-label="line {number}">{number}</a>{line}
</span>"""


def body(file):
    """The page of a file, without the frame of the site."""
    text = (ROOT / file).read_text(encoding="utf-8")[:LARGEST]
    try:
        lexer = get_lexer_for_filename(file, stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    lines = highlight(text, lexer, HtmlFormatter(nowrap=True)).rstrip("\n").split("\n")
    numbered = "".join(LINE.format(number=number, line=line) for number, line in enumerate(lines, 1))
    up = "../" * (file.count("/") + 1)
    return (
        f'<h1><code>{escape(file)}</code></h1>\n<p class="around">{around(file, up)}</p>\n'
        f'<div class="highlight source" tabindex="0"><pre>{numbered}</pre></div>'
    )


def around(file, up):
    """Links from a file to what explains it."""
    rest = file.split("/")[1:]
    name = rest[0].removesuffix(".py").removeprefix("test_") if rest else ""
    if file.startswith("crosscheck/cases/"):
        name = rest[1].removesuffix(".py")
    links = [f'<a href="{up}source/index.html">all sources</a>']
    if f"notebooks/{name}.ipynb" in documents() and name != "index":
        links.append(f'<a href="{up}{name}.html">lesson</a>')
    if any(chapter.name == name for chapter in chapters()):
        links.append(f'<a href="{up}api/{name}.html">API</a>')
    return " · ".join(links)


def listing(files):
    """The page that lists the files, as Markdown."""
    lines = ["# Sources", "", "Each line has a number and an address: `source/FILE.html#L12` is line 12."]
    for room in dict.fromkeys(file.split("/")[0] if "/" in file else "" for file in files):
        lines += ["", f"## `{room}/`" if room else "## The repository's own files", ""]
        lines += [f"- [`{file}`](page:source/{file})" for file in files if (file.split("/")[0] if "/" in file else "") == room]
    return "\n".join(lines) + "\n"
