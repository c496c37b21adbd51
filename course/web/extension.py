"""What the site adds to Sphinx: links between pages, formulas, texts of figures, and the pages with sources."""

import posixpath

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

from course.web import maths, sources


class Links(SphinxPostTransform):
    """`page:NAME#anchor` becomes a link to a page, and the name of a file that has a page becomes a link to it."""

    default_priority = 5

    def run(self, **options):
        pages = {file: f"source/{file}" for file in self.app.config.shown_files}
        pages |= {f"build/{name}": name.removesuffix(".html") for name in self.app.config.made_pages}
        for node in list(self.document.findall(nodes.literal)):
            text = node.astext()
            text = f"{text}__init__.py" if text.endswith("/") else text
            if text in pages and not isinstance(node.parent, nodes.reference):
                reference = nodes.reference("", "", refuri=f"page:{pages[text]}", internal=True)
                node.replace_self(reference)
                reference += node
        for node in self.document.findall(nodes.reference):
            target = node.get("refuri", "")
            if target.startswith("page:"):
                page, _, anchor = target.removeprefix("page:").partition("#")
                node["refuri"] = self.uri(page) + (f"#{anchor}" if anchor else "")
                node["internal"] = True

    def uri(self, page):
        here = posixpath.dirname(self.env.docname)
        return posixpath.relpath(f"{page}.html", here or ".")


class Texts(SphinxPostTransform):
    """Each figure among the outputs of a notebook gets its text."""

    default_priority = 6

    def run(self, **options):
        texts = self.app.config.figure_texts.get(self.env.docname, [])
        outputs = (node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code_output")
        images = [image for output in outputs for image in output.findall(nodes.image)]
        if len(images) != len(texts):
            raise ExtensionError(f"{self.env.docname} must show {len(texts)} figures. Received: {len(images)}")
        for image, text in zip(images, texts):
            image["alt"] = text


def source_pages(app):
    for file in app.config.shown_files:
        yield f"source/{file}", {"title": file, "body": sources.body(file)}, "page.html"


def setup(app):
    app.add_config_value("shown_files", [], "env")
    app.add_config_value("made_pages", [], "env")
    app.add_config_value("figure_texts", {}, "env")
    app.add_html_math_renderer("mathml", (maths.visit_inline, None), (maths.visit_display, None))
    app.add_post_transform(Links)
    app.add_post_transform(Texts)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
