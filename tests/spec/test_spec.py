"""The page and the code say the same.

Turns red when: a field of `emm/layout.py` changes without the page (or the other way round); an error
cites a rule that the page does not have; a rule is added without a test, or a test names a rule that is gone.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "spec" / "emm-v4.md"
RULE = re.compile(r"^(?:- )?\*\*([AHJLMNPRST]-\d+)\b", re.MULTILINE)
CITED = re.compile(r"""rule=["']([A-Z]-\d+)["']""")
TESTED = re.compile(r"def test_((?:[ahjlmnprst]\d+_)+)")

# Rules about how a writer or an environment behaves, shown by the tests named, which carry other names.
SHOWN_ELSEWHERE = {
    "N-5": "tests/vfs (lock and fork)",
    "J-18": "tests/storage (a failure at every operation of a session)",
    "S-5": "tests/verify (random bytes, every byte flipped)",
}


def rules_of_the_page() -> list[str]:
    return RULE.findall(PAGE.read_text(encoding="utf-8"))


def tables_module():
    spec = importlib.util.spec_from_file_location("spec_tables", ROOT / "spec" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_field_tables_of_the_page_are_those_of_the_layout():
    page = PAGE.read_text(encoding="utf-8")
    assert tables_module().render(page) == page, "run: python spec/tables.py --write"


def test_every_record_and_enumeration_stands_on_the_page():
    from emm import layout

    page = PAGE.read_text(encoding="utf-8")
    for record in layout.RECORDS:
        assert f"`{record.name}`, {record.size} bytes:" in page
        for field in record.fields:
            assert f"`{field.name}`" in page


def test_rule_numbers_are_unique_and_dense():
    found = rules_of_the_page()
    assert len(found) == len(set(found))
    for letter in "AHJLMNPRST":
        numbers = sorted(int(rule[2:]) for rule in found if rule[0] == letter)
        assert numbers == list(range(1, len(numbers) + 1)), f"{letter}-rules: {numbers}"


def test_every_rule_that_an_error_cites_is_on_the_page():
    cited = {rule for path in (ROOT / "emm").rglob("*.py") for rule in CITED.findall(path.read_text(encoding="utf-8"))}
    assert cited, "no error cites a rule?"
    assert cited - set(rules_of_the_page()) == set()


def test_every_rule_has_a_test_and_every_tested_rule_exists():
    tested = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for names in TESTED.findall(path.read_text(encoding="utf-8")):
            tested |= {f"{name[0].upper()}-{name[1:]}" for name in names.strip("_").split("_")}
    rules = set(rules_of_the_page())
    assert tested - rules == set(), "tests of rules that the page does not have"
    assert rules - tested - set(SHOWN_ELSEWHERE) == set(), "rules without a test"
