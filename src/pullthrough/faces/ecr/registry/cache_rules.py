"""Pull-through cache rules: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html

Those of pullthrough.toml are listed with those made here, but changed in the file only. The built-in ones are no rules of
ECR: they are not listed, one made here with the prefix of one takes its place, and deleting that brings it back.

A prefix may end with a slash, which changes nothing; it is echoed as the question spells it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pullthrough.declaration import ROOT, Origin, Rule, SecretCredential
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.owners import covered
from pullthrough.engine.tell.events import Events
from pullthrough.errors import AlreadyExists, LimitReached
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.parameters import invalid
from pullthrough.faces.ecr.registry.upstream_registries import check_credential, read_upstream
from pullthrough.faces.ecr.registry.validation import RuleChecks
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.oci.ecr_upstreams import kind_of, upstream_host
from pullthrough.storage.registry.cache_rules import CacheRule, CacheRules
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)
_EXISTS = "A pull through cache rule with these settings already exists for the private registry."
#: What a rule is made of beside its prefix and times, in the API's words.
_MEMBERS = {
    "upstreamRegistryUrl": "upstream_registry_url",
    "upstreamRegistry": "upstream_registry",
    "upstreamRepositoryPrefix": "upstream_repository_prefix",
    "credentialArn": "credential_arn",
    "customRoleArn": "custom_role_arn",
}


@dataclass(frozen=True, slots=True)
class RuleHandlers:
    run: Runner
    #: The rules of pullthrough.toml, by prefix.
    written: Mapping[str, Rule]
    strict: bool
    cache_rules: CacheRules
    repositories: Repositories
    configuration: Configuration
    events: Events
    checks: RuleChecks

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "CreatePullThroughCacheRule": self.create_rule,
            "DescribePullThroughCacheRules": self.describe_rules,
            "UpdatePullThroughCacheRule": self.update_rule,
            "DeletePullThroughCacheRule": self.delete_rule,
            "ValidatePullThroughCacheRule": self.validate_rule,
        }

    async def create_rule(self, call: Call, input: Input) -> Output:
        prefix = _key(input["ecrRepositoryPrefix"])
        if prefix in self.written:
            raise ApiError("PullThroughCacheRuleAlreadyExistsException", f"{_EXISTS} ({_where(prefix)})")
        kind = read_upstream(input["upstreamRegistryUrl"], input.get("upstreamRegistry"), strict=self.strict)
        credential_arn, custom_role_arn = input.get("credentialArn"), input.get("customRoleArn")
        if self.strict:
            _check_upstream_prefix(prefix, kind, input.get("upstreamRepositoryPrefix"))
            check_credential(kind, credential_arn, custom_role_arn)
        if credential_arn is not None:
            await self.checks.check_secret(call, credential_arn, input["upstreamRegistryUrl"])
        rule = CacheRule(
            prefix=prefix,
            upstream_registry_url=input["upstreamRegistryUrl"],
            created_at=call.now,
            updated_at=call.now,
            upstream_registry=kind,
            upstream_repository_prefix=input.get("upstreamRepositoryPrefix"),
            credential_arn=credential_arn,
            custom_role_arn=custom_role_arn,
        )
        try:
            await self.run(self.cache_rules.create, rule, others=len(self.written))
        except AlreadyExists as error:
            raise ApiError("PullThroughCacheRuleAlreadyExistsException", _EXISTS) from error
        except LimitReached as error:
            raise ApiError("LimitExceededException", error.message) from error
        await self._tell_of_covered(rule)
        answer = _answer(call, rule, input["ecrRepositoryPrefix"])
        del answer["updatedAt"]
        return answer

    async def describe_rules(self, call: Call, input: Input) -> Output:
        """Those that are named, which must all be there, or all of them; by prefix."""
        page = page_request("DescribePullThroughCacheRules", input)
        spelled = {_key(prefix): prefix for prefix in input.get("ecrRepositoryPrefixes", [])}
        rules = self._listed()
        if any(prefix not in rules for prefix in spelled):
            raise _not_found()
        wanted = [rules[prefix] for prefix in sorted(spelled or rules) if page.after is None or (prefix,) > page.after]
        found, token = page.cut(wanted, lambda rule: (rule.prefix,))
        return {
            "pullThroughCacheRules": [_answer(call, rule, spelled.get(rule.prefix, rule.prefix)) for rule in found],
            "nextToken": token,
        }

    async def update_rule(self, call: Call, input: Input) -> Output:
        """Another credential or role. With neither, AWS refuses; here that changes nothing, unless strict."""
        prefix = _key(input["ecrRepositoryPrefix"])
        self._refuse_written(prefix, "Change")
        credential_arn, custom_role_arn = input.get("credentialArn"), input.get("customRoleArn")
        made = self._listed().get(prefix)
        if made is None:
            raise _not_found()
        if self.strict and credential_arn is None and custom_role_arn is None:
            raise ApiError(
                "InvalidParameterException",
                "Invalid input: Please set either credential arn or role arn to update the credentials",
            )
        if credential_arn is not None:
            await self.checks.check_secret(call, credential_arn, made.upstream_registry_url)
        rule = await self.run(
            self.cache_rules.update,
            prefix,
            credential_arn=credential_arn,
            custom_role_arn=custom_role_arn,
            now=call.now,
        )
        if rule is None:
            raise _not_found()
        answer = _answer(call, rule, input["ecrRepositoryPrefix"])
        for name in ("createdAt", "upstreamRegistryUrl", "upstreamRegistry"):
            del answer[name]
        return answer

    async def delete_rule(self, call: Call, input: Input) -> Output:
        """The repositories under it stay as they are, and what is cached in them is served on."""
        prefix = _key(input["ecrRepositoryPrefix"])
        self._refuse_written(prefix, "Remove")
        rule = await self.run(self.cache_rules.delete, prefix)
        if rule is None:
            raise _not_found()
        answer = _answer(call, rule, input["ecrRepositoryPrefix"])
        for name in ("updatedAt", "upstreamRegistry"):
            del answer[name]
        return answer

    async def validate_rule(self, call: Call, input: Input) -> Output:
        """Reaches the upstream and logs in there. `failure` is a code of `validation`, and a sentence."""
        prefix = _key(input["ecrRepositoryPrefix"])
        made = self._listed().get(prefix)
        if made is None:
            raise _not_found()
        failure = await self.checks.find_failure(self.configuration.rule(prefix))
        answer = _answer(call, made, input["ecrRepositoryPrefix"])
        for name in ("createdAt", "updatedAt", "upstreamRegistry"):
            del answer[name]
        return {**answer, "isValid": not failure, "failure": failure or None}

    async def _tell_of_covered(self, rule: CacheRule) -> None:
        """Say in the log and in an event which repositories under the new rule stay the registry's own."""
        own = await self.run(self.repositories.own_names, [rule.prefix])
        if not own:
            return
        await self.configuration.refresh()  # with the new rule
        found = ((name, self.configuration.rules.covering(name)) for name in own)
        if names := [name for name, over in found if over is not None and over.prefix == rule.prefix]:
            upstream = upstream_host(rule.upstream_registry_url)
            _log.warning("%s", covered(rule.prefix, upstream, names))
            self.events.rule_covers_own(rule.prefix, upstream, names)

    def _listed(self) -> dict[str, CacheRule]:
        """By prefix: those made here, and those of the file in the same shape, whose times are not known."""
        made = {rule.prefix: rule for rule in self.configuration.cache_rules}
        return made | {prefix: _as_made(rule) for prefix, rule in self.written.items()}

    def _refuse_written(self, prefix: str, deed: str) -> None:
        if prefix in self.written:
            raise ApiError(
                "InvalidParameterException",
                f"The rule {prefix} comes from pullthrough.toml, and this API does not change that file. {deed} the table "
                f"[rules.{_toml_key(prefix)}] there, and restart the engine.",
            )


