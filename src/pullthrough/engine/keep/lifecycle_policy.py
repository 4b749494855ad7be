"""Lifecycle policies: the document that PutLifecyclePolicy takes, parsed and checked. No I/O.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

from pullthrough.errors import LifecyclePolicyInvalid

E = TypeVar("E", bound=StrEnum)

MAX_POLICY_CHARACTERS = 30_720
MAX_RULES = 50
#: `*` in one pattern.
MAX_WILDCARDS = 4
SECONDS_PER_DAY = 86_400.0

#: What a tag may hold, and `*`; a pattern with anything else could never match.
_PATTERN = re.compile(r"[a-zA-Z0-9._*-]{1,128}", re.ASCII)
_PREFIX = re.compile(r"[a-zA-Z0-9._-]{1,128}", re.ASCII)


class TagStatus(StrEnum):
    TAGGED = "tagged"
    UNTAGGED = "untagged"
    ANY = "any"


class CountType(StrEnum):
    IMAGE_COUNT_MORE_THAN = "imageCountMoreThan"
    SINCE_IMAGE_PUSHED = "sinceImagePushed"
    SINCE_IMAGE_PULLED = "sinceImagePulled"
    SINCE_IMAGE_TRANSITIONED = "sinceImageTransitioned"


class StorageClass(StrEnum):
    STANDARD = "standard"
    ARCHIVE = "archive"


class Action(StrEnum):
    EXPIRE = "expire"
    TRANSITION = "transition"


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """One rule. `count` is of images for imageCountMoreThan, of days for the other count types."""

    priority: int
    tag_status: TagStatus
    #: Patterns in which `*` stands for any text; each must match one of the image's tags. Prefixes end with `*`.
    patterns: tuple[str, ...]
    storage_class: StorageClass
    count_type: CountType
    count: int
    action: Action

    def selects(self, tags: Iterable[str]) -> bool:
        """Whether the rule is about an image with these tags."""
        tags = list(tags)
        match self.tag_status:
            case TagStatus.ANY:
                return True
            case TagStatus.UNTAGGED:
                return not tags
            case TagStatus.TAGGED:
                return all(any(_matches(pattern, tag) for tag in tags) for pattern in self.patterns)


def parse_lifecycle_policy(text: str) -> tuple[LifecycleRule, ...]:
    """The rules, the lowest priority number first. Raises LifecyclePolicyInvalid, whose message is AWS's sentence."""
    if len(text) > MAX_POLICY_CHARACTERS:
        raise _invalid(f"the policy has {len(text):,} characters; the limit is {MAX_POLICY_CHARACTERS:,}")
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise _invalid("Could not map policyString into LifecyclePolicy.") from None
    if not isinstance(document, dict):
        raise _invalid("Could not map policyString into LifecyclePolicy.")
    _check_members(document, "the policy", required=("rules",))
    entries = document["rules"]
    _check_type(entries, list, "rules")
    if not 1 <= len(entries) <= MAX_RULES:
        raise _invalid(f"array has {len(entries)} elements; rules must have 1 to {MAX_RULES}")
    rules = [_rule(entry, f"rules[{position}]") for position, entry in enumerate(entries)]
    rules.sort(key=lambda rule: rule.priority)
    _check_together(rules)
    return tuple(rules)


