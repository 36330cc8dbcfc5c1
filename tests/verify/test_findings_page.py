"""Every finding code has an example that is produced by running, and docs/findings.md shows it.

Red when a code is added that nothing produces, or a finding is worded otherwise than the page shows. After a wanted
change `python -m tests.verify.finding_examples --write` writes the page anew; read the difference.
"""

from __future__ import annotations

from tests.verify import finding_examples


def test_each_code_has_an_example_and_no_other_has():
    assert set(finding_examples.EXAMPLES) == set(finding_examples.CODES)


def test_the_page_shows_what_a_check_prints():
    found = finding_examples.page()
    assert found == finding_examples.PAGE.read_text(encoding="utf-8")
