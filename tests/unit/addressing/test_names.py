"""Names under rules: what is below a prefix, what covers a name, and Docker Hub's short names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.addressing.names import below, cached_image, covering, prefixed, spelt_out
from pullthrough.declaration import ROOT, Rule
from pullthrough.oci.names import DOCKER_HUB

HUB = Rule("docker-hub", DOCKER_HUB)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("docker-hub/library/nginx", "docker-hub"),
        ("docker-hub/team/app", "docker-hub/team"),
        ("docker-hubs/app", ROOT),
        ("docker-hub", ROOT),
        ("docker-hub/team", "docker-hub"),
    ],
)
def test_the_longest_prefix_covers_on_whole_segments_and_root_last(name: str, prefix: str) -> None:
    assert covering([ROOT, "docker-hub", "docker-hub/team"], name) == prefix


def test_without_root_the_rest_is_covered_by_nothing() -> None:
    assert covering(["quay"], "own/app") == ""


@pytest.mark.parametrize(
    ("prefix", "name", "inner"),
    [
        ("quay", "quay/a/b", "a/b"),
        ("quay", "quays/a", None),
        ("quay", "quay", None),
        (ROOT, "quay/a", "quay/a"),
        ("", "quay/a", "quay/a"),
    ],
)
def test_what_is_below_a_prefix(prefix: str, name: str, inner: str | None) -> None:
    assert below(prefix, name) == inner


@given(st.sampled_from([ROOT, "quay", "team/a"]), st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True))
def test_a_name_put_below_a_prefix_is_below_it(prefix: str, inner: str) -> None:
    assert below(prefix, prefixed(prefix, inner)) == inner


@pytest.mark.parametrize(
    ("rule", "inner", "full"),
    [
        (HUB, "nginx", "library/nginx"),
        (HUB, "library/nginx", "library/nginx"),
        (HUB, "team/app", "team/app"),
        (Rule("ours", DOCKER_HUB, "team"), "app", "app"),
        (Rule("quay", "quay.io"), "app", "app"),
    ],
)
def test_only_docker_hubs_short_names_are_spelt_out(rule: Rule, inner: str, full: str) -> None:
    assert spelt_out(rule, inner) == full


@pytest.mark.parametrize(
    ("prefix", "image"),
    [("quay", "quay/a/b:1"), (ROOT, "a/b:1"), ("my.cache", "my.cache/a/b:1")],
)
def test_the_prefix_goes_before_the_name_even_where_it_looks_like_a_host(prefix: str, image: str) -> None:
    named = cached_image(Rule(prefix, "quay.io"), "a/b:1")
    assert (named.host, str(named)) == (None, image)
