"""HEAD of blobs: the size is the one that somebody has named, and upstreams that refuse HEAD are no obstacle to a pull."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from pullthrough.demo.images import Blob, make_blob, make_image
from tests.fakes.upstream import Action, ClaimLength, Close, Gate, Hang, Headers, IgnoreRange, NoLength, Status
from tests.integration.sites import Corner, Download, Site, open_site

SIZE = 100_000


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("heads"), request.param, serve="prefetch = false") as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def head(corner: Corner, blob: Blob, version: str = "HTTP/1.1") -> tuple[int, Mapping[str, str]]:
    """Status and headers of HEAD, asked of always the same worker: each remembers by itself what an upstream refuses."""
    connection = corner.site.connect(min(corner.site.pids))
    path = corner.path(blob.digest)
    with Download(corner.engine, path, method="HEAD", version=version, connection=connection) as answer:
        return answer.status, answer.headers


def length(corner: Corner, blob: Blob) -> int | None:
    status, headers = head(corner, blob)
    assert status == 200
    return int(headers["content-length"]) if "content-length" in headers else None


def test_the_size_is_the_manifests_whatever_the_upstream_says(corner: Corner) -> None:
    for number, lie in enumerate((ClaimLength(1), ClaimLength(-SIZE), NoLength(), Headers())):
        blob = corner.blob(SIZE + number)
        corner.script(lie, method="HEAD", reference=blob.digest)
        assert length(corner, blob) == blob.size_bytes
        assert corner.cost(blob) == {"HEAD": 1}


@pytest.mark.parametrize("lie", [ClaimLength(-SIZE), NoLength()], ids=["length-0", "no-length"])
def test_of_a_blob_that_no_manifest_names_the_first_byte_tells_the_size(corner: Corner, lie: Action) -> None:
    blob = corner.blob(SIZE, known=False)
    corner.script(lie, method="HEAD")
    assert length(corner, blob) == SIZE
    assert corner.cost(blob) == {"HEAD": 1, "GET": 1}
    assert [asked.range for asked in corner.asked(blob)] == ["bytes=0-0"]


def test_what_nobody_has_named_is_no_size(corner: Corner) -> None:
    blob = corner.blob(SIZE, known=False)
    corner.script(NoLength(), method="HEAD")
    corner.script(IgnoreRange(), NoLength(), method="GET")
    for version in ("HTTP/1.1", "HTTP/1.0"):
        status, headers = head(corner, blob, version)
        assert status == 200
        assert "content-length" not in headers
    assert corner.cost(blob) == {"HEAD": 2, "GET": 2}


def test_an_empty_blob_has_the_size_0(corner: Corner) -> None:
    blob = corner.blob(0, known=False)
    assert length(corner, blob) == 0
    assert corner.cost(blob) == {"HEAD": 1}


def test_during_a_fill_the_size_is_the_transfers(corner: Corner) -> None:
    blob, gate = corner.blob(SIZE, known=False), Gate()
    corner.script(Hang(gate, after_bytes=90_000))
    with corner.open(blob) as download:
        assert download.read(10) == blob.read(0, 10)
        assert length(corner, blob) == SIZE
        gate.open()
        assert download.rest() == blob.read(10)
    assert corner.cost(blob) == {"GET": 1}


@pytest.mark.parametrize("status", [401, 403, 405, 501])
def test_an_upstream_that_refuses_head_is_asked_by_get_from_then_on(corner: Corner, status: int) -> None:
    first, second = corner.blobs(SIZE, SIZE + 1, known=False)
    corner.script(Status(status), method="HEAD")
    assert [length(corner, first), length(corner, second)] == [SIZE, SIZE + 1]
    assert (corner.cost(first), corner.cost(second)) == ({"HEAD": 1, "GET": 1}, {"GET": 1})


def test_what_head_does_not_find_may_be_there_by_get(corner: Corner) -> None:
    """And is remembered as missing where it is not."""
    first, second, missing = (*corner.blobs(SIZE, SIZE + 1, known=False), make_blob("nowhere", SIZE))
    corner.script(Status(404), method="HEAD")
    assert [length(corner, first), length(corner, second)] == [SIZE, SIZE + 1]
    assert corner.cost(first) == corner.cost(second) == {"HEAD": 1, "GET": 1}
    assert [head(corner, missing)[0] for _ in range(2)] == [404, 404]
    assert corner.cost(missing) == {"HEAD": 1, "GET": 1}


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(Status(429, retry_after=600), 429), (Status(500), 503), (Status(503), 503), (Close(), 503)],
    ids=["429", "500", "503", "closed"],
)
def test_an_upstream_in_trouble_is_not_asked_for_bytes_as_well(corner: Corner, trouble: Action, told: int) -> None:
    # The very first question: on a connection that was kept, one that is closed would be asked again.
    blob = corner.blob(SIZE, known=False)
    corner.script(trouble, method="HEAD")
    assert head(corner, blob)[0] == told
    assert corner.cost(blob) == {"HEAD": 1}


def test_a_size_that_the_upstream_refuses_to_tell_at_all_is_an_error(corner: Corner) -> None:
    blob = corner.blob(SIZE)
    corner.script(Status(403), method=None)
    assert head(corner, blob)[0] == 403
    assert corner.cost(blob) == {"HEAD": 1, "GET": 1}


@pytest.mark.parametrize("status", [401, 403, 405])
def test_images_on_one_base_are_pulled_from_an_upstream_that_refuses_head(corner: Corner, status: int) -> None:
    """The second image's upstream must say that it has the base, for whose bytes nothing more is asked."""
    base = make_blob(f"{corner.prefix} base", SIZE)
    corner.script(Status(status), method="HEAD")
    pid = min(corner.site.pids)
    for number, cost in enumerate(({"GET": 1}, {"HEAD": 1, "GET": 1}, {"GET": 1})):
        image = make_image(f"{corner.prefix} {number}", layers=(base, make_blob(f"{corner.prefix} {number}", 1000)))
        each = replace(corner, repository=f"{corner.repository}-{number}")
        each.script(Status(status), method="HEAD")
        each.add(image)
        for blob in image.blobs:
            with each.open(blob, connection=corner.site.connect(pid)) as download:
                assert download.rest() == blob.read()
            each.wait_published(blob)
        assert each.cost(base) == cost
        assert [asked.range for asked in each.asked(base)] == ["bytes=0-0" if number else ""]
        assert [each.cost(blob) for blob in image.blobs if blob is not base] == [{"GET": 1}] * 2


