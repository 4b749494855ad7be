from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.client.platforms import Platform, choose, parse_platform, this_machine
from pullthrough.errors import ConfigurationError
from pullthrough.oci.digests import digest_of
from pullthrough.oci.manifests import Descriptor


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux/armhf/v6", Platform("linux", "arm", "v6")),
        ("windows/amd64", Platform("windows", "amd64")),
        ("unknown/unknown", Platform("unknown", "unknown")),
    ],
)
def test_platforms_are_parsed_with_the_names_that_kernels_use(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "linux/amd64/", "linux/arm/v7/x", "Linux/AMD64", "linux amd64", "linux/ä",
             "linux/amd64\n"]
)  # fmt: skip
def test_what_is_no_platform_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_platform(text)
    assert "linux/amd64" in caught.value.hint


@given(st.from_regex(r"[a-z0-9]{1,8}/[a-z0-9]{1,8}(/v[0-9])?", fullmatch=True))
def test_what_was_parsed_is_parsed_the_same_again(text: str) -> None:
    platform = parse_platform(text)
    assert parse_platform(str(platform)) == platform


@given(st.text(max_size=40))
def test_any_text_is_a_platform_or_a_clear_error(text: str) -> None:
    try:
        parse_platform(text)
    except ConfigurationError:
        pass


def test_this_machine_is_a_linux() -> None:
    assert this_machine().os == "linux"


def _index(*platforms: str) -> list[Descriptor]:
    return [Descriptor(digest_of(text.encode()), 1, "", text) for text in platforms]


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["windows/amd64", "unknown/unknown"], None),
        ("linux/amd64", [], None),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm64", ["linux/arm64/v8", "linux/arm64"], "linux/arm64"),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/s390x", ["linux/s390x"], "linux/s390x"),
        ("linux/riscv64/rva23", ["linux/riscv64"], "linux/riscv64"),
        ("linux/riscv64", ["linux/riscv64/rva23"], None),
        ("linux/amd64", ["nonsense", "linux/amd64/../..", "linux/amd64"], "linux/amd64"),
    ],
)
def test_the_best_image_that_the_machine_runs_is_chosen(wanted: str, offered: list[str], chosen: str | None) -> None:
    child = choose(_index(*offered), parse_platform(wanted))
    assert (child.platform if child else None) == chosen


def test_of_two_entries_for_one_platform_the_first_is_chosen() -> None:
    first, second = Descriptor(digest_of(b"1"), 1, "", "linux/amd64"), Descriptor(digest_of(b"2"), 1, "", "linux/amd64")
    assert choose([first, second], parse_platform("linux/amd64")) is first
