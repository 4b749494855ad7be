"""Lifecycle policies: what is a policy, and what it does to a repository's images.

Left out on purpose: how decisions are carried out (tests/unit/storage/test_images.py, and over HTTP).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.engine.keep.lifecycle import Decision, Fate, evaluate, together
from pullthrough.engine.keep.lifecycle_policy import (
    MAX_POLICY_CHARACTERS,
    SECONDS_PER_DAY,
    Action,
    CountType,
    LifecycleRule,
    StorageClass,
    TagStatus,
    parse_lifecycle_policy,
)
from pullthrough.errors import LifecyclePolicyInvalid
from pullthrough.storage.catalog.records import ImageState

NOW = 1_000 * SECONDS_PER_DAY


def rule(priority: int = 1, action: object = None, description: str | None = None, **selection: Any) -> dict[str, Any]:
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1, **selection}
    made = {
        "rulePriority": priority,
        "selection": {name: value for name, value in selection.items() if value is not None},
        "action": {"type": "expire"} if action is None else action,
    }
    return made if description is None else {**made, "description": description}


ARCHIVE = {"type": "transition", "targetStorageClass": "archive"}


def text(*rules: object) -> str:
    return json.dumps({"rules": list(rules)})


def policy(*rules: object) -> tuple[LifecycleRule, ...]:
    return parse_lifecycle_policy(text(*rules))


def image(
    number: int, *tags: str, days: float = 0, children: Sequence[int] = (), subject: int | None = None, **more: float
) -> ImageState:
    """One that was pushed so many days ago."""
    return ImageState(
        image_id=number,
        digest=digest(number),
        tags=tags,
        pushed_at=NOW - days * SECONDS_PER_DAY,
        pulled_at=more.get("pulled_at"),
        archived_at=more.get("archived_at"),
        activated_at=more.get("activated_at"),
        children=tuple(digest(child) for child in children),
        subject="" if subject is None else digest(subject),
    )


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def expired(rules: Sequence[LifecycleRule], *images: ImageState) -> set[int]:
    return {d.image.image_id for d in evaluate(rules, images, now=NOW) if d.fate is Fate.EXPIRED}


def archived(rules: Sequence[LifecycleRule], *images: ImageState) -> set[int]:
    return {d.image.image_id for d in evaluate(rules, images, now=NOW) if d.fate is Fate.ARCHIVED}


# The grammar

VALID = {
    "prefixes": rule(tagStatus="tagged", tagPrefixList=["prod", "v1."]),
    "patterns": rule(tagStatus="tagged", tagPatternList=["*a*b*c*"]),
    "untagged": rule(tagStatus="untagged", countType="sinceImagePushed", countUnit="days", countNumber=14),
    "archive": rule(action=ARCHIVE, countType="sinceImagePulled", countUnit="days"),
    "archive by count": rule(action=ARCHIVE),
    "leave the archive": rule(countType="sinceImageTransitioned", countUnit="days", storageClass="archive"),
    "standard, said aloud": rule(storageClass="standard", description="why"),
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_rule_is_taken(name: str) -> None:
    (parsed,) = policy(VALID[name])
    assert parsed.priority == 1


def test_rules_come_by_priority() -> None:
    rules = policy(rule(9), rule(2, tagStatus="untagged"), rule(5, tagStatus="tagged", tagPrefixList=["a"]))
    assert [rule.priority for rule in rules] == [2, 5, 9]


def test_each_storage_class_has_its_own_last_rule() -> None:
    leaves = rule(3, countType="sinceImageTransitioned", countUnit="days", storageClass="archive")
    rules = policy(rule(2, action=ARCHIVE, countType="sinceImagePulled", countUnit="days"), leaves)
    assert [rule.storage_class for rule in rules] == [StorageClass.STANDARD, StorageClass.ARCHIVE]


INVALID = {
    "not JSON": ("{", "Could not map policyString into LifecyclePolicy."),
    "nested too deeply": ("[" * 20_000, "Could not map policyString into LifecyclePolicy."),
    "a list": ("[]", "Could not map policyString into LifecyclePolicy."),
    "a member twice": ('{"rules": [], "rules": []}', "Could not map policyString into LifecyclePolicy."),
    "no rules": ("{}", 'object has missing required properties (["rules"])'),
    "another member": (json.dumps({"rules": [rule()], "Version": "1"}), '(["Version"])'),
    "rules is null": ('{"rules": null}', 'instance type (null) does not match any allowed primitive type (allowed: ["array"])'),
    "no rule": (text(), "rules must have 1 to 50"),
    "51 rules": (text(*(rule(n, tagStatus="tagged", tagPrefixList=[f"v{n}"]) for n in range(1, 52))), "1 to 50"),
    "a rule that is no object": (text(1), 'instance type (integer) does not match any allowed primitive type'),
    "no selection": (text({"rulePriority": 1, "action": {"type": "expire"}}), '(["selection"])'),
    "priority 0": (text(rule(0)), "numeric instance is lower than the required minimum (minimum: 1, found: 0)"),
    "priority true": (text(rule(True)), "instance type (boolean)"),
    "priority 1.5": (text({**rule(), "rulePriority": 1.5}), "instance type (number)"),
    "priority too large": (text(rule(2**31)), "numeric instance is greater than the maximum"),
    "description of another type": (text({**rule(), "description": 1}), "rules[0].description"),
    "one priority twice": (text(rule(1), rule(1, tagStatus="untagged")), "unique priority"),
    "any before others": (text(rule(1), rule(2, tagStatus="untagged")), "highest rulePriority"),
    "untagged twice": (text(rule(1, tagStatus="untagged"), rule(2, tagStatus="untagged")), "only one rule"),
    "the same tags twice": (
        text(rule(1, tagStatus="tagged", tagPrefixList=["a"]), rule(2, tagStatus="tagged", tagPatternList=["a*"])),
        "the same tags",
    ),
    "tagStatus": (text(rule(tagStatus="some")), 'instance value ("some") not found in enum'),
    "tagStatus of another type": (text(rule(tagStatus=["any"])), "not found in enum"),
    "countType": (text(rule(countType="sinceImageBuilt")), "not found in enum"),
    "countNumber 0": (text(rule(countNumber=0)), "(minimum: 1, found: 0)"),
    "countNumber as text": (text(rule(countNumber="5")), "instance type (string)"),
    "no countUnit": (text(rule(countType="sinceImagePushed")), "countUnit must be 'days'"),
    "countUnit weeks": (text(rule(countType="sinceImagePushed", countUnit="weeks")), 'possible values: ["days"]'),
    "countUnit for a count": (text(rule(countUnit="days")), "matched 0 out of 2"),
    "a member that is null": (text({**rule(), "selection": {**rule()["selection"], "countUnit": None}}), "countUnit"),
    "unknown member": (text(rule(tagRegex="a")), '(["tagRegex"])'),
    "tagged without a list": (text(rule(tagStatus="tagged")), "one of tagPrefixList and tagPatternList"),
    "both lists": (text(rule(tagStatus="tagged", tagPrefixList=["a"], tagPatternList=["b"])), "one of"),
    "an empty list": (text(rule(tagStatus="tagged", tagPrefixList=[])), "array is too short"),
    "a list of numbers": (text(rule(tagStatus="tagged", tagPrefixList=[1])), "instance type (integer)"),
    "a prefix with a star": (text(rule(tagStatus="tagged", tagPrefixList=["a*"])), "can match no tag"),
    "five stars": (text(rule(tagStatus="tagged", tagPatternList=["*a*b*c*d*"])), "more than 4 wildcards"),
    "a list for untagged": (text(rule(tagStatus="untagged", tagPrefixList=["a"])), "tagStatus tagged only"),
    "an action of no kind": (text(rule(action={"type": "delete"})), 'possible values: ["expire", "transition"]'),
    "no type": (text(rule(action={"kind": "expire"})), '(["type"])'),
    "a class for expire": (text(rule(action={**ARCHIVE, "type": "expire"})), "goes with type transition only"),
    "no class for transition": (text(rule(action={"type": "transition"})), "targetStorageClass must be 'archive'"),
    "another class": (text(rule(action={**ARCHIVE, "targetStorageClass": "cold"})), 'possible values: ["archive"]'),
    "expire by pulls": (text(rule(countType="sinceImagePulled", countUnit="days")), "with a transition only"),
    "transitioned, standard": (text(rule(countType="sinceImageTransitioned", countUnit="days")), "together only"),
    "count in the archive": (text(rule(storageClass="archive")), "together only"),
    "from archive to archive": (
        text(rule(action=ARCHIVE, countType="sinceImageTransitioned", countUnit="days", storageClass="archive")),
        "can only expire",
    ),
    "too long": (text(rule(description="x" * MAX_POLICY_CHARACTERS)), "the limit is 30,720"),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_what_is_wrong_is_said_in_the_words_of_ecr(name: str) -> None:
    given_text, why = INVALID[name]
    with pytest.raises(LifecyclePolicyInvalid) as raised:
        parse_lifecycle_policy(given_text)
    assert raised.value.message.startswith(
        "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation failure: "
    )
    assert why in raised.value.message


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_breaks_the_parser(anything: str) -> None:
    try:
        parse_lifecycle_policy(anything)
    except LifecyclePolicyInvalid:
        pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["any", "tagged", "expire", "days", "a*"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "countType", "x"]), inner),
    max_leaves=3,
)


@given(st.data())
def test_no_member_breaks_the_parser(data: st.DataObject) -> None:
    made = data.draw(st.sampled_from(list(VALID.values())))
    where = data.draw(st.sampled_from([made, made["selection"], made["action"]]))
    changed = {**where, data.draw(st.sampled_from([*where, "tagPatternList", "x"])): data.draw(_JSON)}
    name = next((name for name in ("selection", "action") if where is made[name]), None)
    try:
        policy(changed if name is None else {**made, name: changed})
    except LifecyclePolicyInvalid:
        pass


# Which images a rule is about


@pytest.mark.parametrize(
    ("pattern", "tag", "matches"),
    [
        ("prod*", "prod", True),
        ("prod*", "prod-1", True),
        ("prod*", "my-prod", False),
        ("prod", "prod-1", False),
        ("*", "anything", True),
        ("*-rc*", "1.0-rc1", True),
        ("*a*a*", "a", False),
        ("*a*a*", "aa", True),
        ("a*a", "a", False),
        ("v*.0", "v1.0", True),
        ("v*.0", "v1.0.1", False),
    ],
)
def test_a_pattern_matches_whole_tags(pattern: str, tag: str, matches: bool) -> None:
    (parsed,) = policy(rule(tagStatus="tagged", tagPatternList=[pattern]))
    assert parsed.selects([tag]) is matches


@given(st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=5), st.lists(st.sampled_from("ab")))
def test_a_tag_made_from_a_pattern_matches_it(parts: list[str], fillers: list[str]) -> None:
    filled = [*fillers, "", "", "", ""]
    tag = "".join(part + filler for part, filler in zip(parts, [*filled[: len(parts) - 1], ""], strict=True)) or "a"
    pattern = "*".join(parts) or "*"
    made = LifecycleRule(
        1, TagStatus.TAGGED, (pattern,), StorageClass.STANDARD, CountType.IMAGE_COUNT_MORE_THAN, 1, Action.EXPIRE
    )
    assert made.selects([tag]) or tag == "a"


def test_every_entry_of_the_list_must_match_one_of_the_tags() -> None:
    (parsed,) = policy(rule(tagStatus="tagged", tagPrefixList=["prod", "v1"]))
    assert parsed.selects(["prod-1", "v1.0"])
    assert not parsed.selects(["prod-1", "v2.0"])


# What rules do


def test_a_count_keeps_the_newest() -> None:
    images = [image(number, f"v{number}", days=number) for number in range(5)]
    assert expired(policy(rule(countNumber=2)), *images) == {2, 3, 4}


def test_age_is_counted_from_the_push() -> None:
    rules = policy(rule(countType="sinceImagePushed", countUnit="days", countNumber=10))
    assert expired(rules, image(1, days=10.1), image(2, days=10), image(3, days=1)) == {1}


def test_what_was_restored_counts_from_then() -> None:
    rules = policy(rule(countType="sinceImagePushed", countUnit="days", countNumber=10))
    assert expired(rules, image(1, days=90, activated_at=NOW - SECONDS_PER_DAY)) == set()


def test_what_was_never_pulled_counts_from_its_push() -> None:
    rules = policy(rule(action=ARCHIVE, countType="sinceImagePulled", countUnit="days", countNumber=10))
    recent = NOW - SECONDS_PER_DAY
    images = [
        image(1, days=20),
        image(2, days=20, pulled_at=recent),
        image(3, days=2),
        image(4, days=90, activated_at=recent),
    ]
    assert archived(rules, *images) == {1}


def test_an_archived_image_expires_by_its_time_in_the_archive_only() -> None:
    rules = policy(
        rule(1, countType="sinceImagePushed", countUnit="days", countNumber=10),
        rule(2, countType="sinceImageTransitioned", countUnit="days", countNumber=30, storageClass="archive"),
    )
    young, old = NOW - SECONDS_PER_DAY, NOW - 31 * SECONDS_PER_DAY
    assert expired(rules, image(1, days=90, archived_at=young), image(2, days=90, archived_at=old)) == {2}


def test_an_image_belongs_to_the_first_rule_that_covers_it() -> None:
    """The example of ECR's user guide, "Filtering on multiple rules"."""
    rules = policy(
        rule(1, tagStatus="tagged", tagPrefixList=["prod"]), rule(2, tagStatus="tagged", tagPrefixList=["beta"])
    )
    images = [
        image(1, "beta-1", "prod-1", days=10),
        image(2, "beta-2", "prod-2", days=9),
        image(3, "beta-3", days=8),
    ]
    assert expired(rules, *images) == {1}


