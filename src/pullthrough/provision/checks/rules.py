"""Whether ECR calls a rule valid, and if it does not, what is wrong with its secret.

AWS says why in free text, which is passed on; an engine says it in codes (docs/ecr.md). The secret is looked at here as
well: it is nearly always the cause, and neither AWS nor an engine says what exactly is wrong with it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pullthrough.declaration import Origin, Rule
from pullthrough.errors import ActionDenied, AwsRefused
from pullthrough.oci.ecr_upstreams import kind_of, upstream_host
from pullthrough.provision.aws import Aws
from pullthrough.provision.checks.report import CheckKind, CheckRow, Trouble, failed, passed
from pullthrough.provision.model.accounts import SECRET_PREFIX, WHERE_TOKENS_ARE
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.secrets import DEFAULT_SECRETS_KEY, parse_account, tokens_in

#: How an engine's `failure` begins, and what is to be done about it.
_FIXES = {
    "SECRET_NOT_FOUND": "`pullthrough apply` makes the secret, or takes it back; correct credential_arn where one is given",
    "SECRET_ACCESS_DENIED": (
        "give the engine its encryption key back (docs/ecr.md, Secrets); for a rule of the engine's own file, make the "
        "token's file or command readable"
    ),
    "SECRET_MALFORMED": (
        'its text has to be {"username": "...", "accessToken": "..."}, nothing else; `pullthrough apply` writes it so'
    ),
    "UPSTREAM_TOO_MANY_REQUESTS": "wait an hour, or give the rule an account whose rate limit is higher",
    "UPSTREAM_INVALID": 'correct endpoint, ca_file or token_realms in the engine\'s [upstreams."<host>"]',
}
_CODE = re.compile(r"([A-Z_]{6,40}):")
#: Names that people give to the two keys by mistake, and that are safe to repeat: any other may be a secret itself.
_SLIPS = (
    "user",
    "Username",
    "login",
    "password",
    "token",
    "access_token",
    "accesstoken",
    "AccessToken",
    "access-token",
)


def check_rule(aws: Aws, target: DeploymentTarget, rule: Rule) -> list[CheckRow]:
    """One row. Raises what `Aws.call` raises."""
    try:
        answer = aws.call("ecr", "ValidatePullThroughCacheRule", ecrRepositoryPrefix=rule.prefix)
    except AwsRefused as error:
        if error.code != "PullThroughCacheRuleNotFoundException":
            raise
        return [_absent(target, rule)]
    host = upstream_host(str(answer.get("upstreamRegistryUrl", "")))
    if host != rule.upstream:
        trouble = Trouble(
            f"the rule {rule.prefix} is for {host}, not for {rule.upstream} as declared",
            "`pullthrough apply --replace` deletes the rule and makes it anew",
        )
        return [failed(rule.prefix, CheckKind.RULE, trouble)]
    if answer.get("isValid"):
        return [passed(rule.prefix, CheckKind.RULE)]
    return [failed(rule.prefix, CheckKind.RULE, _trouble(aws, target, rule, answer))]


def is_absent(row: CheckRow) -> bool:
    """Whether this row says that there is no such rule."""
    return row.check is CheckKind.RULE and row.details.get("there") is False


def _absent(target: DeploymentTarget, rule: Rule) -> CheckRow:
    if target.is_engine and rule.origin is Origin.BUILT_IN:
        reason = f"ECR's API has no rule {rule.prefix}, only the engine's built-in one serves its pulls"
    else:
        reason = f"there is no rule {rule.prefix}"
    return failed(rule.prefix, CheckKind.RULE, Trouble(reason, "`pullthrough apply` makes it"), there=False)


def _trouble(aws: Aws, target: DeploymentTarget, rule: Rule, answer: dict[str, Any]) -> Trouble:
    said = str(answer.get("failure") or "it says no more")
    reason = f"ECR holds the rule for invalid: {said}"
    match = _CODE.match(said)
    code = match[1] if match else ""
    if (arn := str(answer.get("credentialArn") or "")) and not code.startswith("UPSTREAM_"):
        found = diagnose_secret(aws, target, arn)
        if found is not None:
            return Trouble(f"{reason}. {found.reason}", found.fix or _fix(code, rule))
    return Trouble(reason, _fix(code, rule))


def _fix(code: str, rule: Rule) -> str:
    if code in _FIXES:
        return _FIXES[code]
    if code == "UPSTREAM_UNREACHABLE":
        return f'the engine has to reach https://{rule.upstream}; [upstreams."{rule.upstream}"] has proxy and endpoint'
    return token_fix(rule)


def token_fix(rule: Rule) -> str:
    """What to do where the upstream does not take the login."""
    where = WHERE_TOKENS_ARE.get(kind_of(rule.upstream) or "")
    if where is None:
        return f"the user name and token have to be such that {rule.upstream} takes them for pulls; then `pullthrough apply`"
    return (
        f"the token has to be valid and may read packages: {where}; set it, and `pullthrough apply` rotates the secret"
    )


def diagnose_secret(aws: Aws, target: DeploymentTarget, arn: str) -> Trouble | None:
    """What keeps ECR from using this secret; None where nothing was found.

    It has no fix where the caller may not look at the secret.
    """
    name = arn.partition(":secret:")[2]
    if not name.startswith(SECRET_PREFIX):
        return Trouble(
            f"The secret is called {name}, and ECR reads only those whose name begins with {SECRET_PREFIX}",
            "remove credential_arn, so that `pullthrough apply` makes one with the right name; or make one so called",
        )
    if arn.split(":")[3:5] != [target.region, target.account]:
        return Trouble(
            "The secret is in another account or region than the rule, where ECR does not look",
            "make it in the rule's own account and region",
        )
    try:
        return _look_at(aws, target, arn, name)
    except ActionDenied as error:
        return Trouble(f"Its secret could not be looked at: {error.message} ({error.hint})", "")
    except AwsRefused as error:
        if error.code == "ResourceNotFoundException":
            return Trouble(
                f"There is no secret with the rule's ARN, {name}",
                "`pullthrough apply` makes it and names it to the rule; correct credential_arn where one is given",
            )
        if error.code in ("InvalidRequestException", "DecryptionFailure"):
            return Trouble(f"The secret {name} can not be read: {error.message}", "put it right, or name another one")
        raise


def _look_at(aws: Aws, target: DeploymentTarget, arn: str, name: str) -> Trouble | None:
    described = aws.call("secretsmanager", "DescribeSecret", SecretId=arn)
    if described.get("DeletedDate") is not None:
        return Trouble(
            f"The secret {name} is to be deleted",
            "`pullthrough apply` takes it back; so does `aws secretsmanager restore-secret`",
        )
    key = str(described.get("KmsKeyId") or "")
    if key and not key.endswith(DEFAULT_SECRETS_KEY) and not target.is_engine:
        return Trouble(
            f"The secret {name} is encrypted with a KMS key of your own, and ECR reads only those under "
            "aws/secretsmanager",
            f"aws secretsmanager update-secret --secret-id {arn} --kms-key-id alias/aws/secretsmanager, then store the "
            "value again",
        )
    value = aws.call("secretsmanager", "GetSecretValue", SecretId=arn)
    text = value.get("SecretString")
    if not isinstance(text, str):
        return Trouble(f"The secret {name} is binary", _FIXES["SECRET_MALFORMED"])
    aws.secrets |= tokens_in(text)
    return _trouble_of_text(name, text)


def _trouble_of_text(name: str, text: str) -> Trouble | None:
    """Repeats nothing of the text."""
    account = parse_account(text)
    if account is not None:
        empty = [key for key, value in zip(("username", "accessToken"), account, strict=True) if not value]
        return Trouble(f"The secret {name} has an empty {' and '.join(empty)}", "set it again") if empty else None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Trouble(f"The secret {name} is not JSON", _FIXES["SECRET_MALFORMED"])
    if not isinstance(document, dict):
        return Trouble(f"The secret {name} is JSON, but not an object", _FIXES["SECRET_MALFORMED"])
    missing = [key for key in ("username", "accessToken") if key not in document]
    slips = [key for key in _SLIPS if key in document]
    if not missing:
        what = "has further keys, or a value that is not a text"
    else:
        what = f"has no key {' and no key '.join(missing)}" + (f", but {', '.join(slips)}" if slips else "")
    return Trouble(f"The secret {name} {what}", _FIXES["SECRET_MALFORMED"])
