"""ECR's control plane in memory: rules, creation templates, the registry's documents, repositories.

Codes, messages and checks are AWS's as far as they are known (spec/ecr.md); what AWS says of that it is too, though an
engine of ours would do otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from pullthrough.oci.ecr_upstreams import WANT_SECRET, kind_of
from pullthrough.provision.aws import Refused

Params = Mapping[str, Any]
Document = dict[str, Any]

_PREFIX = re.compile(r"([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*/?|ROOT)")
_SECRET_ARN = re.compile(
    r"arn:aws(-\w+)*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]+"
)
_FILTER = re.compile(r"[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*")
_KEY_ARN = re.compile(r"|arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_MAX_RULES = 50
_MAX_TEXT = {"lifecyclePolicy": 30_720, "repositoryPolicy": 10_240, "description": 256}
#: What a registry of policy scope V1 takes.
_REGISTRY_ACTIONS = {"ecr:BatchImportUpstreamImage", "ecr:CreateRepository", "ecr:ReplicateImage"}


def _invalid(message: str) -> Refused:
    return Refused("InvalidParameterException", message, 400)


def _constraint(field: str, reason: str) -> Refused:
    return _invalid(f"Invalid parameter at '{field}' failed to satisfy constraint: '{reason}'")


class FakeEcr:
    """Each method is an operation of the API; the caller holds the lock and has checked shapes."""

    def __init__(self, account: str, region: str, clock: Callable[[], datetime], *, is_engine: bool) -> None:
        self.account = account
        self.region = region
        self._clock = clock
        self._is_engine = is_engine
        self.rules: dict[str, Document] = {}
        self.templates: dict[str, Document] = {}
        self.registry_policy = ""
        self.scanning: Document = {"scanType": "BASIC", "rules": []}
        self.repositories: dict[str, Document] = {}
        #: Told of a secret's ARN, the state of that secret: "", "usable", "deleted", "custom key".
        self.state_of_secret: Callable[[str], str] = lambda arn: "usable"

    # Rules

    def create_pull_through_cache_rule(self, params: Params) -> Document:
        prefix = self._prefix(params["ecrRepositoryPrefix"])
        url = params["upstreamRegistryUrl"]
        if prefix in self.rules:
            raise Refused(
                "PullThroughCacheRuleAlreadyExistsException",
                "A pull through cache rule with these settings already exists for the private registry.",
                400,
            )
        if len(self.rules) >= _MAX_RULES:
            raise Refused(
                "LimitExceededException",
                "The operation did not succeed because it would have exceeded a service limit for your account.",
                400,
            )
        kind = kind_of(url)
        if not self._is_engine:
            if kind is None:
                raise Refused(
                    "UnsupportedUpstreamRegistryException",
                    f"The upstream registry URL {url} is invalid. Specify a valid upstream registry URL and try again",
                    400,
                )
            if kind in WANT_SECRET and "credentialArn" not in params:
                raise Refused(
                    "UnsupportedUpstreamRegistryException",
                    "The specified upstream registry requires authentication. Specify a valid Secrets Manager ARN.",
                    400,
                )
        if "upstreamRepositoryPrefix" in params:
            self._prefix(params["upstreamRepositoryPrefix"])
            if prefix == "ROOT":
                raise _constraint("upstreamRepositoryPrefix", "not with the prefix ROOT")
        self._check_credential(params)
        now = self._clock()
        rule = {
            "ecrRepositoryPrefix": params["ecrRepositoryPrefix"],
            "upstreamRegistryUrl": url,
            "createdAt": now,
            "registryId": self.account,
            **({"upstreamRegistry": kind} if kind else {}),
            **_given(params, "upstreamRepositoryPrefix", "credentialArn", "customRoleArn"),
        }
        self.rules[prefix] = {**rule, "updatedAt": now}
        return rule

    def describe_pull_through_cache_rules(self, params: Params) -> Document:
        names = [self._prefix(prefix) for prefix in params.get("ecrRepositoryPrefixes", [])]
        for name in names:
            self._rule(name)
        rules = [self.rules[name] for name in names or sorted(self.rules)]
        return _page(params, "pullThroughCacheRules", rules)

    def update_pull_through_cache_rule(self, params: Params) -> Document:
        rule = self._rule(self._prefix(params["ecrRepositoryPrefix"]))
        if "createdAt" not in rule:
            raise _constraint("ecrRepositoryPrefix", "the rule is in the engine's own file")
        if not params.get("credentialArn") and not params.get("customRoleArn"):
            raise _invalid("Invalid input: Please set either credential arn or role arn to update the credentials")
        self._check_credential(params)
        rule |= _given(params, "credentialArn", "customRoleArn")
        rule["updatedAt"] = self._clock()
        return _given(
            rule,
            *("ecrRepositoryPrefix", "registryId", "updatedAt", "credentialArn", "customRoleArn"),
            "upstreamRepositoryPrefix",
        )

    def delete_pull_through_cache_rule(self, params: Params) -> Document:
        prefix = self._prefix(params["ecrRepositoryPrefix"])
        rule = self._rule(prefix)
        if "createdAt" not in rule:
            raise _constraint("ecrRepositoryPrefix", "the rule is in the engine's own file")
        del self.rules[prefix]
        return {name: value for name, value in rule.items() if name not in ("upstreamRegistry", "updatedAt")}

    def validate_pull_through_cache_rule(self, params: Params) -> Document:
        rule = self._rule(self._prefix(params["ecrRepositoryPrefix"]))
        answer = _given(rule, "ecrRepositoryPrefix", "registryId", "upstreamRegistryUrl", "credentialArn")
        state = self.state_of_secret(rule["credentialArn"]) if "credentialArn" in rule else "usable"
        return {
            **answer,
            "isValid": state == "usable",
            **({} if state == "usable" else {"failure": state or "no secret"}),
        }

    def _rule(self, prefix: str) -> Document:
        if prefix not in self.rules:
            raise Refused(
                "PullThroughCacheRuleNotFoundException",
                "The pull through cache rule was not found. Specify a valid pull through cache rule and try again.",
                400,
            )
        return self.rules[prefix]

    def _check_credential(self, params: Params) -> None:
        arn = params.get("credentialArn")
        if arn is None:
            return
        if not 50 <= len(arn) <= 612 or _SECRET_ARN.fullmatch(arn) is None:
            raise _constraint("credentialArn", "must satisfy regular expression " + _SECRET_ARN.pattern)
        state = self.state_of_secret(arn)
        if not state:
            raise Refused(
                "SecretNotFoundException",
                "The ARN of the secret specified in the pull through cache rule was not found. Update the pull through "
                "cache rule with a valid secret ARN and try again.",
                400,
            )
        if state == "deleted":
            raise Refused(
                "UnableToAccessSecretException",
                "The secret is unable to be accessed. Verify the resource permissions for the secret and try again.",
                400,
            )
        if state == "custom key" and not self._is_engine:
            raise Refused(
                "UnableToDecryptSecretValueException",
                "The secret is accessible but is unable to be "
                "decrypted. Verify the resource permisisons and try again.",
                400,
            )

    # Templates

    def create_repository_creation_template(self, params: Params) -> Document:
        prefix = self._prefix(params["prefix"])
        if prefix in self.templates:
            raise Refused(
                "TemplateAlreadyExistsException",
                "The repository creation template already exists. Specify a unique prefix and try again.",
                400,
            )
        template = {
            "prefix": params["prefix"],
            "appliedFor": [],
            "imageTagMutability": "MUTABLE",
            "encryptionConfiguration": {"encryptionType": "AES256"},
            "createdAt": self._clock(),
        }
        self._change_template(template, params)
        self.templates[prefix] = template
        return {"registryId": self.account, "repositoryCreationTemplate": template}

    def update_repository_creation_template(self, params: Params) -> Document:
        template = deepcopy(self._template(self._prefix(params["prefix"])))
        self._change_template(template, params)
        self.templates[self._prefix(params["prefix"])] = template
        return {"registryId": self.account, "repositoryCreationTemplate": template}

    def delete_repository_creation_template(self, params: Params) -> Document:
        prefix = self._prefix(params["prefix"])
        template = self._template(prefix)
        del self.templates[prefix]
        return {"registryId": self.account, "repositoryCreationTemplate": template}

    def describe_repository_creation_templates(self, params: Params) -> Document:
        names = [self._prefix(prefix) for prefix in params.get("prefixes", [])]
        templates = [self.templates[name] for name in names or sorted(self.templates) if name in self.templates]
        return {"registryId": self.account, **_page(params, "repositoryCreationTemplates", templates)}

    def _template(self, prefix: str) -> Document:
        if prefix not in self.templates:
            raise Refused(
                "TemplateNotFoundException",
                "The specified repository creation template can't be found. Verify the registry ID and prefix and try "
                "again.",
                400,
            )
        return self.templates[prefix]

    def _change_template(self, template: Document, params: Params) -> None:
        """What is sent takes the place of what was there; an empty text takes it away."""
        for name, limit in _MAX_TEXT.items():
            if len(params.get(name, "")) > limit:
                raise _constraint(name, f"at most {limit} characters")
        for name in ("lifecyclePolicy", "repositoryPolicy"):
            if params.get(name):
                _json_object(name, params[name])
        for name in ("description", "lifecyclePolicy", "repositoryPolicy", "customRoleArn"):
            if name in params:
                template.pop(name, None)
                template |= {name: params[name]} if params[name] else {}
        if "appliedFor" in params:
            if not set(params["appliedFor"]) <= {"PULL_THROUGH_CACHE", "REPLICATION", "CREATE_ON_PUSH"}:
                raise _constraint("appliedFor", "a member of the enum")
            template["appliedFor"] = list(params["appliedFor"])
        if "resourceTags" in params:
            template.pop("resourceTags", None)
            template |= {"resourceTags": deepcopy(params["resourceTags"])} if params["resourceTags"] else {}
        _change_mutability(template, params)
        if "encryptionConfiguration" in params:
            _check_encryption(params["encryptionConfiguration"])
            template["encryptionConfiguration"] = dict(params["encryptionConfiguration"])
        template["updatedAt"] = self._clock()

    # The registry

    def get_registry_policy(self, params: Params) -> Document:
        if not self.registry_policy:
            raise self._no_registry_policy()
        return {"registryId": self.account, "policyText": self.registry_policy}

    def put_registry_policy(self, params: Params) -> Document:
        text = params["policyText"]
        document = _json_object("PolicyText", text)
        statements = document.get("Statement")
        statements = statements if isinstance(statements, list) else [statements]
        if len(text) > 10_240 or not statements:
            raise _constraint("PolicyText", "Invalid registry policy provided")
        for statement in statements:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if not set(actions) <= _REGISTRY_ACTIONS:
                raise _constraint("PolicyText", "Invalid registry policy provided")
        self.registry_policy = text
        return self.get_registry_policy({})

    def delete_registry_policy(self, params: Params) -> Document:
        answer = self.get_registry_policy({})
        self.registry_policy = ""
        return answer

    def _no_registry_policy(self) -> Refused:
        return Refused(
            "RegistryPolicyNotFoundException",
            f"Registry policy does not exist in the registry with id '{self.account}'",
            400,
        )

    def get_registry_scanning_configuration(self, params: Params) -> Document:
        return {"registryId": self.account, "scanningConfiguration": self.scanning}

    def put_registry_scanning_configuration(self, params: Params) -> Document:
        scan_type = params.get("scanType", self.scanning["scanType"])
        allowed = {"BASIC": {"SCAN_ON_PUSH", "MANUAL"}, "ENHANCED": {"SCAN_ON_PUSH", "CONTINUOUS_SCAN", "MANUAL"}}
        rules = list(params.get("rules", []))
        frequencies = [rule["scanFrequency"] for rule in rules]
        if len(rules) > 2 or len(set(frequencies)) != len(rules) or not set(frequencies) <= allowed[scan_type]:
            raise _constraint("rules", "at most one rule for each frequency that the scan type has")
        for rule in rules:
            if len(rule["repositoryFilters"]) > 100:
                raise _constraint("repositoryFilters", "at most 100")
            for entry in rule["repositoryFilters"]:
                if entry["filterType"] != "WILDCARD" or _FILTER.fullmatch(entry["filter"]) is None:
                    raise _constraint("repositoryFilters", _FILTER.pattern)
        self.scanning = {"scanType": scan_type, "rules": deepcopy(rules)}
        return {"registryScanningConfiguration": self.scanning}

    def get_authorization_token(self, params: Params) -> Document:
        endpoint = f"https://{self.account}.dkr.ecr.{self.region}.amazonaws.com"
        data = {"authorizationToken": "QVdTOnRva2Vu", "expiresAt": self._clock(), "proxyEndpoint": endpoint}
        return {"authorizationData": [data]}

    # Repositories

    def create_repository(self, params: Params) -> Document:
        name = params["repositoryName"]
        if name in self.repositories:
            raise Refused(
                "RepositoryAlreadyExistsException",
                f"The repository with name '{name}' already exists in the registry with id '{self.account}'",
                400,
            )
        repository: Document = {
            "repositoryArn": f"arn:aws:ecr:{self.region}:{self.account}:repository/{name}",
            "registryId": self.account,
            "repositoryName": name,
            "repositoryUri": f"{self.account}.dkr.ecr.{self.region}.amazonaws.com/{name}",
            "createdAt": self._clock(),
            "imageTagMutability": "MUTABLE",
            "encryptionConfiguration": dict(params.get("encryptionConfiguration", {"encryptionType": "AES256"})),
        }
        _change_mutability(repository, params)
        self.repositories[name] = {"shown": repository, "tags": list(params.get("tags", [])), "images": []}
        return {"repository": repository}

    def describe_repositories(self, params: Params) -> Document:
        names = params.get("repositoryNames", [])
        found = [self._repository(name)["shown"] for name in names or sorted(self.repositories)]
        return _page(params, "repositories", found)

    def delete_repository(self, params: Params) -> Document:
        repository = self._repository(params["repositoryName"])
        if repository["images"] and not params.get("force"):
            raise Refused(
                "RepositoryNotEmptyException",
                f"The repository with name '{params['repositoryName']}' in registry with id '{self.account}' cannot be "
                "deleted because it still contains images",
                400,
            )
        del self.repositories[params["repositoryName"]]
        return {"repository": repository["shown"]}

    def describe_images(self, params: Params) -> Document:
        return _page(params, "imageDetails", self._repository(params["repositoryName"])["images"])

    def put_image_tag_mutability(self, params: Params) -> Document:
        repository = self._repository(params["repositoryName"])["shown"]
        _change_mutability(repository, params)
        return {
            "registryId": self.account,
            **_given(repository, "repositoryName", "imageTagMutability", "imageTagMutabilityExclusionFilters"),
        }

    def get_lifecycle_policy(self, params: Params) -> Document:
        text = self._repository_text(params, "lifecyclePolicy", "LifecyclePolicyNotFoundException", "Lifecycle policy")
        return {**self._named(params), "lifecyclePolicyText": text, "lastEvaluatedAt": self._clock()}

    def put_lifecycle_policy(self, params: Params) -> Document:
        _json_object("LifecyclePolicyText", params["lifecyclePolicyText"])
        self._repository(params["repositoryName"])["lifecyclePolicy"] = params["lifecyclePolicyText"]
        return {**self._named(params), "lifecyclePolicyText": params["lifecyclePolicyText"]}

    def delete_lifecycle_policy(self, params: Params) -> Document:
        answer = self.get_lifecycle_policy(params)
        del self._repository(params["repositoryName"])["lifecyclePolicy"]
        return answer

    def get_repository_policy(self, params: Params) -> Document:
        text = self._repository_text(
            params, "repositoryPolicy", "RepositoryPolicyNotFoundException", "Repository policy"
        )
        return {**self._named(params), "policyText": text}

    def set_repository_policy(self, params: Params) -> Document:
        _json_object("PolicyText", params["policyText"])
        self._repository(params["repositoryName"])["repositoryPolicy"] = params["policyText"]
        return {**self._named(params), "policyText": params["policyText"]}

    def delete_repository_policy(self, params: Params) -> Document:
        answer = self.get_repository_policy(params)
        del self._repository(params["repositoryName"])["repositoryPolicy"]
        return answer

    def list_tags_for_resource(self, params: Params) -> Document:
        return {"tags": self._by_arn(params)["tags"]}

    def tag_resource(self, params: Params) -> Document:
        repository = self._by_arn(params)
        tags = {tag["Key"]: tag["Value"] for tag in [*repository["tags"], *params["tags"]]}
        repository["tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
        return {}

    def untag_resource(self, params: Params) -> Document:
        repository = self._by_arn(params)
        repository["tags"] = [tag for tag in repository["tags"] if tag["Key"] not in params["tagKeys"]]
        return {}

    def _repository(self, name: str) -> Document:
        if name not in self.repositories:
            raise Refused(
                "RepositoryNotFoundException",
                f"The repository with name '{name}' does not exist in the registry with id '{self.account}'",
                400,
            )
        return self.repositories[name]

    def _by_arn(self, params: Params) -> Document:
        return self._repository(params["resourceArn"].partition(":repository/")[2])

    def _named(self, params: Params) -> Document:
        return {"registryId": self.account, "repositoryName": params["repositoryName"]}

    def _repository_text(self, params: Params, name: str, code: str, what: str) -> str:
        repository = self._repository(params["repositoryName"])
        if name not in repository:
            where = f"the repository with name '{params['repositoryName']}' in the registry with id '{self.account}'"
            raise Refused(code, f"{what} does not exist for {where}", 400)
        return str(repository[name])

    def _prefix(self, text: str) -> str:
        """Without the slash that is always implied."""
        if not 1 <= len(text) <= 256 or _PREFIX.fullmatch(text) is None:
            raise _constraint("ecrRepositoryPrefix", "must satisfy regular expression " + _PREFIX.pattern)
        return text.removesuffix("/")


def _change_mutability(there: Document, params: Params) -> None:
    if "imageTagMutability" not in params:
        return
    mutability, filters = params["imageTagMutability"], params.get("imageTagMutabilityExclusionFilters", [])
    if mutability.endswith("_WITH_EXCLUSION") != bool(filters) or len(filters) > 5:
        raise _constraint("imageTagMutabilityExclusionFilters", "1 to 5 with, and only with, *_WITH_EXCLUSION")
    there.pop("imageTagMutabilityExclusionFilters", None)
    there |= {"imageTagMutability": mutability}
    there |= {"imageTagMutabilityExclusionFilters": deepcopy(filters)} if filters else {}


def _check_encryption(encryption: Params) -> None:
    if _KEY_ARN.fullmatch(encryption.get("kmsKey", "")) is None:
        raise _constraint("kmsKey", _KEY_ARN.pattern)
    if encryption["encryptionType"] == "AES256" and encryption.get("kmsKey"):
        raise _constraint("encryptionConfiguration", "a kmsKey goes with KMS only")


def _json_object(field: str, text: str) -> Document:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _constraint(field, "is no JSON object")
    return document


def _given(params: Params, *names: str) -> Document:
    return {name: params[name] for name in names if name in params}


def _page(params: Params, key: str, items: list[Document]) -> Document:
    """By AWS's rules: a page of `maxResults`, 100 by default, and a token for what follows."""
    start, size = int(params.get("nextToken", "0")), params.get("maxResults", 100)
    more = {"nextToken": str(start + size)} if start + size < len(items) else {}
    return {key: items[start : start + size], **more}


def epoch() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)
