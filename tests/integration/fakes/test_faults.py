"""Each fault of the scripted upstream really reaches a client, byte for byte."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pullthrough.demo.images import Image, make_image
from pullthrough.demo.requests import RequestKind
from tests.fakes.upstream import (
    Action,
    Challenge,
    ChangedETag,
    ClaimLength,
    Close,
    Corrupt,
    Gate,
    Gzip,
    Hang,
    Headers,
    Html,
    HugeBody,
    HugeHeaders,
    IgnoreRange,
    NoLength,
    RawUpstream,
    Redirect,
    RedirectLoop,
    Replace,
    Reset,
    ScriptedUpstream,
    Status,
    Text,
    Throttle,
    Valve,
    endless_header_line,
    endless_headers,
    endless_status_line,
)

LAYER_BYTES = 3_000_000


@pytest.fixture(scope="module")
def image() -> Image:
    return make_image("faults", layer_sizes=(LAYER_BYTES,))


@pytest.fixture
def upstream(image: Image) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        upstream.add("library/app", image, "latest")
        yield upstream


@pytest.fixture
def layer(image: Image) -> bytes:
    return image.blobs[1].read()


@pytest.fixture
def blob_path(image: Image) -> str:
    return f"/v2/library/app/blobs/{image.blobs[1].digest}"


MANIFEST = "/v2/library/app/manifests/latest"


class Fetched:
    """What came back, as far as it came: `error` is what http.client raised while reading."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.error: Exception | None = None
        received = bytearray()
        try:
            while piece := response.read1(65536):
                received += piece
        except (OSError, http.client.HTTPException) as error:
            self.error = error
        self.body = bytes(received)


def fetch(upstream: ScriptedUpstream | RawUpstream, path: str, method: str = "GET", **headers: str) -> Fetched:
    connection = http.client.HTTPConnection(upstream.host, timeout=60)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        with connection.getresponse() as response:
            return Fetched(response)
    finally:
        connection.close()


class Background:
    """A fetch in a thread of its own, for answers that the test holds back."""

    def __init__(self, upstream: ScriptedUpstream, path: str) -> None:
        self._result: list[Fetched | Exception] = []
        self._thread = threading.Thread(target=self._run, args=(upstream, path))
        self._thread.start()

    def _run(self, upstream: ScriptedUpstream, path: str) -> None:
        try:
            self._result.append(fetch(upstream, path))
        except Exception as error:
            self._result.append(error)

    def result(self) -> Fetched:
        self._thread.join(20)
        (result,) = self._result
        if isinstance(result, Exception):
            raise result
        return result


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 502, 503, 504])
def test_a_status_befalls_only_the_scripted_method(upstream: ScriptedUpstream, method: str, status: int) -> None:
    script = upstream.script(Status(status, retry_after=7), kind="manifest", method=method)
    answer = fetch(upstream, MANIFEST, method)
    assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
    assert answer.body.startswith(b'{"errors": [') if method == "GET" else answer.body == b""
    assert fetch(upstream, MANIFEST, "HEAD" if method == "GET" else "GET").status == 200
    assert script.hits == 1


def test_a_script_counts_only_the_requests_that_it_names(upstream: ScriptedUpstream, blob_path: str) -> None:
    upstream.script(Status(503), kind=RequestKind.MANIFEST, reference="latest", nth=(2, 3))
    statuses = []
    for _ in range(4):
        fetch(upstream, blob_path)
        statuses.append(fetch(upstream, MANIFEST).status)
    assert statuses == [200, 503, 503, 200]


def test_the_newest_script_wins_until_it_is_removed(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(500), kind="manifest")
    newest = upstream.script(Status(403), repository="library/app")
    assert fetch(upstream, MANIFEST).status == 403
    newest.remove()
    assert fetch(upstream, MANIFEST).status == 500
    upstream.clear_scripts()
    assert fetch(upstream, MANIFEST).status == 200


@pytest.mark.parametrize("end", [Close, Reset])
@pytest.mark.parametrize("after_bytes", [0, 1, 65_536, LAYER_BYTES - 1])
def test_exactly_the_stated_bytes_arrive_before_the_end(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes, end: type[Close] | type[Reset], after_bytes: int
) -> None:
    upstream.script(end(after_bytes), kind="blob")
    answer = fetch(upstream, blob_path)
    assert answer.status == 200
    assert answer.body == layer[:after_bytes]
    if end is Reset:
        assert isinstance(answer.error, ConnectionResetError)
    assert upstream.requests[-1].bytes_sent == after_bytes


def test_a_range_answer_is_cut_counted_from_its_own_start(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes
) -> None:
    upstream.script(Close(5), kind="blob")
    answer = fetch(upstream, blob_path, Range="bytes=100-199")
    assert (answer.status, answer.body) == (206, layer[100:105])


