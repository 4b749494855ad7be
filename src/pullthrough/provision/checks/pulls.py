"""A real pull through each rule: the manifest of a tiny public image, with a fresh token, its digest verified.

AWS words many different faults as "not found" or "denied"; what they mean for a rule, and what to do, is said here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from pullthrough.addressing.names import cached_image, is_official
from pullthrough.declaration import Rule
from pullthrough.errors import (
    ContentError,
    PullthroughError,
    RequestError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import DOCKER_HUB, ImageReference
from pullthrough.provision.aws import Aws
from pullthrough.provision.checks.report import (
    CheckKind,
    CheckOutcome,
    CheckRow,
    Trouble,
    failed,
    passed,
    skipped,
    trouble_of,
)
from pullthrough.provision.checks.rights import CallerRights
from pullthrough.provision.checks.rules import is_absent, token_fix
from pullthrough.provision.model import documents
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.logins import RegistryLogin

#: What is pulled where the rule names nothing, by canonical host: small, public, and kept by whoever made it for years.
VERIFY_IMAGES: Mapping[str, str] = {
    DOCKER_HUB: "library/hello-world:latest",
    "registry.k8s.io": "pause:3.9",
    "quay.io": "prometheus/busybox:latest",
    "public.ecr.aws": "docker/library/hello-world:latest",
    # What containerd's own tests pull.
    "ghcr.io": "containerd/busybox:1.36",
}
#: AWS makes the repository while the first pull waits, and may answer that there is none, which a second pull cures:
#: https://github.com/aws/containers-roadmap/issues/1614
_TRIES, _PAUSE_SECONDS = 3, 2.0
_LACKS_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")


class FetchManifest(Protocol):
    """Pulls a manifest, verifies it, and returns its digest. Raises PullthroughError. Called from several threads."""

    def __call__(self, image: ImageReference, login: RegistryLogin) -> Digest: ...


def verify_image_of(rule: Rule, target: DeploymentTarget) -> str:
    """What to pull, without the rule's prefix; empty where no image is known that has to be there."""
    if rule.verify_image:
        return rule.verify_image
    image = VERIFY_IMAGES.get(rule.upstream, "")
    if rule.upstream_repository_prefix:
        above = f"{rule.upstream_repository_prefix}/"
        image = image.removeprefix(above) if image.startswith(above) else ""
    # On AWS nobody keeps the rule's lists.
    if image and target.is_engine and not rule.serves(image.partition(":")[0]):
        return ""
    return image


