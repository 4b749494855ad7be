"""Which listeners give out content without a login.

That is decided by the address that a client connected to, never by its own: behind a proxy, or with host networking,
everybody comes from loopback.
"""

from __future__ import annotations

from pullthrough.settings import EcrAuth, Settings, parse_listen


def pulls_are_open(settings: Settings, listen: str) -> bool:
    """Whether pulls at an address listened on need no login. The peer's address is nothing to go by."""
    if settings.ecr.auth is EcrAuth.NONE:
        return True
    serve = settings.serve
    return not serve.pull_auth if parse_listen(listen).is_loopback else serve.anonymous_pull


def open_listeners(settings: Settings) -> dict[str | None, bool]:
    """For each listener, by its mirror's rule (None is the main one), whether pulls need no login. Of two mirrors of one
    rule, the stricter counts for both."""
    found: dict[str | None, bool] = {}
    for listen, mirror in ((settings.serve.listen, None), *settings.serve.mirrors.items()):
        found[mirror] = found.get(mirror, True) and pulls_are_open(settings, listen)
    return found