@pytest.mark.parametrize(("end", "error"), [(Close(), http.client.RemoteDisconnected), (Reset(), ConnectionResetError)])
def test_the_connection_may_end_before_the_headers(
    upstream: ScriptedUpstream, end: Action, error: type[Exception]
) -> None:
    upstream.script(end, kind="manifest")
    with pytest.raises(error):
        fetch(upstream, MANIFEST)
    assert upstream.requests[-1].status == 0


@pytest.mark.parametrize("after_bytes", [None, 0, 1000, LAYER_BYTES])
def test_a_hanging_answer_goes_on_when_its_gate_opens(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes, after_bytes: int | None
) -> None:
    gate = Gate()
    upstream.script(Hang(gate, after_bytes), kind="blob")
    background = Background(upstream, blob_path)
    gate.wait_reached()
    assert upstream.requests[-1].bytes_sent == (after_bytes or 0)
    # A client that has the whole body may have gone, which ends the request.
    assert after_bytes == LAYER_BYTES or not upstream.requests[-1].finished
    gate.open()
    assert background.result().body == layer


def test_a_valve_lets_through_what_the_test_allows(upstream: ScriptedUpstream, blob_path: str, layer: bytes) -> None:
    valve = Valve(10)
    upstream.script(Throttle(valve), kind="blob")
    background = Background(upstream, blob_path)
    valve.wait_dry()
    assert upstream.requests[-1].bytes_sent == 10
    valve.let(100_000)
    valve.wait_dry()
    assert upstream.requests[-1].bytes_sent == 100_010
    valve.let_all()
    assert background.result().body == layer


