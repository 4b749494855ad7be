"""How repositories that are there differ from the template that a new one would be made with. Pure.

Templates act when a repository is created, and never again. `status` lists the repositories that differ, and
`apply --existing` brings them up to their template by the steps made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from pullthrough.addressing.names import covering
from pullthrough.provision.model.observed import Repository
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.policies import normal_document
from pullthrough.provision.model.resources import Attributes, Desired, Existing, Json, Key, ResourceKind, tags_in

#: Names in one note.
_MOST_NAMED = 10
#: What of a template can be given to a repository that is there: all but its encryption.
_CHANGEABLE = (
    "imageTagMutability",
    "imageTagMutabilityExclusionFilters",
    "lifecyclePolicy",
    "repositoryPolicy",
    "resourceTags",
)


def existing_steps(desired: Desired, repositories: Iterable[Repository], others: Iterable[Existing] = ()) -> list[Step]:
    """A step for each repository that differs from its template.

    `others` are templates that are there. A repository whose nearest template is not a desired one is left as it is, and
    so is one that may not be the cache's.
    """
    templates = _Templates(desired, others)
    return [step for repository in repositories if (step := _step(templates, repository)) is not None]


def existing_notes(desired: Desired, repositories: Iterable[Repository], others: Iterable[Existing] = ()) -> list[str]:
    """What the steps leave out, for people: encryption, which cannot change, and repositories under ROOT."""
    templates = _Templates(desired, others)
    notes = []
    doubtful = 0
    own = []
    for repository in repositories:
        found = templates.of(repository.name)
        if repository.is_own:
            own.append(repository.name)
        else:
            doubtful += found is not None and not repository.is_cached
        if found is None or not repository.is_cached:
            continue
        was, wants = _encryption(repository.attributes), _encryption(found[1])
        # KMS without a key is AWS's own, which a repository names and a template need not.
        if was != wants and (was[0] != wants[0] or wants[1]):
            notes.append(
                f"the repository {repository.name} is encrypted with {_named(was)}, not {_named(wants)}; ECR changes that for "
                "no repository: delete it, and the next pull makes it anew"
            )
    if doubtful:
        are = "repositories are" if doubtful > 1 else "repository is"
        notes.append(
            f"{doubtful} {are} under no other prefix than ROOT, where AWS does not tell cached ones from your own; left as "
            "they are"
        )
    return notes + left_notes(own)


def left_notes(own: Sequence[str]) -> list[str]:
    """A note on an engine's own repositories under rules, where there are some."""
    return [f"{named(own)}: pushed before there was the rule, and left as that is"] if own else []


def named(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


class _Templates:
    """The desired templates, and the prefixes of all templates."""

    def __init__(self, desired: Desired, others: Iterable[Existing]) -> None:
        self._wanted = {resource.key.name: resource.attributes for resource in desired.of(ResourceKind.TEMPLATE)}
        self._prefixes = set(self._wanted) | {
            other.key.name
            for other in others
            if "PULL_THROUGH_CACHE" in cast("list[str]", other.attributes.get("appliedFor") or [])
        }

    def of(self, name: str) -> tuple[str, Attributes] | None:
        """The desired template that a repository of this name is made with, and its prefix; None for another template."""
        prefix = covering(self._prefixes, name)
        return (prefix, self._wanted[prefix]) if prefix in self._wanted else None


def _step(templates: _Templates, repository: Repository) -> Step | None:
    found = templates.of(repository.name)
    if found is None or not repository.is_cached:
        return None
    prefix, wanted = found
    before = {name: repository.attributes[name] for name in _CHANGEABLE}
    after: dict[str, Json] = {name: wanted[name] for name in _CHANGEABLE}
    after["resourceTags"] = {**tags_in(before), **tags_in(wanted)}
    for name in ("lifecyclePolicy", "repositoryPolicy"):
        if normal_document(before[name]) == normal_document(after[name]):
            after[name] = before[name]
    differing = [name for name in _CHANGEABLE if before[name] != after[name]]
    if not differing:
        return None
    return Step(
        Key(ResourceKind.REPOSITORY, repository.name),
        StepAction.UPDATE,
        f"{', '.join(differing)} to be as in the template of {prefix}",
        before,
        after,
        # Templates first: what a pull makes meanwhile needs no step.
        needs=(Key(ResourceKind.TEMPLATE, prefix),),
        arn=repository.arn,
    )


def _encryption(attributes: Attributes) -> tuple[str, str]:
    return str(attributes["encryptionType"]), str(attributes["kmsKey"])


def _named(encryption: tuple[str, str]) -> str:
    kind, key = encryption
    return f"{kind} ({key})" if key else kind
