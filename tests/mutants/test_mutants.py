"""The table of mutants fits the code; `make mutants` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, names_in
from tests.docs.test_rules_page import is_there, needs_postgresql
from tests.mutants.engine import MODEL
from tests.mutants.mutant import POSTGRESQL, DoesNotApply, Edit, Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.trial import Report, Verdict, judge

PAGE = Page("docs/reference/mutants.md")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
class TestAMutant:
    def test_applies_to_the_present_code(self, mutant: Mutant):
        assert mutant.edits
        for edit in mutant.edits:
            assert edit.mutated(ROOT) != (ROOT / edit.file).read_text()

    def test_is_noticed_by_existing_tests(self, mutant: Mutant):
        assert mutant.noticed_by
        assert [test for test in mutant.noticed_by if not is_there(test)] == []

    def test_has_the_databases_of_its_tests(self, mutant: Mutant):
        if any(needs_postgresql(test) for test in mutant.noticed_by):
            assert mutant.database == POSTGRESQL


class TestTheTable:
    def test_is_on_the_page_in_the_same_order(self):
        shown = [(names_in(row[0])[0], row[1]) for row in PAGE.table("Without its safety parts")]

        assert shown == [(mutant.name, mutant.without) for mutant in MUTANTS]

    def test_marks_the_mutants_that_the_model_finds(self):
        text = PAGE.section("A model of the engine").partition("Of the mutants above")[2]
        found = [mutant.name for mutant in MUTANTS if MODEL in mutant.noticed_by]

        assert names_in(text)[: len(found)] == found

    def test_names_each_mutant_once(self):
        assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


class TestAnEdit:
    @pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"])
    def test_fails_if_its_text_does_not_occur_exactly_once(self, tmp_path: Path, text: str):
        (tmp_path / "code.py").write_text(text)

        with pytest.raises(DoesNotApply):
            Edit("code.py", "a = 1", "a = 2").apply(tmp_path)

    def test_fails_if_the_result_is_not_valid_python(self, tmp_path: Path):
        (tmp_path / "code.py").write_text("a = 1\n")

        with pytest.raises(SyntaxError):
            Edit("code.py", "a = 1", "a =").apply(tmp_path)


class TestAVerdict:
    """A test that passed, hung or could not run has not noticed the mutant."""

    @pytest.mark.parametrize(
        ("said", "hangs", "verdict"),
        [
            (Report.FAILED, False, Verdict.KILLED),
            (Report.PASSED, False, Verdict.SURVIVED),
            (Report.TIMED_OUT, False, Verdict.TIMED_OUT),
            (Report.TIMED_OUT, True, Verdict.KILLED),
            (Report.BROKEN, True, Verdict.ERROR),
        ],
    )
    def test_requires_that_each_test_notices(self, said: Report, hangs: bool, verdict: Verdict):
        mutant = Mutant(name="m", without="x", edits=(), noticed_by=("a", "b"), hangs=hangs)

        assert judge(mutant, {"a": Report.FAILED, "b": said})[0] is verdict
