"""Whose content a name gives out: by rules that change, by pushes before and after, by `ns`, with two workers."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pullthrough.demo.images import Image, make_artifact, make_blob, make_image
from pullthrough.oci.digests import digest_of
from tests.aws import ACCOUNT_ID, REGION, Account, unique
from tests.e2e.engine import Answer, Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream, Throttle, Valve
from tests.integration.ecr import TRIES
from tests.integration.pushing import Pusher
from tests.integration.sites import HELD_BACK, Download

HOSTS = ("one.example", "two.example", "registry-1.docker.io")
#: A repository at the third one for which a login is needed.
PRIVATE = "team/private"
ANN, BOB = ("ann", "anns-token"), ("bob", "bobs-token")


@dataclass(frozen=True)
class Place:
    """An engine whose rules tests make by API, and three upstreams; the third one wants a login."""

    engine: Engine
    upstreams: dict[str, ScriptedUpstream]

    @property
    def ecr(self) -> Any:
        return Account(self.engine.url).client("ecr")

    @property
    def secrets(self) -> Any:
        return Account(self.engine.url).client("secretsmanager")

    def make(self, prefix: str, host: str, **more: str) -> None:
        self.ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl=host, **more)

    def remove(self, prefix: str) -> None:
        self.ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix)

    def get(self, path: str, method: str = "GET") -> Answer:
        return self.engine.get(f"/v2/{path}", method=method)

    def pull(self, name: str, reference: str = "1", query: str = "") -> Answer:
        return self.get(f"{name}/manifests/{reference}{query}")

    def outcomes(self, name: str, reference: str = "1") -> set[str]:
        """Of pulls that reach each worker."""
        return {self.pull(name, reference).outcome for _ in range(TRIES)}

    def pull_all(self, name: str, image: Image) -> None:
        assert self.pull(name).status == 200
        for blob in image.blobs:
            assert self.get(f"{name}/blobs/{blob.digest}").body == blob.read()
        wait_for(
            lambda: all(self.get(f"{name}/blobs/{blob.digest}").outcome == "hit" for blob in image.blobs), "the fills"
        )

    def asked(self, host: str, **which: str | int) -> int:
        return self.upstreams[host].requests.count(**which)  # type: ignore[arg-type]  # names of its own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        upstreams = {host: stack.enter_context(ScriptedUpstream()) for host in HOSTS[:2]}
        hub = ScriptedUpstream(authentication="bearer", users=dict((ANN, BOB)), private=frozenset({PRIVATE}))
        upstreams[HOSTS[2]] = stack.enter_context(hub)
        lines = ["standard_rules = false", "[serve]", "workers = 2", "prefetch = false"]
        lines += ["[ecr]", 'auth = "none"', f'account = "{ACCOUNT_ID}"', f'region = "{REGION}"']
        for host, upstream in upstreams.items():
            lines += [f'[upstreams."{host}"]', f'endpoint = "{upstream.url}"', "retries = 0"]
        engine = Engine(tmp_path_factory.mktemp("owners") / "engine", "\n".join(lines))
        stack.callback(engine.end)
        engine.start()
        yield Place(engine, upstreams)


@pytest.fixture
def prefix(place: Place) -> Iterator[str]:
    """For a rule of the test, which is gone after it."""
    name = unique("p")
    yield name
    found = place.ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]
    for rule in found:
        place.remove(rule["ecrRepositoryPrefix"])


# A rule that leads elsewhere


def test_a_rule_made_anew_for_another_upstream_gives_nothing_of_the_old_one(place: Place, prefix: str) -> None:
    shared = make_blob(f"{prefix} in both", 5000)
    old, new = make_image(f"{prefix} old", layers=(shared,)), make_image(f"{prefix} new", layers=(shared,))
    signature = make_artifact(f"{prefix} signature", subject=old)
    one, two = place.upstreams["one.example"], place.upstreams["two.example"]
    name, inner = f"{prefix}/team/app", "team/app"
    one.add(inner, old, "1", "only-old")
    one.add(inner, signature)
    two.add(inner, new, "1", "2")

    place.make(prefix, "one.example")
    place.pull_all(name, old)
    assert place.pull(name, "2").status == 404
    assert json.loads(place.get(f"{name}/tags/list").body)["tags"] == ["1", "only-old"]
    assert signature.digest in place.get(f"{name}/referrers/{old.digest}").body.decode()
    place.remove(prefix)
    place.make(prefix, "two.example")

    before = place.asked("one.example")
    assert json.loads(place.get(f"{name}/tags/list").body)["tags"] == ["1", "2"], "not the list that was kept"
    assert json.loads(place.get(f"{name}/referrers/{old.digest}").body)["manifests"] == []
    assert place.pull(name, old.digest).status == 404
    assert place.get(f"{name}/blobs/{old.blobs[0].digest}").status == 404
    # The tag, twice, and what the other one did not have; then everything else.
    assert [place.pull(name).outcome, place.pull(name, "2").outcome] == ["miss", "miss"]
    assert place.pull(name).body == new.manifest.body
    assert place.outcomes(name) == {"hit"}
    assert place.pull(name, "only-old").status == 404
    place.pull_all(name, new)
    assert place.asked("two.example", kind="blob", reference=shared.digest, method="GET") == 0, (
        "the bytes were anybody's"
    )
    assert place.asked("one.example") == before, "nothing was asked there any more"

    # And back: it is the other's now.
    place.remove(prefix)
    place.make(prefix, "one.example")
    assert place.pull(name, new.digest).status == 404
    assert [place.pull(name).outcome, place.pull(name).body] == ["miss", old.manifest.body]


def test_nor_does_the_api_tell_of_it(place: Place, prefix: str) -> None:
    old = make_image(f"{prefix} old")
    signature = make_artifact(f"{prefix} signature", subject=old)
    inner = f"team/{prefix}"
    name, ecr = f"{prefix}/{inner}", place.ecr
    for each in ("one.example", "two.example"):
        place.upstreams[each].add(inner, make_image(f"{prefix} new"), "1")
    place.upstreams["one.example"].add(inner, old, "only-old")
    place.upstreams["one.example"].add(inner, signature)
    place.make(prefix, "one.example")
    for reference in ("only-old", signature.digest):
        assert place.pull(name, reference).status == 200
    archived = {"imageDigest": signature.digest}
    ecr.update_image_storage_class(repositoryName=name, imageId=archived, targetStorageClass="ARCHIVE")
    policy = json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
                    "action": {"type": "expire"},
                }
            ]
        }
    )
    place.pull(name, "1")
    ecr.start_lifecycle_policy_preview(repositoryName=name, lifecyclePolicyText=policy)

    def told() -> dict[str, list[Any]]:
        images = ecr.describe_images(repositoryName=name, filter={"imageStatus": "ANY"})["imageDetails"]
        subject = {"imageDigest": old.digest}
        return {
            "described": [image["imageDigest"] for image in images],
            "listed": ecr.list_images(repositoryName=name, filter={"imageStatus": "ANY"})["imageIds"],
            "referrers": ecr.list_image_referrers(
                repositoryName=name, subjectId=subject, filter={"artifactStatus": "ANY"}
            )["referrers"],
            "preview": ecr.get_lifecycle_policy_preview(repositoryName=name)["previewResults"],
        }

    wait_for(lambda: all(told().values()), "the preview, and all the rest")
    place.remove(prefix)
    place.make(prefix, "two.example")
    assert not any(told().values())
    for image_id in ({"imageTag": "only-old"}, {"imageDigest": old.digest}):
        with pytest.raises(ClientError, match="ImageNotFoundException"):
            ecr.describe_images(repositoryName=name, imageIds=[image_id])
        with pytest.raises(ClientError, match="ImageNotFoundException"):
            ecr.describe_image_scan_findings(repositoryName=name, imageId=image_id)
        with pytest.raises(ClientError, match="ImageNotFoundException"):
            ecr.update_image_storage_class(repositoryName=name, imageId=image_id, targetStorageClass="ARCHIVE")
        (failure,) = ecr.batch_delete_image(repositoryName=name, imageIds=[image_id])["failures"]
        assert (failure["failureCode"], failure["imageId"]) == ("ImageNotFound", image_id)

    assert place.pull(name, "1").outcome == "miss"
    assert len(ecr.list_images(repositoryName=name)["imageIds"]) == 1
    with pytest.raises(ClientError, match="LifecyclePolicyPreviewNotFoundException"):
        ecr.get_lifecycle_policy_preview(repositoryName=name)


def test_while_there_is_no_rule_what_it_cached_is_served_and_nothing_pushed_over_it(place: Place, prefix: str) -> None:
    name, image = f"{prefix}/team/kept", make_image(f"{prefix} kept")
    place.upstreams["one.example"].add("team/kept", image, "1")
    place.make(prefix, "one.example")
    place.pull_all(name, image)
    place.remove(prefix)
    asked = place.asked("one.example")
    assert place.outcomes(name) == {"hit"}
    refused = Pusher(place.engine, name).ask(
        "PUT", "manifests/2", image.manifest.body, {"Content-Type": image.manifest.media_type}
    )
    assert (refused.status, b"pull-through cache rule that is gone" in refused.body) == (403, True)
    place.make(prefix, "one.example")
    assert place.outcomes(name) == {"hit"}
    assert place.asked("one.example") == asked


def test_a_rotated_token_changes_nothing_and_another_account_has_nothing_of_the_first(
    place: Place, prefix: str
) -> None:
    hub, host = place.upstreams[HOSTS[2]], HOSTS[2]
    image, name = make_image(prefix), f"{prefix}/{PRIVATE}"
    hub.add(PRIVATE, image, "1")

    def secret(account: tuple[str, str]) -> str:
        return json.dumps({"username": account[0], "accessToken": account[1]})

    arn = secret_of(place, prefix, ANN)
    place.make(prefix, host, credentialArn=arn)
    place.pull_all(name, image)
    place.secrets.put_secret_value(SecretId=arn, SecretString=secret((ANN[0], "rotated")))
    assert place.outcomes(name) == {"hit"}
    assert place.get(f"{name}/blobs/{image.blobs[0].digest}").outcome == "hit"

    place.secrets.put_secret_value(SecretId=arn, SecretString=secret(BOB))
    # A worker that has not asked this upstream before is told first that it needs a token.
    before = place.asked(host, kind="blob", method="GET", status=200)
    assert place.pull(name).outcome == "miss"
    place.pull_all(name, image)
    assert place.asked(host, kind="blob", method="GET", status=200) == before + len(image.blobs), (
        "each account proves what it may have"
    )

    place.secrets.put_secret_value(SecretId=arn, SecretString=secret(("eve", "wrong")))
    assert place.pull(name).status not in (200, 500)
    assert place.get(f"{name}/blobs/{image.blobs[0].digest}").status not in (200, 500)


def secret_of(place: Place, name: str, account: tuple[str, str]) -> str:
    """The ARN of a new one."""
    text = json.dumps({"username": account[0], "accessToken": account[1]})
    arn: str = place.secrets.create_secret(Name=f"ecr-pullthroughcache/{name}", SecretString=text)["ARN"]
    return arn


def test_who_writes_the_user_name_of_another_into_a_secret_has_nothing_of_what_that_one_fetches(
    place: Place, prefix: str
) -> None:
    hub, host = place.upstreams[HOSTS[2]], HOSTS[2]
    blob, claimed = make_blob(f"{prefix} layer", 300_000), f"{prefix}-claimed"
    hub.add(PRIVATE, make_image(prefix, layers=(blob,)), "1")
    place.make(prefix, host, credentialArn=secret_of(place, prefix, ANN))
    place.make(claimed, host, credentialArn=secret_of(place, claimed, (ANN[0], "guessed")))
    assert place.pull(f"{prefix}/{PRIVATE}").status == 200
    valve = Valve(HELD_BACK + 1000)
    script = hub.script(Throttle(valve), kind="blob", reference=blob.digest, nth=1)
    path = f"{PRIVATE}/blobs/{blob.digest}"

    def statuses() -> set[int]:
        return {place.get(f"{claimed}/{path}", method).status for method in ("HEAD", "GET") for _ in range(TRIES)}

    with Download(place.engine, f"/v2/{prefix}/{path}") as owner:
        owner.read(10)
        assert statuses().isdisjoint({200, 500})
        valve.let_all()
        assert owner.rest() == blob.read()[10:]
    script.remove()
    assert statuses().isdisjoint({200, 500})


def test_two_rules_for_one_repository_share_the_bytes_by_one_head(place: Place, prefix: str) -> None:
    other, image = f"{prefix}x", make_image(f"{prefix} shared")
    place.upstreams["one.example"].add("team/shared", image, "1")
    place.make(prefix, "one.example")
    place.make(other, "one.example")
    place.pull_all(f"{prefix}/team/shared", image)
    place.pull_all(f"{other}/team/shared", image)
    for blob in image.blobs:
        costs = {method: place.asked("one.example", reference=blob.digest, method=method) for method in ("GET", "HEAD")}
        assert costs == {"GET": 1, "HEAD": 1}


# Names that lead elsewhere


def test_ns_never_writes_under_a_name_of_another_rule(place: Place, prefix: str) -> None:
    """ROOT's upstream has a repository whose name is the other rule's."""
    evil, good = make_image(f"{prefix} evil"), make_image(f"{prefix} good")
    place.upstreams["two.example"].add(f"{prefix}/team/app", evil, "1")
    place.upstreams["one.example"].add("team/app", good, "1")
    place.make(prefix, "one.example")
    place.make("ROOT", "two.example")
    refused = place.pull(f"{prefix}/team/app", query="?ns=two.example")
    assert refused.status == 404
    assert f"a name of the rule '{prefix}', for one.example" in refused.body.decode()
    assert place.get(f"{prefix}/team/app/blobs/{evil.blobs[0].digest}?ns=two.example").status == 404
    assert place.asked("two.example", repository=f"{prefix}/team/app") == 0
    assert place.pull(f"{prefix}/team/app").body == good.manifest.body


# Pushed, then ruled


def pushed(place: Place, name: str) -> Image:
    image = make_image(f"pushed as {name}")
    Pusher(place.engine, name).push(image, "1")
    return image


def test_what_was_pushed_stays_the_registrys_own_under_a_later_rule(place: Place, prefix: str) -> None:
    name, theirs = f"{prefix}/team/{prefix}", make_image(f"{prefix} theirs")
    mine = pushed(place, name)
    one = place.upstreams["one.example"]
    one.add(f"team/{prefix}", theirs, "1", "2")
    one.add("team/other", theirs, "1")
    place.make(prefix, "one.example")

    assert place.outcomes(name) == {"own"}
    assert place.pull(name).body == mine.manifest.body
    assert place.get(f"{name}/blobs/{mine.blobs[0].digest}").outcome == "own"
    assert json.loads(place.get(f"{name}/tags/list").body)["tags"] == ["1"]
    assert place.get(f"{name}/tags/list").outcome == place.get(f"{name}/referrers/{mine.digest}").outcome == "own"
    for path in (f"{name}/manifests/2", f"{name}/manifests/{theirs.digest}", f"{name}/blobs/{theirs.blobs[0].digest}"):
        absent = place.get(path)
        assert absent.status == 404
        assert f"before there was the rule '{prefix}': one.example is not asked" in absent.body.decode()
    another = make_image(f"{prefix} another")
    Pusher(place.engine, name).push(another, "2")
    assert place.pull(name, "2").body == another.manifest.body
    assert name in json.loads(place.get(f"_catalog?last={prefix}").body)["repositories"]
    assert place.asked("one.example", repository=f"team/{prefix}") == 0

    # Names that nobody had are the upstream's.
    assert place.pull(f"{prefix}/team/other").outcome == "miss"
    refused = Pusher(place.engine, f"{prefix}/team/other").ask("POST", "blobs/uploads/", b"")
    assert refused.status == 403

    # Deleted, it is as if nobody had ever pushed it.
    place.ecr.delete_repository(repositoryName=name, force=True)
    assert place.pull(name).body == theirs.manifest.body
    assert place.pull(name, mine.digest).status == 404


def test_the_making_of_a_rule_names_what_it_covers_and_so_does_the_next_start(place: Place, prefix: str) -> None:
    names = [f"{prefix}/mine/{number:02}" for number in range(12)]
    for name in names:
        pushed(place, name)
    place.make(prefix, "one.example")
    sentence = f"the rule '{prefix}' covers what was pushed to this registry: {names[0]}, "
    wait_for(lambda: sentence in place.engine.log.read_text(), "the warning")
    assert (
        f"{names[9]} and 2 more. It stays the registry's own, and one.example is never asked"
        in place.engine.log.read_text()
    )

    def told() -> list[dict[str, Any]]:
        found = json.loads(place.engine.command("events", "--last", "1000", "--json"))["events"]
        return [event for event in found if event["detail"].get("ecr-repository-prefix") == prefix]

    wait_for(lambda: bool(told()), "the event")
    (event,) = told()
    assert event["detail-type"] == "Pull Through Cache Rule Created"
    before = len(place.engine.log.read_text())
    place.engine.restart()
    assert f"the rule '{prefix}' covers" in place.engine.log.read_text()[before:]
    assert place.outcomes(names[0]) == {"own"}


def test_each_rule_names_what_no_longer_prefix_covers(place: Place, prefix: str) -> None:
    names = [f"{prefix}/app", f"{prefix}/sub/app"]
    for name in names:
        pushed(place, name)

    def told(rule: str, since: int) -> list[str]:
        found = re.findall(rf"the rule '{rule}' covers .*: (.*?)\. It stays", place.engine.log.read_text()[since:])
        return [name for name in found[0].split(", ") if name.startswith(prefix)] if found else []

    place.make(f"{prefix}/sub", "one.example")
    wait_for(lambda: told(f"{prefix}/sub", 0) == names[1:], "the longer one")
    place.make(prefix, "two.example")
    wait_for(lambda: told(prefix, 0) == names[:1], "the shorter one")
    place.make("ROOT", "two.example")
    assert told("ROOT", 0) == []
    before = len(place.engine.log.read_text())
    place.engine.restart()
    assert (told(f"{prefix}/sub", before), told(prefix, before), told("ROOT", before)) == (names[1:], names[:1], [])


@pytest.mark.parametrize("host", ["one.example", "registry-1.docker.io"])
def test_root_covers_what_was_pushed_no_more_than_another_rule(place: Place, prefix: str, host: str) -> None:
    """`library/` names of Docker Hub's are pushed as what they are kept as."""
    names = [prefix, f"library/{prefix}", f"team/{prefix}"]
    images = {name: pushed(place, name) for name in names}
    place.make("ROOT", host)
    for name, image in images.items():
        assert (place.pull(name).outcome, place.pull(name).body) == ("own", image.manifest.body)
        assert place.pull(name, query=f"?ns={host}").status == 404, "of that host, this cache can keep nothing under it"
    assert place.asked(host, repository=f"library/{prefix}") == place.asked(host, repository=f"team/{prefix}") == 0