def _rule(entry: object, where: str) -> LifecycleRule:
    members = _check_members(entry, where, ("rulePriority", "selection", "action"), ("description",))
    priority = _integer(members["rulePriority"], f"{where}.rulePriority")
    if "description" in members:
        _check_type(members["description"], str, f"{where}.description")

    at = f"{where}.selection"
    selection = _check_members(
        members["selection"],
        at,
        ("tagStatus", "countType", "countNumber"),
        ("tagPrefixList", "tagPatternList", "storageClass", "countUnit"),
    )
    tag_status = _one_of(TagStatus, selection["tagStatus"], f"{at}.tagStatus")
    count_type = _one_of(CountType, selection["countType"], f"{at}.countType")
    count = _integer(selection["countNumber"], f"{at}.countNumber")
    storage_class = _one_of(StorageClass, selection.get("storageClass", "standard"), f"{at}.storageClass")
    patterns = _patterns(selection, tag_status, at)

    if count_type is CountType.IMAGE_COUNT_MORE_THAN:
        if "countUnit" in selection:
            raise _no_schema(f"{at}.countUnit goes with the count types that begin with 'since' only")
    elif "countUnit" not in selection:
        raise _no_schema(f"{at}.countUnit must be 'days' where countType is {count_type}")
    elif selection["countUnit"] != "days":
        raise _not_in_enum(selection["countUnit"], ["days"], f"{at}.countUnit")

    action = _action(members["action"], f"{where}.action")
    in_archive = count_type is CountType.SINCE_IMAGE_TRANSITIONED
    if in_archive != (storage_class is StorageClass.ARCHIVE):
        raise _no_schema(f"{at}: countType sinceImageTransitioned and storageClass archive go together only")
    if in_archive and action is Action.TRANSITION:
        raise _no_schema(f"{where}.action: what is in the archive already can only expire")
    if count_type is CountType.SINCE_IMAGE_PULLED and action is Action.EXPIRE:
        raise _no_schema(f"{where}.action: countType sinceImagePulled goes with a transition only")
    return LifecycleRule(priority, tag_status, patterns, storage_class, count_type, count, action)


def _action(entry: object, where: str) -> Action:
    action = _check_members(entry, where, ("type",), ("targetStorageClass",))
    kind = _one_of(Action, action["type"], f"{where}.type")
    if kind is Action.TRANSITION:
        if "targetStorageClass" not in action:
            raise _no_schema(f"{where}.targetStorageClass must be 'archive' where type is transition")
        if action["targetStorageClass"] != StorageClass.ARCHIVE:
            raise _not_in_enum(action["targetStorageClass"], [StorageClass.ARCHIVE], f"{where}.targetStorageClass")
    elif "targetStorageClass" in action:
        raise _no_schema(f"{where}.targetStorageClass goes with type transition only")
    return kind


def _patterns(selection: Mapping[str, Any], tag_status: TagStatus, where: str) -> tuple[str, ...]:
    given = [name for name in ("tagPrefixList", "tagPatternList") if name in selection]
    if tag_status is not TagStatus.TAGGED:
        if given:
            raise _no_schema(f"{where}.{given[0]} goes with tagStatus tagged only")
        return ()
    if len(given) != 1:
        raise _no_schema(f"{where} must have one of tagPrefixList and tagPatternList where tagStatus is tagged")
    name = given[0]
    entries = selection[name]
    _check_type(entries, list, f"{where}.{name}")
    if not entries:
        raise _invalid(
            f"array is too short: must have at least 1 elements but instance has 0 elements ({where}.{name})"
        )
    is_prefix = name == "tagPrefixList"
    for entry in entries:
        _check_type(entry, str, f"{where}.{name}")
        if (_PREFIX if is_prefix else _PATTERN).fullmatch(entry) is None:
            may = "letters, digits, '.', '_' and '-'" + ("" if is_prefix else ", and '*'")
            raise _invalid(f"{entry[:140]!r} in {where}.{name} can match no tag: it may have 1 to 128 {may}")
        if entry.count("*") > MAX_WILDCARDS:
            raise _invalid(f"{entry!r} in {where}.{name} has more than {MAX_WILDCARDS} wildcards (*)")
    return tuple(f"{entry}*" if is_prefix else entry for entry in entries)


