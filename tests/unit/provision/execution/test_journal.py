"""What is written down of each step, and what it adds up to."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import ConfigurationError, ProvisionError
from pullthrough.provision.execution.journal import Journal, journal_name, owned_of, state_folder
from pullthrough.provision.model.observed import Owned
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.resources import REGISTRY, Json, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from tests.deployments import MemoryJournal

RULE = Key(ResourceKind.RULE, "quay")
ROLE = Key(ResourceKind.ROLE, "a-role")


def step(key: Key = RULE, action: StepAction = StepAction.CREATE, **details: Json) -> Step:
    return Step(key, action, "because", details=details)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "a.journal", clock=lambda: 0.0)


def write(journal: Journal, *events: tuple[str, Step]) -> None:
    with journal.writing() as open_journal:
        for event, what in events:
            if event == "begin":
                open_journal.begin(what)
            elif event == "done":
                open_journal.done(what)
            else:
                open_journal.failed(what, is_certain=event == "failed")


def test_no_file_is_nothing_made_here(journal: Journal) -> None:
    assert journal.read() == Owned()
    assert not journal.path.exists()


def test_a_line_says_when_and_what_and_only_its_owner_reads_it(journal: Journal) -> None:
    write(journal, ("begin", step()), ("done", step()))
    assert [json.loads(line) for line in journal.path.read_text().splitlines()] == [
        {
            "format": 1,
            "at": "1970-01-01T00:00:00+00:00",
            "event": event,
            "action": "create",
            "kind": "rule",
            "name": "quay",
            "details": {},
        }
        for event in ("begin", "done")
    ]
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


DELETE, REPLACE, UPDATE = StepAction.DELETE, StepAction.REPLACE, StepAction.UPDATE
MADE = [("begin", step()), ("done", step())]


@pytest.mark.parametrize(
    ("events", "is_ours"),
    [
        (MADE, True),
        (MADE[:1], True),
        ([("begin", step()), ("unknown", step())], True),
        ([("begin", step()), ("failed", step())], False),
        ([*MADE, ("begin", step(action=DELETE)), ("done", step(action=DELETE))], False),
        ([*MADE, ("begin", step(action=DELETE))], True),
        ([*MADE, ("begin", step(action=DELETE)), ("failed", step(action=DELETE))], True),
        ([*MADE, ("done", step(action=DELETE))], False),
        ([("begin", step(action=UPDATE)), ("done", step(action=UPDATE))], False),
        ([("begin", step(action=UPDATE, adopted=True)), ("done", step(action=UPDATE, adopted=True))], True),
        ([("begin", step(action=REPLACE)), ("done", step(action=REPLACE))], True),
        ([("begin", step(action=REPLACE)), ("failed", step(action=REPLACE))], False),
        ([*MADE, ("begin", step(action=REPLACE)), ("failed", step(action=REPLACE))], True),
    ],
)
def test_what_counts_as_made_here(journal: Journal, events: list[tuple[str, Step]], is_ours: bool) -> None:
    write(journal, *events)
    assert journal.read().created == ({RULE} if is_ours else frozenset())


def test_a_role_that_was_made_half_is_remembered_until_it_is_whole_or_gone(journal: Journal) -> None:
    make, mend, drop = step(ROLE), step(ROLE, UPDATE), step(ROLE, DELETE)
    write(journal, ("begin", make), ("failed", make))
    assert journal.read() == Owned(attempted=frozenset({ROLE}))
    write(journal, ("begin", mend), ("done", mend))
    assert journal.read() == Owned(created=frozenset({ROLE}))
    write(journal, ("begin", drop), ("done", drop))
    assert journal.read() == Owned()


def test_filters_are_ours_until_they_are_taken_out_and_their_rule_with_the_last(journal: Journal) -> None:
    scanning = Key(ResourceKind.SCANNING, REGISTRY)
    add = step(scanning, add=["SCAN_ON_PUSH a/*", "SCAN_ON_PUSH b/*", "SCAN_ON_PUSH"], remove=[])
    write(journal, ("begin", add))
    assert journal.read() == Owned(filters=frozenset({"SCAN_ON_PUSH a/*", "SCAN_ON_PUSH b/*", "SCAN_ON_PUSH"}))
    fewer = step(scanning, UPDATE, add=[], remove=["SCAN_ON_PUSH a/*"])
    write(journal, ("done", add), ("begin", fewer), ("done", fewer))
    assert journal.read() == Owned(filters=frozenset({"SCAN_ON_PUSH b/*", "SCAN_ON_PUSH"}))
    none = step(scanning, DELETE, add=[], remove=["SCAN_ON_PUSH b/*"])
    write(journal, ("begin", none), ("done", none))
    assert journal.read() == Owned()
    write(journal, ("begin", add), ("failed", add))
    assert journal.read() == Owned()


_steps = st.builds(
    step,
    st.builds(
        Key, st.sampled_from([ResourceKind.RULE, ResourceKind.ROLE, ResourceKind.TEMPLATE]), st.sampled_from(["a", "b"])
    ),
    st.sampled_from(StepAction),
)
_events = st.lists(st.tuples(st.sampled_from(["begin", "done", "failed", "unknown"]), _steps), max_size=12)


@given(events=_events, cut=st.integers(0, 400))
def test_a_line_that_a_crash_cut_short_does_not_count(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, Step]], cut: int
) -> None:
    memory = MemoryJournal()
    for event, what in events:
        memory._write(event, what)
    lines = [json.dumps(entry) for entry in memory.entries]
    whole = "".join(f"{line}\n" for line in lines)
    journal = Journal(tmp_path_factory.getbasetemp() / "cut.journal")
    journal.path.write_text(whole[: max(0, len(whole) - cut)])
    kept = whole[: max(0, len(whole) - cut)].count("\n")
    expected = owned_of(memory.entries[:kept])
    assert journal.read() == expected
    with journal.writing():
        pass
    assert journal.read() == expected
    assert journal.path.read_text() == "".join(f"{line}\n" for line in lines[:kept])


GOOD = '{"format": 1, "event": "done", "action": "create", "kind": "rule", "name": "a", "details": {}}'


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "[]",
        "1",
        "null",
        '"format"',
        "",
        GOOD.replace('"rule"', '"thing"'),
        GOOD.replace('"create"', '"paint"'),
        GOOD.replace("{}", "[]"),
        GOOD.replace("{}", '{"add": 1}'),
        GOOD.replace("{}", '{"add": [1]}'),
        GOOD.replace('"a"', "[1]"),
        GOOD.replace('"done"', "{}"),
        GOOD.replace('"event": "done", ', ""),
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("end", ["\n", ""], ids=["whole", "last"])
def test_a_file_that_is_no_journal_is_refused_and_not_touched(journal: Journal, line: str, end: str) -> None:
    if not end and (not line or line.startswith('{"format": 1, ')):
        return  # may be the beginning of a line of ours
    text = f"{GOOD}\n{line}{end}"
    journal.path.parent.mkdir()
    journal.path.write_text(text)
    with pytest.raises(ConfigurationError, match="line 2 of the journal") as caught:
        journal.read()
    assert "journal" in caught.value.hint
    if not end:
        with pytest.raises(ConfigurationError, match="line 2 of the journal"), journal.writing():
            pass
    assert journal.path.read_text() == text


def test_a_journal_of_a_newer_version_is_refused(journal: Journal) -> None:
    journal.path.parent.mkdir()
    journal.path.write_text(GOOD.replace('"format": 1', '"format": 2') + "\n")
    with pytest.raises(ConfigurationError, match="another version of pullthrough"):
        journal.read()


@pytest.mark.parametrize("content", [b"\xff\xfe\n", None], ids=["bytes", "folder"])
def test_a_file_that_can_not_be_read_is_named(journal: Journal, content: bytes | None) -> None:
    journal.path.parent.mkdir()
    journal.path.mkdir() if content is None else journal.path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"a\.journal cannot be read"):
        journal.read()


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "a.journal")
    with pytest.raises(ConfigurationError, match="cannot be written") as caught, journal.writing():
        pass
    assert "PULLTHROUGH_JOURNAL" in caught.value.hint


def test_a_second_writer_is_refused_until_the_first_has_ended(journal: Journal) -> None:
    other = Journal(journal.path)
    with journal.writing() as first:
        with pytest.raises(ProvisionError, match="another apply or destroy is at work"), other.writing():
            pass
        first.begin(step())
        assert other.read().created == {RULE}
    with other.writing():
        pass


def _hold(path: Path, name: str, results: Any) -> None:
    journal = Journal(path)
    try:
        with journal.writing() as held:
            for number in range(20):
                held.begin(step(Key(ResourceKind.RULE, f"{name}-{number}")))
        results.put(True)
    except ProvisionError:
        results.put(False)


def test_writers_of_several_processes_never_mix(journal: Journal) -> None:
    journal.path.parent.mkdir()
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=_hold, args=(journal.path, str(number), results)) for number in range(4)]
    for process in processes:
        process.start()
    outcomes = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert any(outcomes)
    writers = [key.name.partition("-")[0] for key in sorted(journal.read().created)]
    assert len(writers) == 20 * sum(outcomes)
    assert len(set(writers)) == sum(outcomes)


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As on a full disk."""
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_whole_lines_only(journal: Journal) -> None:
    with journal.writing() as held:
        held.begin(step())
        before = journal.path.read_bytes()
        with files_no_longer_than(len(before) + 10), pytest.raises(ConfigurationError, match="cannot be written"):
            held.done(step())
        assert journal.path.read_bytes() == before
        held.done(step())
    assert journal.read().created == {RULE}


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/pullthrough"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/pullthrough"),
        ({"HOME": "/h"}, "/h/.local/state/pullthrough"),
        ({}, None),
    ],
)
def test_the_state_is_where_the_freedesktop_specification_wants_it(environ: dict[str, str], folder: str | None) -> None:
    assert state_folder(environ) == (Path(folder) if folder else None)


def test_each_declaration_and_target_has_a_journal_of_its_own() -> None:
    targets = [
        DeploymentTarget("1", "eu-west-1"),
        DeploymentTarget("1", "eu-west-2"),
        DeploymentTarget("2", "eu-west-1"),
        DeploymentTarget("1", "eu-west-1", "http://127.0.0.1:5000"),
        DeploymentTarget("1", "eu-west-1", "http://127.0.0.1:5001/x"),
    ]
    names = [journal_name(name, target) for name in ("a", "b") for target in targets]
    assert len(set(names)) == len(names)
    assert names[3] == "a-1-eu-west-1-127.0.0.1-5000.journal"
    assert all(os.sep not in name for name in names)
