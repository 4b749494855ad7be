"""The pages of docs/ that are made from the code, and the site's table of contents.

    python -m docs_build write    write docs/configuration.md, docs/cli.md, docs/errors.md and the nav of mkdocs.yml
    python -m docs_build check    fail where one of them is stale; then build the whole site strictly

So that a setting, a command or an error cannot change without its page: `make check` runs the latter.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pullthrough import errors
from pullthrough.cli.exit_codes import MEANINGS, ExitCode, error_classes, exit_code_of_class
from pullthrough.cli.main import command_tree
from pullthrough.errors import PullthroughError
from pullthrough.operations.json_form import types_of_fields
from pullthrough.operations.status import STATUS
from pullthrough.operations.table import TABLE
from pullthrough.settings import load_settings
from pullthrough.settings.environment import environment_name
from pullthrough.settings.fields import settings_of
from pullthrough.settings.tables import TABLES, FileTable

ROOT = Path(__file__).parent
DOCS = ROOT / "docs"
_MARK = "<!-- Written by `python -m docs_build write`; changes belong into the code. -->\n"
_NAV_MARK = "# What follows is written by `python -m docs_build write`, from the pages that are there.\nnav:\n"
#: The order of the site; a page that is not named here comes last.
_PAGES = (
    "index.md",
    "module.md",
    "exports.md",
    "pulumi-cdk.md",
    "clients.md",
    "operations.md",
    "ecr.md",
    "ecr-coverage.md",
    "how-pulls-work.md",
    "configuration.md",
    "cli.md",
    "errors.md",
    "security.md",
    "limits.md",
    "performance.md",
    "architecture.md",
    "decisions.md",
    "dependencies.md",
    "glossary.md",
)
_WIDTH = 100


def main(arguments: list[str]) -> int:
    if arguments not in (["write"], ["check"]):
        sys.stderr.write("usage: python -m docs_build write|check\n")
        return 2
    if arguments == ["write"]:
        for path, text in pages():
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
        return 0
    stale = [difference for path, text in pages() if (difference := stale_by(path, text))]
    if stale:
        sys.stderr.write("\n".join(stale))
        sys.stderr.write("\nThese pages are stale; run `python -m docs_build write` and commit the result.\n")
        return 1
    return build()


def pages() -> Iterator[tuple[Path, str]]:
    """What every generated file should hold. The table of contents is last: it depends on which pages there are."""
    written: dict[str, Callable[[], str]] = {
        "configuration.md": configuration_page,
        "cli.md": cli_page,
        "errors.md": errors_page,
    }
    for name, page in written.items():
        yield DOCS / name, page()
    head = (ROOT / "mkdocs.yml").read_text().partition(_NAV_MARK)[0]
    yield ROOT / "mkdocs.yml", head + _NAV_MARK + navigation({*written, *(p.name for p in DOCS.glob("*.md"))})


def stale_by(path: Path, text: str) -> str:
    """The first lines of how a file differs from what it should hold; empty where it does not."""
    name = str(path.relative_to(ROOT))
    now = path.read_text() if path.exists() else ""
    lines = list(
        difflib.unified_diff(now.splitlines(), text.splitlines(), name, f"{name} from the code", lineterm="", n=0)
    )
    return "\n".join([*lines[:12], *(["…"] if len(lines) > 12 else [])])


def build() -> int:
    """Build the site into a folder that is thrown away; dead links and references fail it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
        # Material advertises its successor on every run; docs/dependencies.md is the place to weigh that.
        environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode


def navigation(names: set[str]) -> str:
    order = [*(name for name in _PAGES if name in names), *sorted(names.difference(_PAGES))]
    generated = {"configuration.md": "Configuration", "cli.md": "Command line", "errors.md": "Errors"}
    return "".join(f"  - {json.dumps(generated.get(name) or _title(DOCS / name))}: {name}\n" for name in order)