def test_an_empty_repository_is_its_upstreams_once_a_pull_fills_it(place: Place, prefix: str) -> None:
    """CreateRepository made it, or a template did."""
    name, image = f"{prefix}/team/empty", make_image(f"{prefix} empty")
    place.upstreams["one.example"].add("team/empty", image, "1")
    place.upstreams["one.example"].add("team/by-template", image, "1")
    place.ecr.create_repository(repositoryName=name)
    place.ecr.create_repository_creation_template(prefix=prefix, appliedFor=["PULL_THROUGH_CACHE", "CREATE_ON_PUSH"])
    place.make(prefix, "one.example")
    for filled in (name, f"{prefix}/team/by-template"):
        place.pull_all(filled, image)
        assert place.outcomes(filled) == {"hit"}
        assert Pusher(place.engine, filled).ask("POST", "blobs/uploads/", b"").status == 403
    place.ecr.delete_repository_creation_template(prefix=prefix)


def test_a_mount_asks_whose_the_source_is(place: Place, prefix: str) -> None:
    """What a former upstream's rule left is not to be had through the new one's name."""
    secret = make_blob(f"{prefix} secret", 3000)
    place.upstreams["one.example"].add("team/secret", make_image(f"{prefix} s", layers=(secret,)), "1")
    place.make(prefix, "one.example")
    place.pull_all(f"{prefix}/team/secret", make_image(f"{prefix} s", layers=(secret,)))
    place.remove(prefix)
    place.make(prefix, "two.example")
    target = Pusher(place.engine, unique("mine"))
    answer = target.ask("POST", f"blobs/uploads/?mount={secret.digest}&from={prefix}/team/secret", b"")
    assert answer.status == 202, "an upload was begun instead"
    assert digest_of(secret.read()) == secret.digest


def test_a_folder_of_an_earlier_version_is_told_whose_its_repositories_are(
    place: Place, prefix: str, tmp_path: Path
) -> None:
    """As the upgrade leaves it: `?` for what came from upstreams."""
    name, image = f"{prefix}/team/legacy", make_image(f"{prefix} legacy")
    place.upstreams["one.example"].add("team/legacy", image, "1")
    place.make(prefix, "one.example")
    place.pull_all(name, image)
    assert place.get(f"{name}/tags/list").outcome == "miss"
    place.engine.stop()
    with closing(sqlite3.connect(place.engine.data / "catalog.sqlite")) as catalog:
        catalog.execute("UPDATE repositories SET owner = '?' WHERE name = ?", (name,))
        catalog.execute("UPDATE listings SET owner = '?' WHERE repository = ?", (name,))
        catalog.commit()
    asked = place.asked("one.example")
    place.engine.start()
    assert "belong to the upstreams of their rules now" in place.engine.log.read_text()
    assert place.outcomes(name) == {"hit"}
    assert place.get(f"{name}/tags/list").outcome == "hit"
    assert place.asked("one.example") == asked
