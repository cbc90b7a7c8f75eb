"""The gate's report for people."""

from __future__ import annotations

from dashboards.console import gate_report
from dashboards.console.gate_report import Speed
from distiller.gate import Rule, decide
from tests.dashboards import seed


def test_a_real_verdict_is_shown_in_figures() -> None:
    """What the gate writes into the registry is what the page reads."""
    teacher = [True] * 380 + [False] * 40
    student = [True] * 376 + [False] * 44
    verdict = decide(student, teacher, Rule())
    slices = [{"slice": "language=de", "verdict": "12 pairs are too few"}]
    report = gate_report.read(verdict.as_row() | seed.SPEEDS | {"measure": "equal labels", "slices": slices})
    assert report is not None
    assert report.student is not None
    assert report.student.correct == 376
    assert report.difference == verdict.difference
    assert report.bound == verdict.difference_lower_bound
    assert report.table == {"both_right": 376, "student_only_right": 0, "teacher_only_right": 4, "both_wrong": 40}
    assert report.speeds == (Speed(1, 41.2, 15.7), Speed(8, 187.0, 71.4))
    assert dict(report.others) == {
        "metric": "exact",
        "power": verdict.power,
        "measure": "equal labels",
        "slice language=de": "12 pairs are too few",
    }


def test_an_undecided_student_has_no_report() -> None:
    """Before the gate there is nothing to show."""
    assert gate_report.read(None) is None


def test_a_report_with_a_verdict_alone_is_still_shown() -> None:
    """A report of another form loses its figures, not its verdict."""
    report = gate_report.read({"verdict": "refused: too few pairs"})
    assert report is not None
    assert report.verdict == "refused: too few pairs"
    assert report.student is None
