"""From flags, environment and file to `Settings`. The precedence is that order, then the default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pullthrough.errors import ConfigurationError
from pullthrough.settings.file import read_file
from pullthrough.settings.loading.accounts import Accounts
from pullthrough.settings.loading.declaration import read_declaration
from pullthrough.settings.loading.ecr import read_ecr, read_keys
from pullthrough.settings.loading.rules import read_rules, warn_of_rules
from pullthrough.settings.loading.serve import check_serve, read_serve
from pullthrough.settings.loading.upstreams import read_upstreams
from pullthrough.settings.settings import Loaded, Settings
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables import TABLE_NAMES
from pullthrough.settings.tables.top import TopSettings


def load_settings(
    config: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    *,
    folder: Path | None = None,
    require_tokens: bool = True,
) -> Loaded:
    """Raises ConfigurationError with all that is wrong.

    `config` is the value of --config. `flags` maps dotted keys such as `serve.listen` to what the flag said; None is a
    flag not given. `folder` stands for the current one. With `require_tokens` false, a token that is not to be found
    here is no problem: a command that talks to a running engine does not need it, and the module asks for it.
    """
    folder = folder or Path.cwd()
    sources = Sources(environ, flags, folder, *read_file(config, environ, folder))
    sources.check_names()
    document = {key: value for key, value in sources.document.items() if key not in TABLE_NAMES}
    top = sources.table(TopSettings, (), document) or TopSettings()
    serve = read_serve(sources)
    accounts = Accounts(sources, top, require_tokens=require_tokens)
    rules = read_rules(sources, accounts, with_standard_rules=top.standard_rules)
    upstreams = read_upstreams(sources, rules.enabled)
    ecr = read_ecr(sources)
    keys = read_keys(sources)
    declaration = read_declaration(sources, top, rules, accounts.usernames)
    warn_of_rules(sources, rules.enabled, accounts)
    if serve is not None:
        check_serve(sources, serve, rules.enabled, ecr)
    if sources.problems or serve is None:
        raise _error(sources.problems)
    settings = Settings(
        serve=serve,
        rules=rules.enabled,
        upstreams=upstreams,
        ecr=ecr,
        ecr_keys=keys,
        accounts=accounts.of_upstream,
        declaration=declaration,
        journal=top.journal,
    )
    return Loaded(
        settings,
        sources.of,
        tuple(sources.warnings),
        sources.tables,
        sources.file,
        tuple(accounts.missing_tokens),
    )


def _error(problems: list[str]) -> ConfigurationError:
    hint = "the configuration reference has every key; `pullthrough config check` tries a configuration"
    if len(problems) == 1:
        return ConfigurationError(problems[0], hint=hint)
    lines = "".join(f"\n  - {problem}" for problem in problems)
    return ConfigurationError(f"{len(problems)} problems in the configuration:{lines}", hint=hint)
