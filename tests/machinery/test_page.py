"""The page of the comparison: everything that was measured is on it, where it belongs, and nothing from elsewhere."""

import re

import pytest
from made_up_page import GOOD, LINK, marks, numbers, parse, parsed, result

from crosscheck.case import TOLERANCE
from crosscheck.report import comparison, page
from crosscheck.report.page import axis


def names(found):
    return [row.one("th").words.split(" ", 1)[1] for row in found.one("tbody").all("tr")]


def test_the_verdict_comes_first():
    good, bad = parsed(result("first/a")), parsed(result("first/a"), result("first/b", {"float64": 1.0}))
    assert good.one("head").one("title").text.startswith("✓") and bad.one("head").one("title").text.startswith("✗")
    assert good.one("p", "verdict").words == "✓ 1 case agrees on tensorflow"
    assert bad.one("p", "verdict").words == "✗ 1 of 2 cases agree on tensorflow"
    assert list(good.one("p", "verdict").attributes.values()) == ["verdict good"]
    assert list(bad.one("p", "verdict").attributes.values()) == ["verdict bad"]


def test_a_run_that_was_stopped_is_not_said_to_agree():
    found = parsed(result("first/a"), asked=4)
    assert found.one("p", "verdict").words.startswith("✗")
    assert found.one("p", "beside").words == "stopped before the other 3"


def test_chapters_and_cases_are_in_reading_order():
    given = ["zebra/b", "zebra/a", "apple/z", "middle/c", "middle/b"]
    rows = list(parsed(*map(result, given)).all("details"))
    assert [row.attributes["id"] for row in rows] == ["zebra", "apple", "middle"]
    assert [names(row) for row in rows] == [["b", "a"], ["z"], ["c", "b"]]


def test_a_closed_row_has_verdict_name_count_and_largest_errors():
    worse = GOOD | {"float32": 4e-6, "gradient": 8e-8}
    (row,) = parsed(result("first/a"), result("first/b", worse), result("first/c")).all("details")
    summary = row.one("summary")
    assert summary.one("span", "name").words == "✓ First 3 cases"
    shown = [cell.words for cell in summary.all("span", "number")]
    assert shown == ["2.0e-16", "4.0e-06", "4.0e-03", "5.0e-04", "8.0e-08", "7.0e-16", "4.5"]
    assert marks(summary) == pytest.approx({dtype: axis.place(worse[dtype]) for dtype in TOLERANCE}, abs=0.01)


def test_every_number_of_every_case_is_in_its_column():
    cases = [result(f"first/{i}", {what: error * i for what, error in GOOD.items()}, seconds=i) for i in (1, 2, 3)]
    table = parsed(*cases).one("table")
    assert [head.words for head in table.one("thead").all("th")] == ["case", "on the axis", *list(GOOD)[:-1], "XLA", "seconds"]
    for row, case in zip(table.one("tbody").all("tr"), cases, strict=True):
        assert numbers(row) == {what: f"{error:.1e}" for what, error in case["errors"].items()} | {
            "seconds": f"{case['seconds']:.1f}"
        }
        assert [cell.attributes["class"] for cell in row.all("td")] == ["strip", *GOOD, "seconds"]


def test_columns_are_named_with_their_limits():
    heads = [head.words for head in parsed(result("first/a")).one("div", "legend").all("span")]
    limits = [f"{'XLA' if what == 'xla' else what} < {limit:.0e}" for what, limit in comparison.LIMITS.items()]
    assert heads == ["chapter cases", *limits, "seconds"]


def test_what_nobody_measured_has_no_column():
    found = parsed(result("first/a", {"float64": 1e-16, "gradient": 1e-9}))
    assert list(numbers(found.one("tbody").one("tr"))) == ["float64", "gradient", "seconds"]
    assert found.one("div", "chart").attributes["style"] == "--numbers: 2"
    assert "XLA" not in found.one("div", "legend").text
    assert "--xla" not in found.one("code").text


def test_a_chapter_is_open_only_if_something_is_wrong_and_says_what():
    wrong = result("second/b", GOOD | {"gradient": 2e-3, "xla": 1e-9})
    first, second = parsed(result("first/a"), result("second/a"), wrong).all("details")
    assert "open" not in first.attributes and "open" in second.attributes
    assert first.one("summary").one("b").text == "✓" and second.one("summary").one("b").text == "✗"
    assert second.one("ul", "reasons").words == "✗ b: gradient 2.0e-03 (limit 1e-06); XLA 1.0e-09 (limit 1e-10)"
    assert [row.attributes.get("class") for row in second.one("tbody").all("tr")] == [None, "wrong"]


