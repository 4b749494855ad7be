"""Who is let in, and what they may do: signatures, logins, and the policies together."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from pullthrough.access import principals
from pullthrough.access.api_keys.records import NewKey
from pullthrough.access.logins import urls
from pullthrough.access.logins.signatures import ApiDenied
from pullthrough.access.logins.tokens import LIFETIME_SECONDS, make_token
from pullthrough.access.policy.context import NO_TAGS, RequestTags
from pullthrough.access.policy.documents import PolicyKind, parse_policy
from pullthrough.access.principals import Principal
from pullthrough.errors import AccessDenied, StorageError, Unauthorized
from pullthrough.oci.digests import parse_digest
from pullthrough.oci.names import parse_repository_name
from tests.unit.access.conftest import URL_KEY, House, Worker
from tests.unit.access.test_signatures import Sent, sign

ACCOUNT = "000000000000"
APP = parse_repository_name("team/app")
APP_ARN = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/team/app"
CLIENT = "10.1.2.3"
EVERYWHERE = '[serve]\nlisten = "0.0.0.0:5000"\n'
CHALLENGE = 'Basic realm="http://127.0.0.1:5000/",service="ecr.amazonaws.com"'


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode(), **HOST}


HOST = {"Host": "127.0.0.1:5000"}


async def principal_of(worker: Worker, name: str = "bob", role: str = "pull") -> Principal:
    """Makes a key, and signs a request with it."""
    made = worker.administration.create(name, role)
    return await signed(worker, made)


async def signed(worker: Worker, made: NewKey) -> Principal:
    request, _ = sign(secret=made.secret_access_key.encode())
    headers = [(name, value.replace("AKIAEXAMPLE", made.access_key_id)) for name, value in request.headers]
    return await authenticate(worker, replace(request, headers=headers))


async def authenticate(worker: Worker, request: Sent, service: str = "ecr") -> Principal:
    """As the face does it."""
    claim = await worker.authenticator.read_api_claim(request, service)
    return await worker.authenticator.authenticate_api(claim, request, request.body_sha256, service)


@pytest.fixture
def today(house: House) -> House:
    """The clock of botocore."""
    house.now = sign()[1]
    return house


# The APIs


async def test_who_signs_with_a_key_is_its_user(today: House) -> None:
    principal = await principal_of(today.worker())
    assert principal.arn == f"arn:aws:iam::{ACCOUNT}:user/bob"
    assert (principal.name, principal.account) == ("bob", ACCOUNT)
    assert principal.user_id.startswith("AIDA")
    assert len(principal.user_id) == 20
    assert not principal.is_anonymous


async def test_an_unknown_key_is_refused_in_the_words_of_each_protocol(today: House) -> None:
    worker = today.worker()
    for service, code, status in (("ecr", "UnrecognizedClientException", 400), ("sts", "InvalidClientTokenId", 403)):
        request, _ = sign(service=service)
        with pytest.raises(ApiDenied) as caught:
            await authenticate(worker, request, service)
        assert (caught.value.code, caught.value.status) == (code, status)
        assert caught.value.message == "The security token included in the request is invalid."


async def test_a_key_that_ends_while_a_body_comes_in_signs_no_more(today: House) -> None:
    worker = today.worker()
    made = worker.administration.create("bob", "pull")
    request, _ = sign(secret=made.secret_access_key.encode())
    headers = [(name, value.replace("AKIAEXAMPLE", made.access_key_id)) for name, value in request.headers]
    request = replace(request, headers=headers)
    claim = await worker.authenticator.read_api_claim(request, "ecr")
    await worker.authenticator.authenticate_api(claim, request, request.body_sha256, "ecr")
    worker.administration.remove("bob")
    with pytest.raises(ApiDenied, match="security token"):
        await worker.authenticator.authenticate_api(claim, request, request.body_sha256, "ecr")


async def test_a_removed_or_renewed_key_signs_no_more(today: House) -> None:
    worker = today.worker()
    made = worker.administration.create("bob", "pull")
    await signed(worker, made)
    worker.administration.renew("bob")
    with pytest.raises(ApiDenied, match="does not match"):
        await signed(worker, made)
    worker.administration.remove("bob")
    with pytest.raises(ApiDenied, match="security token"):
        await signed(worker, made)


async def test_session_tokens_are_refused_clearly(today: House) -> None:
    request, _ = sign(token="session")
    with pytest.raises(ApiDenied, match="unset AWS_SESSION_TOKEN") as caught:
        await authenticate(today.worker(), request)
    assert caught.value.code == "UnrecognizedClientException"


async def test_the_configured_region_is_the_one_to_sign_for(today: House) -> None:
    worker = today.worker('[ecr]\nregion = "eu-central-1"\n')
    with pytest.raises(ApiDenied, match=r"valid region\. This registry is in eu-central-1"):
        await principal_of(worker)


async def test_without_authentication_every_request_is_the_roots(today: House) -> None:
    worker = today.worker('[ecr]\nauth = "none"\n')
    for request in (sign(region="mars-1", token="session")[0], Sent("POST", "/", "", [], b"")):
        principal = await authenticate(worker, request)
        assert (principal.arn, principal.user_id) == (f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    principal = await worker.authenticator.authenticate_registry(
        {"Authorization": "Nonsense"}, address=CLIENT, wants_write=True
    )
    worker.authorizer.authorize(principal, "ecr:PutImage", APP_ARN, repository=APP)
    assert worker.authorizer.open_pulls
    token, expires_at = worker.authenticator.issue_token(principal)
    assert expires_at == int(today.now) + LIFETIME_SECONDS
    # It opens nothing where keys are asked for.
    with pytest.raises(Unauthorized):
        await today.worker().authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)


async def test_a_web_page_is_nobody_where_everybody_is_the_root(today: House) -> None:
    worker = today.worker('[ecr]\nauth = "none"\n')
    request = Sent("POST", "/", "", [("ORIGIN", "null")], b"")
    for service, code, status in (("secretsmanager", "AccessDeniedException", 400), ("sts", "AccessDenied", 403)):
        with pytest.raises(ApiDenied, match="web pages") as caught:
            await authenticate(worker, request, service)
        assert (caught.value.code, caught.value.status) == (code, status)
    with pytest.raises(AccessDenied, match="web pages"):
        await worker.authenticator.authenticate_registry(
            {"Origin": "http://page.example"}, address=CLIENT, wants_write=True
        )


# Registry clients


@pytest.mark.parametrize(
    ("config", "pulls_are_open"),
    [
        ("", True),
        ("[serve]\npull_auth = true\n", False),
        ('[serve]\nlisten = "[::1]:5000"\n', True),
        (EVERYWHERE, False),
        (EVERYWHERE + "anonymous_pull = true\n", True),
        (EVERYWHERE + "anonymous_pull = true\npull_auth = true\n", True),
    ],
)
async def test_the_listen_address_decides_whether_pulls_need_a_login(
    house: House, config: str, pulls_are_open: bool
) -> None:
    worker = house.worker(config)
    assert worker.authorizer.open_pulls is pulls_are_open
    if pulls_are_open:
        assert (await worker.authenticator.authenticate_registry(HOST, address=CLIENT, wants_write=False)).is_anonymous
    else:
        with pytest.raises(Unauthorized) as caught:
            await worker.authenticator.authenticate_registry(HOST, address=CLIENT, wants_write=False)
        assert caught.value.challenge == CHALLENGE
    with pytest.raises(Unauthorized):
        await worker.authenticator.authenticate_registry(HOST, address=CLIENT, wants_write=True)


async def test_each_mirror_is_judged_by_its_own_address(house: House) -> None:
    worker = house.worker(
        EVERYWHERE + '[serve.mirrors]\n"127.0.0.1:1" = "quay"\n"127.0.0.1:2" = "github"\n"0.0.0.0:3" = "github"\n'
    )
    assert (
        await worker.authenticator.authenticate_registry(HOST, address=CLIENT, wants_write=False, mirror="quay")
    ).is_anonymous
    for mirror in ("github", None):
        with pytest.raises(Unauthorized):
            await worker.authenticator.authenticate_registry(HOST, address=CLIENT, wants_write=False, mirror=mirror)
    assert not worker.authorizer.open_pulls


@pytest.mark.parametrize("authorization", ["", "Basic Og==", "basic  Og=="])
async def test_a_login_of_nobody_is_none(house: House, authorization: str) -> None:
    """What podman and skopeo send where they have no credentials but were told of Basic."""
    principal = await house.worker().authenticator.authenticate_registry(
        {"Authorization": authorization, **HOST}, address=CLIENT, wants_write=False
    )
    assert principal.is_anonymous


@pytest.mark.parametrize(
    "authorization",
    ["Bearer x", "Basic", "Basic !", "Basic QQ==", "Basic /w==", "Basic QTpC QTpC", "Basic " + "=" * 9, "x" * 10_000],
)
async def test_a_login_that_is_wrong_is_refused_where_none_is_needed(house: House, authorization: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        await house.worker().authenticator.authenticate_registry(
            {"Authorization": authorization, **HOST}, address=CLIENT, wants_write=False
        )
    assert caught.value.challenge == CHALLENGE


@pytest.mark.parametrize("host", ["", 'a"b', "a b", "http://x", "x/y", "é"])
def test_a_strange_host_is_not_repeated_in_the_challenge(house: House, host: str) -> None:
    challenge = house.worker().authenticator.challenge({"Host": host})
    assert challenge == 'Basic realm="http://registry/",service="ecr.amazonaws.com"'


async def test_a_token_logs_its_user_in_until_it_ends(today: House) -> None:
    worker = today.worker("[serve]\npull_auth = true\n")
    bob = await principal_of(worker)
    token, expires_at = worker.authenticator.issue_token(bob)
    assert expires_at == int(today.now) + 12 * 3600
    principal = await worker.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=True)
    assert principal == bob
    today.now = expires_at
    with pytest.raises(AccessDenied, match=r"^Your authorization token has expired\. Reauthenticate and try again\.$"):
        await worker.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)


async def test_a_token_ends_with_its_key(today: House) -> None:
    one, other = today.worker(), today.worker()
    token, _ = one.authenticator.issue_token(await principal_of(one))
    await other.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)
    renewed = one.administration.renew("bob")
    with pytest.raises(Unauthorized):
        await other.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)
    token, _ = other.authenticator.issue_token(await signed(other, renewed))
    await one.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)
    other.administration.remove("bob")
    with pytest.raises(Unauthorized):
        await one.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)


async def test_tokens_that_are_forged_or_of_another_account_are_refused(today: House) -> None:
    worker = today.worker()
    made = worker.administration.create("bob", "pull")
    key_id, secret, later = made.access_key_id, made.secret_access_key.encode(), int(today.now) + 60
    right = make_token(key_id, ACCOUNT, later, secret)
    assert (
        await worker.authenticator.authenticate_registry(basic("AWS", right), address=CLIENT, wants_write=False)
    ).name == "bob"
    for token in (
        make_token(key_id, "111111111111", later, secret),
        make_token(key_id, ACCOUNT, later, b"guessed"),
        make_token("AKIANOBODY", ACCOUNT, later, secret),
        make_token(key_id, ACCOUNT, int(today.now) - 1, b"guessed"),
        right + "x",
        secret.decode(),
        "",
    ):
        with pytest.raises(Unauthorized) as caught:
            await worker.authenticator.authenticate_registry(basic("AWS", token), address=CLIENT, wants_write=False)
        assert caught.value.message == "the authorization token is not valid"
        assert secret.decode() not in str(caught.value) + caught.value.hint


async def test_no_token_for_a_key_that_has_just_gone(today: House) -> None:
    worker = today.worker()
    bob = await principal_of(worker)
    worker.administration.remove("bob")
    assert await worker.keys.find(bob.access_key_id) is None
    with pytest.raises(ApiDenied):
        worker.authenticator.issue_token(bob)


async def test_users_of_the_htpasswd_file_may_pull(house: House, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(f"bob:{bcrypt.hashpw(b'hunter2', bcrypt.gensalt(4)).decode()}\n")
    worker = house.worker('[serve]\npull_auth = true\n[ecr]\nhtpasswd_file = "htpasswd"\n')
    bob = await worker.authenticator.authenticate_registry(basic("bob", "hunter2"), address=CLIENT, wants_write=True)
    # Not the API key's user of that name.
    assert bob.arn == f"arn:aws:iam::{ACCOUNT}:user/htpasswd/bob"
    worker.authorizer.authorize(bob, "ecr:BatchGetImage", APP_ARN, repository=APP)
    with pytest.raises(AccessDenied):
        worker.authorizer.authorize(bob, "ecr:PutImage", APP_ARN, repository=APP)
    for user, password in (("bob", "hunter3"), ("eve", "hunter2"), ("bob", ""), ("", "hunter2"), ("AWS", "hunter2")):
        with pytest.raises(Unauthorized) as caught:
            await worker.authenticator.authenticate_registry(basic(user, password), address=CLIENT, wants_write=False)
        assert "hunter" not in caught.value.message


# Policies


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str, principal: object = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": action, **more}


def deny(action: str, principal: object = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, principal, **more), "Effect": "Deny"}


BOB = principals.user("bob", ACCOUNT, ())
PULLER = principals.user("puller", ACCOUNT, principals.registry_user("x", ACCOUNT).policies)
ROOT = principals.root(ACCOUNT)
ADMIN = principals.user("admin", ACCOUNT, ROOT.policies)
ANYBODY = principals.anonymous(ACCOUNT, CHALLENGE)
BY_IP = {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}


@pytest.mark.parametrize(
    ("principal", "action", "registry", "repository", "allowed"),
    [
        # The identity's own policies
        (ADMIN, "ecr:DeleteRepository", None, None, True),
        (PULLER, "ecr:BatchGetImage", None, None, True),
        (PULLER, "ecr:PutImage", None, None, False),
        (ANYBODY, "ecr:BatchGetImage", None, None, True),
        (ANYBODY, "ecr:PutImage", None, None, False),
        (BOB, "ecr:BatchGetImage", None, None, False),
        # The repository's
        (BOB, "ecr:BatchGetImage", None, [allow("ecr:BatchGetImage", {"AWS": BOB.arn})], True),
        (PULLER, "ecr:BatchGetImage", None, [deny("ecr:BatchGetImage")], False),
        (ADMIN, "ecr:BatchGetImage", None, [deny("ecr:*")], False),
        (ANYBODY, "ecr:BatchGetImage", None, [deny("ecr:*", {"AWS": PULLER.arn})], True),
        (ANYBODY, "ecr:PutImage", None, [allow("ecr:PutImage")], True),
        # The registry's
        (BOB, "ecr:BatchGetImage", [allow("ecr:*", {"AWS": BOB.arn}, Resource="*")], None, True),
        (BOB, "ecr:BatchGetImage", [allow("ecr:*", {"AWS": BOB.arn}, Resource=APP_ARN + "x")], None, False),
        (PULLER, "ecr:BatchImportUpstreamImage", [deny("ecr:BatchImportUpstreamImage", Resource="*")], None, False),
        (PULLER, "ecr:BatchGetImage", [deny("ecr:BatchImportUpstreamImage", Resource="*")], None, True),
        # Together: a Deny anywhere wins.
        (BOB, "ecr:PutImage", [allow("ecr:*", Resource="*")], [deny("ecr:PutImage")], False),
        (BOB, "ecr:PutImage", [deny("ecr:Put*", Resource="*")], [allow("ecr:PutImage")], False),
        # Nobody locks themselves out.
        (ADMIN, "ecr:SetRepositoryPolicy", None, [deny("ecr:*")], True),
        (ADMIN, "ecr:DeleteRegistryPolicy", [deny("ecr:*", Resource="*")], None, True),
        (PULLER, "ecr:GetRepositoryPolicy", None, [deny("ecr:*")], False),
        # Other services are none of theirs.
        (ADMIN, "secretsmanager:GetSecretValue", [deny("*", Resource="*")], None, True),
        # What is known of the request
        (BOB, "ecr:BatchGetImage", None, [allow("ecr:*", **BY_IP)], True),
        (
            PULLER,
            "ecr:BatchGetImage",
            None,
            [deny("ecr:*", Condition={"Bool": {"aws:SecureTransport": "false"}})],
            False,
        ),
        (PULLER, "ecr:BatchGetImage", None, [deny("ecr:*", Condition={"Null": {"aws:PrincipalArn": "true"}})], True),
        (ANYBODY, "ecr:BatchGetImage", None, [deny("ecr:*", Condition={"Null": {"aws:PrincipalArn": "true"}})], False),
        (
            ADMIN,
            "ecr:PutImage",
            None,
            [deny("ecr:*", Condition={"StringEquals": {"aws:PrincipalType": "User"}})],
            False,
        ),
        (ROOT, "ecr:PutImage", None, [deny("ecr:*", Condition={"StringEquals": {"aws:PrincipalType": "User"}})], True),
    ],
)
def test_what_the_policies_together_allow(
    house: House,
    principal: Principal,
    action: str,
    registry: list[dict[str, Any]] | None,
    repository: list[dict[str, Any]] | None,
    allowed: bool,
) -> None:
    house.texts.registry_policy = document(*registry) if registry else None
    if repository:
        house.texts.repository_policies[APP] = document(*repository)
    worker = house.worker()
    try:
        worker.authorizer.authorize(principal, action, APP_ARN, repository=APP, source_ip="10.1.2.3")
    except (AccessDenied, Unauthorized):
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("principal", "action", "statement", "allowed"),
    [
        (BOB, "GetSecretValue", allow("secretsmanager:GetSecretValue", {"AWS": BOB.arn}, Resource="*"), True),
        (PULLER, "GetSecretValue", allow("secretsmanager:GetSecretValue", {"AWS": BOB.arn}, Resource="*"), False),
        (ADMIN, "GetSecretValue", deny("secretsmanager:*", Resource="*"), False),
        (ADMIN, "DeleteResourcePolicy", deny("secretsmanager:*", Resource="*"), True),
    ],
)
def test_a_secrets_own_policy_counts(
    house: House, principal: Principal, action: str, statement: dict[str, Any], allowed: bool
) -> None:
    worker = house.worker()
    arn = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:ecr-pullthroughcache/hub-AbCdEf"
    try:
        worker.authorizer.authorize(principal, f"secretsmanager:{action}", arn, secret_policy=document(statement))
    except AccessDenied:
        assert not allowed
    else:
        assert allowed


def test_a_refusal_has_awss_words(house: House) -> None:
    worker = house.worker()
    with pytest.raises(AccessDenied) as caught:
        worker.authorizer.authorize(PULLER, "ecr:PutImage", APP_ARN, repository=APP)
    assert caught.value.message == (
        f"User: {PULLER.arn} is not authorized to perform: ecr:PutImage on resource: {APP_ARN} "
        "because no identity-based policy allows the ecr:PutImage action"
    )
    house.texts.repository_policies[APP] = document(deny("ecr:*"))
    with pytest.raises(AccessDenied, match=r"with an explicit deny in a resource-based policy$"):
        worker.authorizer.authorize(PULLER, "ecr:BatchGetImage", APP_ARN, repository=APP)
    with pytest.raises(Unauthorized, match=r"^User: anonymous is not authorized") as asked:
        worker.authorizer.authorize(ANYBODY, "ecr:BatchGetImage", APP_ARN, repository=APP)
    assert asked.value.challenge == CHALLENGE


def test_without_the_clients_address_a_condition_on_it_does_not_match(house: House) -> None:
    house.texts.repository_policies[APP] = document(allow("ecr:*", **BY_IP))
    with pytest.raises(AccessDenied):
        house.worker().authorizer.authorize(BOB, "ecr:BatchGetImage", APP_ARN, repository=APP)


TAGGED = {"StringEquals": {"aws:ResourceTag/Team": "a"}}
BY_ECR = {"StringEquals": {"ecr:ResourceTag/team": "a"}}
BY_VARIABLE = {"StringEquals": {"aws:username": "${aws:ResourceTag/team}"}}


@pytest.mark.parametrize(
    ("registry", "repository", "own", "allowed"),
    [
        (None, deny("ecr:*", Condition=TAGGED), None, False),
        (None, deny("ecr:*", Condition=BY_ECR), None, False),
        (deny("ecr:*", Resource="*", Condition=TAGGED), None, None, False),
        (None, None, {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": TAGGED}, False),
        (None, deny("ecr:*", Condition={"StringEquals": {"aws:ResourceTag/team": "b"}}), None, True),
        (None, deny("ecr:*", Condition={"StringNotEquals": {"aws:ResourceTag/team": "a"}}), None, True),
        (None, deny("ecr:*", Condition={"Null": {"aws:ResourceTag/team": "true"}}), None, True),
        (None, deny("ecr:*", Condition={"Null": {"aws:ResourceTag/other": "true"}}), None, False),
        (None, deny("ecr:*", Condition=BY_VARIABLE), None, True),
        # Not what they are to another service.
        (None, deny("ecr:*", Condition={"Null": {"secretsmanager:ResourceTag/team": "true"}}), None, False),
    ],
)
async def test_the_tags_of_a_repository_count_in_all_policies(
    house: House,
    registry: dict[str, Any] | None,
    repository: dict[str, Any] | None,
    own: dict[str, Any] | None,
    allowed: bool,
) -> None:
    house.texts.registry_policy = document(registry) if registry else None
    if repository:
        house.texts.repository_policies[APP] = document(repository)
    policies = [parse_policy(document(one), PolicyKind.IDENTITY) for one in (own,) if one]
    principal = principals.user("bob", ACCOUNT, (*PULLER.policies, *policies))
    house.texts.tags = {APP: {"team": "a"}}
    worker = house.worker()
    await worker.authorizer.prepare(principal)
    try:
        worker.authorizer.authorize(principal, "ecr:BatchGetImage", APP_ARN, repository=APP)
    except AccessDenied:
        assert not allowed
    else:
        assert allowed
    # Another repository has none.
    other = parse_repository_name("other")
    if registry or own:
        worker.authorizer.authorize(principal, "ecr:BatchGetImage", APP_ARN, repository=other)


async def test_tags_are_read_only_where_a_policy_asks_for_them(house: House) -> None:
    worker = house.worker()
    for _ in range(3):
        await worker.authorizer.prepare(PULLER)
    assert house.texts.reads_of_tags == 0
    house.texts.repository_policies = {APP: document(deny("ecr:*", Condition=TAGGED))}
    # Before they are read nobody knows what they would say.
    with pytest.raises(StorageError, match="asks for tags"):
        worker.authorizer.authorize(PULLER, "ecr:BatchGetImage", APP_ARN, repository=APP)
    await worker.authorizer.prepare(PULLER)
    worker.authorizer.authorize(PULLER, "ecr:BatchGetImage", APP_ARN, repository=APP)
    assert house.texts.reads_of_tags == 1
    house.texts.repository_policies = {}
    await worker.authorizer.prepare(PULLER)
    house.texts.registry_policy = document(deny("ecr:*", Resource="arn:aws:ecr:*:*:repository/${aws:ResourceTag/x}"))
    await worker.authorizer.prepare(PULLER)
    assert house.texts.reads_of_tags == 2


def test_the_tags_of_a_request_count(house: House) -> None:
    worker = house.worker()
    guarded = principals.user(
        "bob",
        ACCOUNT,
        (
            parse_policy(
                document(
                    {"Effect": "Allow", "Action": "*", "Resource": "*"},
                    {
                        "Effect": "Deny",
                        "Action": "ecr:TagResource",
                        "Resource": "*",
                        "Condition": {"ForAnyValue:StringEquals": {"aws:TagKeys": "team"}},
                    },
                    {
                        "Effect": "Deny",
                        "Action": "ecr:CreateRepository",
                        "Resource": "*",
                        "Condition": {"StringNotEquals": {"aws:RequestTag/team": "a"}},
                    },
                ),
                PolicyKind.IDENTITY,
            ),
        ),
    )
    team, other = RequestTags((("Team", "a"), ("team", "a"))), RequestTags((("x", "y"),))
    worker.authorizer.authorize(guarded, "ecr:TagResource", APP_ARN, request_tags=other)
    worker.authorizer.authorize(guarded, "ecr:CreateRepository", APP_ARN, request_tags=team)
    for action, tags in (
        ("ecr:TagResource", team),
        ("ecr:TagResource", RequestTags(taken=("team",))),
        ("ecr:CreateRepository", other),
        ("ecr:CreateRepository", NO_TAGS),
        ("ecr:CreateRepository", RequestTags((("team", "a"), ("TEAM", "b")))),
    ):
        with pytest.raises(AccessDenied):
            worker.authorizer.authorize(guarded, action, APP_ARN, request_tags=tags)


def test_the_tags_of_a_secret_count(house: House) -> None:
    worker = house.worker()
    arn = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:x-AbCdEf"
    for key in ("secretsmanager:ResourceTag/env", "aws:ResourceTag/Env"):
        text = document(deny("secretsmanager:*", Resource="*", Condition={"StringEquals": {key: "prod"}}))
        action = "secretsmanager:GetSecretValue"
        worker.authorizer.authorize(ADMIN, action, arn, secret_policy=text, resource_tags=[("env", "test")])
        with pytest.raises(AccessDenied):
            worker.authorizer.authorize(ADMIN, action, arn, secret_policy=text, resource_tags=[("env", "prod")])


def test_the_root_has_no_name(house: House) -> None:
    house.texts.repository_policies[APP] = document(deny("ecr:*", Condition={"Null": {"aws:username": "true"}}))
    worker = house.worker()
    worker.authorizer.authorize(PULLER, "ecr:BatchGetImage", APP_ARN, repository=APP)
    for principal in (ROOT, ANYBODY):
        with pytest.raises((AccessDenied, Unauthorized)):
            worker.authorizer.authorize(principal, "ecr:BatchGetImage", APP_ARN, repository=APP)


def test_a_registry_policy_of_the_first_scope_decides_on_three_actions_only(house: House) -> None:
    house.texts.registry_policy = document(deny("ecr:*", Resource="*"))
    house.texts.scope = "V1"
    worker = house.worker()
    worker.authorizer.authorize(PULLER, "ecr:BatchGetImage", APP_ARN, repository=APP)
    with pytest.raises(AccessDenied):
        worker.authorizer.authorize(PULLER, "ecr:BatchImportUpstreamImage", APP_ARN, repository=APP)


@pytest.mark.parametrize(
    "text", ["{", document(deny("ecr:*", Condition={"StringEquals": {"aws:PrincipalTag/x": "y"}}))]
)
def test_a_policy_that_is_no_longer_taken_denies(house: House, text: str, caplog: pytest.LogCaptureFixture) -> None:
    house.texts.repository_policies[APP] = text
    worker = house.worker()
    for _ in range(2):
        with pytest.raises(AccessDenied):
            worker.authorizer.authorize(PULLER, "ecr:BatchGetImage", APP_ARN, repository=APP)
    assert caplog.text.count("a repository policy cannot be read") == 1


def test_any_policy_ends_the_short_way(house: House) -> None:
    worker = house.worker()
    assert worker.authorizer.open_pulls
    house.texts.repository_policies[APP] = document(allow("ecr:*"))
    assert not worker.authorizer.open_pulls
    house.texts.repository_policies.clear()
    house.texts.registry_policy = document(allow("ecr:*", Resource="*"))
    assert not worker.authorizer.open_pulls


# Download URLs

LAYER = parse_digest("sha256:" + "a" * 64)


async def test_a_download_url_is_its_keys_in_every_worker_for_a_while(today: House) -> None:
    one, other = today.worker(), today.worker()
    bob = await principal_of(one)
    query = one.authenticator.sign_layer_url(bob, APP, LAYER)
    assert await other.authenticator.authenticate_layer_url(APP, LAYER, query) == bob
    assert await other.authenticator.authenticate_layer_url(APP, LAYER, "") is None
    today.now += 901
    with pytest.raises(AccessDenied, match="has expired"):
        await other.authenticator.authenticate_layer_url(APP, LAYER, query)


@pytest.mark.parametrize("ends", ["renew", "remove"])
async def test_a_download_url_ends_with_its_key_in_every_worker_at_once(today: House, ends: str) -> None:
    one, other = today.worker(), today.worker()
    query = one.authenticator.sign_layer_url(await principal_of(one), APP, LAYER)
    assert await other.authenticator.authenticate_layer_url(APP, LAYER, query) is not None
    getattr(one.administration, ends)("bob")
    for worker in (one, other):
        with pytest.raises(AccessDenied, match="ended with its key"):
            await worker.authenticator.authenticate_layer_url(APP, LAYER, query)


async def test_a_download_url_is_for_one_layer_and_of_one_key(today: House) -> None:
    worker = today.worker()
    bob = await principal_of(worker)
    await principal_of(worker, "alice")
    alice = next(key.access_key_id for key in worker.administration.list().keys if key.name == "alice")
    query = worker.authenticator.sign_layer_url(bob, APP, LAYER)
    expires = re.search(r"Expires=([0-9]+)", query)
    assert expires is not None
    later = query.replace(expires[1], str(int(expires[1]) + 1))
    for repository, digest, changed in (
        (parse_repository_name("team/other"), LAYER, query),
        (APP, parse_digest("sha256:" + "b" * 64), query),
        (APP, LAYER, query.replace(bob.access_key_id, alice)),
        (APP, LAYER, query.replace(bob.access_key_id, "")),
        (APP, LAYER, query.replace(bob.access_key_id, "AKIANOBODY")),
        (APP, LAYER, later),
        (APP, LAYER, query[:-1]),
        (APP, LAYER, f"{query}&X-Pullthrough-Credential={alice}"),
        (APP, LAYER, f"{query}&X-Pullthrough-Expires={int(expires[1]) + 1}"),
        (APP, LAYER, query.replace(expires[1], "")),
        (APP, LAYER, "X-Pullthrough-Signature=é"),
        (APP, LAYER, "&".join(["a=1"] * 30) + query),
        # What signs where nobody is asked for a key.
        (APP, LAYER, urls.sign("", URL_KEY, APP, LAYER, int(expires[1]))),
        (APP, LAYER, urls.sign(bob.access_key_id, URL_KEY, APP, LAYER, int(expires[1]))),
    ):
        with pytest.raises(AccessDenied, match=r"download URL|too many parameters"):
            await worker.authenticator.authenticate_layer_url(repository, digest, changed)


async def test_without_authentication_a_download_url_is_the_roots(today: House) -> None:
    one, other = today.worker('[ecr]\nauth = "none"\n'), today.worker('[ecr]\nauth = "none"\n')
    root = await one.authenticator.authenticate_registry({}, address=CLIENT, wants_write=False)
    query = one.authenticator.sign_layer_url(root, APP, LAYER)
    assert await other.authenticator.authenticate_layer_url(APP, LAYER, query) == root
    with pytest.raises(AccessDenied):
        await other.authenticator.authenticate_layer_url(APP, LAYER, query[:-1])


async def test_no_download_url_for_a_key_that_has_just_gone(today: House) -> None:
    worker = today.worker()
    bob = await principal_of(worker)
    worker.administration.remove("bob")
    assert await worker.keys.find(bob.access_key_id) is None
    with pytest.raises(ApiDenied):
        worker.authenticator.sign_layer_url(bob, APP, LAYER)
