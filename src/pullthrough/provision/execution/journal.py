"""What `apply` and `destroy` did, written down step by step: what was made here, and may be taken back.

A file of JSON lines that only grows. AWS tags neither rules nor filters of the scanning configuration, so only the
journal knows which of them were made here; whatever it does not name was there before. Without a journal `destroy`
leaves the rules, and nothing else is lost.

A step is written before it begins and after it ends. A step without an end, because the process died or no answer came,
counts as done if what it makes is there. The journal holds no secret.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pullthrough.errors import ConfigurationError, ProvisionError
from pullthrough.provision.model.observed import Owned
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.resources import Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget

_FORMAT = 1
#: Documents of the whole registry are nobody's, and what is in repositories is not made here.
_SHARED = (ResourceKind.REGISTRY_POLICY, ResourceKind.SCANNING, ResourceKind.REPOSITORY)


class Recorder(Protocol):
    """Is told of each step. Raises ConfigurationError where it cannot write: the step is not begun then."""

    def begin(self, step: Step) -> None: ...

    def done(self, step: Step) -> None: ...

    def failed(self, step: Step, *, is_certain: bool) -> None: ...


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the module keeps what it remembers; None where there is no home.

    https://specifications.freedesktop.org/basedir-spec/latest/#variables
    """
    if (folder := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return Path(folder) / "pullthrough"
    home = environ.get("HOME", "")
    return Path(home) / ".local/state/pullthrough" if home.startswith("/") else None


def journal_name(name: str, target: DeploymentTarget) -> str:
    """One file for each declaration and target."""
    where = re.sub(r"[^A-Za-z0-9.]+", "-", target.endpoint.partition("://")[2]).strip("-")
    return "-".join(part for part in (name, target.account, target.region, where) if part) + ".journal"


class Journal:
    """One journal file; it, and its folder, are made when the first step is written."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._descriptor: int | None = None

    def read(self) -> Owned:
        """Raises ConfigurationError for a file that is no journal, or of a newer version."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return Owned()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the journal {self.path} cannot be read: {error}") from error
        return owned_of(self._entries(text))

    def _entries(self, text: str) -> Iterator[Mapping[str, Any]]:
        *lines, torn = text.split("\n")
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if entry["format"] != _FORMAT:
                    raise ConfigurationError(
                        f"line {number} of the journal {self.path} is of another version of pullthrough"
                    )
                _check(entry)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise self._foreign(number) from error
            yield entry
        # What stands behind the last line's end is a line that a crash cut short, or no journal at all.
        if not _may_be_torn(torn):
            raise self._foreign(len(lines) + 1)

    def _foreign(self, number: int) -> ConfigurationError:
        return ConfigurationError(
            f"line {number} of the journal {self.path} is none of a journal",
            hint="name another file with `journal` in pullthrough.toml; then nothing counts as made here but what bears "
            "the declaration's mark",
        )

    @contextmanager
    def writing(self) -> Iterator[Journal]:
        """Open for writing, by one process at a time. Raises ProvisionError where another has it, and ConfigurationError."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the journal {self.path} cannot be written: {error.strerror}",
                hint="name another file with `journal` in pullthrough.toml, or PULLTHROUGH_JOURNAL",
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ProvisionError(
                    f"another apply or destroy is at work (it holds {self.path})", hint="wait until it has ended"
                ) from error
            self._drop_torn_line(descriptor)
            self._descriptor = descriptor
            yield self
        finally:
            self._descriptor = None
            os.close(descriptor)

    def begin(self, step: Step) -> None:
        self._write("begin", step)

    def done(self, step: Step) -> None:
        self._write("done", step)

    def failed(self, step: Step, *, is_certain: bool) -> None:
        self._write("failed" if is_certain else "unknown", step)

    def _write(self, event: str, step: Step) -> None:
        assert self._descriptor is not None, "only within writing()"
        line = f"{json.dumps(entry_of(event, step, self._clock()))}\n".encode()
        try:
            if (written := os.write(self._descriptor, line)) < len(line):
                # Half a line would spoil the next one.
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._descriptor)
        except OSError as error:
            raise ConfigurationError(f"the journal {self.path} cannot be written: {error.strerror}") from error

    def _drop_torn_line(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        content = os.pread(descriptor, size, 0)
        end = content.rfind(b"\n") + 1
        if not _may_be_torn(content[end:].decode(errors="replace")):
            raise self._foreign(content.count(b"\n") + 1)
        os.ftruncate(descriptor, end)


def entry_of(event: str, step: Step, at: float) -> dict[str, Any]:
    """What one line of a journal holds; `at` in seconds since 1970."""
    return {
        "format": _FORMAT,
        "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        "event": event,
        "action": step.action.value,
        "kind": step.key.kind.value,
        "name": step.key.name,
        "details": dict(step.details),
    }


def _check(entry: Mapping[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError for what `_write` does not write."""
    ResourceKind(entry["kind"]), StepAction(entry["action"])
    details = entry["details"]
    lists = [details[name] for name in ("add", "remove") if name in details]
    texts = [entry["event"], entry["name"], *(text for texts in lists for text in texts)]
    if not isinstance(details, dict) or not all(isinstance(text, str) for text in texts):
        raise TypeError


def _may_be_torn(text: str) -> bool:
    """Whether this may be the beginning of a line of ours."""
    start = f'{{"format": {_FORMAT}, '
    return text.startswith(start) or start.startswith(text)


def owned_of(entries: Iterable[Mapping[str, Any]]) -> Owned:
    """What the entries of a journal add up to."""
    created: set[Key] = set()
    filters: set[str] = set()
    attempted: set[Key] = set()
    #: Of rules that are being replaced: whether they were made here.
    replaced: dict[Key, bool] = {}
    for entry in entries:
        key, action, details = Key(ResourceKind(entry["kind"]), entry["name"]), entry["action"], entry["details"]
        added, removed = details.get("add", []), details.get("remove", [])
        makes = key.kind not in _SHARED and (
            action in (StepAction.CREATE, StepAction.REPLACE) or bool(details.get("adopted"))
        )
        match entry["event"]:
            case "begin":  # counts, until it is known to have failed
                replaced[key] = key in created
                created |= {key} if makes else set()
                filters.update(added)
            case "failed" if action == StepAction.REPLACE:
                # Where the old one is still there it is whose it was; where it is gone, the next run makes a new one.
                created -= set() if replaced.get(key) else {key}
            case "failed":
                created -= {key} if makes else set()
                attempted |= {key} if makes and key.kind is ResourceKind.ROLE else set()
                filters.difference_update(added)
            case "done":
                created -= {key} if action == StepAction.DELETE else set()
                # What was half made is whole now.
                created |= attempted & {key} if action != StepAction.DELETE else set()
                attempted.discard(key)
                filters.difference_update(removed)
                _drop_empty(filters)
    return Owned(frozenset(created), frozenset(filters), frozenset(attempted))


def _drop_empty(filters: set[str]) -> None:
    """Forget a rule of the scanning configuration once no filter that was made here is left in it."""
    frequencies = {entry.partition(" ")[0] for entry in filters if " " in entry}
    filters.difference_update({entry for entry in filters if " " not in entry and entry not in frequencies})