class Puller:
    """Pulls through rules, and explains what did not come."""

    def __init__(
        self, aws: Aws, target: DeploymentTarget, login: RegistryLogin, fetch: FetchManifest, caller: CallerRights
    ) -> None:
        self._aws = aws
        self._target = target
        self._login = login
        self._fetch = fetch
        self._caller = caller

    def check(self, rule: Rule, before: tuple[CheckRow, ...]) -> list[CheckRow]:
        """One row. `before`: what the earlier checks of this rule found."""
        if any(is_absent(row) for row in before):
            return [skipped(rule.prefix, CheckKind.PULL, "there is no rule to pull through")]
        text = verify_image_of(rule, self._target)
        if not text:
            reason = f"no image is known that {rule.upstream} has; verify_image in [rules.{rule.prefix}] names one"
            return [skipped(rule.prefix, CheckKind.PULL, reason)]
        try:
            image = cached_image(rule, text)
        except RequestError as error:
            trouble = Trouble(error.message, f"correct verify_image in [rules.{rule.prefix}]")
            return [failed(rule.prefix, CheckKind.PULL, trouble)]
        try:
            digest = self._pull(image)
        except PullthroughError as error:
            return [
                failed(rule.prefix, CheckKind.PULL, self._explain(error, rule, text, image, before), image=str(image))
            ]
        return [passed(rule.prefix, CheckKind.PULL, f"{image} is {digest}", image=str(image), digest=str(digest))]

    def _pull(self, image: ImageReference) -> Digest:
        tries = 1 if self._target.is_engine else _TRIES
        while True:
            tries -= 1
            try:
                return self._fetch(image, self._login)
            except (UpstreamNotFound, UpstreamUnavailable):
                if not tries:
                    raise
                self._aws.sleep(_PAUSE_SECONDS)

    def _explain(
        self, error: PullthroughError, rule: Rule, text: str, image: ImageReference, before: tuple[CheckRow, ...]
    ) -> Trouble:
        if lacking := _LACKS_ACTION.search(error.message):
            return Trouble(error.message, f"allow {lacking[1]}; `pullthrough policy node` prints all that a pull needs")
        if isinstance(error, UpstreamNotFound | UpstreamDenied) and (trouble := self._official(error, rule, text)):
            return trouble
        broken = next((row for row in before if row.is_found_broken), None)
        if broken is not None and isinstance(error, UpstreamNotFound | UpstreamDenied):
            return Trouble(error.message, f"put the {broken.check} right first: {broken.fix}")
        match error:
            case UpstreamNotFound():
                return self._not_found(error, rule, image, before)
            case UpstreamDenied(status=401):
                return Trouble(
                    error.message,
                    "the registry does not take the token that GetAuthorizationToken gave for it; is something between "
                    f"that answers instead of it? {self._login.endpoint} has to be the registry itself",
                )
            case UpstreamDenied():
                return Trouble(error.message, token_fix(rule))
            case UpstreamThrottled():
                return Trouble(
                    error.message, error.hint or "wait, or give the rule an account with a higher rate limit"
                )
            case ContentError():
                return Trouble(
                    error.message, "run it again; if it stays so, something between here and there changes images"
                )
            case UpstreamUnavailable():
                return Trouble(
                    error.message,
                    f"this machine has to reach {self._login.endpoint}, and the registry {rule.upstream}; then run it again",
                )
            case _:
                return trouble_of(error)

    def _official(self, error: PullthroughError, rule: Rule, text: str) -> Trouble | None:
        """Docker Hub's official images, which AWS does not find under the names that people write."""
        if not is_official(rule, text):
            return None
        return Trouble(
            f"{error.message}. Official images of Docker Hub are called library/... there",
            f'write verify_image = "library/{text}" in [rules.{rule.prefix}], and library/ in image names too',
        )

    def _not_found(
        self, error: PullthroughError, rule: Rule, image: ImageReference, before: tuple[CheckRow, ...]
    ) -> Trouble:
        check_name = f"is {image} there upstream? verify_image in [rules.{rule.prefix}] names another image"
        if self._target.is_engine:
            return Trouble(error.message, check_name)
        if image.digest is not None:
            return Trouble(
                f"{error.message}. AWS does not fill its cache by a digest",
                "name a tag in verify_image, without a digest",
            )
        arns = " and ".join(documents.repository_arns(self._target, [rule.prefix]))
        actions = " and ".join(sorted(documents.FILL_ACTIONS))
        missing = self._caller.missing()
        valid = ", and the rule itself is valid" if any(_is_valid(row) for row in before) else ""
        if missing is None:
            return Trouble(
                f"{error.message}. AWS answers so too where the caller may not do {actions}{valid}",
                f"allow {actions} on {arns} to whoever pulls (`pullthrough policy node` prints it); if they are allowed, "
                f"{check_name}",
            )
        if missing:
            lacking = " and ".join(sorted({entry.action for entry in missing}))
            return Trouble(
                f"{error.message}. AWS answers so because {self._target.caller} may not do {lacking}",
                f"allow {lacking} on {arns}; `pullthrough policy node` prints all that a pull needs",
            )
        return Trouble(f"{error.message}. This caller has all rights that a pull needs", check_name)


def _is_valid(row: CheckRow) -> bool:
    return row.check is CheckKind.RULE and row.outcome is CheckOutcome.OK
