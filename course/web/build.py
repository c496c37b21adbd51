"""Write the pages' sources into a folder of their own, and let Sphinx make the site of them."""

import json
import shutil
import tempfile
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import docutils_namespace, patch_docutils

from course.web import api, maths, notebooks, pages, sources
from course.web.addresses import ROOT, Addresses, Broken, documents

HERE = Path(__file__).parent


class Wrong(Exception):
    """A page is wrong. The message says what is to be mended."""


def site(target, build):
    """Write the site.

    Args:
        target: Its folder; an earlier site there is replaced.
        build: The folder where the comparison, the bench and the edition for browsers are, if they were made.

    Returns:
        How many pages it has, and how many figures are without a text.

    Raises:
        Wrong: if a link leads nowhere, a formula cannot be set, or Sphinx warns of anything.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "pages"
        try:
            shown, texts, untold = write_sources(written, build)
            made = Path(folder) / "site"
            settings = {"shown_files": shown, "figure_texts": texts}
            settings["made_pages"] = [name for name in pages.MEASURED if (build / name).is_file()]
            run_sphinx(written, made, Path(folder) / "doctrees", settings)
        except (Broken, maths.Unset, SphinxError) as error:
            raise Wrong(str(error)) from error
        maths.write_font(made / "_static" / "formulas.woff")
        add_what_was_made(made, build)
        shutil.rmtree(made / "_sources", ignore_errors=True)
        found = sum(1 for path in made.rglob("*.html") if notebooks.BROWSER not in path.relative_to(made).parts)
        (made / "pages.json").write_text(json.dumps(sorted(documents().values()), indent=0), encoding="utf-8")
        (made / ".nojekyll").touch()  # a host that runs Jekyll would leave out _static
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, target)
    return found, untold


def write_sources(folder, build):
    """Write what Sphinx reads.

    Returns:
        The files to show with their source, the texts of the figures by page, and how many figures have none.
    """
    addresses, texts, untold = Addresses(), {}, 0
    runs = notebooks.in_browser(build / notebooks.BROWSER)
    for file, page in documents().items():
        if page == "index":
            continue
        if file.endswith(".ipynb"):
            notebook, texts[page], missing = notebooks.prepared(file, addresses, runs)
            untold += missing
            write(folder / f"{page}.ipynb", json.dumps(notebook, ensure_ascii=False))
        else:
            write(folder / f"{page}.md", addresses.rewrite((ROOT / file).read_text(encoding="utf-8"), file))
    made = {"glossary": pages.glossary(), "measured": pages.measured(build), "api/index": pages.api_index()}
    made |= {f"api/{name}": api.page(name, found) for name, found in api.by_chapter().items()}
    made["index"] = f"{pages.front()}\n\n{pages.contents()}\n"
    for page, text in made.items():
        write(folder / f"{page}.md", addresses.rewrite(text, "notebooks/index.ipynb"))
    shown = sorted(addresses.shown)
    write(folder / "source" / "index.md", sources.listing(shown))
    if addresses.broken:
        raise Broken("\n".join(addresses.broken))
    for image in addresses.images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / image, folder / image)
    return shown, texts, untold


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def run_sphinx(source, target, doctrees, settings):
    """Make the site; every warning is an error."""
    with patch_docutils(str(HERE)), docutils_namespace():
        app = Sphinx(
            *(str(source), str(HERE), str(target), str(doctrees), "html"),
            confoverrides=settings,
            status=None,
            warningiserror=True,
            parallel=2,
        )
        app.build()
    if app.statuscode:
        raise Wrong("Sphinx warned; see above")


def add_what_was_made(site, build):
    """Copy the comparison, the bench and the edition for browsers to the site, if they are there."""
    for name in pages.MEASURED:
        if (build / name).is_file():
            shutil.copy(build / name, site / name)
    if notebooks.in_browser(build / notebooks.BROWSER):
        shutil.copytree(build / notebooks.BROWSER, site / notebooks.BROWSER)
