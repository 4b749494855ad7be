"""Where values come from: flags, environment, file, in that order; and what is wrong with them.

`Sources` hands out the tables of the file with what flags and variables say, and collects every problem, so that one run
shows them all. No message holds a secret, nor a value that may be one by mistake (a token where a path belongs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pullthrough.settings import unknown_keys
from pullthrough.settings.environment import environment_name, unknown_variables
from pullthrough.settings.fields import settings_of
from pullthrough.settings.keys import dotted, shown
from pullthrough.settings.tables import TABLE_NAMES
from pullthrough.settings.values.base import PathBase, ValueType
from pullthrough.settings.values.quantities import Flag
from pullthrough.settings.values.texts import SecretText

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class _Given:
    """One value somebody set."""

    #: As `Sources.of` keeps it: `flag --listen`, `environment PULLTHROUGH_X`, or the file's name.
    source: str
    #: How a message names it: the source, and the key where the source is the file.
    where: str
    value: object
    from_file: bool

    def parse(self, type: ValueType[Any], place: PathBase) -> Any:
        return type.parse(self.value, place) if self.from_file else type.from_text(str(self.value), place)


class Sources:
    """One run's inputs, where each key came from, and the problems and warnings found so far."""

    def __init__(
        self,
        environ: Mapping[str, str],
        flags: Mapping[str, object],
        folder: Path,
        file: Path | None,
        document: dict[str, Any],
    ) -> None:
        """`file` is the one that was read, as it was named, and `document` what it holds; None and empty for none."""
        self.environ = environ
        self.folder = folder
        home = environ.get("HOME", "")
        self.home = Path(home) if home.startswith("/") else None
        self.file = file
        self.document = document
        self.problems: list[str] = []
        self.warnings: list[str] = []
        #: For each dotted key that was set, where.
        self.of: dict[str, str] = {}
        #: Every table that was built, by its path.
        self.tables: dict[tuple[str, ...], object] = {}
        self._flags = {key: value for key, value in flags.items() if value is not None}

    def problem(self, sentence: str) -> None:
        self.problems.append(sentence)

    def named(self, *path: str) -> str:
        """A key that was set, with its place, for messages."""
        key = dotted(*path)
        source = self.of.get(key, "default")
        return source if source.startswith(("environment ", "flag ")) else f"{source}: {key}"

    def header(self, *path: str) -> str:
        """A table of the file, with its place, for messages."""
        return f"{self.file}: [{dotted(*path)}]"

    def is_set(self, *path: str) -> bool:
        """Whether somebody set this key of the top level or of [serve]."""
        *table, key = path
        return self._given(tuple(table), key, self.subtable(*table) if table else self.document) is not None

    def subtable(self, name: str) -> dict[str, Any]:
        table = self.document.get(name, {})
        return table if isinstance(table, dict) else {}

    def check_names(self) -> None:
        """Look for tables that are none, and for variables that are unknown."""
        for name in TABLE_NAMES:
            if not isinstance(self.document.get(name, {}), dict):
                self.problem(f"{self.file}: {name} is not a table; write [{name}]")
        self.problems.extend(unknown_variables(self.environ))

    # Tables

    def table(
        self,
        model: type[M],
        path: tuple[str, ...],
        table: Mapping[str, Any],
        defaults: Mapping[str, object] | None = None,
    ) -> M | None:
        """The model of one table; None where a required value is missing. Wrong values are noted and left out."""
        known = settings_of(model)
        values: dict[str, Any] = dict(defaults or {})
        for key in table:
            if key not in known:
                self.problem(unknown_keys.unknown_key(self.file, path, key, known))
        for key, setting in known.items():
            given = self._given(path, key, table)
            if given is None:
                continue
            if key in table and isinstance(setting.type, SecretText) and not self._may_hold(path, key, setting.type):
                self.problem(unknown_keys.secret_in_file(self.file, path, key, setting.type))
                continue
            base = (self.folder / (self.file or "")).parent if given.from_file else self.folder
            try:
                values[setting.attribute] = given.parse(setting.type, PathBase(base, self.home))
            except ValueError as error:
                value = "" if setting.type.private else f" = {shown(given.value)}"
                self.problem(f"{given.where}{value} {error}")
                continue
            self.of[dotted(*path, key)] = given.source
        if any(setting.is_required and setting.attribute not in values for setting in known.values()):
            return None
        built = self.tables[path] = model(**values)
        return built

    def _given(self, path: tuple[str, ...], key: str, table: Mapping[str, Any]) -> _Given | None:
        full = dotted(*path, key)
        if full in self._flags:
            option = f"flag --{key.replace('_', '-')}"
            return _Given(option, option, self._flags[full], from_file=False)
        variable = environment_name(path, key)
        # Empty is not set: a compose file passes on `${PULLTHROUGH_X:-}`.
        if variable and self.environ.get(variable):
            source = f"environment {variable}"
            return _Given(source, source, self.environ[variable], from_file=False)
        if key in table:
            return _Given(str(self.file), f"{self.file}: {full}", table[key], from_file=True)
        return None

    def _may_hold(self, path: tuple[str, ...], key: str, secret: SecretText) -> bool:
        """Whether the file may hold this token, which is warned of then."""
        if not secret.is_inline or not self._allows_inline_tokens():
            return False
        self.warnings.append(
            f"{self.file}: {dotted(*path, key)} is a token in a file, which gets copied and committed; "
            f"{dotted(*path, key)}_file names one that holds nothing else"
        )
        return True

    def _allows_inline_tokens(self) -> bool:
        """Itself a key of the environment or the file."""
        given = self._given((), "allow_inline_tokens", self.document)
        try:
            return given is not None and given.parse(Flag(), PathBase(self.folder, self.home)) is True
        except ValueError:
            return False  # said of that key itself

    # Files that values name

    def check_pair(
        self, path: tuple[str, ...], first: str, first_file: Path | None, second: str, second_file: Path | None
    ) -> None:
        """Two files of which neither makes sense without the other."""
        if bool(first_file) != bool(second_file):
            given, missing = (first, second) if first_file else (second, first)
            self.problem(f"{self.named(*path, given)} needs {dotted(*path, missing)} beside it")
        self.check_file(path, first, first_file)
        self.check_file(path, second, second_file)

    def check_file(self, path: tuple[str, ...], key: str, file: Path | None) -> None:
        if file is not None and _is_missing(file):
            # Whole: its end is what tells people what is missing.
            self.problem(f'{self.named(*path, key)} = "{file}" is not a file')

    def check_secret_file(self, path: tuple[str, ...], key: str, file: Path | None) -> None:
        """Without the path, which may be the secret itself, put into the wrong key."""
        if file is not None and _is_missing(file):
            self.problem(f"{self.named(*path, key)} names a file that does not exist")


def _is_missing(file: Path) -> bool:
    try:
        return not file.is_file()
    except OSError:
        return False  # in a folder that this user cannot look into; whoever serves can, or says so then
