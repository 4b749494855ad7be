"""The accounts: a user name and one place of its token, or neither; of the top level, and of a rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pullthrough.declaration import GITHUB, Credential, CredentialSource, InlineToken, SecretCredential
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.settings.environment import PREFIX
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables.rules import RuleSettings
from pullthrough.settings.tables.top import TopSettings

#: For each account of the top level: the beginning of its keys, and the upstream it belongs to.
ACCOUNTS: Mapping[str, str] = {"docker_hub": DOCKER_HUB, "github": GITHUB}

_TOKEN_PLACES = ("access_token", "access_token_env", "access_token_file", "access_token_command")


class Accounts:
    """Finds each account's one place of its token, and notes which tokens are not to be found."""

    def __init__(self, sources: Sources, top: TopSettings, *, require_tokens: bool) -> None:
        self._in = sources
        self._require_tokens = require_tokens
        self.missing_tokens: list[str] = []
        #: The top level's user names by upstream; empty for none.
        self.usernames: dict[str, str] = {host: getattr(top, f"{name}_username") for name, host in ACCOUNTS.items()}
        #: The top level's accounts by upstream.
        self.of_upstream = {
            host: account for name, host in ACCOUNTS.items() if (account := self._account(name, top)) is not None
        }

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
        variable = f"{PREFIX}{name.upper()}_ACCESS_TOKEN"
        username: str = getattr(top, key)
        if len(places) > 1:
            given = " and ".join(sources.named(place) for place in sorted(places))
            sources.problem(f"{given} exclude each other; name one place of the token")
            return None
        if places and not username:
            sources.problem(
                f"{sources.named(next(iter(places)))} gives a token without a username; "
                f"set {key} or {PREFIX}{key.upper()}"
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

    def of_rule(self, prefix: str, keys: RuleSettings) -> Credential | None:
        sources, path = self._in, ("rules", prefix)
        where = sources.header(*path)
        places = {key: value for key in _TOKEN_PLACES if (value := getattr(keys, key))}
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
            return self.of_upstream.get(keys.upstream)
        if not places:
            sources.problem(
                f"{where} has a username without a token; "
                "add access_token_env, access_token_file or access_token_command"
            )
            return None
        if keys.access_token:
            return _inline(keys.username, sources.subtable("rules")[prefix]["access_token"])
        # Nothing asks for the token of a rule that is switched off.
        if keys.access_token_env and keys.enabled and not sources.environ.get(keys.access_token_env):
            # The name is not repeated: people put the token itself into this key.
            self._token_missing(f"{where} has an access_token_env that names a variable which is not set")
        if keys.access_token_file and keys.enabled:
            self._check_token_file(keys.access_token_file, *path, "access_token_file")
        return CredentialSource(keys.username, **places)

    def _token_missing(self, sentence: str) -> None:
        self.missing_tokens.append(sentence)
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


def _inline(username: str, token: str) -> CredentialSource:
    """A credential whose token stands in the file itself; its type has made sure that it is there."""
    return CredentialSource(username, access_token=InlineToken(token.strip()))
