"""Where values come from: flags, environment, file, in that order; and what is wrong with them.

`Sources` reads the file, hands out tables as models, and collects every problem, so that one run shows them all. No
message holds a secret, nor a value that may be one by mistake (a token where a path belongs).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pullthrough.errors import ConfigurationError
from pullthrough.settings.kinds import Flag, Kind, Place
from pullthrough.settings.models import (
    AccessSettings,
    EcrSettings,
    KeySettings,
    Model,
    RuleSettings,
    ScanningSettings,
    ServeSettings,
    TemplateSettings,
    TopSettings,
    UpstreamSettings,
    kinds_of,
)

ENVIRONMENT_PREFIX = "PULLTHROUGH_"
CONFIG_VARIABLE = "PULLTHROUGH_CONFIG"
DEFAULT_FILE = "pullthrough.toml"
#: A configuration is a page or ten; more is a mistake such as a log file named by --config.
MAX_FILE_BYTES = 4 * 1024 * 1024

#: Kubernetes puts variables such as PULLTHROUGH_PORT=tcp://10.0.0.1:5000 into each pod beside a Service of that name.
#: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_KUBERNETES = re.compile(
    r"PULLTHROUGH_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)"
)
_KUBERNETES_PORT_VALUE = re.compile(r"(?:tcp|udp|sctp)://")
_SECRET_KEYS = {
    *("access_token", "token", "password", "secret", "docker_hub_access_token", "github_access_token"),
    *("encryption_key", "secret_access_key", "webhook_secret"),
}
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
#: The tokens that a file may hold where it says `allow_inline_tokens = true`.
_INLINE_TOKENS = {(): ("docker_hub_access_token", "github_access_token"), ("rules",): ("access_token",)}
TABLES = ("serve", "rules", "upstreams", "ecr", "template", "templates", "access", "scanning")
#: How a variable begins, behind PULLTHROUGH_, that somebody takes for one of a table that has none.
_FILE_ONLY = ("rules_", "upstreams_", "ecr_keys_", "template_", "templates_", "scanning_")
#: The tables whose keys have variables.
_WITH_VARIABLES: tuple[tuple[tuple[str, ...], type[Model]], ...] = (
    ((), TopSettings),
    (("serve",), ServeSettings),
    (("ecr",), EcrSettings),
)

M = TypeVar("M", bound=Model)


def dotted(*parts: str) -> str:
    """A key as TOML writes it: `upstreams."ghcr.io".proxy`."""
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else json.dumps(part) for part in parts)


def environment_name(table: tuple[str, ...], key: str) -> str | None:
    """The variable of a key; None for the tables that only a file can have."""
    if not table:
        return ENVIRONMENT_PREFIX + key.upper()
    return f"{ENVIRONMENT_PREFIX}{table[0].upper()}_{key.upper()}" if table in (("serve",), ("ecr",)) else None


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """The known name that `name` is probably a slip of; `cutoff` is difflib's, how much alike they must be."""
    candidates = {entry.lower().replace("-", "_"): entry for entry in known}
    matches = difflib.get_close_matches(name.lower().replace("-", "_"), candidates, n=1, cutoff=cutoff)
    return candidates[matches[0]] if matches else None


