"""Tags and referrers: all pages, no more than the bounds, nowhere else."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from pullthrough.errors import UpstreamDenied, UpstreamError, UpstreamInvalid, UpstreamNotFound
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.listings import REFERRERS, TAGS
from tests.integration.upstream.clients import Make, one
from tests.integration.upstream.servers import Asked, Reply, Server, answering, error_reply, json_reply

DIGEST = digest_of(b"subject")


def descriptor(number: int) -> dict[str, Any]:
    return {"mediaType": media_types.OCI_MANIFEST, "digest": str(digest_of(str(number).encode())), "size": number}


def index(*numbers: int, **headers: str) -> Reply:
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [descriptor(n) for n in numbers]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(200, {"Content-Type": media_types.OCI_INDEX, **named}, json.dumps(document).encode())


async def test_all_pages_of_tags_are_read_each_by_one_request(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        last = int(asked.query.get("last", ["0"])[0])
        document = {"name": "a", "tags": [str(last), str(last + 1)]}
        if last == 4:
            return json_reply(document)
        return json_reply(document, Link=f'</v2/a/tags/list?n=1000&last={last + 2}>; rel="next"')

    with Server(answer) as server:
        assert await one(upstreams, server).list_tags("a", None) == ("0", "1", "2", "3", "4", "5")
    assert [asked.target for asked in server.asked] == [
        "/v2/a/tags/list?n=1000",
        "/v2/a/tags/list?n=1000&last=2",
        "/v2/a/tags/list?n=1000&last=4",
    ]


async def test_a_link_to_another_host_leads_nowhere_else(upstreams: Make) -> None:
    with Server(lambda asked, sock: json_reply({"tags": ["stolen"]}), host="127.0.0.2") as thief:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            if "last" in asked.query:
                return json_reply({"tags": ["b"]})
            return json_reply({"tags": ["a"]}, Link=f'<{thief.url}/v2/a/tags/list?last=a>; rel="next"')

        with Server(answer) as server:
            assert await one(upstreams, server).list_tags("a", None) == ("a", "b")
        assert thief.connections == 0


async def test_pages_in_a_circle_are_invalid(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        return json_reply({"tags": ["a"]}, Link='</v2/a/tags/list?last=a>; rel="next"')

    with Server(answer) as server:
        with pytest.raises(UpstreamInvalid, match="circle"):
            await one(upstreams, server).list_tags("a", None)
        assert len(server.asked) == 2


async def test_pages_without_end_are_invalid(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        last = int(asked.query.get("last", ["0"])[0])
        return json_reply({"tags": []}, Link=f'</v2/a/tags/list?last={last + 1}>; rel="next"')

    with Server(answer) as server:
        with pytest.raises(UpstreamInvalid, match="1,000 pages"):
            await one(upstreams, server).list_tags("a", None)
        assert len(server.asked) == TAGS.pages


async def test_too_many_tags_are_invalid_rather_than_cut(upstreams: Make) -> None:
    tags = [f"t{number}" for number in range(TAGS.entries + 1)]
    with (
        Server(lambda asked, sock: json_reply({"tags": tags})) as server,
        pytest.raises(UpstreamInvalid, match="100,000"),
    ):
        await one(upstreams, server).list_tags("a", None)


async def test_too_many_bytes_of_tags_are_invalid_over_all_pages(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        last = int(asked.query.get("last", ["0"])[0])
        link = f'</v2/a/tags/list?last={last + 1}>; rel="next"'
        return json_reply({"tags": [], "padding": "x" * (TAGS.total_bytes // 3)}, Link=link)

    with Server(answer) as server:
        with pytest.raises(UpstreamInvalid, match="bytes"):
            await one(upstreams, server).list_tags("a", None)
        assert len(server.asked) == 3


@pytest.mark.parametrize("body", [b"[]", b'{"tags": 7}', b"not json", b"<html>"])
async def test_what_is_no_list_of_tags_is_invalid(upstreams: Make, body: bytes) -> None:
    with (
        Server(lambda asked, sock: Reply(200, {"Content-Type": "application/json"}, body)) as server,
        pytest.raises(UpstreamInvalid),
    ):
        await one(upstreams, server).list_tags("a", None)


async def test_an_unknown_repository_has_no_tags_but_an_error(upstreams: Make) -> None:
    with Server(lambda asked, sock: error_reply(404, "NAME_UNKNOWN")) as server, pytest.raises(UpstreamNotFound):
        await one(upstreams, server).list_tags("a", None)


async def test_referrers_come_from_the_api_with_all_its_pages(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if "page" in asked.query:
            return index(2)
        return index(0, 1, Link=f'</v2/a/referrers/{DIGEST}?page=2>; rel="next"')

    with Server(answer) as server:
        found = await one(upstreams, server).fetch_referrers("a", DIGEST, None)
    assert found == (descriptor(0), descriptor(1), descriptor(2))
    assert [asked.target for asked in server.asked] == [
        f"/v2/a/referrers/{DIGEST}",
        f"/v2/a/referrers/{DIGEST}?page=2",
    ]


@pytest.mark.parametrize(
    "absent",
    [
        error_reply(404, "NOT_FOUND"),
        error_reply(400, "UNSUPPORTED"),
        error_reply(405, "UNSUPPORTED"),
        Reply(501, {}, b""),
        Reply(200, {"Content-Type": "text/html"}, b"<html>a single-page application"),
    ],
)
async def test_without_the_api_the_fallback_tag_is_read(upstreams: Make, absent: Reply) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        return index(0) if asked.path.endswith(f"/manifests/sha256-{DIGEST.hex}") else absent

    with Server(answer) as server:
        assert await one(upstreams, server).fetch_referrers("a", DIGEST, None) == (descriptor(0),)
    assert server.lines == [f"GET /v2/a/referrers/{DIGEST}", f"GET /v2/a/manifests/sha256-{DIGEST.hex}"]


async def test_neither_api_nor_fallback_tag_means_that_there_are_none(upstreams: Make) -> None:
    with Server(lambda asked, sock: error_reply(404, "NOT_FOUND")) as server:
        assert await one(upstreams, server).fetch_referrers("a", DIGEST, None) == ()
        assert len(server.asked) == 2


@pytest.mark.parametrize(("status", "error"), [(401, UpstreamDenied), (403, UpstreamDenied), (500, UpstreamError)])
async def test_trouble_is_not_taken_for_no_referrers(upstreams: Make, status: int, error: type[UpstreamError]) -> None:
    with Server(lambda asked, sock: error_reply(status, "X")) as server, pytest.raises(error):
        await one(upstreams, server).fetch_referrers("a", DIGEST, None)


async def test_referrers_are_capped_in_entries_pages_and_bytes(upstreams: Make) -> None:
    def pages(asked: Asked, sock: socket.socket) -> Reply:
        page = int(asked.query.get("page", ["0"])[0])
        return index(page, Link=f'</x?page={page + 1}>; rel="next"')

    too_long = json.dumps({"manifests": [descriptor(0)] * (REFERRERS.entries + 1)}).encode()
    too_large = b" " * (REFERRERS.page_bytes + 1)
    with Server(pages) as server:
        upstream = one(upstreams, server)
        with pytest.raises(UpstreamInvalid, match="16 pages"):
            await upstream.fetch_referrers("a", DIGEST, None)
        assert len(server.asked) == REFERRERS.pages
        for body in (too_long, too_large):
            server.handler = answering(Reply(200, {"Content-Type": "application/json"}, body))
            with pytest.raises(UpstreamInvalid):
                await upstream.fetch_referrers("a", DIGEST, None)