def test_what_raised_is_told_once_and_every_cell_says_so():
    error = "ValueError: no <b>luck</b> & no 'shape'"
    found = parsed(result("first/a"), result("first/b", {}, dict.fromkeys(GOOD, error)))
    row = list(found.one("tbody").all("tr"))[1]
    assert set(numbers(row).values()) == {"✗ raised", "1.5"}
    assert marks(row) == {}
    assert found.one("ul", "reasons").words == f"✗ b: raised {error}"
    assert found.one("p", "beside").words == "1 raised"
    assert {cell.words for cell in found.one("summary").all("span", "number")} == {"✗ raised", "3.0"}


def test_a_process_that_died_is_told_though_it_is_in_no_column():
    found = parsed(result("first/a", {}, {"worker": "Death: killed by signal 9"}))
    assert found.one("ul", "reasons").words == "✗ a: raised Death: killed by signal 9"
    assert numbers(found.one("tbody").one("tr")) == dict.fromkeys(comparison.LIMITS, "–") | {"seconds": "1.5"}
    assert "open" in found.one("details").attributes


def test_what_does_not_agree_is_named_at_the_top_with_a_link_to_its_row():
    found = parsed(*(result(f"first/{i}", GOOD if i % 3 else {"float64": 1e-3}) for i in range(40)))
    *lines, last = found.one("ul", "problems").all("li")
    assert [line.words for line in lines] == [f"first/{i} float64 1.0e-03 (limit 1e-12)" for i in range(0, 24, 3)]
    assert last.words == "and 6 more, in the rows below"
    rows = {row.attributes["id"]: row for row in found.one("tbody").all("tr", "wrong")}
    for line in lines:
        target = line.one("a").attributes["href"][1:]
        assert rows[target].one("th").words == f"✗ {line.one('a').text.split('/')[1]}"


def test_what_was_not_measured_is_not_said_to_agree_and_has_its_reason():
    reasons = {"gradient": "ids have no slope", "xla": "no strings", "float64": "no <strings>"}
    found = parsed(result("first/a"), result("first/b", {}, (), reasons), result("second/a", {}, (), reasons))
    mixed, none = found.all("details")
    assert mixed.one("summary").one("span", "name").words == "✓ First 1 of 2 cases"
    assert none.one("summary").one("span", "name").words == "– Second 1 case"
    assert set(numbers(none.one("tbody").one("tr")).values()) == {"–", "1.5"}
    titles = [sign.attributes["title"] for sign in none.one("tbody").all("span", "soft")]
    assert titles == ["no <strings>", *["not measured"] * 3, "ids have no slope", "no strings"]
    assert [line.words for line in none.one("ul", "soft").all("li")] == [
        "– float64: no <strings>",
        "– gradient: ids have no slope",
        "– XLA: no strings",
    ]
    assert [line.words for line in mixed.one("ul", "soft").all("li")][1] == "– gradient of 1 case: ids have no slope"
    assert "open" not in none.attributes


HOSTILE = """"'><script>alert(1)</script>&amp;"""


def test_names_papers_and_reasons_are_text_and_nothing_else():
    everywhere = {"chapter": f"title {HOSTILE}", "paper": f"paper {HOSTILE}", "link": f"https://example.org/{HOSTILE}"}
    wrong = result(f"first/b{HOSTILE}", {"float64": 1.0}, {"xla": f"raised {HOSTILE}"}, {"gradient": f"skipped {HOSTILE}"})
    plain, found = parsed(result("first/a")), parsed(result(f"first/a{HOSTILE}") | everywhere, wrong | everywhere)
    assert len(list(found.all("script"))) == len(list(plain.all("script"))) == 1
    names = found.one("details")
    assert names.one("summary").one("span", "name").words == f"✗ title {HOSTILE} 2 cases"
    assert names.one("a").words == f"paper {HOSTILE}"
    assert names.one("a").attributes["href"] == f"https://example.org/{HOSTILE}"
    assert names.one("table").attributes["aria-label"] == f"title {HOSTILE}"
    assert names.attributes["data-words"] == f"first title {HOSTILE} paper {HOSTILE}".lower()
    assert [row.one("th").words for row in names.one("tbody").all("tr")] == [f"✓ a{HOSTILE}", f"✗ b{HOSTILE}"]
    assert names.one("ul", "reasons").words == f"✗ b{HOSTILE}: raised raised {HOSTILE}; float64 1.0e+00 (limit 1e-12)"
    assert names.one("ul", "soft").words == f"– gradient of 1 case: skipped {HOSTILE}"
    assert found.one("ul", "problems").one("a").words == f"first/b{HOSTILE}"