def shown(value: object) -> str:
    """A value as a file would hold it, cut to a length that fits a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"


@dataclass(frozen=True, slots=True)
class _Given:
    """One value somebody set."""

    #: As `Sources.of` keeps it: `flag --listen`, `environment PULLTHROUGH_X`, or the file's name.
    source: str
    #: How a message names it: the source, and the key where the source is the file.
    where: str
    value: object
    from_file: bool

    def parse(self, kind: Kind, place: Place) -> Any:
        return kind.parse(self.value, place) if self.from_file else kind.from_text(str(self.value), place)


class Sources:
    """One run's inputs, where each key came from, and the problems and warnings found so far."""

    def __init__(self, environ: Mapping[str, str], flags: Mapping[str, object], folder: Path) -> None:
        self.environ = environ
        self.folder = folder
        home = environ.get("HOME", "")
        self.home = Path(home) if home.startswith("/") else None
        #: The file that was read, as it was named; None for none.
        self.file: Path | None = None
        self.document: dict[str, Any] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        #: For each dotted key that was set, where.
        self.of: dict[str, str] = {}
        #: Every table that was built, by its path.
        self.tables: dict[tuple[str, ...], Model] = {}
        self._flags = {key: value for key, value in flags.items() if value is not None}

    def problem(self, sentence: str) -> None:
        self.problems.append(sentence)

    def named(self, *path: str) -> str:
        """A key that was set, with its place, for messages."""
        key = dotted(*path)
        source = self.of.get(key, "default")
        return source if source.startswith(("environment ", "flag ")) else f"{source}: {key}"

    def is_set(self, *path: str) -> bool:
        """Whether somebody set this key of the top level or of [serve]."""
        *table, key = path
        return self._given(tuple(table), key, self.subtable(*table) if table else self.document) is not None

    # The file

    def read_file(self, config: Path | None) -> None:
        """Read what --config names, else PULLTHROUGH_CONFIG, else ./pullthrough.toml if it is there."""
        if config is not None:
            named_by = " (named by --config)"
        elif named := self.environ.get(CONFIG_VARIABLE):
            config, named_by = Path(named), f" (named by {CONFIG_VARIABLE})"
        else:
            config, named_by = Path(DEFAULT_FILE), ""
        path = self.folder / config
        try:
            if not path.exists():
                if not named_by:
                    return
                raise OSError("there is no such file")
            if not path.is_file():
                raise OSError("it is not a file")
            if path.stat().st_size > MAX_FILE_BYTES:
                raise OSError("it is larger than any configuration")
            self.document = tomllib.loads(path.read_bytes().decode())
        except OSError as error:
            raise ConfigurationError(f"cannot read {config}{named_by}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{config}{named_by} is not UTF-8 text (byte {error.start})") from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigurationError(
                f"{config}{named_by} is not valid TOML: {error}", hint="texts stand in quotes; see https://toml.io"
            ) from error
        self.file = config

    def subtable(self, name: str) -> dict[str, Any]:
        table = self.document.get(name, {})
        return table if isinstance(table, dict) else {}

    def check_tables(self) -> None:
        for name in TABLES:
            if not isinstance(self.document.get(name, {}), dict):
                self.problem(f"{self.file}: {name} is not a table; write [{name}]")

    # The environment

    def check_environment(self) -> None:
        variables = [
            (key, environment_name(table, key) or "") for table, model in _WITH_VARIABLES for key in kinds_of(model)
        ]
        known = {CONFIG_VARIABLE, *(variable for _, variable in variables)}
        # What people forget is the table, or a letter.
        by_name = {**dict(variables), **{name.removeprefix(ENVIRONMENT_PREFIX).lower(): name for name in known}}
        in_file = {f"access_{key}" for key in kinds_of(AccessSettings)}
        for name, value in sorted(self.environ.items()):
            if not name.startswith(ENVIRONMENT_PREFIX) or name in known or _of_kubernetes(name, value):
                continue
            rest = name.removeprefix(ENVIRONMENT_PREFIX).lower()
            near = by_name.get(nearest(rest, by_name) or "")
            if rest.startswith(_FILE_ONLY) or rest in in_file:
                self.problem(
                    f"environment: {name} is unknown; rules, upstreams, templates, access, scanning and API keys are set "
                    "in the file only"
                )
            elif near:
                self.problem(f"environment: {name} is unknown; did you mean {near}?")
            else:
                self.problem(f"environment: {name} is unknown; the configuration reference lists the variables")

    # Tables

    def table(
        self,
        model: type[M],
        path: tuple[str, ...],
        table: Mapping[str, Any],
        defaults: Mapping[str, object] | None = None,
    ) -> M | None:
        """The model of one table; None where a required value is missing. Wrong values are noted and left out."""
        kinds = kinds_of(model)
        values: dict[str, Any] = dict(defaults or {})
        for key in table:
            if key not in kinds:
                self._unknown_key(path, key, kinds)
        for key, (attribute, kind) in kinds.items():
            given = self._given(path, key, table)
            if given is None:
                continue
            if key in table and key in _SECRET_KEYS and not self._may_hold(path, key):
                self._secret_in_file(path, key)
                continue
            base = (self.folder / (self.file or "")).parent if given.from_file else self.folder
            try:
                values[attribute] = given.parse(kind, Place(base, self.home))
            except ValueError as error:
                value = "" if kind.private else f" = {shown(given.value)}"
                self.problem(f"{given.where}{value} {error}")
                continue
            self.of[dotted(*path, key)] = given.source
        if any(info.is_required() and name not in values for name, info in model.model_fields.items()):
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

    # Files that values name

    def check_file(self, path: tuple[str, ...], key: str, file: Path | None) -> None:
        if file is not None and _is_missing(file):
            # Whole: its end is what tells people what is missing.
            self.problem(f'{self.named(*path, key)} = "{file}" is not a file')

    def check_secret_file(self, path: tuple[str, ...], key: str, file: Path | None) -> None:
        """Without the path, which may be the secret itself, put into the wrong key."""
        if file is not None and _is_missing(file):
            self.problem(f"{self.named(*path, key)} names a file that does not exist")

    # Complaints

    def _unknown_key(self, path: tuple[str, ...], key: str, kinds: Iterable[str]) -> None:
        full = dotted(*path, key)
        known = sorted(kinds)
        if key in _SECRET_KEYS:
            self._secret_in_file(path, key)
        elif near := nearest(key, known if path else [*known, *TABLES]):
            self.problem(f"{self.file}: unknown key {full}; did you mean {dotted(*path, near)}?")
        elif elsewhere := [
            place
            for place, model in (
                ("at the top of the file, before any table", TopSettings),
                ("in [serve]", ServeSettings),
                ("in [rules.<prefix>]", RuleSettings),
                ('in [upstreams."<host>"]', UpstreamSettings),
                ("in [template] or [templates.<prefix>]", TemplateSettings),
                ("in [access]", AccessSettings),
                ("in [scanning]", ScanningSettings),
                ("in [ecr]", EcrSettings),
                ("in [ecr.keys.<name>]", KeySettings),
            )
            if key in kinds_of(model)
        ]:
            self.problem(f"{self.file}: unknown key {full}; {key} belongs {' or '.join(elsewhere)}")
        else:
            self.problem(f"{self.file}: unknown key {full}; known here: {', '.join(known)}")

    def _may_hold(self, path: tuple[str, ...], key: str) -> bool:
        """Whether the file may hold this token, which is warned of then."""
        if key not in _INLINE_TOKENS.get(path[:1], ()) or not self._allows_inline_tokens():
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
            return given is not None and given.parse(Flag(), Place(self.folder, self.home)) is True
        except ValueError:
            return False  # said of that key itself

    def _secret_in_file(self, path: tuple[str, ...], key: str) -> None:
        if path[:1] == ("rules",):
            instead = "name its place: access_token_env, access_token_file or access_token_command"
        elif path[:1] == ("ecr",):
            instead = "encryption_key_file, webhook_secret_file and secret_access_key_file name files"
        else:
            name = key if key in kinds_of(TopSettings) else "docker_hub_access_token"
            instead = f"set {ENVIRONMENT_PREFIX}{name.upper()}, or {name}_file, or {name}_command"
        if key in _INLINE_TOKENS.get(path[:1], ()):
            instead += "; or allow it by allow_inline_tokens = true at the top of the file"
        self.problem(f"{self.file}: {dotted(*path, key)} would put a secret into the file; {instead}")


def _of_kubernetes(name: str, value: str) -> bool:
    if _KUBERNETES.fullmatch(name):
        return True
    return name.endswith("_PORT") and _KUBERNETES_PORT_VALUE.match(value) is not None


def _is_missing(file: Path) -> bool:
    try:
        return not file.is_file()
    except OSError:
        return False  # in a folder that this user cannot look into; whoever serves can, or says so then