def test_a_rule_counts_what_an_earlier_one_has_marked() -> None:
    rules = policy(rule(1, tagStatus="tagged", tagPrefixList=["a"], countNumber=1), rule(2, countNumber=2))
    images = [image(1, "a1", days=4), image(2, "b", days=3), image(3, "a2", days=2), image(4, "c", days=1)]
    assert expired(rules, *images) == {1, 2}


def test_a_pinned_image_stays_with_what_needs_it() -> None:
    rules = policy(rule(countType="sinceImagePushed", countUnit="days"))
    images = [image(1, "a", days=9), image(2, "b", days=9)]
    assert {d.image.image_id for d in evaluate(rules, images, now=NOW, held={1})} == {2}


# Indexes, children, referrers


def test_untagged_children_of_a_kept_index_stay_whatever_the_rule() -> None:
    images = [image(1, "latest", days=9, children=[2, 3]), image(2, days=9), image(3, days=9), image(4, days=9)]
    by_age = policy(rule(tagStatus="untagged", countType="sinceImagePushed", countUnit="days"))
    assert expired(by_age, *images) == {4}
    assert expired(policy(rule(tagStatus="untagged", countNumber=1)), *images) == set()


def test_an_index_and_its_children_count_as_one_image() -> None:
    images = [image(1, "v1", days=2, children=[2, 3]), image(2, days=2), image(3, days=2), image(4, "v2", days=1)]
    assert expired(policy(rule(countNumber=2)), *images) == set()
    assert expired(policy(rule(countNumber=1)), *images) == {1, 2, 3}


