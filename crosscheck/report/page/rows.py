"""A row for each chapter, which opens to a row for each of its cases."""

import math
from html import escape

from crosscheck.report.comparison import LIMITS, within
from crosscheck.report.page.axis import MARKS, in_words, strip
from crosscheck.report.table import verdict

HEADINGS = {"xla": "XLA"}
VERDICTS = {True: ("good", "✓", "agrees"), False: ("bad", "✗", "does not agree"), None: ("soft", "–", "not measured")}


def chapter(results, columns, options=""):
    """A chapter's row, which is open if something is wrong with it.

    Args:
        results: Those of the chapter's cases.
        columns: What is shown of them, some of `LIMITS`.
        options: Those of the command that measured them.
    """
    first, name = results[0], results[0]["case"].split("/")[0]
    wrong = [result for result in results if is_wrong(result)]
    state = ' class="wrong" open' if wrong else ""
    words = f"{name} {first['chapter']} {first['paper']}".lower()
    return f"""<details id="{escape(name)}"{state} data-words="{escape(words)}">
<summary>{summary(results, columns)}</summary>
<div class="inside">
<p>{source(first)} <code>python -m crosscheck {escape(name)} --cases{escape(options)}</code></p>
{reasons(wrong)}
{table(first["chapter"], results, columns)}
{omissions(results, columns)}
</div>
</details>
"""


def summary(results, columns):
    """What a closed row shows: verdict, name, number of cases, and the largest error of each of `columns`."""
    errors = largest_errors(results, columns)
    raised = {what for result in results for what in result["raised"]}
    cells = "".join(f'<span class="number {what}" aria-hidden="true">{cell(what, errors, raised)}</span>' for what in columns)
    cases = f"<small>{number_of(results)}<i> {plural(len(results))}</i></small>"
    return f"""<span class="name">{mark(verdict(results))} <span>{escape(results[0]["chapter"])}</span> {cases}</span>
<span class="strip">{strip(errors, spoken(errors, raised))}</span>{cells}
<span class="number seconds">{seconds(results)}</span>"""


def is_wrong(result):
    return result["verdict"] not in ("agrees", "not measured")


def count(number):
    return f"{number} {plural(number)}"


def plural(number):
    return "case" if number == 1 else "cases"


def number_of(results):
    """ "9", or "7 of 9" if nothing was measured of two of them."""
    known = sum(result["verdict"] != "not measured" for result in results)
    return f"{known} of {len(results)}" if 0 < known < len(results) else f"{len(results)}"


def largest_errors(results, columns):
    """{what: the largest error of it}; what is not a number is larger than any."""
    found = {what: [result["errors"][what] for result in results if what in result["errors"]] for what in columns}
    return {what: max(errors, key=lambda e: math.inf if math.isnan(e) else e) for what, errors in found.items() if errors}


def mark(agrees):
    style, sign, words = VERDICTS[agrees]
    return f'<b class="{style}" role="img" aria-label="{words}" title="{words}">{sign}</b>'


def spoken(errors, raised):
    """What the marks show, for those who hear the page."""
    shown = [f"{HEADINGS.get(what, what)} {in_words(error)}" for what, error in errors.items() if what not in raised]
    shown += [f"{HEADINGS.get(what, what)} raised" for what in sorted(raised)]
    return f"largest errors: {', '.join(shown)}" if shown else "no errors measured"


def source(result):
    paper = escape(result["paper"])
    return f'<a href="{escape(result["link"])}">{paper}</a>' if result["link"] else paper


def reasons(wrong):
    lines = "".join(f"<li>{mark(False)} {escape(variant(result))}: {escape(why(result))}</li>\n" for result in wrong)
    return f'<ul class="reasons">{lines}</ul>' if wrong else ""


def why(result):
    """What is wrong with a case, in a line."""
    found = [f"raised {text}" for text in dict.fromkeys(result["raised"].values())]
    found += [
        f"{HEADINGS.get(what, what)} {in_words(error)} (limit {LIMITS[what]:.0e})"
        for what, error in result["errors"].items()
        if not within(what, error)
    ]
    return "; ".join(found)


def variant(result):
    return result["case"].split("/", 1)[-1]


def place_of(result):
    """The id of a case's row, which only those that something is wrong with have."""
    return result["case"].replace("/", ".")


def table(title, results, columns):
    """The cases: each one's marks on the axis of the chapters, and its numbers."""
    heads = "".join(f'<th scope="col">{HEADINGS.get(what, what)}</th>' for what in columns)
    return f"""<table aria-label="{escape(title)}">
<colgroup><col class="case"><col><col class="value" span="{len(columns)}"><col class="last"></colgroup>
<thead><tr><th scope="col">case</th><th scope="col">on the axis</th>{heads}<th scope="col">seconds</th></tr></thead>
<tbody>
{"".join(case(result, columns) for result in results)}</tbody></table>"""


def case(result, columns):
    state = f' class="wrong" id="{escape(place_of(result))}"' if is_wrong(result) else ""
    cells = "".join(
        f'<td class="{what}">{cell(what, result["errors"], result["raised"], result["skipped"])}</td>' for what in columns
    )
    drawn = strip({what: error for what, error in result["errors"].items() if what in MARKS})
    return f"""<tr{state}><th scope="row">{mark(verdict([result]))} {escape(variant(result))}</th><td class="strip">{drawn}</td>
{cells}<td class="seconds">{seconds([result])}</td></tr>
"""


def cell(what, errors, raised, skipped=()):
    if what in raised:
        return '<span class="bad">✗ raised</span>'
    if what not in errors:
        reason = skipped[what] if what in skipped else "not measured"
        return f'<span class="soft" title="{escape(reason)}">–</span>'
    words = in_words(errors[what])
    return words if within(what, errors[what]) else f'<span class="bad">✗ {words}</span>'


def seconds(results):
    known = [result["seconds"] for result in results if result.get("seconds") is not None]
    return f"{sum(known):.1f}" if known else ""


def omissions(results, columns):
    """Why something of a chapter was not measured, each reason once."""
    found = {}
    for result in results:
        for what in columns:
            if what in result["skipped"]:
                found.setdefault(result["skipped"][what], {}).setdefault(what, []).append(result)
    lines = [f"<li>– {omitted(whats, len(results))}: {escape(reason)}</li>" for reason, whats in found.items()]
    return f'<ul class="soft">{"".join(lines)}</ul>' if lines else ""


def omitted(whats, total):
    """ "float16, gradient of 3 cases": what was not measured, and of how many cases if not of all."""
    most = max(len(results) for results in whats.values())
    names = ", ".join(HEADINGS.get(what, what) for what in whats)
    return names if most == total else f"{names} of {count(most)}"
