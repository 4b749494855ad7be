"""How the engine runs: the data folder's default, and whether its listeners agree with the rest."""

from __future__ import annotations

from pathlib import Path

from pullthrough.declaration import Rule
from pullthrough.settings.keys import did_you_mean_rule
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables.ecr import EcrAuth, EcrSettings
from pullthrough.settings.tables.serve import ServeSettings
from pullthrough.settings.values.network import parse_listen


def read_serve(sources: Sources) -> ServeSettings | None:
    """None where there is no data folder to be had."""
    defaults: dict[str, object] = {}
    if not sources.is_set("serve", "data"):
        if default := _default_data(sources):
            source, defaults["data"] = default
            if source:
                sources.of["serve.data"] = source
        else:
            sources.problem("serve.data has no default here, because HOME is not set; set serve.data or --data")
    return sources.table(ServeSettings, ("serve",), sources.subtable("serve"), defaults)


def _default_data(sources: Sources) -> tuple[str, Path] | None:
    """The variable that names the data folder, and the folder."""
    environ = sources.environ
    # systemd gives several, separated by ':', where a unit names several.
    if state := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return "environment STATE_DIRECTORY", sources.folder / state
    # Relative paths are to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/#variables
    if (data_home := environ.get("XDG_DATA_HOME", "")).startswith("/"):
        return "environment XDG_DATA_HOME", Path(data_home) / "pullthrough"
    return ("", sources.home / ".local/share/pullthrough") if sources.home else None


def check_serve(sources: Sources, serve: ServeSettings, rules: tuple[Rule, ...], ecr: EcrSettings) -> None:
    """Mirrors of unknown rules, two listeners on one address, who can reach what, and the pair of TLS files."""
    prefixes = sorted(rule.prefix for rule in rules)
    for address, prefix in serve.mirrors.items():
        if prefix not in prefixes:
            sources.problem(
                f"{sources.named('serve', 'mirrors')} binds {address} to the rule {prefix[:80]!r}, which does not "
                f"exist; {did_you_mean_rule(prefix, prefixes, prefixes)}"
            )
        if address == serve.listen and parse_listen(address).port:
            sources.problem(f"{sources.named('serve', 'mirrors')} has the address of serve.listen, {address}")
    if beyond := " and ".join(str(address) for address in serve.addresses if not address.is_loopback):
        _check_reach(sources, serve, rules, ecr, beyond)
    sources.check_pair(("serve",), "tls_cert", serve.tls_cert, "tls_key", serve.tls_key)


def _check_reach(
    sources: Sources, serve: ServeSettings, rules: tuple[Rule, ...], ecr: EcrSettings, beyond: str
) -> None:
    """`beyond`: the addresses that other machines can reach."""
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
