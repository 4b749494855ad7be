"""The table of traps and the tests that name them are the same."""

from __future__ import annotations

import re
from pathlib import Path

from tests.contracts.aws.traps import TRAPS


def test_every_trap_is_named_by_a_test_and_every_name_is_in_the_table() -> None:
    named = set()
    for module in Path(__file__).parent.glob("test_*.py"):
        named |= set(re.findall(r'moto_trap\("([a-z0-9-]+)"\)', module.read_text()))
    assert named == TRAPS.keys()
