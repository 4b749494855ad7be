"""What a lifecycle policy does to the images of a repository. Pure: records in, decisions out.

As ECR's evaluator (https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html): rules mark images,
the lowest priority number first; an image that a rule's tag selection covers is that rule's alone, whether it marks it
or not; counts are of all images that a rule covers, as if nothing had been marked.

Unlike it, an index is one image with what belongs to it. Its children without tags and the referrers of a subject are
not counted, nor marked by rules: they go with the index or the subject. A child of an index that stays, stays.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pullthrough.engine.keep.lifecycle_policy import (
    SECONDS_PER_DAY,
    Action,
    CountType,
    LifecycleRule,
    StorageClass,
)
from pullthrough.storage.catalog.records import ImageState


class Fate(IntEnum):
    """Where an image ends up; a larger one is farther gone."""

    KEPT = 0
    ARCHIVED = 1
    EXPIRED = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """An image that changes. `rule` is the one that marked it, or marked what it goes with."""

    image: ImageState
    fate: Fate
    rule: LifecycleRule


def evaluate(
    rules: Sequence[LifecycleRule], images: Iterable[ImageState], *, now: float, held: Container[int] = frozenset()
) -> list[Decision]:
    """What the rules (by priority) do to all images of a repository now, oldest first.

    Nothing happens to images whose ids are `held`.
    """
    family = _Family(images, held)
    marks = _mark(rules, [image for image in family.images if family.stands_alone(image)], now)
    return sorted(
        (Decision(family.images[position], fate, rule) for position, (fate, rule) in family.settle(marks).items()),
        key=lambda decision: (decision.image.pushed_at, decision.image.image_id),
    )


def together(decisions: Sequence[Decision]) -> list[list[Decision]]:
    """The decisions in groups that must be carried out in one go: an index and its children, a subject and its referrers.

    What comes between two groups, a crash or a push, leaves nothing half-done then.
    """
    by_digest = {decision.image.digest: position for position, decision in enumerate(decisions)}
    leaders = list(range(len(decisions)))

    def leader(position: int) -> int:
        while leaders[position] != position:
            leaders[position] = leaders[leaders[position]]
            position = leaders[position]
        return position

    for position, decision in enumerate(decisions):
        for other in (*decision.image.children, decision.image.subject):
            if other in by_digest:
                leaders[leader(by_digest[other])] = leader(position)
    groups: dict[int, list[Decision]] = defaultdict(list)
    for position, decision in enumerate(decisions):
        groups[leader(position)].append(decision)
    return list(groups.values())


def _mark(
    rules: Sequence[LifecycleRule], images: Sequence[ImageState], now: float
) -> dict[int, tuple[Fate, LifecycleRule]]:
    """What each rule marks, by image id."""
    marks: dict[int, tuple[Fate, LifecycleRule]] = {}
    claimed: set[int] = set()
    for rule in rules:
        in_archive = rule.storage_class is StorageClass.ARCHIVE
        covered = [
            image for image in images if (image.archived_at is not None) == in_archive and rule.selects(image.tags)
        ]
        fate = Fate.EXPIRED if rule.action is Action.EXPIRE else Fate.ARCHIVED
        for image in _outdated(rule, covered, now):
            if image.image_id not in claimed:
                marks[image.image_id] = (fate, rule)
        claimed.update(image.image_id for image in covered)
    return marks


def _outdated(rule: LifecycleRule, covered: Sequence[ImageState], now: float) -> Sequence[ImageState]:
    if rule.count_type is CountType.IMAGE_COUNT_MORE_THAN:
        newest_first = sorted(covered, key=lambda image: (_stored_at(image), image.image_id), reverse=True)
        return newest_first[rule.count :]
    since = now - rule.count * SECONDS_PER_DAY
    return [image for image in covered if _counted_from(rule.count_type, image) < since]


def _counted_from(count_type: CountType, image: ImageState) -> float:
    match count_type:
        case CountType.SINCE_IMAGE_TRANSITIONED:
            return image.archived_at or 0.0
        case CountType.SINCE_IMAGE_PULLED:
            # One that was restored, or never pulled, counts from then.
            return max(_stored_at(image), image.pulled_at or 0.0)
        case _:
            return _stored_at(image)


def _stored_at(image: ImageState) -> float:
    """When it was pushed, or restored from the archive after that."""
    return max(image.pushed_at, image.activated_at or 0.0)


class _Family:
    """The images of a repository and how they hang together. Images are named by their position."""

    def __init__(self, images: Iterable[ImageState], held: Container[int]) -> None:
        self.images = list(images)
        self._held = [image.image_id in held for image in self.images]
        by_digest = {image.digest: position for position, image in enumerate(self.images)}
        self._parents: dict[int, list[int]] = defaultdict(list)
        self._children: dict[int, list[int]] = defaultdict(list)
        self._referrers: dict[int, list[int]] = defaultdict(list)
        self._subject: dict[int, int] = {}
        self._position = {image.image_id: position for position, image in enumerate(self.images)}
        for position, image in enumerate(self.images):
            for digest in dict.fromkeys(image.children):
                child = by_digest.get(digest)
                if child is not None and child != position:
                    self._parents[child].append(position)
                    self._children[position].append(child)
            subject = by_digest.get(image.subject)
            if subject is not None and subject != position:
                self._subject[position] = subject
                self._referrers[subject].append(position)

    def stands_alone(self, image: ImageState) -> bool:
        """Whether rules are about this image itself, not only about what it goes with."""
        position = self._position[image.image_id]
        return bool(image.tags) or (position not in self._subject and position not in self._parents)

    def settle(self, marks: Mapping[int, tuple[Fate, LifecycleRule]]) -> dict[int, tuple[Fate, LifecycleRule]]:
        """What becomes of images, by position; those that stay as they are left out.

        Begins with what is now and moves an image only when all that keeps it has moved: what waits for itself stays.
        """
        fates = [Fate.KEPT if image.archived_at is None else Fate.ARCHIVED for image in self.images]
        changed: dict[int, tuple[Fate, LifecycleRule]] = {}
        todo = deque(self._position[image_id] for image_id in marks)
        while todo:
            position = todo.popleft()
            limit = min((fates[parent] for parent in self._parents[position]), default=Fate.EXPIRED)
            # What an index keeps from going all the way does not go half of it.
            wishes = [wish for wish in self._wishes(position, marks, changed) if wish[0] <= limit]
            if not wishes or self._held[position]:
                continue
            fate, rule = max(wishes, key=lambda wish: wish[0])
            if fate > fates[position]:
                fates[position] = fate
                changed[position] = (fate, rule)
                todo.extend(self._children[position])
                todo.extend(self._referrers[position])
        return changed

    def _wishes(
        self,
        position: int,
        marks: Mapping[int, tuple[Fate, LifecycleRule]],
        changed: Mapping[int, tuple[Fate, LifecycleRule]],
    ) -> list[tuple[Fate, LifecycleRule]]:
        """Where anything would have the image go, and the rules behind that."""
        image = self.images[position]
        wishes = [marks[image.image_id]] if image.image_id in marks else []
        if not image.tags:
            wishes += [changed[parent] for parent in self._parents[position] if parent in changed]
        subject = self._subject.get(position)
        if subject is not None and subject in changed:
            wishes.append(changed[subject])
        return wishes