def written_rules(rules: Iterable[Rule]) -> dict[str, Rule]:
    """Those of pullthrough.toml among the settings' rules, by prefix."""
    return {rule.prefix: rule for rule in rules if rule.origin is Origin.FILE}


def _as_made(rule: Rule) -> CacheRule:
    return CacheRule(
        prefix=rule.prefix,
        upstream_registry_url=rule.upstream,
        created_at=0.0,
        updated_at=0.0,
        upstream_registry=kind_of(rule.upstream),
        upstream_repository_prefix=rule.upstream_repository_prefix or None,
        credential_arn=rule.credential.arn if isinstance(rule.credential, SecretCredential) else None,
        custom_role_arn=rule.custom_role_arn or None,
    )


def _where(prefix: str) -> str:
    return f"it comes from [rules.{_toml_key(prefix)}] in pullthrough.toml"


def _toml_key(prefix: str) -> str:
    return prefix if prefix.replace("-", "").replace("_", "").isalnum() else f'"{prefix}"'


def _check_upstream_prefix(prefix: str, kind: str | None, upstream_prefix: str | None) -> None:
    if upstream_prefix is None or _key(upstream_prefix) == ROOT:
        return
    if prefix == ROOT:
        raise invalid("upstreamRepositoryPrefix", "it may be set only when ecrRepositoryPrefix is not ROOT")
    if kind != "ecr":
        raise invalid("upstreamRepositoryPrefix", "it goes with an upstream of the kind ecr only")


def _key(prefix: str) -> str:
    return prefix.removesuffix("/")


def _not_found() -> ApiError:
    return ApiError(
        "PullThroughCacheRuleNotFoundException",
        "The pull through cache rule was not found. Specify a valid pull through cache rule and try again.",
    )


def _answer(call: Call, rule: CacheRule, spelled: str) -> Output:
    """All members of a PullThroughCacheRule; what was not given is None, and left out of the answer."""
    return {
        "ecrRepositoryPrefix": spelled,
        "createdAt": rule.created_at or None,
        "updatedAt": rule.updated_at or None,
        "registryId": call.registry.account,
        **{member: getattr(rule, attribute) for member, attribute in _MEMBERS.items()},
    }
