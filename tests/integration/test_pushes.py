"""Pushing to the registry's own repositories, over real connections; what a crash, a bad client or a full disk leaves.

Each test has a repository of its own. Requests go to one worker or the other as the kernel gives them, but where a test
names the worker.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pullthrough.demo.images import blob_of, make_artifact, make_blob, make_image, make_index
from pullthrough.oci.digests import digest_of
from tests.aws import Account
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.lanes import error_of
from tests.integration.pushing import Pusher, location_of
from tests.integration.sites import KIB, MIB, Site, configuration, resident_bytes
from tests.programs import missing, needs_root

OPEN = '[ecr]\nauth = "none"\naccount = "123456789012"\n'
BODY = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(100))
DIGEST = digest_of(BODY)


@contextmanager
def open_site(folder: Path, workers: int, more: str = "") -> Iterator[Site]:
    with ScriptedUpstream() as upstream:
        engine = Engine(folder / "engine", configuration(upstream, workers) + "\n" + OPEN + more)
        try:
            engine.start()
            yield Site(engine, upstream, workers, ["c0"])
        finally:
            engine.end()


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("pushes"), request.param) as opened:
        yield opened
        assert opened.upstream.requests.count() == 0, "nobody is asked about what is ours"
        assert "Traceback" not in opened.logged()


@pytest.fixture
def team(site: Site, request: pytest.FixtureRequest) -> Pusher:
    """A repository of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())
    return Pusher(site.engine, "team/" + "-".join(part for part in name.split("-") if part))


def uploads_of(team: Pusher) -> list[Path]:
    """The sidecars of the uploads that are open."""
    sidecars = (team.engine.data / "uploads").glob("*.json")
    return [path for path in sidecars if json.loads(path.read_bytes())["repository"] == team.repository]


# --- the ways to push a blob -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("way", ["one request", "post and put", "chunks", "chunks and put", "stream"])
def test_every_way_to_push_a_blob_gives_its_bytes_back(team: Pusher, way: str, algorithm: str) -> None:
    digest = digest_of(BODY, algorithm)
    match way:
        case "one request":
            answer = team.ask("POST", f"blobs/uploads/?digest={digest}", BODY)
        case "post and put":
            answer = team.put(team.begin(), digest, BODY)
        case "chunks" | "chunks and put":
            location = team.begin()
            parts = [BODY[start : start + 1000] for start in range(0, len(BODY), 1000)]
            last = parts.pop() if way == "chunks and put" else b""
            for number, part in enumerate(parts):
                patched = team.patch(location, part, number * 1000)
                assert (patched.status, location_of(patched)) == (202, location)
                assert patched.headers["range"] == f"0-{number * 1000 + len(part) - 1}"
            headers = {"Content-Range": f"{len(BODY) - len(last)}-{len(BODY) - 1}"} if last else {}
            answer = team.put(location, digest, last, headers)
        case _:
            location = team.begin()
            assert team.patch(location, (BODY[start : start + 7] for start in range(0, len(BODY), 7))).status == 202
            assert team.arrived(location) == len(BODY)
            answer = team.put(location, digest)
    assert answer.status == 201, answer
    assert answer.headers["location"] == f"/v2/{team.repository}/blobs/{digest}"
    assert answer.headers["docker-content-digest"] == digest
    read = team.read(digest)
    assert (read.status, read.body, read.headers["x-cache"]) == (200, BODY, "own")
    assert team.ask("HEAD", f"blobs/{digest}").headers["content-length"] == str(len(BODY))
    assert uploads_of(team) == []


def test_an_empty_blob_is_a_blob(team: Pusher) -> None:
    assert team.put(team.begin(), digest_of(b"")).status == 201
    assert team.read(digest_of(b"")).body == b""


