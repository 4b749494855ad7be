"""What an answer or a probe says about itself when it is less than perfect."""

from __future__ import annotations

import json

from pullthrough.demo.images import make_image
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Gate, Hang, ScriptedUpstream
from tests.integration.conftest import StartEngine

IMAGE = make_image("app", layer_sizes=(2_000_000,))
LAYER = IMAGE.blobs[-1].digest
PATH = f"/v2/docker-hub/library/app/blobs/{LAYER}"


def test_a_range_sent_before_the_digest_is_known_says_so(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    upstream.add("library/app", IMAGE, "1")
    gate = Gate()
    upstream.script(Hang(gate, after_bytes=1_000_000), kind="blob", reference=LAYER)
    engine = start_engine()
    wanted = {"Range": "bytes=0-99"}
    early = engine.get(PATH, headers=wanted)
    assert (early.status, len(early.body)) == (206, 100)
    assert "; unverified" in early.headers["x-cache"]
    gate.open()
    assert "unverified" not in engine.get(PATH).headers["x-cache"]
    # A worker that follows the fill may learn of its end a little later than the client does.
    wait_for(
        lambda: "unverified" not in engine.get(PATH, headers=wanted).headers["x-cache"], "every worker to know the end"
    )


def test_limits_that_cannot_be_kept_are_named_and_do_not_stop_the_service(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    """What was just pulled is not evicted, so that a store far too small stays over its limit for a while."""
    upstream.add("library/app", IMAGE, "1")
    engine = start_engine(serve='max_size = "1MiB"\nmin_free = "never"\nevict_interval = "1s"')
    assert engine.get(PATH).status == 200
    wait_for(lambda: "over_limit" in json.loads(engine.get("/readyz").body)["degraded"], "the limit to be missed")
    ready = engine.get("/readyz")
    assert ready.status == 200
    assert "1.9 MiB are stored" in json.loads(ready.body)["degraded"]["over_limit"]
    assert engine.get(PATH).outcome == "hit"
