"""The course as one PDF, made of the pages of the site: `make pdf`, or `python -m course.web.book`."""

import logging
import posixpath
import re
from base64 import b64encode
from functools import cache
from html import escape
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import ziamath
from bs4 import BeautifulSoup

from crosscheck.lesson.course import lessons
from crosscheck.lesson.projects import BUILT
from crosscheck.report.command import Parser, as_program, refuse, writable

DESCRIPTION = """\
Write the course as one PDF, from the website that `make site` wrote: lessons with their outputs, projects, plan and glossary.
Of a moving picture it shows the last frame."""

EXAMPLES = """\
examples:
  python -m course.web.book                           build/course.pdf, from build/site
  python -m course.web.book --only attention bert     two lessons alone

exit status:
  0  the PDF was written
  2  an option or a lesson is not known, there is no website, or a library is missing"""

FRAME = re.compile(r'frames\[\d+\] = "(data:image/png;base64,[^"]*)"')
DRAWING = re.compile(r'<svg role="img".*?</svg>', re.DOTALL)
LETTERS = 14
"""Size of a formula's letters."""

STYLE = """
@page { size: A4; margin: 18mm 18mm 20mm; @bottom-center { content: counter(page); font: 9pt sans-serif } }
@page :first { @bottom-center { content: none } }
body { font: 10pt/1.45 sans-serif; hyphens: auto }
h1 { break-before: page; font-size: 20pt; line-height: 1.2 } h2 { font-size: 14pt } h3 { font-size: 11.5pt }
h1, h2, h3 { break-after: avoid } h3 { bookmark-level: none }
.contents h1, .cover h1 { bookmark-level: none }
pre { background: #f5f5f5; font: 7.6pt/1.35 monospace; padding: 2mm; white-space: pre-wrap; overflow-wrap: anywhere }
.cell_output pre { background: white; border-left: 1mm solid #ddd }
code { font-size: 0.9em; overflow-wrap: anywhere }
img { max-width: 100%; max-height: 200mm }
table { border-collapse: collapse; font-size: 8.5pt; width: 100% }
td, th { border-bottom: 0.2mm solid #ccc; padding: 1mm; text-align: left }
td p, th p { margin: 0 }
div.formula { display: flex; align-items: center; margin: 3mm 0 } div.formula .set { flex: 1; text-align: center }
details { border-left: 0.5mm solid #009E73; padding-left: 3mm } summary { font-weight: bold }
a { color: #0B4F8A; text-decoration: none }
.contents a::after { content: leader('.') target-counter(attr(href), page) } .contents li { list-style: none }
"""


def parse(argv):
    parser = Parser("course.web.book", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--site", metavar="FOLDER", type=Path, default=Path("build/site"), help="the website (default: build/site)"
    )
    parser.add_argument("--to", metavar="FILE", type=writable, default="build/course.pdf", help="default: build/course.pdf")
    parser.add_argument("--only", metavar="PAGE", nargs="+", help="addresses of pages, such as attention (default: the course)")
    return parser.parse_args(argv)


def main(argv=None):
    """Write the book. Returns the exit status."""
    options = parse(argv)
    if not (options.site / "pages.json").is_file():
        return refuse(f"there is no website in {options.site}; `make site` writes it")
    book = [page for page in pages() if not options.only or page[0] in options.only]
    if unknown := sorted(set(options.only or ()) - {name for name, _ in book}):
        return refuse(f"no page of the book is called {', '.join(unknown)}. Pages: {', '.join(name for name, _ in pages())}")
    try:
        import_module("weasyprint")
    except ImportError:
        return refuse("the PDF needs the package weasyprint, which is not installed. `make pdf` installs it")
    except OSError as error:
        return refuse(f"the PDF needs the system's library Pango (Debian: libpango-1.0-0, libpangoft2-1.0-0). {error}")
    count = write(options.site.resolve(), options.to, book)
    print(f"Written: {options.to}, {count} pages")
    return 0


def pages():
    """The pages of the book, in order: (address, its title in the list of contents)."""
    found = [(lesson.name, lesson.title) for lesson in lessons()]
    found += [(f"projects/{name}", f"Project: {title}") for name, title in BUILT.values()]
    return [("index", "The course"), *found, ("plan", "A course of twelve weeks"), ("glossary", "Glossary")]


def write(site, target, book):
    """Write the pages `book` of the site in the folder `site` to the file `target`. Returns how many pages it has."""
    from weasyprint import HTML

    logging.getLogger("weasyprint").setLevel(logging.ERROR)  # it speaks of every property of a drawing

    names = {name for name, _ in book}
    contents = "".join(f'<li><a href="#{place(name)}">{escape(title)}</a></li>' for name, title in book)
    parts = [f'<section class="contents"><h1>Contents</h1><ul>{contents}</ul></section>']
    parts += [f'<section id="{place(name)}">{article(site, name, names)}</section>' for name, _ in book]
    text = f'<!doctype html><html lang="en"><title>Transformer layers, three times</title><style>{STYLE}</style>{"".join(parts)}'
    document = HTML(string=text, base_url=str(site) + "/").render(optimize_images=True, presentational_hints=True)
    document.write_pdf(target, uncompressed_pdf=False)
    return len(document.pages)


def place(name, anchor=""):
    """The place of a page, or of an anchor of it, in the book."""
    return f"{name.replace('/', '-')}--{anchor}"


def article(site, name, names):
    """What a page says, for paper."""
    text = DRAWING.sub(lambda found: as_image(found[0]), (site / f"{name}.html").read_text(encoding="utf-8"))
    soup = BeautifulSoup(text, "html.parser").find("article")
    for film in soup.select(".animation"):
        keep_last_frame(film)
    for gone in soup.select("script, style, .headerlink, .toctree-wrapper, details.above-input, .around"):
        gone.decompose()
    for formula in soup.find_all("math"):
        formula.replace_with(BeautifulSoup(drawn(str(formula)), "html.parser"))
    for element in soup.find_all(id=True):
        element["id"] = place(name, element["id"])
    for picture in soup.find_all("img", src=re.compile("^(?!data:)")):
        picture["src"] = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(picture["src"])))
    for link in soup.find_all("a", href=True):
        relink(link, name, names)
    return soup.decode_contents()


def keep_last_frame(film):
    """A moving picture becomes its last frame."""
    script = film.find_next("script")
    frames = FRAME.findall(script.string.replace("\\\n", ""))
    picture = film.find("img")
    picture["src"] = frames[-1]
    film.replace_with(picture)


@cache
def drawn(formula):
    """A formula as a drawing, because renderers for paper do not set MathML."""
    svg = ziamath.Math(formula, size=LETTERS).svg()
    _, top, _, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    return as_image(svg, f"vertical-align: {-(top + height):.2f}px")


def as_image(svg, style=""):
    """A drawing as an image, whose names are its own."""
    return f'<img style="{style}" alt="" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}">'


def relink(link, name, names):
    """A link to a page of the book leads to its place there; one to another page of the site is plain text."""
    target, _, anchor = link["href"].partition("#")
    if re.match(r"[a-z]+:", target):
        return
    page = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)).removesuffix(".html") if target else name
    if page in names:
        link["href"] = f"#{place(page, anchor)}"
    else:
        link.unwrap()


if __name__ == "__main__":
    as_program(main)
