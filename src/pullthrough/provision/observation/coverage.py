"""Repositories under the prefixes of rules: those that a new rule will cover, and those that go with the cache."""

from __future__ import annotations

from collections.abc import Collection

from pullthrough.declaration import ROOT
from pullthrough.provision.aws import Aws, ReadingPool
from pullthrough.provision.model.observed import ImageCount
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.resources import Key, ResourceKind
from pullthrough.provision.observation.repositories import count_images, is_own, list_under
from pullthrough.provision.planning.existing import left_notes, named


def covered_notes(aws: Aws, prefixes: Collection[str], others: Collection[str], *, is_engine: bool) -> list[str]:
    """A note for each rule to be made that will cover repositories. `others` are the prefixes of rules that are there.

    Costs a call a page of repositories. Raises what `Aws.call` raises.
    """
    covered: dict[str, list[str]] = {}
    for answer, prefix in list_under(aws, {*prefixes, *others} if prefixes else ()):
        if prefix in prefixes:
            covered.setdefault(prefix, []).append(str(answer["repositoryName"]))
    what = (
        "those that were pushed, not pulled, stay the registry's own, and the upstream is never asked for them"
        if is_engine
        else "pulls by the rule are given what is in them"
    )
    return [
        f"the rule {prefix} will cover repositories that are there already: {named(names)}; {what}. Delete one to have its "
        "name filled from the upstream"
        for prefix, names in sorted(covered.items())
    ]


def deletion_steps(aws: Aws, prefixes: Collection[str], *, is_engine: bool = False) -> tuple[list[Step], list[str]]:
    """A step for each repository of the cache, its images and bytes in `details`; and notes on those that stay.

    In an account of AWS repositories under ROOT alone stay, since its own are among them; an engine says which are its own.
    Costs a call a page of repositories and a call a page of each one's images; at an engine one more for each repository.
    Raises what `Aws.call` raises.
    """
    with ReadingPool(aws) as readers:
        found = [
            (str(answer["repositoryName"]), str(answer["repositoryArn"]), prefix)
            for answer, prefix in list_under(aws, prefixes)
            if prefix != ROOT or is_engine
        ]
        owned = [readers.start(is_own, aws, arn) for _, arn, _ in found] if is_engine else []
        own = [name for (name, _, _), is_it in zip(found, owned, strict=False) if is_it.result()]
        counts = [
            (name, arn, prefix, readers.start(count_images, aws, name))
            for name, arn, prefix in found
            if name not in own
        ]
        steps = [_deletion(name, arn, prefix, count.result()) for name, arn, prefix, count in counts]
    return steps, left_notes(own)


def _deletion(name: str, arn: str, prefix: str, images: ImageCount) -> Step:
    return Step(
        Key(ResourceKind.REPOSITORY, name),
        StepAction.DELETE,
        "--delete-repositories: with its images",
        before={},
        # First the rule, lest a pull makes it anew.
        needs=(Key(ResourceKind.RULE, prefix),),
        arn=arn,
        details={"images": images.count, "bytes": images.size_bytes},
    )
