"""Steps of secrets, which rules need the ARNs of."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pullthrough.errors import AwsRefused
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import Aws
from pullthrough.provision.execution.tags import tag_changes, tag_list
from pullthrough.provision.model.accounts import Account
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.resources import MARKER_TAG, Attributes, secret_reference
from pullthrough.provision.observation.secrets import DEFAULT_SECRETS_KEY, account_attributes


class SecretSteps:
    """Carries out the steps of secrets, and knows the ARNs of those that it made. Thread-safe."""

    def __init__(
        self,
        aws: Aws,
        name: str,
        accounts: Mapping[str, Account],
        fingerprints: Fingerprints,
        new_token: Callable[[], str],
    ) -> None:
        """`accounts` by the name of their secret."""
        self._aws = aws
        self._name = name
        self._accounts = accounts
        self._fingerprints = fingerprints
        self._new_token = new_token
        self._arns: dict[str, str] = {}
        self._lock = threading.Lock()

    def execute(self, step: Step) -> None:
        """Raises what `Aws.call` raises."""
        name = step.key.name
        if step.after is None:
            self._delete(step.arn, step.details["recoveryDays"])
            return
        if step.action is StepAction.CREATE:
            self._create(name, step.after)
            return
        before = dict(step.before or {})
        if step.action is StepAction.RESTORE:
            self._aws.call("secretsmanager", "RestoreSecret", SecretId=step.arn)
            # Only now it tells what it holds; the same account makes no new version.
            before |= account_attributes(self._read_value(name), self._fingerprints)
        self._update(name, step.arn, before, step.after)

    def _delete(self, arn: str, days: object) -> None:
        try:
            self._aws.call("secretsmanager", "DeleteSecret", SecretId=arn, RecoveryWindowInDays=days)
        except AwsRefused as error:
            if error.code == "ResourceNotFoundException":
                return
            # What a call that was lost has done is refused a second time.
            if error.code != "InvalidRequestException":
                raise
            if self._aws.call("secretsmanager", "DescribeSecret", SecretId=arn).get("DeletedDate") is None:
                raise

    def _create(self, name: str, after: Attributes) -> None:
        try:
            made = self._aws.call(
                "secretsmanager",
                "CreateSecret",
                Name=name,
                Description=after["description"],
                SecretString=self._text_of(name),
                Tags=tag_list(after["tags"]),
                # The same call again is the same secret: a lost answer makes no second one, and no error.
                ClientRequestToken=self._new_token(),
            )
        except AwsRefused as error:
            if error.code != "ResourceExistsException":
                raise
            made = self._aws.call("secretsmanager", "DescribeSecret", SecretId=name)
            tags = {tag["Key"]: tag["Value"] for tag in made.get("Tags", [])}
            now = account_attributes(self._read_value(name), self._fingerprints)
            wanted = {key: after[key] for key in now}
            if tags.get(MARKER_TAG) != self._name or now != wanted:
                raise
        with self._lock:
            self._arns[name] = made["ARN"]

    def _update(self, name: str, arn: str, before: Attributes, after: Attributes) -> None:
        if any(before.get(key) != after[key] for key in ("username", "accessToken")):
            self._aws.call(
                "secretsmanager",
                "PutSecretValue",
                retry=("InvalidRequestException",) if before.get("accessToken") in ("", None) else (),
                SecretId=arn,
                SecretString=self._text_of(name),
                ClientRequestToken=self._new_token(),
            )
        changed: dict[str, Any] = {}
        if before.get("description") != after["description"]:
            changed["Description"] = after["description"]
        if before.get("kmsKeyId") != after["kmsKeyId"]:
            changed["KmsKeyId"] = DEFAULT_SECRETS_KEY
        if changed:
            self._aws.call("secretsmanager", "UpdateSecret", SecretId=arn, **changed)
        missing, surplus = tag_changes(before.get("tags"), after["tags"])
        if surplus:
            self._aws.call("secretsmanager", "UntagResource", SecretId=arn, TagKeys=surplus)
        if missing:
            self._aws.call("secretsmanager", "TagResource", SecretId=arn, Tags=tag_list(missing))

    def _read_value(self, name: str) -> str:
        answer = self._aws.call("secretsmanager", "BatchGetSecretValue", SecretIdList=[name])
        return next((str(entry.get("SecretString", "")) for entry in answer.get("SecretValues", [])), "")

    def _text_of(self, name: str) -> str:
        account = self._accounts[name]
        text = json.dumps({"username": account.username, "accessToken": account.token})
        self._aws.secrets |= {account.token, text}
        return text

    def has_made(self, arn: str) -> bool:
        with self._lock:
            return arn in self._arns.values()

    def with_arn(self, attributes: Attributes) -> dict[str, Any]:
        """A rule's attributes with the ARN of its secret in place of the reference to it, where the secret was made here."""
        resolved = dict(attributes)
        with self._lock:
            for name, arn in self._arns.items():
                if resolved["credentialArn"] == secret_reference(name):
                    resolved["credentialArn"] = arn
        return resolved
