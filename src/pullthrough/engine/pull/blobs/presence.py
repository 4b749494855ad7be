"""Whether a repository's own upstream has a blob: asked, and remembered where it has not."""

from __future__ import annotations

from collections.abc import Callable

from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import BlobUnknown, UpstreamDenied, UpstreamInvalid, UpstreamNotFound
from pullthrough.oci.digests import Digest
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Upstreams


class Presence:
    """Of one worker."""

    def __init__(
        self, upstreams: Upstreams, answers: UpstreamAnswers, run: Runner, tasks: Tasks, clock: Callable[[], float]
    ) -> None:
        self._upstreams = upstreams
        self._answers = answers
        self._run = run
        self._tasks = tasks
        self._clock = clock

    async def is_confirmed(self, target: Target, digest: Digest) -> bool:
        """Whether the upstream says that it has the blob. False where it will not say, and only a whole transfer can tell.
        BlobUnknown where it says that it has not."""
        try:
            await self.find(target, digest)
        except (UpstreamDenied, UpstreamInvalid):
            return False
        return True

    async def find(self, target: Target, digest: Digest, *, wants_size: bool = False) -> int | None:
        """Ask the upstream for the blob's size; BlobUnknown where it has none. One HEAD, or one GET of the first byte."""
        upstream = self._upstreams.get(target.upstream)
        try:
            size, _ = await self._tasks.once(
                ("confirm", target.owner, target.secret, digest, wants_size),
                lambda: upstream.find_blob(
                    target.upstream_repository, digest, target.rule.credential, wants_size=wants_size
                ),
                name=f"confirm {target.repository}@{digest}",
            )
        except UpstreamNotFound as error:
            raise await self.absent(target, digest) from error
        return size

    async def absent(self, target: Target, digest: Digest) -> BlobUnknown:
        """What to raise where the upstream has just answered 404, which is remembered as the rule says."""
        if target.rule.negative_seconds > 0:
            until = self._clock() + target.rule.negative_seconds
            await self._run(self._answers.save_negative, target.repository, target.upstream_owner, digest, until)
        return BlobUnknown(f"{target.upstream} does not have the blob {digest} in {target.upstream_repository}")

    def raise_if_absent(self, target: Target, digest: Digest, absent_until: float | None) -> None:
        """Raises BlobUnknown while a 404 is remembered."""
        if absent_until is not None and self._clock() < absent_until:
            raise BlobUnknown(
                f"{target.upstream} does not have the blob {digest} in {target.upstream_repository} "
                f"(it said so less than {target.rule.negative_seconds:.0f} s ago)",
                remembered=True,
            )
