"""An engine whose APIs ask nobody who they are, with upstreams that tests play: for tests of what the APIs set up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullthrough.demo.images import Image, make_image
from tests.aws import ACCOUNT_ID, REGION, Account
from tests.e2e.engine import Answer, Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream

#: Requests on connections of their own that reach every worker, but for once in a thousand runs; none may be wrong, so
#: that a test never fails by chance.
TRIES = 8
USER, TOKEN = "acme", "the-right-token"


@dataclass(frozen=True)
class Site:
    """`open` is an upstream for everybody, under the name of quay.io; Docker Hub's, `closed`, wants a login."""

    engine: Engine
    open: ScriptedUpstream
    closed: ScriptedUpstream

    def client(self, service: str = "ecr", *, validate: bool = True) -> Any:
        return Account(self.engine.url).client(service, validate=validate)

    def arn(self, repository: str) -> str:
        return f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{repository}"

    def pull(self, name: str, reference: str = "latest", **headers: str) -> Answer:
        """A manifest, on a connection of its own."""
        return self.engine.get(f"/v2/{name}/manifests/{reference}", headers=headers)

    def pulls(self, name: str, reference: str = "latest") -> set[int]:
        """The statuses of several pulls, of which each worker gets some."""
        return {self.pull(name, reference).status for _ in range(TRIES)}

    def cache(self, name: str, image: Image) -> dict[str, bytes]:
        """Pull this image whole, and wait until the catalog has all of it; its blobs by path."""
        blobs = {f"/v2/{name}/blobs/{blob.digest}": bytes(blob.body) for blob in image.blobs}
        assert self.pull(name).status == 200
        assert {path: self.engine.get(path).body for path in blobs} == blobs
        wait_for(lambda: all(self.engine.get(path).outcome == "hit" for path in blobs), "the fills to end")
        return blobs

    def add(self, repository: str, seed: str = "", *tags: str) -> Image:
        """An image at `open`."""
        image = make_image(seed or repository, layer_sizes=(1000,))
        self.open.add(repository, image, *(tags or ("latest",)))
        return image

    def secret(self, name: str, text: str) -> str:
        """The ARN of a new secret for a rule."""
        made = self.client("secretsmanager").create_secret(Name=f"ecr-pullthroughcache/{name}", SecretString=text)
        arn: str = made["ARN"]
        return arn


@contextmanager
def open_site(
    folder: Path, workers: int, *, top: str = "", auth: str = "none", ecr: str = "", more: str = ""
) -> Iterator[Site]:
    with ExitStack() as stack:
        open_to_all = stack.enter_context(ScriptedUpstream())
        closed = stack.enter_context(ScriptedUpstream(authentication="bearer", users={USER: TOKEN}))
        config = (
            f"{top}\n[serve]\nworkers = {workers}\n"
            f'[ecr]\nauth = "{auth}"\naccount = "{ACCOUNT_ID}"\nregion = "{REGION}"\n{ecr}\n'
            f'[upstreams."quay.io"]\nendpoint = "{open_to_all.url}"\nretries = 0\n'
            f'[upstreams."registry-1.docker.io"]\nendpoint = "{closed.url}"\nretries = 0\n'
            f"{more}\n"
        )
        engine = Engine(folder / "engine", config)
        stack.callback(engine.end)
        engine.start()
        yield Site(engine, open_to_all, closed)