def test_nothing_comes_from_elsewhere_and_only_papers_are_linked():
    report = comparison.report([result("first/a"), result("second/a", {"float64": 1.0}), result("third/a", link="")], 0)
    text = page.as_html(report)
    elements = list(parse(text).all())
    outside = [e for e in elements if not e.attributes.get("href", "#").startswith("#")]
    assert [(e.tag, e.attributes["href"]) for e in outside] == [("a", LINK), ("a", LINK)]
    assert not {"link", "img", "iframe", "object", "base"} & {e.tag for e in elements}
    assert not [e for e in elements if {"src", "srcset", "xlink:href", "action"} & set(e.attributes)]
    assert text.count("http") == 2
    assert not re.search(r"@import|url\(|fetch\(|import\(", text)


def test_every_link_within_the_page_has_its_target_and_no_id_is_given_twice():
    found = parsed(result("first/a"), result("first/b", {"float64": 1.0}), result("second/b", {"float64": 1.0}))
    ids = [element.attributes["id"] for element in found.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    within = {e.attributes["href"] for e in found.all() if e.attributes.get("href", "").startswith("#")}
    assert {link[1:] for link in within} <= set(ids)
    assert {"#first.b", "#second.b", "#grid"} <= within


def test_without_javascript_everything_is_there_and_the_filter_is_hidden():
    found = parsed(result("first/a"), result("second/a"))
    assert [element.tag for element in found.all() if "hidden" in element.attributes] == ["form"]


def test_what_the_filter_needs_is_there():
    found = parsed(result("first/some-case"), result("second/a"))
    form = found.one("form")
    assert {"input", "button", "output", "label"} <= {element.tag for element in form.all()}
    assert form.one("label").attributes["for"] == form.one("input").attributes["id"]
    assert [row.attributes["data-words"] for row in found.all("details")] == [
        "first first someone, 2020, §1",
        "second second someone, 2020, §1",
    ]
    assert found.one("script").text.strip().startswith('"use strict"')


def test_the_page_is_for_phones_for_the_dark_for_paper_and_for_ears():
    found = parsed(result("first/a"), result("second/a", {}, {"float64": "ValueError"}))
    assert found.one("html").attributes["lang"] == "en"
    assert any("width=device-width" in meta.attributes.get("content", "") for meta in found.all("meta"))
    style = found.one("style").text
    assert "screen and (prefers-color-scheme: dark)" in style and "@media print" in style
    drawn = [row.one("summary").one("svg").attributes for row in found.all("details")]
    assert [svg["role"] for svg in drawn] == ["img", "img"]
    assert drawn[0]["aria-label"] == (
        "largest errors: float64 2.0e-16, float32 3.0e-07, bfloat16 4.0e-03, float16 5.0e-04, gradient 6.0e-09, XLA 7.0e-16"
    )
    assert drawn[1]["aria-label"] == "largest errors: float64 raised"
    assert all("aria-label" in sign.attributes for row in found.all("details") for sign in row.all("b"))
    assert {head.attributes["scope"] for table in found.all("table") for head in table.all("th")} == {"col", "row"}
    assert all(svg.attributes["aria-hidden"] == "true" for table in found.all("table") for svg in table.all("svg"))


def test_the_row_says_how_to_measure_it_again():
    command = "python -m crosscheck first --cases --backend tensorflow --xla"
    assert parsed(result("first/a")).one("code").text == command
    seeded = parse(page.as_html(comparison.report([result("first/a")], 7)))
    assert seeded.one("code").text == f"{command} --seed 7"


def test_what_the_run_took_is_told_as_far_as_it_is_known():
    plain = parsed(result("first/a", seconds=None)).one("header").one("p", "soft").words
    assert re.fullmatch(r"keras [\d.]+, tensorflow [\d.]+, numpy [\d.]+ · seed 0", plain)
    processes = [{"pid": 1, "peak_mb": 1350}, {"pid": 2, "peak_mb": 525}]
    full = parsed(result("first/a"), seconds=83.2, processes=processes).one("header").one("p", "soft").words
    assert full == f"{plain} · 1 min 23 s · 2 processes, at most 1,350 MB each"


def test_a_report_of_nothing_is_a_page_too():
    found = parsed(asked=2)
    assert list(found.all("details")) == []
    assert "stopped before the other 2" in found.text


def test_hundreds_of_cases_are_a_page_of_moderate_size():
    results = [result(f"chapter{i // 15}/a-name-of-usual-length-{i}") for i in range(415)]
    assert len(page.as_html(comparison.report(results, 0)).encode()) < 600_000