def test_a_request_whose_client_left_no_longer_waits_at_the_valve(upstream: ScriptedUpstream, blob_path: str) -> None:
    valve = Valve()
    upstream.script(Throttle(valve), kind="blob")
    with socket.create_connection(("127.0.0.1", upstream.port)) as connection:
        connection.sendall(f"GET {blob_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        valve.wait_dry()
    upstream.requests.wait_for(lambda requests: requests[-1].finished)
    with pytest.raises(TimeoutError):
        valve.wait_dry(timeout_seconds=0)


def test_corrupt_changes_one_byte_of_the_blob_wherever_the_range_begins(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes
) -> None:
    upstream.script(Corrupt(at=70_000), kind="blob")
    changed = layer[:70_000] + bytes([layer[70_000] ^ 0xFF]) + layer[70_001:]
    assert fetch(upstream, blob_path).body == changed
    assert fetch(upstream, blob_path, Range="bytes=69999-70001").body == changed[69_999:70_002]


@pytest.mark.parametrize(
    ("difference", "complete"),
    [pytest.param(5, False, id="longer"), pytest.param(-5, False, id="shorter"), pytest.param(0, True, id="truth")],
)
def test_a_lie_about_the_length_changes_the_header_only(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes, difference: int, complete: bool
) -> None:
    upstream.script(ClaimLength(difference), kind="blob")
    answer = fetch(upstream, blob_path)
    assert int(answer.headers["Content-Length"]) == len(layer) + difference
    assert answer.body == layer[: len(layer) + min(0, difference)]
    assert (len(answer.body) == int(answer.headers["Content-Length"])) is (complete or difference < 0)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_without_length_is_complete(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes, chunked: bool
) -> None:
    upstream.script(NoLength(chunked), kind="blob")
    answer = fetch(upstream, blob_path)
    assert answer.headers["Content-Length"] is None
    assert answer.headers["Transfer-Encoding"] == ("chunked" if chunked else None)
    assert answer.body == layer


def test_a_chunked_body_may_break_off(upstream: ScriptedUpstream, blob_path: str) -> None:
    upstream.script(NoLength(), Close(1000), kind="blob")
    answer = fetch(upstream, blob_path)
    assert isinstance(answer.error, http.client.IncompleteRead)


def test_range_is_ignored_when_scripted_so(upstream: ScriptedUpstream, blob_path: str, layer: bytes) -> None:
    upstream.script(IgnoreRange(), kind="blob")
    answer = fetch(upstream, blob_path, Range="bytes=5-9")
    assert (answer.status, answer.body) == (200, layer)
    assert upstream.requests[-1].range == "bytes=5-9"


def test_a_changed_etag_answers_if_range_with_the_whole_body(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes
) -> None:
    etag = fetch(upstream, blob_path, "HEAD").headers["ETag"]
    assert fetch(upstream, blob_path, Range="bytes=5-9", If_Range=etag).body == layer[5:10]
    upstream.script(ChangedETag('"other"'), kind="blob")
    answer = fetch(upstream, blob_path, Range="bytes=5-9", If_Range=etag)
    assert (answer.status, answer.headers["ETag"], answer.body) == (200, '"other"', layer)


@pytest.mark.parametrize(
    ("action", "name", "value"),
    [
        (Headers({"Docker-Content-Digest": "sha256:" + "0" * 64}), "Docker-Content-Digest", "sha256:" + "0" * 64),
        (Headers(remove=("Docker-Content-Digest",)), "Docker-Content-Digest", None),
        (Headers({"Content-Range": "bytes 7-9/10"}), "Content-Range", "bytes 7-9/10"),
        (Replace(b"{}", "application/json"), "Content-Length", "2"),
        (Html(), "Content-Type", "text/html; charset=utf-8"),
        (Text("busy", 503), "Content-Type", "text/plain; charset=utf-8"),
        (Redirect("http://elsewhere.invalid/x"), "Location", "http://elsewhere.invalid/x"),
        (Challenge('Bearer realm="http://169.254.169.254/"'), "WWW-Authenticate", 'Bearer realm="http://169.254.169.254/"'),
        (HugeHeaders(1, 1000), "X-Huge-0", "x" * 1000),
    ],
)  # fmt: skip
def test_header_faults_arrive(upstream: ScriptedUpstream, action: Action, name: str, value: str | None) -> None:
    upstream.script(action, kind="manifest")
    assert fetch(upstream, MANIFEST).headers[name] == value


def test_a_redirect_loop_never_names_the_same_address_twice(upstream: ScriptedUpstream) -> None:
    upstream.script(RedirectLoop(), kind="manifest")
    seen = [MANIFEST]
    for _ in range(5):
        seen.append(fetch(upstream, seen[-1]).headers["Location"])
    assert len(set(seen)) == 6


def test_a_gzip_body_unpacks_to_the_manifest(upstream: ScriptedUpstream, image: Image) -> None:
    upstream.script(Gzip(), kind="manifest")
    answer = fetch(upstream, MANIFEST)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == image.manifest.body


def test_a_huge_body_is_as_large_as_stated(upstream: ScriptedUpstream) -> None:
    upstream.script(HugeBody(10_000_000), kind="manifest")
    answer = fetch(upstream, MANIFEST)
    assert len(answer.body) == int(answer.headers["Content-Length"]) == 10_000_000


def test_stop_resets_what_is_under_way_and_start_listens_on_the_same_port(
    upstream: ScriptedUpstream, blob_path: str, layer: bytes
) -> None:
    gate = Gate()
    upstream.script(Hang(gate, 1000), kind="blob", nth=1)
    background = Background(upstream, blob_path)
    gate.wait_reached()
    upstream.stop()
    assert isinstance(background.result().error, ConnectionResetError)
    with pytest.raises(ConnectionRefusedError):
        fetch(upstream, blob_path)
    upstream.start()
    assert fetch(upstream, blob_path).body == layer


def test_twenty_clients_at_once_are_counted_exactly(upstream: ScriptedUpstream, blob_path: str) -> None:
    backgrounds = [Background(upstream, blob_path) for _ in range(20)]
    assert {len(background.result().body) for background in backgrounds} == {LAYER_BYTES}
    assert upstream.requests.count(kind="blob", method="GET", status=200) == 20
    assert upstream.requests.bytes_sent == 20 * LAYER_BYTES


def test_an_upstream_on_another_address_can_be_told_apart(image: Image) -> None:
    with ScriptedUpstream(cdn_address="127.0.0.2") as upstream:
        upstream.add("library/app", image, "latest")
        answer = fetch(upstream, f"/v2/library/app/blobs/{image.blobs[1].digest}")
        assert answer.headers["Location"].startswith("http://127.0.0.2:")


def test_raw_answers_come_in_turn_and_the_last_repeats() -> None:
    with RawUpstream(b"HTTP/1.1 204 A\r\n\r\n", b"HTTP/1.1 204 B\r\n\r\n") as upstream:
        reasons = []
        for _ in range(3):
            connection = http.client.HTTPConnection(upstream.host, timeout=60)
            connection.request("GET", "/v2/")
            reasons.append(connection.getresponse().reason)
            connection.close()
        assert reasons == ["A", "B", "B"]
        assert all(head.startswith(b"GET /v2/ HTTP/1.1\r\n") for head in upstream.heads)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTP/9 banana\r\n\r\n", http.client.BadStatusLine),
        (b"", http.client.RemoteDisconnected),
        (endless_headers, http.client.HTTPException),
        (endless_header_line, http.client.LineTooLong),
        (endless_status_line, http.client.LineTooLong),
    ],
)
def test_raw_answers_are_what_no_server_would_write(answer: Any, error: type[Exception]) -> None:
    with RawUpstream(answer) as upstream, pytest.raises(error):
        fetch(upstream, "/v2/")


def test_a_raw_upstream_may_never_answer() -> None:
    with RawUpstream(b"", keep_open=True) as upstream:
        connection = http.client.HTTPConnection(upstream.host, timeout=0.05)
        connection.request("GET", "/v2/")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
