"""From flags, environment and file to `Settings`. The precedence is that order, then the default.

load_settings
  ├── Sources               the file as tables; each key of each table from the highest place, parsed by its kind
  ├── the accounts          a username and one place of its token, or neither
  ├── the rules             the file's, then the built-in ones it does not replace
  ├── the upstreams         by canonical host
  ├── the AWS APIs          and their keys
  ├── read_declaration      what `plan` and `apply` make of it: templates, access, scanning
  └── checks of the whole   open listeners, pairs of keys, mirrors of unknown rules
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pullthrough.declaration import (
    GITHUB,
    ROOT,
    STANDARD_RULES,
    STANDARD_UPSTREAMS,
    Credential,
    CredentialSource,
    InlineToken,
    Origin,
    Rule,
    SecretCredential,
)
from pullthrough.errors import ConfigurationError, RequestError
from pullthrough.oci.names import DOCKER_HUB, canonical_host, parse_repository_name
from pullthrough.settings.addresses import is_upstream_host, parse_listen
from pullthrough.settings.declared import read_declaration
from pullthrough.settings.models import (
    EcrAuth,
    EcrSettings,
    KeySettings,
    Model,
    RuleSettings,
    ServeSettings,
    Settings,
    TopSettings,
    UpstreamSettings,
)
from pullthrough.settings.sources import ENVIRONMENT_PREFIX, TABLES, Sources, dotted, nearest

#: For each account of the top level: the beginning of its keys, and the upstream it belongs to.
ACCOUNTS: Mapping[str, str] = {"docker_hub": DOCKER_HUB, "github": GITHUB}

Accounts = Mapping[str, CredentialSource | None]


@dataclass(frozen=True)
class Loaded:
    """What is in force, and where it came from."""

    settings: Settings
    #: For each dotted key that was set: `flag --listen`, `environment PULLTHROUGH_X`, or the file's name. What is not
    #: here has its default.
    sources: Mapping[str, str]
    #: Sentences for people about what is allowed but perhaps not meant.
    warnings: tuple[str, ...]
    #: Every table by its path, such as `("rules", "quay")`; the top level is `()`. Built-in rules are there too.
    tables: Mapping[tuple[str, ...], Model] = field(repr=False)
    #: The file that was read; None for none.
    file: Path | None = None
    #: Which tokens are not to be found here, and what would name them; empty unless that is allowed.
    missing_tokens: tuple[str, ...] = ()


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
    return _Loader(Sources(environ, flags, folder or Path.cwd()), require_tokens).load(config)


class _Loader:
    """One run of `load_settings`."""

    def __init__(self, sources: Sources, require_tokens: bool) -> None:
        self._in = sources
        self._require_tokens = require_tokens
        #: The rules that say `enabled = false`.
        self._disabled: list[Rule] = []
        self._missing_tokens: list[str] = []

    def load(self, config: Path | None) -> Loaded:
        sources = self._in
        sources.read_file(config)
        sources.check_tables()
        sources.check_environment()
        document = {key: value for key, value in sources.document.items() if key not in TABLES}
        top = sources.table(TopSettings, (), document) or TopSettings()
        serve = self._serve()
        accounts = {host: self._account(name, top) for name, host in ACCOUNTS.items()}
        rules = self._rules(top, accounts)
        upstreams = self._upstreams(rules)
        ecr = self._ecr()
        keys = self._keys()
        usernames = {host: getattr(top, f"{name}_username") for name, host in ACCOUNTS.items()}
        declaration = read_declaration(sources, top, rules, tuple(self._disabled), usernames)
        self._warn_of_rules(rules, accounts)
        if serve is not None:
            self._check_listeners(serve, rules, ecr)
            self._check_pair(("serve",), "tls_cert", serve.tls_cert, "tls_key", serve.tls_key)
        if sources.problems or serve is None:
            raise _error(sources.problems)
        known = {host: account for host, account in accounts.items() if account}
        settings = Settings(
            serve=serve,
            rules=rules,
            upstreams=upstreams,
            ecr=ecr,
            ecr_keys=keys,
            accounts=known,
            declaration=declaration,
            journal=top.journal,
        )
        return Loaded(
            settings, sources.of, tuple(sources.warnings), sources.tables, sources.file, tuple(self._missing_tokens)
        )

    # [serve]

    def _serve(self) -> ServeSettings | None:
        sources = self._in
        defaults: dict[str, object] = {}
        if not sources.is_set("serve", "data"):
            if default := self._default_data():
                source, defaults["data"] = default
                if source:
                    sources.of["serve.data"] = source
            else:
                sources.problem("serve.data has no default here, because HOME is not set; set serve.data or --data")
        return sources.table(ServeSettings, ("serve",), sources.subtable("serve"), defaults)

    def _default_data(self) -> tuple[str, Path] | None:
        """The data folder and the variable it came from."""
        environ = self._in.environ
        # systemd gives several, separated by ':', where a unit names several.
        if state := environ.get("STATE_DIRECTORY", "").split(":")[0]:
            return "environment STATE_DIRECTORY", self._in.folder / state
        # Relative paths are to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/#variables
        if (data_home := environ.get("XDG_DATA_HOME", "")).startswith("/"):
            return "environment XDG_DATA_HOME", Path(data_home) / "pullthrough"
        return ("", self._in.home / ".local/share/pullthrough") if self._in.home else None

    def _check_listeners(self, serve: ServeSettings, rules: tuple[Rule, ...], ecr: EcrSettings) -> None:
        sources = self._in
        prefixes = sorted(rule.prefix for rule in rules)
        for address, prefix in serve.mirrors.items():
            if prefix not in prefixes:
                near = nearest(prefix, prefixes)
                instead = f"did you mean {near!r}?" if near else f"the rules are: {', '.join(prefixes) or 'none'}"
                sources.problem(
                    f"{sources.named('serve', 'mirrors')} binds {address} to the rule {prefix[:80]!r}, which does not "
                    f"exist; {instead}"
                )
            if address == serve.listen and parse_listen(address).port:
                sources.problem(f"{sources.named('serve', 'mirrors')} has the address of serve.listen, {address}")
        addresses = (serve.listen, *serve.mirrors)
        if beyond := " and ".join(address for address in addresses if not parse_listen(address).is_loopback):
            self._check_reach(serve, rules, ecr, beyond)

    def _check_reach(self, serve: ServeSettings, rules: tuple[Rule, ...], ecr: EcrSettings, beyond: str) -> None:
        """`beyond`: the addresses that other machines can reach."""
        sources = self._in
        if ecr.auth is EcrAuth.NONE and not ecr.auth_none_everywhere:
            sources.problem(
                f'{sources.named("ecr", "auth")} = "none" lets in everyone, and other machines can reach {beyond}; '
                "set ecr.auth_none_everywhere = true if everyone who can reach it may change and push everything, or "
                "listen on 127.0.0.1"
            )
        elif ecr.auth is EcrAuth.NONE:
            sources.warnings.append(
                f"{sources.named('ecr', 'auth_none_everywhere')}: everyone who can reach {beyond} may change and push "
                "everything, and read every secret"
            )
        private = [rule.prefix for rule in rules if rule.credential]
        if private and (serve.anonymous_pull or ecr.auth is EcrAuth.NONE):
            sources.warnings.append(
                f"{sources.named('serve', 'anonymous_pull')}: everyone who can reach {beyond} can pull what the "
                f"accounts of these rules may read: {', '.join(private)}"
            )

    # Accounts

    def _account(self, name: str, top: TopSettings) -> CredentialSource | None:
        """The credential of docker_hub_* or github_*."""
        sources = self._in
        places = {
            f"{name}_{place}": value
            for place in ("access_token", "access_token_file", "access_token_command")
            if (value := getattr(top, f"{name}_{place}"))
        }
        in_environment = {key for key in places if sources.of[key].startswith("environment ")}
        # A place named in the environment stands above those of the file, as any key does.
        for key in set(places) - in_environment if in_environment else ():
            del places[key], sources.of[key]
        key = f"{name}_username"
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}_ACCESS_TOKEN"
        username: str = getattr(top, key)
        if len(places) > 1:
            given = " and ".join(sources.named(place) for place in sorted(places))
            sources.problem(f"{given} exclude each other; name one place of the token")
            return None
        if places and not username:
            sources.problem(
                f"{sources.named(next(iter(places)))} gives a token without a username; "
                f"set {key} or {ENVIRONMENT_PREFIX}{key.upper()}"
            )
            return None
        if username and not places:
            self._token_missing(
                f"{sources.named(key)} gives a username without a token; "
                f"set {variable}, or {name}_access_token_file, or {name}_access_token_command"
            )
        if not places:
            return None
        place, value = places.popitem()
        if place.endswith("_file"):
            self._check_token_file(value, place)
            return CredentialSource(username, access_token_file=value)
        if place.endswith("_command"):
            return CredentialSource(username, access_token_command=value)
        if place not in in_environment:
            return _inline(username, sources.document[place])
        return CredentialSource(username, access_token_env=variable)

    def _token_missing(self, sentence: str) -> None:
        self._missing_tokens.append(sentence)
        if self._require_tokens:
            self._in.problem(sentence)

    def _check_token_file(self, path: Path, *key: str) -> None:
        """A token file may appear later, and its lack must not stop what is public: hence a warning. It does not repeat
        the path, which may be a token put into the wrong key."""
        try:
            found = path.is_file()
        except OSError:
            found = False
        if not found:
            self._in.warnings.append(f"{self._in.named(*key)} names a file that does not exist or cannot be read")

    # [rules.*]

    def _rules(self, top: TopSettings, accounts: Accounts) -> tuple[Rule, ...]:
        sources = self._in
        tables = sources.subtable("rules")
        rules: list[Rule] = []
        for prefix, table in tables.items():
            rule, is_enabled = self._rule(prefix, table, accounts)
            if rule is not None:
                (rules if is_enabled else self._disabled).append(rule)
        for rule in STANDARD_RULES:
            if rule.prefix not in tables and not top.standard_rules:
                self._disabled.append(rule)
            elif rule.prefix not in tables:
                path = ("rules", rule.prefix)
                sources.tables[path] = RuleSettings(upstream=rule.upstream)
                sources.of[dotted(*path, "upstream")] = "built-in rule"
                credential = accounts.get(rule.upstream)
                rules.append(
                    Rule(prefix=rule.prefix, upstream=rule.upstream, credential=credential, origin=Origin.BUILT_IN)
                )
        return tuple(rules)

    def _rule(self, prefix: str, table: object, accounts: Accounts) -> tuple[Rule | None, bool]:
        """The rule, and whether it is switched on."""
        sources, path = self._in, ("rules", prefix)
        where = f"{sources.file}: [{dotted(*path)}]"
        if not isinstance(table, dict):
            sources.problem(f"{sources.file}: {dotted(*path)} is not a table; write [rules.<prefix>]")
            return None, False
        if not _is_rule_prefix(prefix):
            sources.problem(
                f"{where} is not for a prefix: leading segments of a repository name such as docker-hub or "
                '"team/images", without a slash at the end, or ROOT'
            )
            return None, False
        keys = sources.table(RuleSettings, path, table) or RuleSettings()
        if "upstream" not in table and prefix in STANDARD_UPSTREAMS:
            keys = keys.model_copy(update={"upstream": STANDARD_UPSTREAMS[prefix]})
            sources.tables[path] = keys
            sources.of[dotted(*path, "upstream")] = "built-in rule"
        elif "upstream" not in table:
            sources.problem(f'{where} lacks its upstream; add upstream = "registry.example.com"')
        rule = Rule(
            prefix=prefix,
            upstream=keys.upstream,
            upstream_repository_prefix=keys.upstream_repository_prefix,
            freshness_seconds=keys.freshness_seconds,
            freshness_by_tag=keys.freshness_by_tag,
            stale_while_revalidate_seconds=keys.stale_while_revalidate_seconds,
            revalidate=keys.revalidate,
            gone_upstream=keys.gone_upstream,
            negative_seconds=keys.negative_seconds,
            allow=keys.allow,
            deny=keys.deny,
            credential=self._rule_credential(path, keys, accounts.get(keys.upstream)),
            anonymous=keys.anonymous,
            secret_name=keys.secret_name,
            custom_role_arn=keys.custom_role_arn,
            verify_image=keys.verify_image,
        )
        return rule, keys.enabled

    def _rule_credential(
        self, path: tuple[str, ...], keys: RuleSettings, account: CredentialSource | None
    ) -> Credential | None:
        sources = self._in
        where = f"{sources.file}: [{dotted(*path)}]"
        places = {
            key: value
            for key in ("access_token", "access_token_env", "access_token_file", "access_token_command")
            if (value := getattr(keys, key))
        }
        if keys.credential_arn:
            if keys.anonymous or keys.username or places or keys.secret_name:
                sources.problem(
                    f"{where} has a credential_arn, which excludes anonymous, username, secret_name and tokens; "
                    "remove one or the other"
                )
            return SecretCredential(keys.credential_arn)
        if keys.anonymous:
            if keys.username or places or keys.secret_name:
                sources.problem(
                    f"{where} is anonymous and has a username, a token or a secret_name; remove one or the other"
                )
            return None
        if len(places) > 1:
            sources.problem(
                f"{where} has {' and '.join(places)}, which exclude each other; name one place of the token"
            )
            return None
        if places and not keys.username:
            sources.problem(f"{where} has {next(iter(places))} without a username; add username")
            return None
        if not keys.username:
            return account
        if not places:
            sources.problem(
                f"{where} has a username without a token; "
                "add access_token_env, access_token_file or access_token_command"
            )
            return None
        if keys.access_token:
            return _inline(keys.username, sources.subtable("rules")[path[1]]["access_token"])
        # Nothing asks for the token of a rule that is switched off.
        if keys.access_token_env and keys.enabled and not self._in.environ.get(keys.access_token_env):
            # The name is not repeated: people put the token itself into this key.
            self._token_missing(f"{where} has an access_token_env that names a variable which is not set")
        if keys.access_token_file and keys.enabled:
            self._check_token_file(keys.access_token_file, *path, "access_token_file")
        return CredentialSource(keys.username, **places)

    def _warn_of_rules(self, rules: tuple[Rule, ...], accounts: Accounts) -> None:
        others = [rule.prefix for rule in rules if rule.prefix != ROOT]
        if others and len(others) < len(rules):
            self._in.warnings.append(
                f"the rule ROOT stands beside other prefixes ({', '.join(others)}): a misspelt prefix is looked for in "
                "ROOT's upstream instead of being refused"
            )
        for name, host in ACCOUNTS.items():
            if accounts[host] and not any(rule.credential == accounts[host] for rule in rules):
                self._in.warnings.append(
                    f"{self._in.named(f'{name}_username')} is not used by any rule of the settings"
                )

    # [upstreams.*]

    def _upstreams(self, rules: tuple[Rule, ...]) -> dict[str, UpstreamSettings]:
        sources = self._in
        upstreams: dict[str, UpstreamSettings] = {}
        hosts = {rule.upstream for rule in rules}
        for host, table in sources.subtable("upstreams").items():
            path = ("upstreams", host)
            where = f"{sources.file}: [{dotted(*path)}]"
            canonical = canonical_host(host)
            if not isinstance(table, dict):
                sources.problem(f'{sources.file}: {dotted(*path)} is not a table; write [upstreams."<host>"]')
            elif not is_upstream_host(host):
                sources.problem(
                    f'{where} is not for a host such as "registry.example.com" or "127.0.0.1:5001", in quotes, without '
                    "a scheme or a path"
                )
            elif canonical in upstreams:
                sources.problem(f"{where} is a second table for {canonical}")
            else:
                upstream = sources.table(UpstreamSettings, path, table) or UpstreamSettings()
                upstreams[canonical] = upstream
                self._in.check_file(path, "ca_file", upstream.ca_file)
                self._check_pair(path, "client_cert", upstream.client_cert, "client_key", upstream.client_key)
                # It may be for a rule that is made through the API, unless it looks like one of these: nvcr.io is no ghcr.io.
                if canonical not in hosts and (near := nearest(canonical, hosts, cutoff=0.8)):
                    sources.warnings.append(
                        f"{where} is for an upstream that no rule of the settings has; is {near} meant?"
                    )
        return upstreams

    # [ecr] and [ecr.keys.*]

    def _ecr(self) -> EcrSettings:
        sources = self._in
        table = {key: value for key, value in sources.subtable("ecr").items() if key != "keys"}
        ecr = sources.table(EcrSettings, ("ecr",), table) or EcrSettings()
        self._in.check_file(("ecr",), "htpasswd_file", ecr.htpasswd_file)
        self._in.check_secret_file(("ecr",), "webhook_secret_file", ecr.webhook_secret_file)
        if ecr.webhook_secret_file and not ecr.webhook_url:
            sources.problem(f"{sources.named('ecr', 'webhook_secret_file')} needs ecr.webhook_url beside it")
        if ecr.auth is EcrAuth.NONE:
            sources.warnings.append(
                f'{sources.named("ecr", "auth")} = "none": every signature and every client is taken for the '
                "registry's root; this is for throw-away use"
            )
        elif ecr.auth_none_everywhere:
            sources.problem(f'{sources.named("ecr", "auth_none_everywhere")} needs ecr.auth = "none" beside it')
        return ecr

    def _keys(self) -> dict[str, KeySettings]:
        sources = self._in
        tables = sources.subtable("ecr").get("keys", {})
        if not isinstance(tables, dict):
            sources.problem(f"{sources.file}: ecr.keys is not a table; write [ecr.keys.<name>]")
            return {}
        keys: dict[str, KeySettings] = {}
        for name, table in tables.items():
            if (key := self._key(name, table)) is None:
                continue
            if other := next((n for n, k in keys.items() if k.access_key_id == key.access_key_id), ""):
                sources.problem(
                    f"{sources.file}: [{dotted('ecr', 'keys', name)}] has the access_key_id of "
                    f"[{dotted('ecr', 'keys', other)}]"
                )
            keys[name] = key
        return keys

    def _key(self, name: str, table: object) -> KeySettings | None:
        sources, path = self._in, ("ecr", "keys", name)
        where = f"{sources.file}: [{dotted(*path)}]"
        if not isinstance(table, dict):
            sources.problem(f"{sources.file}: {dotted(*path)} is not a table; write [ecr.keys.<name>]")
            return None
        if not is_key_name(name):
            sources.problem(f"{where} is not for a name: 1 to 64 letters, digits and any of _+=,.@-")
            return None
        key = sources.table(KeySettings, path, table)
        if key is None:
            return None
        for attribute in ("access_key_id", "secret_access_key_file"):
            if attribute not in table:
                sources.problem(f"{where} lacks its {attribute}")
        self._in.check_secret_file(path, "secret_access_key_file", key.secret_access_key_file)
        self._in.check_file(path, "policy_file", key.policy_file)
        if key.policy_file and "role" in table:
            sources.problem(f"{where} has a role and a policy_file, which exclude each other")
        return key

    # Files

    def _check_pair(
        self, path: tuple[str, ...], first: str, first_file: Path | None, second: str, second_file: Path | None
    ) -> None:
        if bool(first_file) != bool(second_file):
            given, missing = (first, second) if first_file else (second, first)
            self._in.problem(f"{self._in.named(*path, given)} needs {dotted(*path, missing)} beside it")
        self._in.check_file(path, first, first_file)
        self._in.check_file(path, second, second_file)


def is_key_name(name: str) -> bool:
    """Whether an API key can be called so: https://docs.aws.amazon.com/IAM/latest/APIReference/API_User.html"""
    return re.fullmatch(r"[\w+=,.@-]{1,64}", name, re.ASCII) is not None


def _is_rule_prefix(prefix: str) -> bool:
    if prefix == ROOT:
        return True
    try:
        parse_repository_name(prefix)
    except RequestError:
        return False
    return True


def _inline(username: str, token: str) -> CredentialSource:
    """A credential whose token stands in the file itself; its kind has made sure that it is there."""
    return CredentialSource(username, access_token=InlineToken(token.strip()))


def _error(problems: list[str]) -> ConfigurationError:
    hint = "the configuration reference has every key; `pullthrough config check` tries a configuration"
    if len(problems) == 1:
        return ConfigurationError(problems[0], hint=hint)
    lines = "".join(f"\n  - {problem}" for problem in problems)
    return ConfigurationError(f"{len(problems)} problems in the configuration:{lines}", hint=hint)
