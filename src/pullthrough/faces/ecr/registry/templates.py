"""Repository creation templates: how repositories are made that a pull or a push makes.

A prefix may end with a slash, which changes nothing; it is echoed as the question spells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pullthrough.access.policy.documents import PolicyKind
from pullthrough.declaration import ROOT
from pullthrough.engine.keep.lifecycle_policy import parse_lifecycle_policy
from pullthrough.errors import AlreadyExists, LimitReached
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.parameters import check_mutability, check_policy, invalid, read_encryption, read_tags
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.storage.catalog.templates import CreationTemplate, CreationTemplates
from pullthrough.threads import Runner

_MEMBERS = (
    "description",
    "encryptionConfiguration",
    "resourceTags",
    "imageTagMutability",
    "imageTagMutabilityExclusionFilters",
    "repositoryPolicy",
    "lifecyclePolicy",
    "appliedFor",
    "customRoleArn",
)


@dataclass(frozen=True, slots=True)
class TemplateHandlers:
    run: Runner
    templates: CreationTemplates
    rights: Rights

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "CreateRepositoryCreationTemplate": self.create_template,
            "DescribeRepositoryCreationTemplates": self.describe_templates,
            "UpdateRepositoryCreationTemplate": self.update_template,
            "DeleteRepositoryCreationTemplate": self.delete_template,
        }

    async def create_template(self, call: Call, input: Input) -> Output:
        self._authorize_settings(call, input)
        now = call.now
        template = CreationTemplate(_key(input["prefix"]), _body({}, input), now, now)
        try:
            await self.run(self.templates.create, template)
        except AlreadyExists as error:
            raise ApiError(
                "TemplateAlreadyExistsException",
                "The repository creation template already exists. Specify a unique prefix and try again.",
            ) from error
        except LimitReached as error:
            raise ApiError("LimitExceededException", error.message) from error
        return _answer(call, template, input["prefix"])

    async def describe_templates(self, call: Call, input: Input) -> Output:
        """Prefixes without a template are left out, as there is no error for them."""
        page = page_request("DescribeRepositoryCreationTemplates", input)
        spelled = {_key(prefix): prefix for prefix in input.get("prefixes", [])}
        found = [
            template
            for template in await self.run(self.templates.all)
            if (not spelled or template.prefix in spelled) and (page.after is None or (template.prefix,) > page.after)
        ]
        templates, token = page.cut(found, lambda template: (template.prefix,))
        return {
            "registryId": call.registry.account,
            "repositoryCreationTemplates": [
                _template(template, spelled.get(template.prefix, template.prefix)) for template in templates
            ],
            "nextToken": token,
        }

    async def update_template(self, call: Call, input: Input) -> Output:
        """What is given replaces what was there; an empty text or list takes it away; what is not given stays."""
        self._authorize_settings(call, input)
        template = await self.run(
            self.templates.update,
            _key(input["prefix"]),
            lambda before: _body(before, input),
            call.now,
        )
        return _answer(call, _found(template), input["prefix"])

    async def delete_template(self, call: Call, input: Input) -> Output:
        """Repositories that it made stay as they are."""
        template = await self.run(self.templates.delete, _key(input["prefix"]))
        return _answer(call, _found(template), input["prefix"])

    def _authorize_settings(self, call: Call, input: Input) -> None:
        """What a template sets for repositories needs the right to set it there. Raises AccessDenied.

        https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-iam.html
        """
        prefix = _key(input["prefix"])
        resource = call.registry.repository_arn("*" if prefix == ROOT else f"{prefix}/*")
        for member, operation in (
            ("repositoryPolicy", "SetRepositoryPolicy"),
            ("lifecyclePolicy", "PutLifecyclePolicy"),
            ("resourceTags", "TagResource"),
        ):
            if member in input:
                self.rights.check(call, f"ecr:{operation}", resource, resource_tags=call.request_tags.given)


def _body(before: Mapping[str, Any], input: Input) -> Output:
    """The template's members after this request. Raises ApiError, or LifecyclePolicyInvalid."""
    body = {**before, **{name: input[name] for name in _MEMBERS if name in input}}
    mutability = body.get("imageTagMutability", "MUTABLE")
    if "imageTagMutability" in input and not mutability.endswith("_WITH_EXCLUSION"):
        # The filters of before go with what they were for; new ones beside it are an error.
        body["imageTagMutabilityExclusionFilters"] = input.get("imageTagMutabilityExclusionFilters", [])
    check_mutability(mutability, body.get("imageTagMutabilityExclusionFilters", []))
    if not body["appliedFor"]:
        raise invalid("appliedFor", "it must name at least one of PULL_THROUGH_CACHE, CREATE_ON_PUSH and REPLICATION")
    if len(set(body["appliedFor"])) != len(body["appliedFor"]):
        raise invalid("appliedFor", "each may be there once")
    if "encryptionConfiguration" in input:
        body["encryptionConfiguration"] = read_encryption(input["encryptionConfiguration"])
    read_tags(input.get("resourceTags", []), code="InvalidParameterException", too_many="InvalidParameterException")
    if input.get("repositoryPolicy"):
        check_policy(input["repositoryPolicy"], PolicyKind.REPOSITORY)
    if input.get("lifecyclePolicy"):
        parse_lifecycle_policy(input["lifecyclePolicy"])
    return {name: value for name, value in body.items() if value}


def _key(prefix: str) -> str:
    return prefix.removesuffix("/")


def _found(template: CreationTemplate | None) -> CreationTemplate:
    if template is None:
        raise ApiError(
            "TemplateNotFoundException",
            "The specified repository creation template can't be found. Verify the registry ID and prefix and try "
            "again.",
        )
    return template


def _answer(call: Call, template: CreationTemplate, spelled: str) -> Output:
    return {"registryId": call.registry.account, "repositoryCreationTemplate": _template(template, spelled)}


def _template(template: CreationTemplate, spelled: str) -> Output:
    defaults = {"encryptionConfiguration": {"encryptionType": "AES256"}, "imageTagMutability": "MUTABLE"}
    return {
        **defaults,
        **template.body,
        "prefix": spelled,
        "createdAt": template.created_at,
        "updatedAt": template.updated_at,
    }