def test_a_child_stays_while_one_of_its_indexes_does() -> None:
    images = [image(1, "v1", days=2, children=[3]), image(2, "v2", days=1, children=[3]), image(3, days=2)]
    assert expired(policy(rule(countNumber=1)), *images) == {1}


def test_a_child_with_a_tag_stays_when_its_index_goes() -> None:
    images = [image(1, "v1", days=2, children=[2]), image(2, "v1-arm64", days=2)]
    rules = policy(rule(1, tagStatus="tagged", tagPatternList=["v1"], countType="sinceImagePushed", countUnit="days"))
    assert expired(rules, *images) == {1}


def test_a_tagged_child_stays_with_a_kept_index_though_a_rule_marks_it() -> None:
    images = [image(1, "v1", days=2, children=[2]), image(2, "v1-arm64", days=2)]
    rules = policy(rule(tagStatus="tagged", tagPatternList=["*-arm64"], countType="sinceImagePushed", countUnit="days"))
    assert expired(rules, *images) == set()


def test_referrers_go_with_their_subject_and_with_nothing_else() -> None:
    images = [
        image(1, "v1", days=9, children=[2]),
        image(2, days=9),
        image(3, days=1, subject=2),
        image(4, days=1, subject=3),
        image(5, "v2", days=1),
        image(6, days=9, subject=5),
    ]
    rules = policy(rule(countType="sinceImagePushed", countUnit="days", countNumber=5))
    assert expired(rules, *images) == {1, 2, 3, 4}


