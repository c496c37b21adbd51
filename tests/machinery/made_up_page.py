"""Reports without measuring anything, and what is on the page that is made of them."""

from html.parser import HTMLParser

from crosscheck.report import comparison, page

LINK = "https://example.org/paper?a=1&b=2"
GOOD = {"float64": 2e-16, "float32": 3e-7, "bfloat16": 4e-3, "float16": 5e-4, "gradient": 6e-9, "xla": 7e-16}
VOID = ("meta", "input", "col")


class Element(HTMLParser):
    """A tag with its attributes, what is in it and all its text; parsing fails where tags are not closed in order."""

    def __init__(self, tag="", attributes=()):
        super().__init__()
        self.tag, self.attributes, self.inside, self.text = tag, dict(attributes), [], ""
        self.open = [self]

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute of {tag} is given twice"
        element = Element(tag, attributes)
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.open[-1].inside.append(Element(tag, attributes))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag="", style=""):
        """The elements in this one with that tag and that class, in order."""
        for element in self.inside:
            if tag in ("", element.tag) and (not style or style in element.attributes.get("class", "").split()):
                yield element
            yield from element.all(tag, style)

    def one(self, tag="", style=""):
        (found,) = self.all(tag, style)
        return found

    @property
    def words(self):
        return " ".join(self.text.split())


def parse(text):
    root = Element()
    root.feed(text)
    root.close()
    assert root.open == [root], "not everything is closed"
    return root


def result(case, errors=GOOD, raised=(), skipped=(), seconds=1.5, **more):
    chapter = {"chapter": case.split("/")[0].title(), "paper": "Someone, 2020, §1", "link": LINK}
    verdict = comparison.judge(errors, raised)
    parts = {"errors": dict(errors), "raised": dict(raised), "skipped": dict(skipped), "seconds": seconds, "verdict": verdict}
    return {"case": case, **chapter, **parts, **more}


def parsed(*results, **more):
    return parse(page.as_html(comparison.report(list(results), 0, **more)))


def numbers(row):
    """{class: text} of the cells of a case."""
    return {cell.attributes["class"]: cell.words for cell in row.all("td") if cell.attributes["class"] != "strip"}


def marks(element):
    """{dtype: x in percent} of the marks of a strip."""
    uses = [use for use in element.all("use") if use.attributes["href"] != "#grid"]
    assert all(use.attributes["href"] == f"#{use.attributes['class']}" for use in uses)
    return {use.attributes["class"]: float(use.attributes["x"].rstrip("%")) for use in uses}