def test_an_upload_begun_at_one_worker_is_finished_at_the_other(site: Site, team: Pusher) -> None:
    one, other = site.two_connections()
    location = team.begin(way=one)
    assert team.patch(location, BODY[:1000], 0, way=other).status == 202
    assert team.arrived(location, way=one) == 1000
    assert team.patch(location, BODY[1000:2000], way=one).status == 202
    assert team.put(location, DIGEST, BODY[2000:], way=other).status == 201
    for way in (one, other):
        assert team.read(DIGEST, way=way).body == BODY
        way.close()


def test_a_client_that_asks_first_is_told_to_go_on(team: Pusher) -> None:
    location = team.begin()
    url = urlsplit(team.engine.url)
    head = (
        f"PUT {location}?digest={DIGEST} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
        # Refused before it sent anything: the connection ends, so that no body is taken for a request.
        connection.sendall(head.encode() + b"\r\n")
        received = b""
        while part := connection.recv(1000):
            received += part
        assert received.startswith(b"HTTP/1.1 404 ")


def test_a_push_takes_no_memory_for_its_body(site: Site, team: Pusher) -> None:
    size = 192 * MIB
    part = os.urandom(MIB)
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(part)
    before = {pid: resident_bytes(pid) for pid in site.pids}
    location = team.begin()
    assert team.patch(location, (part for _ in range(size // MIB))).status == 202
    assert team.put(location, f"sha256:{digest.hexdigest()}").status == 201
    for pid, bytes_before in before.items():
        assert resident_bytes(pid) - bytes_before < 48 * MIB


# --- what is wrong with an upload ------------------------------------------------------------------------------------


def test_a_chunk_out_of_order_is_refused_with_where_to_go_on(team: Pusher) -> None:
    location = team.begin()
    for start in (1, 1000):
        answer = team.patch(location, b"x" * 10, start)
        assert error_of(answer)[:2] == (416, "BLOB_UPLOAD_INVALID")
        assert (answer.headers["range"], answer.headers["location"]) == ("0-0", location)
    assert team.patch(location, BODY[:1000], 0).status == 202
    for start in (0, 999, 1001):
        answer = team.put(location, DIGEST, BODY[start:], {"Content-Range": f"{start}-{len(BODY) - 1}"})
        assert (answer.status, answer.headers["range"]) == (416, "0-999")
    assert team.arrived(location) == 1000
    assert team.put(location, DIGEST, BODY[1000:], {"Content-Range": f"1000-{len(BODY) - 1}"}).status == 201


@pytest.mark.parametrize("text", ["0-8", "0-10", "9-0", "x", "0-", "-9", "bytes 0-9/x", "0-9,10-19", "0" * 40 + "-9"])
def test_a_content_range_that_is_not_what_is_sent_is_refused(team: Pusher, text: str) -> None:
    location = team.begin()
    answer = team.ask("PATCH", location, b"x" * 10, {"Content-Range": text})
    assert error_of(answer)[:2] == (400, "BLOB_UPLOAD_INVALID")
    assert team.put(location, DIGEST, BODY).status == 201, "nothing of it was kept"


def test_a_stream_ends_where_its_content_range_does(team: Pusher) -> None:
    location = team.begin()
    answer = team.ask("PATCH", location, iter([b"x" * 10, b"y" * 10]), {"Content-Range": "0-14"})
    assert error_of(answer)[:2] == (400, "BLOB_UPLOAD_INVALID")


@pytest.mark.parametrize("encoding", ["gzip", "identity, gzip", "DEFLATE", "nonsense"])
def test_a_compressed_body_is_refused_before_it_is_sent_and_the_upload_goes_on(team: Pusher, encoding: str) -> None:
    encoded, packed = {"Content-Encoding": encoding}, gzip.compress(BODY)
    location = team.begin()
    for answer in (
        team.ask("PATCH", location, packed, encoded),
        team.ask("PATCH", location, [packed], encoded),
        team.put(location, DIGEST, packed, encoded),
        team.ask("POST", f"blobs/uploads/?digest={DIGEST}", packed, encoded),
        team.ask("PUT", "manifests/1", packed, encoded),
    ):
        assert error_of(answer)[:2] == (415, "UNSUPPORTED")
        assert encoding in error_of(answer)[2]
        assert answer.headers["accept-encoding"] == "identity"
    url = urlsplit(team.engine.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=60) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n"
        connection.sendall(f"{head}Content-Encoding: {encoding}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 415 ")
    assert team.ask("PATCH", location, BODY, {"Content-Encoding": "Identity"}).status == 202
    assert team.put(location, DIGEST).status == 201
    assert team.read(DIGEST).body == BODY
    wait_for(lambda: uploads_of(team) == [], "the upload that had begun with its body to be cancelled")


@pytest.mark.parametrize("is_read", [False, True], ids=["at once", "while it is read"])
@pytest.mark.parametrize("chunk", ["zz\r\n", "3\r\nabcd\r\n", "-1\r\n"])
def test_a_body_whose_chunks_are_none_is_refused_and_what_came_before_is_kept(
    team: Pusher, chunk: str, is_read: bool
) -> None:
    location = team.begin()
    url = urlsplit(team.engine.url)
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=60) as connection:
        if is_read:
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(f"5\r\nhello\r\n{chunk}".encode())
        else:
            connection.sendall(f"{head}\r\n5\r\nhello\r\n{chunk}".encode())
        received = b""
        while part := connection.recv(1000):
            received += part
    assert received[8:13] == b" 400 "
    assert received.count(b"HTTP/1.") == 1
    assert team.arrived(location) == (len(b"helloabc" if "abc" in chunk else b"hello") if is_read else 1)


@pytest.mark.parametrize("way", ["one request", "post and put", "stream"])
def test_a_body_of_another_digest_is_refused_and_the_upload_is_over(team: Pusher, way: str) -> None:
    wrong = digest_of(b"something else")
    if way == "one request":
        answer = team.ask("POST", f"blobs/uploads/?digest={wrong}", BODY)
    else:
        location = team.begin()
        if way == "stream":
            assert team.patch(location, BODY).status == 202
        answer = team.put(location, wrong, b"" if way == "stream" else BODY)
        assert team.ask("GET", location).status == 404
        assert error_of(team.put(location, DIGEST, BODY))[:2] == (404, "BLOB_UPLOAD_UNKNOWN")
    status, code, message = error_of(answer)
    assert (status, code) == (400, "DIGEST_INVALID")
    assert DIGEST in message
    assert team.read(wrong).status == team.read(DIGEST).status == 404
    wait_for(lambda: not uploads_of(team), "the upload to go")


def test_a_digest_that_is_none_is_refused_and_the_upload_goes_on(team: Pusher) -> None:
    location = team.begin()
    assert team.patch(location, BODY[:1000]).status == 202
    for query in ("", "?digest=", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e", f"?digest={DIGEST.upper()}"):
        assert error_of(team.ask("PUT", location + query, BODY[1000:]))[:2] == (400, "DIGEST_INVALID")
    assert team.put(location, DIGEST, BODY[1000:]).status == 201


def test_a_cancelled_upload_is_gone(team: Pusher) -> None:
    location = team.begin()
    assert team.patch(location, BODY).status == 202
    assert team.ask("DELETE", location).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = team.ask(method, location, b"x" if method == "PATCH" else None)
        assert error_of(answer)[:2] == (404, "BLOB_UPLOAD_UNKNOWN")


def test_an_upload_is_only_its_own_repositorys(team: Pusher) -> None:
    location = team.begin()
    upload = location.rpartition("/")[2]
    other = Pusher(team.engine, "team/other")
    for path in (f"blobs/uploads/{upload}", "blobs/uploads/00000000-0000-0000-0000-000000000000", "blobs/uploads/x"):
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            query = f"?digest={DIGEST}" if method == "PUT" else ""
            assert error_of(other.ask(method, path + query, b""))[:2] == (404, "BLOB_UPLOAD_UNKNOWN")
    assert team.put(location, DIGEST, BODY).status == 201


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../etc/blobs/uploads/",
        "/v2/Team/App/blobs/uploads/",
        "/v2/team%2Fapp/blobs/uploads/",
        "/v2//blobs/uploads/",
        "/v2/team/app/blobs/uploads/../../x",
        "/v2/team/app/blobs/uploads/%2e%2e",
        "/v2/" + "a/" * 130 + "blobs/uploads/",
    ],
)
def test_hostile_names_reach_nothing(site: Site, team: Pusher, path: str) -> None:
    before = sorted(str(path) for path in site.engine.data.rglob("*"))
    assert team.ask("POST", path, b"").status in (400, 404, 405)
    assert sorted(str(path) for path in site.engine.data.rglob("*")) == before


# --- broken connections, restarts, kills -----------------------------------------------------------------------------


def test_what_arrived_before_the_client_went_away_is_kept(team: Pusher) -> None:
    location = team.begin()
    url = urlsplit(team.engine.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=60) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
        connection.sendall(head.encode() + BODY[:2000])
        wait_for(lambda: is_locked(team, location), "the request to have the upload")
    wait_for(lambda: team.arrived(location) == 2000, "what came to be written")
    assert team.patch(location, BODY[2000:], 2000).status == 202
    assert team.put(location, DIGEST).status == 201
    assert team.read(DIGEST).body == BODY


def is_locked(team: Pusher, location: str) -> bool:
    inode = (team.engine.data / "uploads" / location.rpartition("/")[2]).stat().st_ino
    return f":{inode} " in Path("/proc/locks").read_text()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_an_upload_goes_on_after_the_engine_stopped(tmp_path: Path, how: str, workers: int) -> None:
    with open_site(tmp_path, workers) as site:
        team = Pusher(site.engine, "team/app")
        location = team.begin()
        large = make_blob("large", 3 * MIB)
        assert team.patch(location, large.read(0, 2 * MIB)).status == 202
        if how == "restart":
            site.engine.restart()
        else:
            os.kill(site.pids[-1], signal.SIGKILL)
            if workers == 1:
                site.engine.kill()
                site.engine.start()
        arrived = team.arrived(location)
        assert arrived == 2 * MIB
        assert team.patch(location, large.read(arrived), arrived).status == 202
        assert team.put(location, large.digest).status == 201
        assert team.read(large.digest).body == large.read()


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


def test_killed_again_and_again_it_loses_nothing_it_confirmed(tmp_path: Path, workers: int) -> None:
    """Pushers push while the engine is killed; what was answered with 201 is there, and whole, after each start."""
    with open_site(tmp_path, workers) as site:
        team = Pusher(site.engine, "team/app")
        confirmed: dict[str, bytes] = {}

        def reached(count: int) -> bool:
            return len(confirmed) >= count

        for turn in range(4):
            stop = threading.Event()

            def push(pusher: int, turn: int = turn, stop: threading.Event = stop) -> None:
                number = 0
                while not stop.is_set():
                    blob = make_blob(f"{turn}/{pusher}/{number}", 20_000)
                    number += 1
                    try:
                        if team.blob(blob).status == 201:
                            confirmed[blob.digest] = blob.read()
                    except (OSError, http.client.HTTPException):  # the engine has just been killed
                        return

            threads = [threading.Thread(target=push, args=(pusher,)) for pusher in range(3)]
            wanted = len(confirmed) + 10
            for thread in threads:
                thread.start()
            wait_for(partial(reached, wanted), "some blobs to be pushed")
            site.engine.kill()
            stop.set()
            for thread in threads:
                thread.join()
            site.engine.start()
            for digest, body in list(confirmed.items()):
                assert team.read(digest).body == body
        site.engine.stop()
        report = json.loads(site.engine.command("check", "--json"))
        assert report["problems"] == []


# --- a full disk -----------------------------------------------------------------------------------------------------


def test_a_push_that_finds_no_room_says_so_and_leaves_nothing_half_done(tmp_path: Path, workers: int) -> None:
    needs_root()
    with ScriptedUpstream() as upstream:
        config = configuration(upstream, workers, 'max_size = "never"\nmin_free = "never"')
        engine = Engine(tmp_path / "engine", config + "\n" + OPEN)
        engine.data.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(engine.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            missing(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        try:
            engine.start()
            team = Pusher(engine, "team/app")
            large, small = make_blob("large", 16 * MIB), make_blob("small", 100 * KIB)
            location = team.begin()
            answer = team.patch(location, large.read())
            assert error_of(answer)[:2] == (503, "UNAVAILABLE")
            assert "no room on the disk" in error_of(answer)[2]
            assert team.read(large.digest).status == 404
            # Cancelling gives the room back.
            assert team.ask("DELETE", location).status == 204
            assert team.blob(small).status == 201
            assert team.read(small.digest).body == small.read()
        finally:
            engine.end()
            subprocess.run(["umount", str(engine.data)], check=True)


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("docker", [False, True])
def test_what_is_pushed_is_pulled_to_the_byte(team: Pusher, docker: bool) -> None:
    child = make_image("child", layer_sizes=(3000, 10), docker=docker)
    image = make_index(child, docker=docker)
    team.push(image, "1")
    for reference in ("1", str(image.digest)):
        answer = team.pull(reference)
        assert (answer.status, answer.body) == (200, image.manifest.body)
        assert answer.headers["content-type"] == image.manifest.media_type
        assert answer.headers["docker-content-digest"] == image.digest
        assert answer.headers["x-cache"] == "own"
    assert team.pull(child.digest).body == child.manifest.body
    for blob in child.blobs:
        assert team.read(blob.digest).body == blob.read()


def test_a_manifest_of_what_is_not_here_is_refused(team: Pusher) -> None:
    image = make_image("incomplete")
    config, layer = image.blobs
    assert team.blob(config).status == 201
    status, code, message = error_of(team.manifest(image.manifest, "1"))
    assert (status, code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert layer.digest in message
    assert team.pull("1").status == 404
    index = make_index(image)
    status, code, message = error_of(team.manifest(index.manifest, "2"))
    assert (status, code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert image.digest in message
    # Elsewhere is not here.
    Pusher(team.engine, "team/elsewhere").push(index, "1")
    assert team.manifest(image.manifest, "1").status == 404
    assert team.blob(layer).status == 201
    assert team.manifest(image.manifest, "1").status == 201


def test_a_manifest_that_is_none_is_refused(team: Pusher) -> None:
    image = make_image("app")
    for body, media_type in (
        (b"", image.manifest.media_type),
        (b"{", image.manifest.media_type),
        (b"[]", ""),
        (b'{"schemaVersion": 1}', ""),
        (image.manifest.body.decode().encode("utf-16"), image.manifest.media_type),
        (image.manifest.body, "application/vnd.oci.image.index.v1+json"),
    ):
        answer = team.ask("PUT", "manifests/1", body, {"Content-Type": media_type})
        assert error_of(answer)[:2] == (400, "MANIFEST_INVALID")
    for blob in image.blobs:
        team.blob(blob)
    wrong = digest_of(b"something else")
    assert error_of(team.manifest(image.manifest, wrong))[:2] == (400, "DIGEST_INVALID")
    assert error_of(team.manifest(image.manifest, "sha256:abc"))[:2] == (400, "DIGEST_INVALID")
    assert team.manifest(image.manifest, ".1").status == 400
    too_large: list[bytes | Iterator[bytes]] = [b" " * (4 * MIB + 1), (b" " * 100_000 for _ in range(43))]
    for padding in too_large:
        answer = team.ask("PUT", "manifests/1", padding, {"Content-Type": image.manifest.media_type})
        assert error_of(answer)[:2] == (413, "MANIFEST_INVALID")
    padded = image.manifest.body + b" " * (4 * MIB - len(image.manifest.body))
    answer = team.ask("PUT", "manifests/1", padded, {"Content-Type": image.manifest.media_type})
    assert answer.status == 201
    assert team.pull("1").body == padded


def test_a_moved_tag_is_seen_by_every_worker_at_once(site: Site, team: Pusher) -> None:
    one, other = site.two_connections()
    for number in range(10):
        image = make_image(f"image {number}")
        team.push(image, "latest")
        assert {team.pull("latest", way).body for way in (one, other)} == {image.manifest.body}
    one.close()
    other.close()


def test_referrers_come_from_what_was_pushed(team: Pusher) -> None:
    image = make_image("subject")
    one = make_artifact("one", subject=image, artifact_type="application/x.one", annotations={"number": "1"})
    two = make_artifact("two", subject=image, artifact_type="application/x.two")
    for artifact in (one, two):
        for blob in artifact.blobs:
            team.blob(blob)
        answer = team.manifest(artifact.manifest)
        assert (answer.status, answer.headers["oci-subject"]) == (201, image.digest)
    listed = team.ask("GET", f"referrers/{image.digest}")
    assert (listed.status, listed.headers["content-type"]) == (200, "application/vnd.oci.image.index.v1+json")
    described = {entry["digest"]: entry for entry in json.loads(listed.body)["manifests"]}
    assert set(described) == {one.digest, two.digest}
    assert described[one.digest]["annotations"] == {"number": "1"}
    filtered = team.ask("GET", f"referrers/{image.digest}?artifactType=application/x.two")
    assert [entry["digest"] for entry in json.loads(filtered.body)["manifests"]] == [two.digest]
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    # The subject comes later, goes again, and makes no difference.
    team.push(image, "1")
    assert team.ask("DELETE", f"manifests/{image.digest}").status == 202
    assert len(json.loads(team.ask("GET", f"referrers/{image.digest}").body)["manifests"]) == 2
    # The specification allows no 404 here.
    nobody = Pusher(team.engine, "nobody/nothing").ask("GET", f"referrers/{image.digest}")
    assert (nobody.status, json.loads(nobody.body)["manifests"]) == (200, [])


# --- lists and what is not there -------------------------------------------------------------------------------------


def test_tags_are_listed_in_pages(team: Pusher) -> None:
    image = make_image("app")
    for tag in ("b", "a", "C", "1.0"):
        team.push(image, tag)
    assert json.loads(team.ask("GET", "tags/list").body) == {"name": team.repository, "tags": ["1.0", "C", "a", "b"]}
    first = team.ask("GET", "tags/list?n=3")
    assert json.loads(first.body)["tags"] == ["1.0", "C", "a"]
    assert first.headers["link"] == f'</v2/{team.repository}/tags/list?n=3&last=a>; rel="next"'
    last = team.ask("GET", "tags/list?n=3&last=a")
    assert json.loads(last.body)["tags"] == ["b"]
    assert "link" not in last.headers
    assert team.repository in json.loads(team.ask("GET", "/v2/_catalog").body)["repositories"]


def test_what_nobody_pushed_is_unknown_and_says_how_to_pull_through(team: Pusher) -> None:
    nobody = Pusher(team.engine, "library/nginx")
    for path in ("manifests/latest", f"manifests/{DIGEST}", f"blobs/{DIGEST}", "tags/list"):
        status, code, message = error_of(nobody.ask("GET", path))
        assert (status, code) == (404, "NAME_UNKNOWN")
        assert message.startswith(
            "The repository with name 'library/nginx' does not exist in the registry with id '123456789012' (no rule"
        )
        assert "such as c0/library/nginx; the prefixes are: c0, hasty" in message
    team.push(make_image("app"), "1")
    for path, code in (("manifests/2", "MANIFEST_UNKNOWN"), (f"blobs/{DIGEST}", "BLOB_UNKNOWN")):
        assert error_of(team.ask("GET", path))[:2] == (404, code)


def test_a_repository_under_a_rule_refuses_pushes_and_says_where_it_is_filled_from(site: Site) -> None:
    cached = Pusher(site.engine, "c0/acme/app")
    image = make_image("app")
    for answer in (
        cached.ask("POST", "blobs/uploads/", b""),
        cached.ask("POST", f"blobs/uploads/?digest={DIGEST}", BODY),
        cached.ask("POST", f"blobs/uploads/?mount={DIGEST}&from=team/app", b""),
        cached.manifest(image.manifest, "1"),
        cached.ask("DELETE", "manifests/1"),
        cached.ask("DELETE", f"manifests/{image.digest}"),
        cached.ask("DELETE", f"blobs/{DIGEST}"),
    ):
        status, code, message = error_of(answer)
        assert (status, code) == (403, "DENIED")
        assert "c0/acme/app is filled from c0.example by the rule 'c0'" in message
        assert "push to a name under no rule" in message


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "blobs/uploads/", "POST"),
        ("GET", "blobs/uploads/", "POST"),
        ("POST", "blobs/uploads/x", "GET, HEAD, PATCH, PUT, DELETE"),
        ("POST", "manifests/1", "GET, HEAD, PUT, DELETE"),
        ("PUT", f"blobs/{DIGEST}", "GET, HEAD, DELETE"),
        ("DELETE", "tags/list", "GET, HEAD"),
        ("PUT", f"referrers/{DIGEST}", "GET, HEAD"),
        ("DELETE", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/_catalog", "GET, HEAD"),
    ],
)
def test_other_methods_say_which_there_are(team: Pusher, method: str, path: str, allowed: str) -> None:
    answer = team.ask(method, path, b"")
    assert error_of(answer)[:2] == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == allowed


# --- deleting --------------------------------------------------------------------------------------------------------


def test_what_is_deleted_is_gone_for_every_worker_at_once(site: Site, team: Pusher) -> None:
    one, other = site.two_connections()
    image = make_image("app")
    layer = image.blobs[1]
    team.push(image, "1")
    team.push(image, "2")
    for way in (one, other):
        assert team.pull("1", way).status == team.pull("2", way).status == 200
    assert team.ask("DELETE", "manifests/1").status == 202
    assert {team.pull("1", way).status for way in (one, other)} == {404}
    assert {team.pull("2", way).status for way in (one, other)} == {200}
    assert error_of(team.ask("DELETE", f"blobs/{layer.digest}"))[:2] == (400, "DENIED")
    assert team.ask("DELETE", f"manifests/{image.digest}").status == 202
    assert {team.pull(name, way).status for way in (one, other) for name in ("2", str(image.digest))} == {404}
    assert team.read(layer.digest, one).body == layer.read()
    assert team.ask("DELETE", f"blobs/{layer.digest}").status == 202
    assert {team.read(layer.digest, way).status for way in (one, other)} == {404}
    for path in ("manifests/1", f"manifests/{image.digest}", f"blobs/{layer.digest}"):
        assert team.ask("DELETE", path).status == 404
    one.close()
    other.close()


def test_a_child_of_an_index_cannot_be_deleted_before_it(team: Pusher) -> None:
    image = make_image("child")
    index = make_index(image)
    team.push(index, "1")
    status, code, message = error_of(team.ask("DELETE", f"manifests/{image.digest}"))
    assert (status, code) == (400, "DENIED")
    assert index.digest in message
    assert team.ask("DELETE", f"manifests/{index.digest}").status == 202
    assert team.ask("DELETE", f"manifests/{image.digest}").status == 202


# --- mounting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["&from=team/source", ""])
def test_a_mounted_blob_needs_no_upload(team: Pusher, source: str) -> None:
    blob = blob_of(BODY + source.encode() + team.repository.encode())
    Pusher(team.engine, "team/source").blob(blob)
    answer = team.ask("POST", f"blobs/uploads/?mount={blob.digest}{source}", b"")
    assert answer.status == 201
    assert answer.headers["location"] == f"/v2/{team.repository}/blobs/{blob.digest}"
    assert team.read(blob.digest).body == blob.read()


@pytest.mark.parametrize("query", ["from=team/nothing", "from=c0/acme/app", ""])
def test_a_mount_of_what_is_not_there_becomes_an_upload(team: Pusher, query: str) -> None:
    blob = blob_of(b"nobody has this" + query.encode() + team.repository.encode())
    answer = team.ask("POST", f"blobs/uploads/?mount={blob.digest}&{query}", b"")
    assert answer.status == 202
    assert team.put(location_of(answer), blob.digest, blob.read()).status == 201


def test_a_mount_that_cannot_be_meant_is_refused(team: Pusher) -> None:
    assert error_of(team.ask("POST", "blobs/uploads/?mount=x", b""))[:2] == (400, "DIGEST_INVALID")
    answer = team.ask("POST", f"blobs/uploads/?mount={DIGEST}&from=../x", b"")
    assert error_of(answer)[:2] == (400, "NAME_INVALID")


# --- what the ECR API sets up ----------------------------------------------------------------------------------------


def test_a_template_says_how_a_push_makes_its_repository(site: Site, team: Pusher) -> None:
    ecr = Account(site.engine.url).client("ecr")
    prefix = f"immutable-{site.workers}"
    ecr.create_repository_creation_template(
        prefix=prefix, appliedFor=["CREATE_ON_PUSH"], imageTagMutability="IMMUTABLE"
    )
    pusher = Pusher(site.engine, f"{prefix}/app")
    pusher.push(make_image("first"), "1")
    pusher.push(make_image("first"), "1")
    second = make_image("second")
    pusher.push(second)
    status, code, message = error_of(pusher.manifest(second.manifest, "1"))
    assert (status, code) == (400, "TAG_INVALID")
    assert message == (
        f"The image tag '1' already exists in the '{prefix}/app' repository and cannot be overwritten because the "
        "repository is immutable."
    )
    team.push(make_image("first"), "1")
    team.push(second, "1")


def test_a_strict_registry_makes_no_repository_unasked(tmp_path: Path, workers: int) -> None:
    with open_site(tmp_path, workers, "strict = true\n") as site:
        ecr = Account(site.engine.url).client("ecr")
        image = make_image("app")
        refused = Pusher(site.engine, "team/app")
        for answer in (refused.ask("POST", "blobs/uploads/", b""), refused.manifest(image.manifest, "1")):
            assert error_of(answer)[:2] == (404, "NAME_UNKNOWN")
        ecr.create_repository(repositoryName="team/app")
        refused.push(image, "1")
        ecr.create_repository_creation_template(prefix="ROOT", appliedFor=["CREATE_ON_PUSH"])
        Pusher(site.engine, "team/other").push(image, "1")


def test_pushes_and_deletions_are_told(site: Site, team: Pusher) -> None:
    image = make_image("app")
    team.push(image, "1")
    assert team.ask("DELETE", f"manifests/{image.digest}").status == 202

    def told() -> list[tuple[str, str, str]]:
        events = json.loads(site.engine.command("events", "--last", "100", "--json"))["events"]
        details = [event["detail"] for event in events if event["detail"]["repository-name"] == team.repository]
        return [(one["action-type"], one["image-tag"], one["image-digest"]) for one in details]

    wait_for(lambda: len(told()) == 2, "the events")
    assert sorted(told()) == [("DELETE", "1", image.digest), ("PUSH", "1", image.digest)]
