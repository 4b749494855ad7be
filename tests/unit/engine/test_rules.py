"""From names to repositories: prefixes, `ns`, mirrors, ROOT, Docker Hub's official images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.declaration import STANDARD_RULES, Rule
from pullthrough.engine.rules import RuleBook
from pullthrough.errors import Denied, RepositoryUnknown
from pullthrough.oci.names import parse_repository_name

BOOK = RuleBook(STANDARD_RULES)


def resolve(book: RuleBook, name: str, ns: str | None = None, mirror: str | None = None) -> list[tuple[str, str, str]]:
    targets = book.resolve(parse_repository_name(name), ns=ns, mirror=mirror)
    both = [targets.literal, *([targets.stripped] if targets.stripped else [])]
    return [(target.repository, target.upstream, target.upstream_repository) for target in both]


@pytest.mark.parametrize(
    ("name", "stored", "upstream", "asked"),
    [
        ("docker-hub/library/nginx", "docker-hub/library/nginx", "registry-1.docker.io", "library/nginx"),
        ("docker-hub/nginx", "docker-hub/library/nginx", "registry-1.docker.io", "library/nginx"),
        ("docker-hub/bitnami/redis", "docker-hub/bitnami/redis", "registry-1.docker.io", "bitnami/redis"),
        ("kubernetes/pause", "kubernetes/pause", "registry.k8s.io", "pause"),
        ("github/a/b/c", "github/a/b/c", "ghcr.io", "a/b/c"),
        ("ecr-public/x/y", "ecr-public/x/y", "public.ecr.aws", "x/y"),
        ("quay/x/y", "quay/x/y", "quay.io", "x/y"),
    ],
)
def test_by_prefix(name: str, stored: str, upstream: str, asked: str) -> None:
    assert resolve(BOOK, name) == [(stored, upstream, asked)]


@pytest.mark.parametrize("name", ["nginx", "library/nginx", "docker-hubx/nginx", "docker-hub", "docker/hub/nginx"])
def test_a_name_under_no_rule_says_which_prefixes_exist(name: str) -> None:
    """It is the registry's own repository, whose bearer gets this advice where there is none."""
    targets = BOOK.resolve(parse_repository_name(name))
    assert (targets.literal.is_own, targets.literal.repository, targets.stripped) == (True, name, None)
    assert "docker-hub, ecr-public, github, kubernetes, quay" in BOOK.advice(name)


def test_the_longest_prefix_wins_on_whole_segments_and_root_is_last() -> None:
    book = RuleBook([Rule("a", "one.example"), Rule("a/b", "two.example"), Rule("ROOT", "three.example")])
    assert resolve(book, "a/b/c") == [("a/b/c", "two.example", "c")]
    assert resolve(book, "a/bc") == [("a/bc", "one.example", "bc")]
    assert resolve(book, "ab/c") == [("ab/c", "three.example", "ab/c")]
    assert resolve(book, "a") == [("a", "three.example", "a")]


def test_the_upstream_prefix_is_put_in_front() -> None:
    book = RuleBook([Rule("my-app", "r.example", "upstream-app"), Rule("team-a", "r.example", "team-a")])
    assert resolve(book, "my-app/image1") == [("my-app/image1", "r.example", "upstream-app/image1")]
    assert resolve(book, "team-a/myapp/image1") == [("team-a/myapp/image1", "r.example", "team-a/myapp/image1")]


@pytest.mark.parametrize("ns", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_ns_alone_picks_the_upstream_and_shares_the_store_with_the_prefix(ns: str) -> None:
    stored = ("docker-hub/library/nginx", "registry-1.docker.io", "library/nginx")
    assert resolve(BOOK, "library/nginx", ns=ns) == [stored]
    assert resolve(BOOK, "nginx", ns=ns) == [stored]
    assert resolve(BOOK, "docker-hub/library/nginx") == [stored]


@pytest.mark.parametrize("ns", ["evil.example", "docker.io.evil.example", "", "ghcr.io:5000", "../x"])
def test_an_unknown_ns_is_unknown_whatever_the_name_begins_with(ns: str) -> None:
    with pytest.raises(RepositoryUnknown):
        resolve(BOOK, "docker-hub/library/nginx", ns=ns)


def test_with_ns_the_literal_name_comes_before_the_stripped_one() -> None:
    assert resolve(BOOK, "docker-hub/library/nginx", ns="docker.io") == [
        ("docker-hub/docker-hub/library/nginx", "registry-1.docker.io", "docker-hub/library/nginx"),
        ("docker-hub/library/nginx", "registry-1.docker.io", "library/nginx"),
    ]


def test_with_ns_the_prefix_of_another_upstreams_rule_is_not_stripped() -> None:
    assert resolve(BOOK, "quay/library/nginx", ns="docker.io") == [
        ("docker-hub/quay/library/nginx", "registry-1.docker.io", "quay/library/nginx")
    ]


def test_with_ns_the_rule_with_the_narrowest_upstream_prefix_is_taken() -> None:
    book = RuleBook([Rule("all", "r.example"), Rule("team", "r.example", "team")])
    assert resolve(book, "team/x", ns="r.example")[0] == ("team/x", "r.example", "team/x")
    assert resolve(book, "other/x", ns="r.example") == [("all/other/x", "r.example", "other/x")]


def test_a_mirror_listener_needs_neither_prefix_nor_ns() -> None:
    assert resolve(BOOK, "library/nginx", mirror="docker-hub") == [
        ("docker-hub/library/nginx", "registry-1.docker.io", "library/nginx")
    ]


@pytest.mark.parametrize(
    ("allow", "deny", "name", "served"),
    [
        (("library/*",), (), "docker-hub/library/nginx", True),
        (("library/*",), (), "docker-hub/nginx", True),
        (("library/*",), (), "docker-hub/evil/nginx", False),
        ((), ("evil/*",), "docker-hub/evil/nginx", False),
        (("*",), ("library/ng*",), "docker-hub/nginx", False),
    ],
)
def test_allow_and_deny(allow: tuple[str, ...], deny: tuple[str, ...], name: str, served: bool) -> None:
    book = RuleBook([Rule("docker-hub", "registry-1.docker.io", allow=allow, deny=deny)])
    for path, ns in ((name, None), (name.removeprefix("docker-hub/"), "docker.io")):
        if served:
            assert resolve(book, path, ns=ns)
        else:
            with pytest.raises(Denied):
                resolve(book, path, ns=ns)


_SEGMENT = st.from_regex(r"\A[a-c](?:[-.][a-c])?\Z")
_PREFIX = st.lists(_SEGMENT, min_size=1, max_size=3).map("/".join)


@given(prefixes=st.sets(_PREFIX, min_size=1, max_size=6), name=st.lists(_SEGMENT, min_size=1, max_size=5).map("/".join))
def test_matching_agrees_with_trying_every_prefix(prefixes: set[str], name: str) -> None:
    book = RuleBook([Rule(prefix, "r.example") for prefix in prefixes])
    matching = [prefix for prefix in prefixes if name.startswith(prefix + "/")]
    ((stored, upstream, asked),) = resolve(book, name)
    assert stored == name
    if not matching:
        assert (upstream, asked) == ("", "")
        return
    assert asked == name.removeprefix(max(matching, key=len) + "/")