def test_a_referrer_whose_subject_is_not_there_is_an_image_like_others() -> None:
    rules = policy(rule(tagStatus="untagged", countType="sinceImagePushed", countUnit="days"))
    assert expired(rules, image(1, days=9, subject=77)) == {1}


def test_an_index_is_archived_with_its_children() -> None:
    images = [image(1, "v1", days=9, children=[2]), image(2, days=9), image(3, days=9, subject=1)]
    rules = policy(rule(action=ARCHIVE, countType="sinceImagePulled", countUnit="days"))
    assert archived(rules, *images) == {1, 2, 3}


def test_an_archived_index_keeps_its_children_as_they_are() -> None:
    images = [image(1, days=9, children=[2], archived_at=NOW), image(2, "arm64", days=9)]
    rules = policy(rule(countType="sinceImagePushed", countUnit="days"))
    assert evaluate(rules, images, now=NOW) == []


def test_what_goes_together_is_one_group() -> None:
    images = [
        image(1, "v1", days=9, children=[2]),
        image(2, days=9),
        image(3, days=9, subject=2),
        image(4, "b", days=9),
    ]
    rules = policy(rule(countType="sinceImagePushed", countUnit="days"))
    groups = together(evaluate(rules, images, now=NOW))
    assert sorted(sorted(d.image.image_id for d in group) for group in groups) == [[1, 2, 3], [4]]


