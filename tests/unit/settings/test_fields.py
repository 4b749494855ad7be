"""How a setting is declared."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import pytest

from pullthrough.declaration import NodeAccess, Rule, Template
from pullthrough.settings.fields import Setting, record_of, setting, settings_of, table
from pullthrough.settings.tables import TABLES, AccessSettings, RuleSettings, TemplateSettings
from pullthrough.settings.values.quantities import Duration, Number
from pullthrough.settings.values.texts import FilePath, FolderPath


@table
class Sample:
    folder: Path = setting(FolderPath())
    workers: int = setting(Number(1, 9), default=3)
    timeout_seconds: float = setting(Duration(1, 60), default=5.0, key="timeout")
    token_file: Path | None = setting(FilePath(private=True), default=None)


def test_a_field_says_all_that_there_is_to_know_of_a_setting() -> None:
    assert list(settings_of(Sample).values()) == [
        Setting("folder", "folder", FolderPath(), True, None),
        Setting("workers", "workers", Number(1, 9), False, 3),
        Setting("timeout", "timeout_seconds", Duration(1, 60), False, 5.0),
        Setting("token_file", "token_file", FilePath(private=True), False, None),
    ]


def test_what_may_hold_a_secret_is_not_in_the_repr() -> None:
    assert repr(Sample(folder=Path("/a"), token_file=Path("hunter2"))) == (
        "Sample(folder=PosixPath('/a'), workers=3, timeout_seconds=5.0)"
    )


@dataclass
class Record:
    name: str
    workers: int
    timeout_seconds: float


def test_a_record_has_what_the_table_says_under_the_same_names() -> None:
    table = Sample(folder=Path("/a"), workers=4)
    assert record_of(Record, table, name="x") == Record("x", 4, 5.0)
    assert record_of(Record, table, name="x", workers=1) == Record("x", 1, 5.0)


@pytest.mark.parametrize(
    ("record", "table", "beside"),
    [
        (Rule, RuleSettings, {"prefix", "credential", "origin"}),
        (Template, TemplateSettings, set()),
        (NodeAccess, AccessSettings, set()),
    ],
)
def test_records_of_the_declaration_take_the_tables_values_with_their_types(
    record: type, table: type, beside: set[str]
) -> None:
    of_record, of_table = get_type_hints(record), get_type_hints(table)
    names = {field.name for field in fields(record)}
    assert names - set(of_table) == beside
    assert {name: of_table[name] for name in names - beside} == {name: of_record[name] for name in names - beside}


def test_no_two_settings_of_a_table_have_one_key() -> None:
    for one in TABLES:
        assert len(settings_of(one.model)) == len(fields(one.model))
