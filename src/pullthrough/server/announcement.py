"""What a person who has started an engine sees first."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Sequence

from pullthrough.addressing.names import prefixed
from pullthrough.server.sockets import BoundAddress
from pullthrough.settings import EcrAuth, Settings

_log = logging.getLogger("pullthrough")

_EXAMPLES = {
    "registry-1.docker.io": "library/busybox:latest",
    "registry.k8s.io": "pause:3.10",
    "quay.io": "prometheus/busybox:latest",
    "public.ecr.aws": "docker/library/busybox:latest",
    "ghcr.io": "stefanprodan/podinfo:latest",
}


def announce(settings: Settings, listeners: Sequence[BoundAddress]) -> None:
    """What a person needs first, then the log line that means ready."""
    from pullthrough.access.listeners import pulls_are_open

    scheme = "https" if settings.serve.tls_cert else "http"
    url = listeners[0].url(scheme)
    host = url.partition("://")[2]
    lines = [f"pullthrough serves {url}, data in {settings.serve.data}", ""]
    width = max((len(rule.prefix) for rule in settings.rules), default=0)
    lines += [f"  {host}/{rule.prefix:<{width}}  {rule.upstream}" for rule in settings.rules if rule.prefix != "ROOT"]
    lines += [f"  {host:<{len(host) + width + 1}}  {rule.upstream}" for rule in settings.rules if rule.prefix == "ROOT"]
    lines += [
        f"  {listener.url(scheme).partition('://')[2]}  mirror of {listener.mirror}"
        for listener in listeners
        if listener.mirror
    ]
    example = _example(settings)
    command = "pullthrough" if shutil.which("pullthrough") else sys.argv[0]
    is_open = pulls_are_open(settings, settings.serve.listen)
    if example:
        insecure = "" if settings.serve.tls_cert else "--src-tls-verify=false "
        lines += ["", "Try it:" if is_open else "Try it, once logged in (`skopeo login`; see docs/clients.md):"]
        lines += [f"  skopeo copy {insecure}docker://{host}/{example} dir:/tmp/image"]
        if is_open:  # the built-in client does not log in
            lines += [f"  {command} pull {host}/{example}"]
    if settings.ecr.auth is EcrAuth.KEYS and not settings.ecr_keys:
        keys = f"{command} keys show --data {shlex.quote(str(settings.serve.data))}"
        what = "Pushes" if is_open else "Pulls, pushes"
        lines += ["", f"{what} and the AWS APIs need an API key. The first one, once:", f"  {keys}"]
    sys.stderr.write("\n".join(lines) + "\n\n")
    sys.stderr.flush()
    _log.info("listening on %s", url)


def _example(settings: Settings) -> str:
    for rule in settings.rules:
        if rule.upstream in _EXAMPLES and not rule.upstream_repository_prefix:
            return prefixed(rule.prefix, _EXAMPLES[rule.upstream])
    return ""
