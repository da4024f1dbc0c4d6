"""Rollback coverage as JUnit XML, which every CI reads: a suite a fault, a case a step."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from runbook.engine.coverage import NOTHING, Cell, Coverage, Outcome, StepCoverage
from runbook.views import coverage_words as words

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What an XML 1.0 document cannot hold, however it is written (XML 1.0, 2.2)."""


def render_junit(coverage: Coverage) -> str:
    """The document, with its XML declaration."""
    root = ElementTree.Element("testsuites", name=f"{coverage.runbook}: rollback coverage")
    for column in (NOTHING, *coverage.columns):
        cells = [cell for cell in coverage.cells if cell.column == column]
        suite = _suite(root, coverage, words.column_title(column))
        for cell in cells:
            _cell(suite, coverage, cell)
        if column == NOTHING:
            for problem in coverage.problems:
                case = _case(suite, coverage, NOTHING, "gets through")
                _failure(case, "problem", problem)
    suite = _suite(root, coverage, "way back")
    for row in coverage.steps:
        if row.acts:
            _way_back(suite, coverage, row)
    for one in root.findall("testsuite"):
        cases = one.findall("testcase")
        one.set("tests", str(len(cases)))
        one.set("failures", str(sum(case.find("failure") is not None for case in cases)))
        one.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
        one.set("errors", "0")
        one.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(root: ElementTree.Element, coverage: Coverage, title: str) -> ElementTree.Element:
    suite = ElementTree.SubElement(root, "testsuite", name=_clean(f"{coverage.runbook}: {title}"))
    told = ElementTree.SubElement(suite, "properties")
    for name, value in (("digest", coverage.digest), ("level", coverage.level)):
        ElementTree.SubElement(told, "property", name=name, value=value)
    return suite


def _case(
    suite: ElementTree.Element, coverage: Coverage, column: str, name: str, seconds: float = 0.0
) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=_clean(f"{coverage.runbook}.{column}"), name=_clean(name),
        time=f"{seconds:.3f}",
    )


def _cell(suite: ElementTree.Element, coverage: Coverage, cell: Cell) -> None:
    case = _case(suite, coverage, cell.column, cell.step or "whole run", cell.real_seconds)
    if not cell.good:
        lines = [cell.why, *cell.leftovers, f"runbook log {cell.run}"]
        _failure(case, cell.outcome.value, words.WORD[cell.outcome], "\n".join(lines))
    elif cell.outcome is Outcome.NOT_REACHED:
        ElementTree.SubElement(case, "skipped", message=_clean(cell.why))
    else:
        said = ElementTree.SubElement(case, "system-out")
        said.text = _clean("; ".join(filter(None, (words.cell_text(cell), cell.why, cell.run))))


def _way_back(suite: ElementTree.Element, coverage: Coverage, row: StepCoverage) -> None:
    case = _case(suite, coverage, "way-back", row.step)
    if row.undo_missing:
        _failure(case, "missing", "it has no undo, and does not say so", words.missing_hint(row))
    else:
        said = ElementTree.SubElement(case, "system-out")
        said.text = _clean("; ".join(filter(None, (words.undo_text(row), row.no_way_back))))


def _failure(case: ElementTree.Element, kind: str, message: str, text: str = "") -> None:
    failure = ElementTree.SubElement(case, "failure", type=kind, message=_clean(message))
    failure.text = _clean(text)


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