def _title(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            return line.removeprefix("# ")
    raise SystemExit(f"{path.relative_to(ROOT)} has no title (a line that begins with '# ')")


# Configuration

EXAMPLE = """\
docker_hub_username = "acme"       # the token is in PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN

[serve]
listen = "0.0.0.0:5000"
anonymous_pull = true              # everyone who can reach the address may pull
max_size = "200GiB"
min_free = "10%"

[serve.mirrors]
"127.0.0.1:5001" = "docker-hub"    # for dockerd: "registry-mirrors": ["http://127.0.0.1:5001"]

[rules.docker-hub]                 # replaces the built-in rule of this prefix
upstream = "registry-1.docker.io"
freshness = "24h"
freshness_by_tag = { "latest" = "10m", "*-stable" = "7d" }
allow = ["library/*", "grafana/*"]

[rules.internal]                   # internal/app comes from registry.example.com/team/app
upstream = "registry.example.com"
upstream_repository_prefix = "team"
username = "ci"
access_token_command = ["vault", "kv", "get", "-field=token", "secret/registry"]

[upstreams."registry.example.com"]
token_realms = ["sso.example.com"]
proxy = "http://proxy.example.com:3128"
stall_timeout = "1m"

# What follows is for `plan` and `apply`; `serve` reads over it.

[tags]
team = "platform"

[template]
keep_images = 100

[templates.internal]               # as [template], but for this
tag_mutability = "immutable"
tag_mutability_exclusions = ["latest"]

[access]
node_roles = ["eks-nodes"]
pull_accounts = ["123456789012"]
"""

_CONFIGURATION_HEAD = """\
# Configuration

Every setting has a default: `pullthrough serve` runs without any.

## Where settings come from

The first of these that names a setting decides:

1. a flag of the command line, such as `--listen`;
2. the environment: `PULLTHROUGH_<KEY>` for keys outside tables, `PULLTHROUGH_SERVE_<KEY>` for those of `[serve]` and
   `PULLTHROUGH_ECR_<KEY>` for those of `[ecr]`.
   A variable that is empty counts as not set. Lists are separated by commas; `PULLTHROUGH_SERVE_MIRRORS` is written
   `127.0.0.1:5001=docker-hub,127.0.0.1:5002=github`, and `PULLTHROUGH_TAGS` likewise `team=platform,stage=test`;
3. the file: the one of `--config`, else of `PULLTHROUGH_CONFIG`, else `pullthrough.toml` in the current folder, if it
   is there;
4. the default.

`pullthrough config show` prints what is in force and where each setting came from. `pullthrough config check` says
whether the engine would start with it. Unknown keys and unknown `PULLTHROUGH_*` variables are refused; those that
Kubernetes makes of a Service called `pullthrough` are ignored.

## How values are written

- **Durations** are texts with a unit: `500ms`, `30s`, `10m`, `24h`, `7d`, `1h30m`. **Sizes** likewise: `512KiB`,
  `16MiB`, `10GB`, `1TiB`; the units with an `i` count by 1024, the others by 1000. A bare number is refused.
- **Paths** that are relative begin at the folder of the file that names them, or at the current one for flags and the
  environment. `~/` is the home folder.
- **Secrets** are not in the file. It names where they are: an environment variable, a file, or a command. Access
  tokens may stand in it with `allow_inline_tokens = true`, and are warned of.

## An example

```toml
"""

_TEMPLATES = """\
The same keys for one rule. What is not said here is as in `[template]`, unless what is said here excludes it:
`keep_images` here takes the place of a `lifecycle_policy_file` there; `repository_policy_file` takes that of
`pull_accounts` and `pull_organization`, and they take its; `kms_key` does not go with `encryption = "AES256"` here, nor
`tag_mutability_exclusions` with another `tag_mutability`.
"""


def configuration_page() -> str:
    check_example()
    return "\n".join([_MARK + _CONFIGURATION_HEAD + EXAMPLE + "```\n", *(_table(table) for table in TABLES)])


def check_example() -> None:
    """The example is one that the engine takes, without a warning but that of its open listener."""
    environ = {"HOME": "/root", "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "x"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pullthrough.toml").write_text(EXAMPLE)
        warnings = load_settings(None, environ, {}, folder=Path(folder)).warnings
    if any("everyone who can reach" not in warning for warning in warnings):
        raise SystemExit(f"the example of the configuration page warns: {warnings}")


def _table(table: FileTable) -> str:
    title = f"## `{table.header}`" if table.path else "## Outside of tables"
    if table.path == ("templates",):
        return f"{title}\n\n{_wrap(_TEMPLATES)}\n"
    text = [f"{title}\n\n{_wrap(inspect.cleandoc(table.model.__doc__ or ''))}\n"]
    docstrings = _docstrings(table.model)
    for key, setting in settings_of(table.model).items():
        if setting.attribute not in docstrings:
            raise SystemExit(f"{table.model.__name__}.{setting.attribute} has no docstring")
        facts = [f"- Accepts: {setting.type.accepted}"]
        if not setting.is_required:
            facts.append(f"- Default: {_default(setting.type.show(setting.default))}")
        if variable := environment_name(table.path, key):
            facts.append(f"- Environment: `{variable}`")
        if table.path == ("serve",) and key in ("listen", "data"):
            facts.append(f"- Flag: `--{key}`")
        words = _wrap(inspect.cleandoc(docstrings[setting.attribute]))
        text.append(f"### `{key}`\n\n{words}\n\n" + "\n".join(facts) + "\n")
    return "\n".join(text)


def _docstrings(model: type) -> dict[str, str]:
    """The text below each attribute of the class."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _default(value: object) -> str:
    return "none" if value in ("", [], {}, None) else f"`{json.dumps(value)}`"


def _wrap(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH + 20, break_long_words=False, break_on_hyphens=False)


# Command line

_CLI_HEAD = """\
# Command line

`pullthrough COMMAND --help` prints what is below. Data goes to standard output, everything else to standard error.
"""

_JSON = """\
## JSON

With `--json` a command prints one JSON document, and an error as `{"error": {"reference", "message", "hint"}}` on
standard error. Sizes are exact numbers of bytes, times ISO 8601 in UTC. What the commands on a cache ask, and
the answers:

```text
"""

_CONTROL = """\
```

Events are as EventBridge has them, the newest first; `created_at` is null for keys of the settings.

These commands talk to the engine that holds the data folder, through `control.sock` in it; only the user that runs the
engine may open it. Without a running engine they work on the folder themselves, and hold its lock while they do.
"""


def cli_page() -> str:
    tree: Any = command_tree()
    text = [_MARK + _CLI_HEAD]
    for name, command in tree.commands.items():
        commands = {name: command}
        if subcommands := getattr(command, "commands", None):
            commands = {f"{name} {sub}": subcommand for sub, subcommand in subcommands.items()}
        for full, one in commands.items():
            context = one.context_class(one, info_name=f"pullthrough {full}", **_CONTEXT)
            text.append(f"## `pullthrough {full}`\n\n```text\n{one.get_help(context).strip()}\n```\n")
    text.append(_JSON + _answers() + _CONTROL)
    rows = "".join(f"| {code.value} | {MEANINGS[code]} |\n" for code in ExitCode)
    text.append(f"## Exit codes\n\n| code | meaning |\n| --- | --- |\n{rows}")
    return "\n".join(text)


_CONTEXT = {"terminal_width": _WIDTH, "help_option_names": ["--help", "-h"]}


def _answers() -> str:
    """The requests and answers of the operations that commands ask for."""
    lines = []
    for operation in TABLE:
        if operation is STATUS:
            continue
        action = [f'"action": "{operation.action}"'] if operation.action else []
        lines.append(f"{operation.name} {_object(operation.request, action)}")
        lines += textwrap.wrap(_object(operation.answer), _WIDTH, initial_indent="    ", subsequent_indent="     ")
    return "\n".join(lines) + "\n"


def _object(record: type, first: list[str] | None = None) -> str:
    members = [f'"{name}"{_inside(kind)}' for name, kind in types_of_fields(record).items()]
    return f"{{{', '.join([*(first or []), *members])}}}"


def _inside(kind: Any) -> str:
    """What a member's value has members of its own in; nothing for a plain value."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return f": {_object(kind)}"
    inner = [_inside(one) for one in get_args(kind) if one is not ...]
    if get_origin(kind) is tuple:
        return f": [{inner[0].removeprefix(': ')}]" if inner[0] else ""
    if get_origin(kind) is Mapping:
        return f": {{each: {inner[1].removeprefix(': ')}}}" if inner[1] else ""
    return ""


# Errors

_ERRORS_HEAD = """\
# Errors

Every error has a reference that stays the same across releases. The command line prints it last; over HTTP it is in the
`detail` of the answer.

| reference | error | meaning | may pass by itself | exit code |
| --- | --- | --- | --- | --- |
"""

_ANSWERS_HEAD = """\
## Over HTTP

Answers have the form of the [OCI distribution
specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes):
`{"errors": [{"code", "message", "detail": {"reference"}}]}`.

| reference | error | status | code |
| --- | --- | --- | --- |
"""


def errors_page() -> str:
    answers = importlib.import_module("pullthrough.faces.distribution.errors")
    classes = sorted(_all_classes(), key=lambda cls: cls.reference)
    rows = "".join(
        f"| `{cls.reference}` | {cls.__name__} | {_meaning(cls)} | {'yes' if cls.temporary else ''} "
        f"| {exit_code_of_class(cls).value} |\n"
        for cls in classes
    )
    http = "".join(
        f"| `{cls.reference}` | {cls.__name__} | {answer.status} | `{answer.code.value}` |\n"
        for cls in classes
        if (answer := answers.TABLE.get(cls))
    )
    return f"{_MARK}{_ERRORS_HEAD}{rows}\n{_ANSWERS_HEAD}{http}"


def _all_classes() -> Iterator[type[PullthroughError]]:
    """Every class with a reference of its own: the tree, and what the faces add to it."""
    faces = importlib.import_module("pullthrough.faces.distribution.errors")
    added = [
        value
        for value in vars(faces).values()
        if inspect.isclass(value) and issubclass(value, PullthroughError) and value.__module__ == faces.__name__
    ]
    yield from (cls for cls in (*error_classes(errors.PullthroughError), *added) if "reference" in vars(cls))


def _meaning(cls: type[PullthroughError]) -> str:
    if not cls.__doc__:
        raise SystemExit(f"{cls.__name__} has no docstring")
    return " ".join(inspect.cleandoc(cls.__doc__).partition("\n\n")[0].split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