def _check_together(rules: list[LifecycleRule]) -> None:
    """What the rules must be to each other; they come by priority."""
    for before, after in pairwise(rules):
        if before.priority == after.priority:
            raise _invalid(f"Lifecycle policy rules must have unique priority numbers; {after.priority} is there twice")
    for storage_class in StorageClass:
        # An image is in one class at a time: each class has its own last rule.
        mine = [rule for rule in rules if rule.storage_class is storage_class]
        for rule in mine[:-1]:
            if rule.tag_status is TagStatus.ANY:
                raise _invalid(
                    f"a rule with tagStatus any must have the highest rulePriority of its storage class; that of "
                    f"{rule.priority} is followed by {mine[-1].priority}"
                )
        if sum(rule.tag_status is TagStatus.UNTAGGED for rule in mine) > 1:
            raise _invalid(f"only one rule may have tagStatus untagged in the storage class {storage_class}")
        seen: set[frozenset[str]] = set()
        for rule in mine:
            if rule.tag_status is TagStatus.TAGGED:
                wanted = frozenset(rule.patterns)
                if wanted in seen:
                    raise _invalid(
                        f"rule {rule.priority} selects the same tags as a rule before it; each must have its own list"
                    )
                seen.add(wanted)


def _matches(pattern: str, tag: str) -> bool:
    """`*` is any text, also none. Everything between is found leftmost: time grows with the lengths only."""
    first, *parts = pattern.split("*")
    if not parts:
        return tag == pattern
    last = parts.pop()
    if not tag.startswith(first) or len(tag) < len(first) + len(last) or not tag.endswith(last):
        return False
    at, end = len(first), len(tag) - len(last)
    for part in parts:
        found = tag.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _check_members(
    value: object, where: str, required: Iterable[str], optional: Iterable[str] = ()
) -> Mapping[str, Any]:
    _check_type(value, dict, where)
    assert isinstance(value, dict)
    if missing := sorted(set(required) - value.keys()):
        raise _invalid(f"object has missing required properties ({json.dumps(missing)}) in {where}")
    if unknown := sorted(value.keys() - set(required) - set(optional)):
        shown = json.dumps([name[:60] for name in unknown[:5]])
        raise _invalid(f"object instance has properties which are not allowed by the schema: ({shown}) in {where}")
    return value


#: As JSON schema calls them.
_TYPES: Mapping[type, str] = {dict: "object", list: "array", str: "string", int: "integer"}


def _check_type(value: object, wanted: type, where: str) -> None:
    if isinstance(value, wanted) and not isinstance(value, bool):
        return
    kind = {**_TYPES, bool: "boolean", float: "number", type(None): "null"}[type(value)]
    raise _invalid(
        f'instance type ({kind}) does not match any allowed primitive type (allowed: ["{_TYPES[wanted]}"]) at {where}'
    )


def _integer(value: object, where: str) -> int:
    _check_type(value, int, where)
    assert isinstance(value, int)
    if value < 1:
        raise _invalid(f"numeric instance is lower than the required minimum (minimum: 1, found: {value}) at {where}")
    if value > 2**31 - 1:
        raise _invalid(
            f"numeric instance is greater than the maximum (maximum: {2**31 - 1}, found: {value}) at {where}"
        )
    return value


def _one_of(kind: type[E], value: object, where: str) -> E:
    if isinstance(value, str) and value in list(kind):
        return kind(value)
    raise _not_in_enum(value, list(kind), where)


def _not_in_enum(value: object, possible: Iterable[str], where: str) -> LifecyclePolicyInvalid:
    shown = json.dumps(value)[:80]
    return _invalid(
        f"instance value ({shown}) not found in enum (possible values: {json.dumps(list(possible))}) at {where}"
    )


def _no_schema(why: str) -> LifecyclePolicyInvalid:
    return _invalid(f"instance failed to match exactly one schema (matched 0 out of 2): {why}")


def _invalid(why: str) -> LifecyclePolicyInvalid:
    return LifecyclePolicyInvalid(
        "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
        f"'Lifecycle policy validation failure: {why}'"
    )