# Whatever the images are

_TAGS = ["prod-1", "prod-2", "beta-1", "latest"]


@st.composite
def repositories(draw: st.DrawFn) -> list[ImageState]:
    """Images that name each other at will, in circles too."""
    count = draw(st.integers(1, 10))
    numbers = st.integers(1, count + 1)
    days = st.integers(0, 40)
    free = draw(st.permutations(_TAGS))
    images = []
    for number in range(1, count + 1):
        tags = [free.pop() for _ in range(draw(st.integers(0, min(2, len(free)))))]
        ago = draw(st.none() | days)
        images.append(
            replace(
                image(
                    number,
                    *tags,
                    days=draw(days),
                    children=draw(st.lists(numbers, max_size=3)),
                    subject=draw(st.none() | numbers),
                ),
                archived_at=None if ago is None else NOW - ago * SECONDS_PER_DAY,
                pulled_at=draw(st.none() | days.map(lambda ago: NOW - ago * SECONDS_PER_DAY)),
            )
        )
    return images


_ENTRIES: list[dict[str, Any]] = [
    {"tagStatus": "tagged", "tagPrefixList": ["prod"]},
    {"tagStatus": "tagged", "tagPatternList": ["*-1"], "countType": "sinceImagePushed", "countUnit": "days"},
    {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days"},
    {"tagStatus": "untagged"},
    {
        "tagStatus": "tagged",
        "tagPatternList": ["la*"],
        "countType": "sinceImagePulled",
        "countUnit": "days",
        "action": ARCHIVE,
    },
    {
        "tagStatus": "tagged",
        "tagPatternList": ["*"],
        "countType": "sinceImageTransitioned",
        "countUnit": "days",
        "storageClass": "archive",
    },
]
_LAST: list[dict[str, Any] | None] = [
    None,
    {},
    {"countType": "sinceImagePushed", "countUnit": "days"},
    {"action": ARCHIVE},
]


@st.composite
def policies(draw: st.DrawFn, *, expiring_only: bool = False) -> tuple[LifecycleRule, ...]:
    entries: list[dict[str, Any]] = draw(st.lists(st.sampled_from(_ENTRIES), max_size=4, unique_by=str))
    if (last := draw(st.sampled_from(_LAST))) is not None:
        entries.append(last)
    if sum(entry.get("tagStatus") == "untagged" for entry in entries) > 1:
        entries.remove(_ENTRIES[3])
    if expiring_only:
        entries = [entry for entry in entries if "action" not in entry]
    if not entries:
        entries = [{"countNumber": 1}]
    numbered = enumerate(entries, start=1)
    return policy(*(rule(at, **{"countNumber": draw(st.integers(1, 20)), **entry}) for at, entry in numbered))


def fates(rules: Sequence[LifecycleRule], images: Sequence[ImageState]) -> dict[str, Fate]:
    found = {i.digest: Fate.KEPT if i.archived_at is None else Fate.ARCHIVED for i in images}
    for decision in evaluate(rules, images, now=NOW):
        assert decision.fate > found[decision.image.digest]
        found[decision.image.digest] = decision.fate
    return found


@given(repositories(), policies())
def test_no_child_of_a_kept_index_expires(images: list[ImageState], rules: tuple[LifecycleRule, ...]) -> None:
    ends = fates(rules, images)
    for index in images:
        if ends[index.digest] is not Fate.EXPIRED:
            for child in index.children:
                assert ends.get(child) is not Fate.EXPIRED or child == index.digest


@given(repositories(), policies())
def test_referrers_of_an_expired_subject_expire_unless_an_index_holds_them(
    images: list[ImageState], rules: tuple[LifecycleRule, ...]
) -> None:
    ends = fates(rules, images)
    for referrer in images:
        if referrer.subject != referrer.digest and ends.get(referrer.subject) is Fate.EXPIRED:
            holders = [i for i in images if referrer.digest in i.children and i.digest != referrer.digest]
            held = any(ends[holder.digest] is not Fate.EXPIRED for holder in holders)
            assert ends[referrer.digest] is Fate.EXPIRED or held


@given(repositories(), policies())
def test_no_untagged_child_is_left_without_its_indexes(
    images: list[ImageState], rules: tuple[LifecycleRule, ...]
) -> None:
    ends = fates(rules, images)
    for child in images:
        holders = [i for i in images if child.digest in i.children and i.digest != child.digest]
        if holders and not child.tags and all(ends[holder.digest] is Fate.EXPIRED for holder in holders):
            assert ends[child.digest] is Fate.EXPIRED


@given(repositories(), policies(expiring_only=True))
def test_a_second_evaluation_finds_nothing_more(images: list[ImageState], rules: tuple[LifecycleRule, ...]) -> None:
    gone = {decision.image.digest for decision in evaluate(rules, images, now=NOW)}
    assert evaluate(rules, [image for image in images if image.digest not in gone], now=NOW) == []


@given(st.lists(st.integers(0, 50), max_size=15), st.integers(1, 10))
def test_a_count_keeps_exactly_so_many(ages: list[int], count: int) -> None:
    images = [image(number, days=days) for number, days in enumerate(ages)]
    gone = evaluate(policy(rule(countNumber=count)), images, now=NOW)
    assert len(images) - len(gone) == min(count, len(images))
    kept = {image.image_id for image in images} - {decision.image.image_id for decision in gone}
    assert all(images[k].pushed_at >= decision.image.pushed_at for k in kept for decision in gone)


@given(repositories(), policies())
def test_groups_hold_every_decision_once_and_what_hangs_together(
    images: list[ImageState], rules: tuple[LifecycleRule, ...]
) -> None:
    decisions = evaluate(rules, images, now=NOW)
    groups = together(decisions)
    assert sorted(d.image.image_id for group in groups for d in group) == sorted(d.image.image_id for d in decisions)
    of = {d.image.digest: at for at, group in enumerate(groups) for d in group}
    for decision in decisions:
        for other in (*decision.image.children, decision.image.subject):
            assert of.get(other, of[decision.image.digest]) == of[decision.image.digest]


@given(repositories(), policies(), st.sets(st.integers(1, 10)))
def test_what_is_held_never_changes(images: list[ImageState], rules: tuple[LifecycleRule, ...], held: set[int]) -> None:
    decisions: list[Decision] = evaluate(rules, images, now=NOW, held=held)
    assert not held & {decision.image.image_id for decision in decisions}
