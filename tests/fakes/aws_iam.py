"""IAM in memory: roles, their tags, trust and inline policies; a simulation that knows `Allow` and wildcards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from pullthrough.provision.aws import Refused

Params = Mapping[str, Any]
Document = dict[str, Any]

_NAME = re.compile(r"[\w+=,.@-]{1,64}")


class FakeIam:
    """Each method is an operation of the API; the caller holds the lock and has checked shapes."""

    def __init__(self, account: str, clock: Callable[[], datetime]) -> None:
        self.account = account
        self._clock = clock
        self.roles: dict[str, Document] = {}

    def create_role(self, params: Params) -> Document:
        name = params["RoleName"]
        if name in self.roles:
            raise Refused("EntityAlreadyExists", f"Role with name {name} already exists.", 409)
        if _NAME.fullmatch(name) is None or len(params.get("Description", "")) > 1000:
            raise Refused("ValidationError", "1 validation error detected", 400)
        self.roles[name] = {
            "description": params.get("Description", ""),
            "trust": _document(params["AssumeRolePolicyDocument"]),
            "tags": {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])},
            "policies": {},
            "created": self._clock(),
        }
        return {"Role": self._shown(name, with_tags=True)}

    def get_role(self, params: Params) -> Document:
        self._role(params)
        return {"Role": self._shown(params["RoleName"], with_tags=True)}

    def delete_role(self, params: Params) -> Document:
        if self._role(params)["policies"]:
            raise Refused("DeleteConflict", "Cannot delete entity, must delete policies first.", 409)
        del self.roles[params["RoleName"]]
        return {}

    def update_role(self, params: Params) -> Document:
        self._role(params)["description"] = params["Description"]
        return {}

    def update_assume_role_policy(self, params: Params) -> Document:
        self._role(params)["trust"] = _document(params["PolicyDocument"])
        return {}

    def tag_role(self, params: Params) -> Document:
        self._role(params)["tags"] |= {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        return {}

    def untag_role(self, params: Params) -> Document:
        tags = self._role(params)["tags"]
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}

    def put_role_policy(self, params: Params) -> Document:
        self._role(params)["policies"][params["PolicyName"]] = _document(params["PolicyDocument"])
        return {}

    def get_role_policy(self, params: Params) -> Document:
        policies = self._policy(params)
        return {
            "RoleName": params["RoleName"],
            "PolicyName": params["PolicyName"],
            "PolicyDocument": json.dumps(policies[params["PolicyName"]]),
        }

    def delete_role_policy(self, params: Params) -> Document:
        del self._policy(params)[params["PolicyName"]]
        return {}

    def simulate_principal_policy(self, params: Params) -> Document:
        role = self._role({"RoleName": params["PolicySourceArn"].rpartition("/")[2]})
        statements = [
            statement for document in role["policies"].values() for statement in _listed(document["Statement"])
        ]
        results = []
        for action in params["ActionNames"]:
            for resource in params.get("ResourceArns", ["*"]):
                allowed = any(_allows(statement, action, resource) for statement in statements)
                decision = "allowed" if allowed else "implicitDeny"
                results.append({"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision})
        return {"EvaluationResults": results, "IsTruncated": False}

    def _role(self, params: Params) -> Document:
        name = params["RoleName"]
        if name not in self.roles:
            raise Refused("NoSuchEntity", f"The role with name {name} cannot be found.", 404)
        return self.roles[name]

    def _policy(self, params: Params) -> Document:
        name = params["PolicyName"]
        policies: Document = self._role(params)["policies"]
        if name not in policies:
            raise Refused("NoSuchEntity", f"The role policy with name {name} cannot be found.", 404)
        return policies

    def _shown(self, name: str, *, with_tags: bool) -> Document:
        role = self.roles[name]
        return {
            "Path": "/",
            "RoleName": name,
            "RoleId": f"AROA{name.upper():X<17.17}",
            "Arn": f"arn:aws:iam::{self.account}:role/{name}",
            "CreateDate": role["created"],
            "AssumeRolePolicyDocument": json.dumps(role["trust"]),
            **({"Description": role["description"]} if role["description"] else {}),
            **({"Tags": [{"Key": key, "Value": value} for key, value in role["tags"].items()]} if with_tags else {}),
        }


def _document(text: str) -> Document:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise Refused("MalformedPolicyDocument", "Syntax errors in policy.", 400)
    return document


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _allows(statement: Params, action: str, resource: str) -> bool:
    return (
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, pattern) for pattern in _listed(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
    )
