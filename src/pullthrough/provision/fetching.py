"""How `verify` pulls a manifest: with the client of `pullthrough pull`. The checks know it as a `FetchManifest`."""

from __future__ import annotations

import asyncio

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import ImageReference
from pullthrough.provision.checks.pulls import FetchManifest
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.logins import RegistryLogin


def fetch_by_http(target: DeploymentTarget) -> FetchManifest:
    """A `FetchManifest` for this target. It reaches AWS as the SDK does, through the environment's proxy."""

    def fetch(image: ImageReference, login: RegistryLogin) -> Digest:
        # Here, because it costs a command that pulls nothing a tenth of a second.
        from pullthrough.client.manifest import fetch_manifest
        from pullthrough.client.registry import Login

        credentials = Login(login.username, login.password)
        pulled = fetch_manifest(image, registry=login.endpoint, login=credentials, use_proxies=target.is_aws)
        return asyncio.run(pulled).report.digest

    return fetch
