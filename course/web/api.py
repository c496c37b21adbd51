"""The API pages: each public class and function of `layers`, from its signature and docstring, read without importing it."""

import ast
import re
import textwrap

from course.web.addresses import ROOT
from crosscheck.catalogue import chapters

SECTION = re.compile(r"^([A-Z][A-Za-z ]+):(?:\s*)$")
LISTED = ("Args", "Call arguments", "Attributes", "Methods")
"""Sections whose entries are `name: text`."""

ENTRY = re.compile(r"^(\*{0,2}\w+(?:,\s+\*{0,2}\w+)*):\s+(.*)", re.DOTALL)


def homes():
    """{public name: the file that defines it}."""
    tree = ast.parse((ROOT / "layers" / "__init__.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ("HOMES", "FUNCTIONS"):
            found |= {name: file_of(module) for name, module in ast.literal_eval(node.value).items()}
    return found


def file_of(module):
    stem = f"layers/{module.replace('.', '/')}"
    return f"{stem}.py" if (ROOT / f"{stem}.py").is_file() else f"{stem}/__init__.py"


def by_chapter():
    """{name of a file or folder in `layers`: {public name: its file}}, in reading order; what has no lesson comes last."""
    order = [chapter.name for chapter in chapters()]
    found = {}
    for name, file in homes().items():
        found.setdefault(file.split("/")[1].removesuffix(".py"), {})[name] = file
    return {name: found[name] for name in [*(n for n in order if n in found), *sorted(set(found) - set(order))]}


def node_of(name, file):
    """The definition of a class or function, in the syntax tree of its file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name)


def page(folder, names):
    """The page of a chapter's classes, as Markdown."""
    title = next((chapter.title for chapter in chapters() if chapter.name == folder), folder.replace("_", " ").capitalize())
    lines = [f"# {title}: API", ""]
    if any(chapter.name == folder for chapter in chapters()):
        lines += [f"The lesson: [{title}](page:{folder}).", ""]
    for name, file in names.items():
        lines += entry(name, file)
    return "\n".join(lines)


def entry(name, file):
    node = node_of(name, file)
    lines = [f"## `{name}`", "", f"[source, line {node.lineno}](page:source/{file}#L{node.lineno})", ""]
    lines += ["```python", signature(name, node), "```", ""]
    return lines + as_markdown(ast.get_docstring(node) or "")


def signature(name, node):
    """How to call it, an argument a line if it is long."""
    function = node
    if isinstance(node, ast.ClassDef):
        function = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if function is None:
        return f"layers.{name}(**kwargs)"
    arguments = [text for text in split(ast.unparse(function.args)) if text != "self"]
    line = f"layers.{name}({', '.join(arguments)})"
    return line if len(line) <= 88 else f"layers.{name}(\n" + "".join(f"    {text},\n" for text in arguments) + ")"


def split(arguments):
    """Arguments at the commas that stand outside of brackets and strings."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(arguments):
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and not depth:
            parts.append(arguments[start:place].strip())
            start = place + 1
    return [*parts, arguments[start:].strip()] if arguments else []


def as_markdown(docstring):
    """A docstring as Markdown: its sections with headings, its arguments as a list of definitions, its examples as code."""
    lines, heading, body = [], None, []
    for line in [*docstring.splitlines(), "End:"]:
        found = SECTION.match(line)
        if found:
            lines += section(heading, body)
            heading, body = found[1], []
        else:
            body.append(line)
    return lines


def section(heading, body):
    text = textwrap.dedent("\n".join(body)).strip("\n")
    if heading in LISTED:
        return [f"**{heading}**", "", *definitions(text), ""]
    return [f"**{heading}**", ""] * bool(heading) + [fenced(text), ""] * bool(text)


def definitions(text):
    lines = []
    for item in re.split(r"\n(?=\S)", text):
        found = ENTRY.match(item)
        if found is None:
            lines += ["", " ".join(item.split()), ""]
            continue
        names = ", ".join(f"`{name}`" for name in re.split(r",\s+", found[1]))
        lines += [names, f": {indented(found[2])}", ""]
    return lines


def indented(text):
    """A text whose further lines belong to its definition."""
    return textwrap.indent(textwrap.dedent(re.sub(r"\A(.*)\n(?=.)", r"\1\n", text)), "  ").strip()


def fenced(text):
    """Text with its examples, which begin with >>>, as blocks of code."""
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(f"```pycon\n{block}\n```" if block.lstrip().startswith(">>>") else block for block in blocks)
