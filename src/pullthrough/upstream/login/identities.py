"""As whom an upstream is asked: which credential may be used for what, and which has turned out broken."""

from __future__ import annotations

import logging
import threading

from pullthrough.credentials import Credentials, CredentialUnreadable, Secret
from pullthrough.declaration import Credential, CredentialSource
from pullthrough.shared_state import Records, SharedState
from pullthrough.upstream.http.observer import UpstreamObserver

#: For so long a refused credential is not tried again (unless it changes): registries lock out who keeps trying.
REFUSED_SECONDS = 300.0
_MAX_REMEMBERED = 4096

log = logging.getLogger(__name__)


class CredentialRefused(Exception):
    """A token server, or the registry itself, does not accept this user and token.

    `everywhere`: for all repositories. GitHub's answers 403 for a wrong token and for a repository beyond its reach
    alike, so that says nothing about others.
    """

    def __init__(self, message: str, *, everywhere: bool) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Identities:
    """The credentials of one upstream's rules. Refusals are shared; whether a credential works is told by each process for
    itself. Any thread."""

    def __init__(
        self, upstream: str, credentials: Credentials, *, state: SharedState, observe: UpstreamObserver
    ) -> None:
        self._upstream = upstream
        self._credentials = credentials
        self._observe = observe
        self._now = state.now
        #: When a secret was refused, by repository; the empty one where the login itself was.
        self._refused: Records[tuple[Secret, str], float] = state.records(
            f"refusals of {upstream}", most=_MAX_REMEMBERED
        )
        self._lock = threading.Lock()
        self._works: dict[Credential, bool] = {}

    @property
    def all_work(self) -> bool | None:
        """False where any credential in use is broken; None where none was needed yet."""
        with self._lock:
            states = list(self._works.values())
        return all(states) if states else None

    def read(self, source: Credential | None, repository: str, *, renew: bool = False) -> tuple[Secret | None, str]:
        """The secret to use, or None and what is wrong with it (nothing where none is configured)."""
        if source is None:
            return None, ""
        try:
            secret = self._credentials.read(source, renew=renew)
        except CredentialUnreadable as error:
            self.report(source, works=False, reason=str(error))
            return None, str(error)
        if self._was_refused(secret, ""):
            if not renew:
                return self.read(source, repository, renew=True)  # its place may hold another one by now
            return None, "the credential was refused"
        if self._was_refused(secret, repository):
            return None, ""  # the login is fine; this repository is known to be open without it
        return secret, ""

    def read_anew(self, source: Credential | None) -> Secret | None:
        """Whatever was refused before. Raises CredentialUnreadable."""
        return self._credentials.read(source, renew=True) if source is not None else None

    def was_refused(self, source: Credential, secret: Secret, error: CredentialRefused) -> None:
        if error.everywhere:
            self._refuse(secret, "")
            self.report(source, works=False, reason=str(error))

    def was_worse_than_none(self, source: Credential, secret: Secret, repository: str) -> None:
        """Refused with the credential, answered without: it is broken, unless it was seen to work elsewhere."""
        self._refuse(secret, repository)
        with self._lock:
            works = self._works.get(source)
        if not works:
            self.report(source, works=False, reason="it opens less than no credential does")

    def logged_in(self, source: Credential, secret: Secret) -> None:
        self._refused.change((secret, ""), lambda refused_at: (None, None))
        self.report(source, works=True)

    def report(self, source: Credential, *, works: bool, reason: str = "") -> None:
        """Told on each change only."""
        with self._lock:
            before = self._works.get(source)
            self._works[source] = works
        if before is works:
            return
        if not works:
            log.warning(
                "%s: the credential of %s does not work: %s; going on without it",
                self._upstream,
                _owner(source),
                reason,
            )
        elif before is not None:
            log.warning("%s: the credential of %s works again", self._upstream, _owner(source))
        self._observe.on_credential(self._upstream, works)

    def _was_refused(self, secret: Secret, repository: str) -> bool:
        refused_at = self._refused.get((secret, repository))
        return refused_at is not None and self._now() - refused_at < REFUSED_SECONDS

    def _refuse(self, secret: Secret, repository: str) -> None:
        now = self._now()
        self._refused.change((secret, repository), lambda before: (now, None))


def _owner(source: Credential) -> str:
    return source.username if isinstance(source, CredentialSource) else source.arn
