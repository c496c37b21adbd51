"""Rules for a lesson with a diagram: what is drawn can be read, and what is said was measured."""

import ast
import base64
import re
import struct

from crosscheck.lesson.rules import code_cells, outputs

WIDEST = 1650
"""Pixels, which are 11 inches at 150 dots an inch."""

HEAT_MAPS = {"imshow", "attention_map", "pcolormesh", "matshow"}
NUMBER = re.compile(r"(?<![\w.,/])\d+\.\d+(?![\w.]*\d|/)")
LONE = re.compile(r"(?m)^(?:True|False)$")


def drawn(notebook):
    """There is a diagram, figures can be read, and agreement is a line."""
    calls = [names_called(cell.source) for cell in code_cells(notebook)]
    complaints = [] if any("diagram" in names for names in calls) else ["there is no diagram of the mechanism"]
    complaints += readable(notebook)
    if not any("agreement_line" in names for names in calls):
        complaints.append("there is no line that says how far layer and reference agree")
    return complaints


def readable(notebook):
    """Each heat map has a color bar, legends are kept from data, and no picture is too wide. These are rules of guides, too."""
    complaints, calls = [], [names_called(cell.source) for cell in code_cells(notebook)]
    for number, names in enumerate(calls, 1):
        if names & HEAT_MAPS and "colorbar" not in names:
            complaints.append(f"code cell {number} draws a heat map without a color bar")
        if "plt.show" in names:
            complaints.append(f"code cell {number} calls plt.show in place of figures.show, which looks for legends over data")
        if "agreement_plot" in names:
            complaints.append(f"code cell {number} draws all cases, which are in build/compare.html")
    widths = [width_of(output["data"]["image/png"]) for output in outputs(notebook) if "image/png" in output.get("data", {})]
    complaints += [f"a picture is {width} pixels wide, above {WIDEST}" for width in widths if width > WIDEST]
    return complaints


def told(notebook):
    """Each figure has a text for readers who do not see it, and a moving picture fetches nothing from outside."""
    drawn = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    films = [text for output in outputs(notebook) if "<img" in (text := "".join(output.get("data", {}).get("text/html", "")))]
    untold = sum(not output.get("metadata", {}).get("image/png", {}).get("alt") for output in drawn)
    untold += sum("<img alt=" not in text for text in films)
    complaints = [f"{untold} figures have no text for readers who do not see them: show them with figures.show"] * bool(untold)
    return complaints + ["a moving picture fetches something from outside"] * any("//" in text for text in map(fetched, films))


def fetched(film):
    """The addresses that a page fetches by itself."""
    return " ".join(re.findall(r"<(?:link|script|img)\b[^>]*?(?:href|src)=\"(?!data:)([^\"]*)", film))


def names_called(source):
    """The functions that a cell calls: f, and both g and x.g for x.g."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = ast.unparse(node.func)
            found |= {name, name.split(".")[-1]}
    return found


def width_of(png):
    """Pixels of a PNG in base64."""
    return struct.unpack(">I", base64.b64decode(png[:64])[16:20])[0]


def measured(notebook):
    """No text is printed that nothing was computed for, no truth value stands alone, and numbers in prose are seen in the lesson.

    A number with a decimal point in the sections on what the mechanism does and costs must occur in an output or in code above,
    or be the paper's, which is said beside it: its table or figure, or a link.
    """
    complaints = []
    for number, cell in enumerate(code_cells(notebook), 1):
        calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
        printed = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        if any(node.args and all(isinstance(part, ast.Constant) for part in node.args) for node in printed):
            complaints.append(f"code cell {number} prints a text that was not computed")
        if any(LONE.search(text_of(output)) for output in cell.outputs):
            complaints.append(f"code cell {number} shows a truth value alone")
    return complaints + [f"the number {number} in prose is shown by no cell" for number in unseen_numbers(notebook)]


def unseen_numbers(notebook):
    """Numbers in the prose of the sections that measure which occur neither in an output nor in code."""
    shown, section, found = "", "", []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown += cell.source + "".join(map(text_of, cell.outputs))
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for paragraph in cell.source.split("\n\n"):
            section = paragraph.lstrip("# ").splitlines()[0] if paragraph.startswith("## ") else section
            is_papers = re.search(r"\]\(http|Table|Figure|section", paragraph)
            if section in ("The question", "What it does", "What it costs") and not is_papers:
                plain = re.sub(r"\$[^$]*\$|`[^`]*`", " ", paragraph)
                found += [number for number in NUMBER.findall(plain) if number.rstrip("0").rstrip(".") not in shown]
    return found


def text_of(output):
    """All text of an output."""
    data = output.get("data", {})
    return "\n".join(
        ["".join(output.get("text", "")), *("".join(part) for kind, part in data.items() if kind.startswith("text/"))]
    )