def shared_base(corner: Corner, site: Site) -> tuple[Blob, Corner]:
    """A layer that is here, and another upstream's image on it, of which nothing is."""
    base = make_blob(f"{corner.prefix} base", SIZE)
    corner.add(make_image(f"{corner.prefix} one", layers=(base,)))
    assert corner.get(base).body == base.read()
    corner.wait_published(base)
    other = site.corner()
    other.add(make_image(f"{corner.prefix} two", layers=(base,)))
    return base, other


def test_of_an_upstream_that_says_neither_yes_nor_no_only_all_the_bytes_are_proof(corner: Corner, site: Site) -> None:
    base, other = shared_base(corner, site)
    other.script(Status(403), method="HEAD")
    other.script(Status(403), method="GET", nth=1)
    assert other.get(base).body == base.read()
    assert other.cost(base) == {"HEAD": 1, "GET": 2}
    assert [asked.range for asked in other.asked(base)] == ["bytes=0-0", ""]


def test_a_pull_while_the_upstream_says_nothing_of_what_is_here_fails(corner: Corner, site: Site) -> None:
    """Bytes of the same digest that came from elsewhere are no answer to what this upstream was asked."""
    base, other = shared_base(corner, site)
    other.script(Status(503), method="HEAD")
    assert other.get(base).status == 503
    assert other.cost(base) == {"HEAD": 1}
