"""A page of one picture and what it was drawn from, which needs nothing but itself."""

from html import escape

from crosscheck.report.page import STYLE


def page(title, before, picture, after):
    """The whole page: a heading, then HTML, then an SVG if there is one, then HTML."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE} svg {{ max-width: 100%; height: auto; background: #fff; }}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{before}
{picture[picture.index("<svg") :] if picture else ""}
{after}
</body>
</html>
"""


def verdict(text, is_good):
    return f'<p class="verdict {"good" if is_good else "bad"}">{escape(text)}</p>'


def table(head, body):
    """A table that scrolls where it is wider than the page; `head` are its `th`, `body` its rows."""
    return f"""<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></div>"""
