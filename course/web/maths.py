"""Formulas as MathML, which browsers set without a script; a formula that cannot be set stops the build."""

import html
import logging
import re
from importlib.resources import files
from xml.etree import ElementTree

from docutils.nodes import SkipNode
from fontTools import subset, ttLib
from latex2mathml.converter import convert

PREPARED = (
    (re.compile(r"\\tfrac\s*(\w)(\w)"), r"\\tfrac{\1}{\2}"),
    (re.compile(r"\{aligned\}"), "{align*}"),
    (re.compile(r"(?<=[\w)\]}])\s*(?=\\(?:sin|cos|log|ln|exp|tanh)(?![a-zA-Z]))"), r"\\, "),
    (re.compile(r"\\(sin|cos|log|ln|exp|tanh)(?![a-zA-Z])\s*(?=[A-Za-z\d\\])(?!\\(?:left|[bB]ig|[!,;]))"), r"\\\1\\,"),
)
"""What the converter does not know, said in words that it does."""

PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3}
"""How many parts these have."""

TAG = re.compile(r"\\tag\{([^{}]*)\}")
BAR = re.compile(r"<mo([^>]*)>(&#x0007C;|\|)</mo>")
ESCAPED = re.compile(r"\\([#%_$&])")
RANGES = (
    *((0x20, 0x7E), (0xA0, 0xFF), (0x370, 0x3FF), (0x2000, 0x209F), (0x2100, 0x214F), (0x2190, 0x23FF)),
    *((0x27C0, 0x27EF), (0x2A00, 0x2A2F), (0x1D400, 0x1D7FF)),
)
"""Letters and signs of formulas, from first to last."""


LONG = 30
"""Signs of a formula within a line that may be wider than a phone."""


class Unset(ValueError):
    """A formula cannot be set."""


def mathml(latex, display=False):
    """A formula of LaTeX as MathML; its number is left out, see `number`.

    Raises:
        Unset: if it cannot be converted, or a command is not known.
    """
    text = TAG.sub("", latex).strip()
    for pattern, plain in PREPARED:
        text = pattern.sub(plain, text)
    try:
        found = ESCAPED.sub(r"\1", convert(text, display="block" if display else "inline"))
        found = BAR.sub(r'<mo\1 lspace="0" rspace="0">\2</mo>', found)
        elements = list(ElementTree.fromstring(found).iter())
    except Exception as error:
        raise Unset(f"a formula must be LaTeX that can be set. Received: {latex!r} ({type(error).__name__}: {error})") from error
    if "\\" in found or "merror" in found:
        raise Unset(f"every command of a formula must be known. Received: {latex!r}, of which is left {html.unescape(found)!r}")
    for element in elements:
        name = element.tag.split("}")[-1]
        if len(element) != PARTS.get(name, len(element)):
            raise Unset(f"a formula must be whole: {name} has {PARTS[name]} parts, not {len(element)}. Received: {latex!r}")
    return found


def number(latex):
    """The number that a formula carries, or an empty text."""
    return "".join(f"({found})" for found in TAG.findall(latex))


def signs(found):
    """How many signs a formula in MathML has."""
    return len(re.sub(r"&#x\w+;", "x", re.sub(r"<[^>]*>|\s", "", found)))


def visit_inline(translator, node):
    found = mathml(node.astext())
    kind = "formula long" if signs(found) > LONG else "formula"
    translator.body.append(f'<span class="{kind}">{found}</span>')
    raise SkipNode


def visit_display(translator, node):
    latex = node.astext()
    tag = f'<span class="tag">{number(latex)}</span>' if number(latex) else ""
    formula = f'<div class="set" tabindex="0">{mathml(latex, display=True)}</div>'
    translator.body.append(f'<div class="formula">{formula}{tag}</div>\n')
    raise SkipNode


def write_font(target):
    """Write the letters and signs of formulas from STIX Two Math, which a package of fonts for formulas brings."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    source = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"
    with source.open("rb") as opened:
        font = ttLib.TTFont(opened)
        chosen = subset.Subsetter(subset.Options(layout_features=["ssty", "dtls", "flac"], notdef_outline=True))
        chosen.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
        chosen.subset(font)
        font.flavor = "woff"
        font.save(target)
