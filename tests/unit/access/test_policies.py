"""IAM policies: which documents are taken, and what they say. A table of requests that are allowed or denied."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullthrough.access.policy.context import Context, RequestTags
from pullthrough.access.policy.documents import ROLE_POLICIES, PolicyInvalid, PolicyKind, parse_policy
from pullthrough.access.policy.globs import matches
from pullthrough.access.policy.statements import JudgedRequest, Policy, PolicyDecision, allows_always
from pullthrough.settings import Role
from tests.effort import examples

ACCOUNT = "123456789012"
ARN = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository"
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
ALLOW, DENY, NONE = PolicyDecision.ALLOW, PolicyDecision.DENY, PolicyDecision.NONE


def request(
    action: str = "ecr:BatchGetImage",
    resource: str = f"{ARN}/team/app",
    *,
    arn: str = BOB,
    anonymous: bool = False,
    **context: str,
) -> JudgedRequest:
    known = {key.replace("__", ":").lower(): (value,) for key, value in context.items()}
    return JudgedRequest(action, resource, arn, "AIDABOBBOBBOBBOBBOBB", ACCOUNT, anonymous, known)


def policy(*statements: dict[str, Any], kind: PolicyKind = PolicyKind.IDENTITY, version: str = "2012-10-17") -> Policy:
    return parse_policy(json.dumps({"Version": version, "Statement": list(statements)}), kind)


def identity(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": "ecr:*", "Resource": "*", **elements}
    return {key: value for key, value in statement.items() if value is not None}


def attached(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    statement = {"Effect": effect, "Action": "ecr:*", "Principal": "*", **elements}
    return {key: value for key, value in statement.items() if value is not None}


@pytest.mark.parametrize(
    ("statements", "asked", "decision"),
    [
        # Actions
        ([identity(Action="ecr:BatchGetImage")], request(), ALLOW),
        ([identity(Action="ECR:batchgetimage")], request(), ALLOW),
        ([identity(Action=["ecr:PutImage", "ecr:BatchGetImage"])], request(), ALLOW),
        ([identity(Action="ecr:Batch*")], request(), ALLOW),
        ([identity(Action="ecr:BatchGetImag?")], request(), ALLOW),
        ([identity(Action="*")], request(), ALLOW),
        ([identity(Action="ecr:Put*")], request(), NONE),
        ([identity(Action="ecr:GetImage")], request(), NONE),
        ([identity(Action="secretsmanager:*")], request(), NONE),
        ([identity(Action=None, NotAction="ecr:Put*")], request(), ALLOW),
        ([identity(Action=None, NotAction=["ecr:Put*", "ecr:Batch*"])], request(), NONE),
        # Resources
        ([identity(Resource=f"{ARN}/team/app")], request(), ALLOW),
        ([identity(Resource=f"{ARN}/team/*")], request(), ALLOW),
        ([identity(Resource=f"{ARN}/t*p")], request(), ALLOW),
        ([identity(Resource="arn:aws:ecr:*:*:repository/team/ap?")], request(), ALLOW),
        ([identity(Resource=f"{ARN}/Team/app")], request(), NONE),
        ([identity(Resource=f"{ARN}/team")], request(), NONE),
        ([identity(Resource=[f"{ARN}/a", f"{ARN}/team/app"])], request(), ALLOW),
        ([identity(Resource=None, NotResource=f"{ARN}/secret/*")], request(), ALLOW),
        ([identity(Resource=None, NotResource=f"{ARN}/team/*")], request(), NONE),
        # Variables
        (
            [identity(Resource=f"{ARN}/${{aws:username}}/*")],
            request(resource=f"{ARN}/bob/app", aws__username="bob"),
            ALLOW,
        ),
        ([identity(Resource=f"{ARN}/${{aws:username}}/*")], request(aws__username="bob"), NONE),
        ([identity(Resource=f"{ARN}/${{aws:username}}*")], request(), NONE),
        ([identity(Resource=f"{ARN}/${{aws:username, 'team'}}/*")], request(), ALLOW),
        # Several statements
        ([identity(), identity("Deny", Action="ecr:BatchGetImage")], request(), DENY),
        ([identity("Deny", Action="ecr:BatchGetImage"), identity()], request(), DENY),
        ([identity(), identity("Deny", Action="ecr:PutImage")], request(), ALLOW),
        ([identity("Deny", Action="ecr:PutImage")], request(), NONE),
        ([], request(), NONE),
    ],
)
def test_identity_policies(statements: list[dict[str, Any]], asked: JudgedRequest, decision: PolicyDecision) -> None:
    assert policy(*statements).decide(asked) is decision


@pytest.mark.parametrize(
    ("statement", "asked", "decision"),
    [
        (attached(), request(), ALLOW),
        (attached(), request(anonymous=True), ALLOW),
        (attached("Deny"), request(anonymous=True), DENY),
        (attached(Principal={"AWS": "*"}), request(anonymous=True), ALLOW),
        (attached(Principal={"AWS": BOB}), request(), ALLOW),
        (attached(Principal={"AWS": ["AIDABOBBOBBOBBOBBOBB"]}), request(), ALLOW),
        (attached(Principal={"AWS": BOB}), request(anonymous=True), NONE),
        (attached(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:user/alice"}), request(), NONE),
        (attached(Principal={"AWS": "arn:aws:iam::999999999999:user/bob"}), request(), NONE),
        (attached(Principal={"Service": "ecr.amazonaws.com"}), request(), NONE),
        # An account as a whole: its identities' own policies decide on Allow; Deny is for all of them.
        (attached(Principal={"AWS": ACCOUNT}), request(), NONE),
        (attached(Principal={"AWS": ROOT}), request(), NONE),
        (attached(Principal={"AWS": ROOT}), request(arn=ROOT), ALLOW),
        (attached("Deny", Principal={"AWS": ROOT}), request(), DENY),
        (attached("Deny", Principal={"AWS": ACCOUNT}), request(), DENY),
        (attached("Deny", Principal={"AWS": "999999999999"}), request(), NONE),
        (attached("Deny", Principal={"AWS": ROOT}), request(anonymous=True), NONE),
        (attached("Deny", Principal=None, NotPrincipal={"AWS": BOB}), request(), NONE),
        (attached("Deny", Principal=None, NotPrincipal={"AWS": [ROOT, BOB]}), request(), NONE),
        (attached("Deny", Principal=None, NotPrincipal={"AWS": ROOT}), request(), DENY),
        (attached("Deny", Principal=None, NotPrincipal={"AWS": BOB}), request(anonymous=True), DENY),
        # A repository's policy needs no resource, and may have one.
        (attached(Resource=f"{ARN}/team/app"), request(), ALLOW),
        (attached(Resource=f"{ARN}/other"), request(), NONE),
    ],
)
def test_policies_of_repositories(statement: dict[str, Any], asked: JudgedRequest, decision: PolicyDecision) -> None:
    assert policy(statement, kind=PolicyKind.REPOSITORY).decide(asked) is decision


KNOWN: dict[str, Any] = {
    "aws__sourceip": "203.0.113.9",
    "aws__principalarn": BOB,
    "aws__securetransport": "true",
    "aws__currenttime": "2026-01-31T12:00:00Z",
    "aws__epochtime": "1769860800",
    "aws__username": "bob",
}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({}, True),
        ({"StringEquals": {"aws:username": "bob"}}, True),
        ({"StringEquals": {"AWS:UserName": ["alice", "bob"]}}, True),
        ({"StringEquals": {"aws:username": "Bob"}}, False),
        ({"StringEquals": {"aws:username": "b*"}}, False),
        ({"StringEquals": {"aws:principalarn": "arn:aws:iam::123456789012:user/${aws:username}"}}, True),
        ({"StringNotEquals": {"aws:username": ["alice", "bob"]}}, False),
        ({"StringNotEquals": {"aws:username": "alice"}}, True),
        ({"StringEqualsIgnoreCase": {"aws:username": "BOB"}}, True),
        ({"StringNotEqualsIgnoreCase": {"aws:username": "BOB"}}, False),
        ({"StringLike": {"aws:username": "b?b"}}, True),
        ({"StringNotLike": {"aws:username": "b*"}}, False),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/b*"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:*:user/bob"}}, "is not an ARN"),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}, False),
        ({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, True),
        ({"Bool": {"aws:SecureTransport": True}}, True),
        ({"Bool": {"aws:SecureTransport": False}}, False),
        ({"Bool": {"aws:SecureTransport": "yes"}}, "is neither true nor false"),
        ({"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, True),
        ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}, False),
        ({"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, False),
        ({"IpAddress": {"aws:SourceIp": "203.0.113"}}, "'203.0.113'"),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-01-31T11:59:59Z"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-01-31"}}, False),
        ({"DateLessThanEquals": {"aws:CurrentTime": "2026-01-31T13:00:00+01:00"}}, True),
        ({"DateEquals": {"aws:EpochTime": "1769860800"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "tomorrow"}}, "is not a date"),
        ({"NumericLessThan": {"aws:EpochTime": 1769860801}}, True),
        ({"NumericGreaterThanEquals": {"aws:EpochTime": "1769860801"}}, False),
        ({"NumericNotEquals": {"aws:EpochTime": "1"}}, True),
        ({"NumericEquals": {"aws:EpochTime": "many"}}, "is not a number"),
        ({"Null": {"aws:username": "false"}}, True),
        ({"Null": {"aws:username": True}}, False),
        ({"Null": {"aws:ResourceTag/team": "true"}}, True),
        ({"Null": {"aws:ResourceTag/team": ["true", "false"]}}, True),
        ({"Null": {"aws:username": "maybe"}}, "neither true nor false"),
        # Variables
        ({"StringEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:user/${AWS:UserName}"}}, True),
        ({"StringEquals": {"aws:username": "${aws:ResourceTag/owner, 'bob'}"}}, True),
        ({"StringEquals": {"aws:username": "${aws:ResourceTag/owner}"}}, False),
        ({"StringNotEquals": {"aws:username": "${aws:ResourceTag/owner}"}}, True),
        ({"StringEquals": {"aws:username": "${*}"}}, False),
        ({"StringLike": {"aws:username": "*${?}"}}, False),
        ({"StringEquals": {"aws:username": "${aws:username"}}, "has a variable that does not end"),
        # All operators and all keys must hold.
        ({"StringEquals": {"aws:username": "bob"}, "Bool": {"aws:SecureTransport": "false"}}, False),
        ({"StringEquals": {"aws:username": "bob", "aws:PrincipalArn": "x"}}, False),
        # What cannot be.
        ({"StringMatches": {"aws:username": "bob"}}, "operator 'StringMatches', which does not exist"),
        ({"NullIfExists": {"aws:username": "true"}}, "does not exist"),
        ({"ForAllValues:ForAnyValue:StringEquals": {"aws:username": "bob"}}, "does not exist"),
        ({"ForSomeValues:StringEquals": {"aws:username": "bob"}}, "does not exist"),
        ({"StringEquals": {"aws:TagKeys": "team"}}, "ForAllValues: or ForAnyValue: goes before it"),
        ({"StringEquals": {"username": "bob"}}, "not of the form aws:SourceIp"),
        ({"StringEquals": {"aws:username": {}}}, "no text, or list of texts"),
        ({"StringEquals": {"aws:username": []}}, "no text, or list of texts"),
        ({"StringEquals": "bob"}, "has no keys"),
        ({"StringEquals": {}}, "has no keys"),
        ("bob", "is not a JSON object"),
    ],
)
def test_conditions(condition: Any, holds: bool | str) -> None:
    if isinstance(holds, str):
        with pytest.raises(PolicyInvalid, match="Condition of statement 1") as caught:
            policy(identity(Condition=condition))
        assert holds in caught.value.message
    else:
        assert policy(identity(Condition=condition)).decide(request(**KNOWN)) is (ALLOW if holds else NONE)
        assert policy(identity("Deny", Condition=condition)).decide(request(**KNOWN)) is (DENY if holds else NONE)


#: What AWS says of each form of an operator: where the key is not there, where it has the value x, where it has another.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
FORMS = [
    ("StringEquals", "x", (False, True, False)),
    ("StringLike", "?", (False, True, False)),
    ("StringEqualsIfExists", "x", (True, True, False)),
    ("StringNotEquals", "x", (True, False, True)),
    ("StringNotLike", "x*", (True, False, True)),
    ("StringNotEqualsIfExists", "x", (True, False, True)),
    ("ForAllValues:StringEquals", "x", (True, True, False)),
    ("ForAllValues:StringEqualsIfExists", "x", (True, True, False)),
    ("ForAllValues:StringNotEquals", "x", (True, False, True)),
    ("ForAllValues:StringNotEqualsIfExists", "x", (True, False, True)),
    ("ForAnyValue:StringEquals", "x", (False, True, False)),
    ("ForAnyValue:StringEqualsIfExists", "x", (False, True, False)),
    ("ForAnyValue:StringNotEquals", "x", (False, False, True)),
    ("ForAnyValue:StringNotEqualsIfExists", "x", (False, False, True)),
    ("Null", "true", (True, False, False)),
    ("Null", "false", (False, True, True)),
]
#: What each effect makes of a request of which a condition holds.
EFFECTS = [("Allow", ALLOW), ("Deny", DENY)]


@pytest.mark.parametrize(("effect", "decision"), EFFECTS)
@pytest.mark.parametrize(("form", "value", "truth"), FORMS)
def test_a_key_that_is_known_is_judged_as_on_aws(
    form: str, value: str, truth: tuple[bool, bool, bool], effect: str, decision: PolicyDecision
) -> None:
    one = policy(identity(effect, Condition={form: {"aws:RequestTag/Team": value}}))
    contexts: tuple[Context, ...] = ({}, {"aws:requesttag/team": ("x",)}, {"aws:requesttag/team": ("yy",)})
    for context, holds in zip(contexts, truth, strict=True):
        asked = JudgedRequest("ecr:CreateRepository", ARN, BOB, "", ACCOUNT, False, context)
        assert one.decide(asked) is (decision if holds else NONE)


@pytest.mark.parametrize(("effect", "decision"), EFFECTS)
@pytest.mark.parametrize(("form", "value", "truth"), FORMS)
@pytest.mark.parametrize("key", ["aws:PrincipalTag/team", "aws:ResourceTag/", "ecr:Nonsense", "aws:MultiFactorAuthAge"])
def test_a_key_that_is_not_known_never_permits_more_than_aws(
    key: str,
    form: str,
    value: str,
    truth: tuple[bool, bool, bool],
    effect: str,
    decision: PolicyDecision,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On AWS it may hold or not. So a Deny is taken only if it applies without the key, an Allow only if it does not."""
    text = json.dumps({"Statement": identity(effect, Condition={form: {key: value}})})
    if truth[0] is (effect == "Deny"):
        for _ in range(2):
            one = parse_policy(text, PolicyKind.IDENTITY)
        assert one.decide(request()) is (DENY if effect == "Deny" else NONE)
        assert caplog.text.count("does not know: it counts as not there") == 1
        assert repr(key) in caplog.text
    else:
        with pytest.raises(PolicyInvalid) as caught:
            parse_policy(text, PolicyKind.IDENTITY)
        never = "this Deny would never apply" if effect == "Deny" else "this Allow would allow more than it says"
        assert f"the Condition of statement 1 has the key {key!r}, which this engine does not know" in str(caught.value)
        assert never in caught.value.message


@pytest.mark.parametrize("effect", ["Allow", "Deny"])
@pytest.mark.parametrize(("form", "value", "_"), [entry for entry in FORMS if entry[0] != "Null"])
@pytest.mark.parametrize(
    "variable", ["${aws:PrincipalTag/x}", "${aws:PrincipalTag/x, 'd'}", "a${nonsense}", "${aws:TagKeys}"]
)
def test_a_variable_that_is_not_known_never_permits_more_than_aws(
    variable: str, form: str, value: str, effect: str, _: object
) -> None:
    """It may have any value on AWS: one that matches, or one that does not."""
    document = identity(effect, Condition={form: {"aws:username": [value, variable]}})
    without = "Not" in form
    if "," in variable or without is not (effect == "Deny"):
        with pytest.raises(PolicyInvalid, match="does not know"):
            policy(document)
    else:
        assert policy(document).decide(request(aws__username="bob")) is (DENY if effect == "Deny" else NONE)


UNKNOWN, KNOWN_INSTEAD = "aws:PrincipalTag/u", "aws:RequestTag/u"
blocks = st.dictionaries(
    st.sampled_from([form for form, _, _ in FORMS if form != "Null"]),
    st.dictionaries(
        st.sampled_from([UNKNOWN, "aws:username"]),
        st.lists(
            st.sampled_from(
                ["x", "bob", f"${{{UNKNOWN}}}", f"b${{{UNKNOWN}}}", f"${{{UNKNOWN}, 'x'}}", "${aws:username}"]
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
    ),
    min_size=1,
    max_size=3,
) | st.fixed_dictionaries({"Null": st.fixed_dictionaries({UNKNOWN: st.lists(st.booleans(), min_size=1, max_size=2)})})


@settings(max_examples=examples(500))
@given(
    blocks,
    st.sampled_from([["*"], [f"{ARN}/${{{UNKNOWN}}}"], [f"{ARN}/${{{UNKNOWN}, 'x'}}", f"{ARN}/bob"]]),
    st.sampled_from(["Resource", "NotResource"]),
    st.sampled_from(["Allow", "Deny"]),
)
def test_whatever_is_taken_permits_no_more_than_where_all_is_known(
    block: dict[str, Any], resources: list[str], element: str, effect: str
) -> None:
    document = {"Effect": effect, "Action": "*", element: resources, "Condition": block}
    try:
        ours = policy(document)
    except PolicyInvalid:
        return
    # The same with a key that is known, and has whatever value.
    theirs = policy(json.loads(json.dumps(document).replace(UNKNOWN, KNOWN_INSTEAD)))
    for resource in (f"{ARN}/x", f"{ARN}/bob", f"{ARN}/y"):
        known: dict[str, tuple[str, ...]] = {"aws:username": ("bob",)}
        decision = ours.decide(JudgedRequest("ecr:PutImage", resource, BOB, "", ACCOUNT, False, known))
        for value in ("", "x", "y", "ob", "bob"):
            context = known | ({KNOWN_INSTEAD.lower(): (value,)} if value else {})
            on_aws = theirs.decide(JudgedRequest("ecr:PutImage", resource, BOB, "", ACCOUNT, False, context))
            if effect == "Deny":
                assert decision is DENY or on_aws is NONE
            else:
                assert decision is NONE or on_aws is ALLOW


@pytest.mark.parametrize(
    ("effect", "element", "taken"),
    [
        ("Allow", "Resource", True),
        ("Allow", "NotResource", False),
        ("Deny", "Resource", False),
        ("Deny", "NotResource", True),
    ],
)
def test_a_resource_with_a_variable_that_is_not_known(effect: str, element: str, taken: bool) -> None:
    document = identity(effect, Resource=None) | {element: [f"{ARN}/${{aws:PrincipalTag/team}}/*"]}
    if taken:
        assert policy(document).decide(request()) is (DENY if effect == "Deny" else NONE)
    else:
        with pytest.raises(PolicyInvalid, match=r"^statement 1 has the variable '\$\{aws:PrincipalTag/team\}'"):
            policy(document)
    # In the older version it is no variable.
    assert policy(document, version="2008-10-17").decide(request()) in PolicyDecision


@pytest.mark.parametrize(("effect", "decision"), EFFECTS)
@pytest.mark.parametrize(
    "condition",
    [
        {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        {"Null": {"aws:SourceIp": "true"}},
        {"Null": {"aws:SourceIp": "false"}},
        {"StringLikeIfExists": {"aws:SourceIp": "10.*"}},
        {"StringEquals": {"aws:username": "${aws:SourceIp}"}},
        {"StringNotEquals": {"aws:username": "${aws:SourceIp, 'bob'}"}},
    ],
)
def test_what_aws_always_knows_and_is_not_known_denies(condition: Any, effect: str, decision: PolicyDecision) -> None:
    """A client that hangs up at the right moment has no address."""
    document = identity(effect, Condition=condition)
    assert policy(document).decide(request(aws__username="bob")) is (DENY if effect == "Deny" else NONE)


@pytest.mark.parametrize(("effect", "decision"), EFFECTS)
@pytest.mark.parametrize(
    ("condition", "keys", "holds"),
    [
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAllValues:StringNotEquals", ("c", "d"), True),
        ("ForAllValues:StringNotEquals", ("a", "c"), False),
        ("ForAnyValue:StringEquals", ("c", "b"), True),
        ("ForAnyValue:StringEquals", ("c", "B"), False),
        ("ForAnyValue:StringEqualsIgnoreCase", ("c", "B"), True),
        ("ForAnyValue:StringNotEquals", ("a", "c"), True),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
    ],
)
def test_the_keys_of_a_requests_tags_are_a_set(
    condition: str, keys: tuple[str, ...], holds: bool, effect: str, decision: PolicyDecision
) -> None:
    one = policy(identity(effect, Condition={condition: {"aws:TagKeys": ["a", "b"]}}))
    context = RequestTags(tuple((key, "") for key in keys)).context()
    asked = JudgedRequest("ecr:TagResource", ARN, BOB, "", ACCOUNT, False, context)
    assert one.decide(asked) is (decision if holds else NONE)


@pytest.mark.parametrize("form", ["StringEquals", "StringNotEquals", "StringLikeIfExists"])
def test_tags_whose_keys_differ_in_case_only_permit_nothing_by_that(form: str) -> None:
    """Who may add tags could else choose which of the values a policy is to see."""
    context = RequestTags((("Team", "a"), ("team", "b"))).context()
    asked = JudgedRequest("ecr:TagResource", f"{ARN}/a", BOB, "", ACCOUNT, False, context)
    condition = {form: {"aws:requesttag/TEAM": "a"}}
    assert policy(identity(Condition=condition)).decide(asked) is NONE
    assert policy(identity("Deny", Condition=condition)).decide(asked) is DENY
    by_variable = f"{ARN}/${{aws:RequestTag/team}}"
    assert policy(identity(Resource=by_variable)).decide(asked) is NONE
    assert policy(identity("Deny", Resource=by_variable)).decide(asked) is DENY
    assert policy(identity("Deny", Resource=None, NotResource=by_variable)).decide(asked) is DENY


@pytest.mark.parametrize("form", ["ForAllValues:StringEquals", "ForAnyValue:StringNotEquals", "Null"])
def test_a_tag_without_a_value_permits_nothing_by_that(form: str) -> None:
    """AWS calls that a null dataset, and does not say of all operators what it is to them."""
    asked = JudgedRequest("ecr:TagResource", ARN, BOB, "", ACCOUNT, False, RequestTags((("team", ""),)).context())
    condition = {form: {"aws:RequestTag/team": ["true"]}}
    assert policy(identity("Deny", Condition=condition)).decide(asked) is DENY
    assert policy(identity(Condition=condition)).decide(asked) is NONE


def test_what_a_variable_stands_for_has_no_wildcards() -> None:
    """Whoever names a user, or tags a secret, is not to widen what somebody else has allowed."""
    one = policy(
        identity(Resource=f"{ARN}/${{aws:username}}/*", Condition={"StringLike": {"aws:username": "${aws:username}"}})
    )
    assert one.decide(request(resource=f"{ARN}/team/app", aws__username="*")) is NONE
    assert one.decide(request(resource=f"{ARN}/*/app", aws__username="*")) is ALLOW
    literal = policy(identity("Deny", Resource=f"{ARN}/${{*}}"))
    assert literal.decide(request(resource=f"{ARN}/*")) is DENY
    assert literal.decide(request(resource=f"{ARN}/team")) is NONE


@pytest.mark.parametrize("principal", ["user/*", "user/bo?", "user/${aws:username}", "user/a b"])
def test_a_principal_has_neither_wildcards_nor_variables(principal: str) -> None:
    """A Deny for it would apply to nobody."""
    for effect in ("Allow", "Deny"):
        with pytest.raises(PolicyInvalid, match="which is not"):
            policy(
                attached(effect, Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:{principal}"}), kind=PolicyKind.REPOSITORY
            )


def test_the_partition_of_an_arn_says_nothing() -> None:
    partitioned = attached(
        "Deny", Principal={"AWS": BOB.replace("aws", "aws-cn", 1)}, Resource=f"{ARN}/*".replace("aws", "aws-cn", 1)
    )
    assert policy(partitioned, kind=PolicyKind.REPOSITORY).decide(request()) is DENY


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_an_address_is_the_same_in_its_ipv6_form(address: str) -> None:
    one = policy(identity(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))
    assert one.decide(request(aws__sourceip=address)) is ALLOW


def test_an_address_that_is_none_allows_nothing() -> None:
    condition = {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}
    assert policy(identity(Condition=condition)).decide(request(aws__sourceip="unix")) is NONE
    assert policy(identity("Deny", Condition=condition)).decide(request(aws__sourceip="unix")) is DENY


def test_policies_of_the_older_version_have_no_variables() -> None:
    one = policy(identity(Resource=f"{ARN}/${{aws:username}}"), version="2008-10-17")
    assert one.decide(request(resource=f"{ARN}/bob", aws__username="bob")) is NONE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "no Statement"),
        ('{"Statement": 3}', "statement 1 is not a JSON object"),
        ('{"Version": "2020-01-01", "Statement": []}', "Version is not 2012-10-17"),
        ('{"Version": [], "Statement": []}', "Version is not 2012-10-17"),
        ('{"Id": 3, "Statement": []}', "Id is not a text"),
        ('{"Statement": [], "Statements": []}', "'Statements', which does not exist"),
        ('{"Statement": [], "Statement": []}', "'Statement' is there twice"),
        ('{"Statement": {"Effect": "Allow", "Effect": "Deny"}}', "'Effect' is there twice"),
    ],
)
def test_documents_that_are_no_policies(text: str, sentence: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(text, PolicyKind.IDENTITY)
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("kind", "statement", "sentence"),
    [
        (PolicyKind.IDENTITY, identity("Permit"), "Effect of statement 1 is not Allow or Deny"),
        (PolicyKind.IDENTITY, identity(Action=None), "has no Action"),
        (PolicyKind.IDENTITY, identity(NotAction="ecr:*"), "both Action and NotAction"),
        (PolicyKind.IDENTITY, identity(Action=[]), "is not a text or a list of texts"),
        (PolicyKind.IDENTITY, identity(Action=[3]), "is not a text or a list of texts"),
        (PolicyKind.IDENTITY, identity(Action="BatchGetImage"), "is not of the form ecr:BatchGetImage"),
        (PolicyKind.IDENTITY, identity(Resource=None), "has no Resource"),
        (PolicyKind.IDENTITY, identity(Resource="team/app"), "neither an ARN nor *"),
        (PolicyKind.IDENTITY, identity(Principal="*"), "has a principal"),
        (PolicyKind.IDENTITY, identity(Sid=3), "Sid of statement 1 is not a text"),
        (PolicyKind.IDENTITY, identity(Effects="Allow"), "'Effects', which does not exist"),
        (PolicyKind.REPOSITORY, attached(Principal=None), "either Principal or NotPrincipal"),
        (PolicyKind.REPOSITORY, attached(NotPrincipal="*"), "either Principal or NotPrincipal"),
        (PolicyKind.REPOSITORY, attached(Principal="bob"), "neither"),
        (PolicyKind.REPOSITORY, attached(Principal={}), "neither"),
        (PolicyKind.REPOSITORY, attached(Principal={"aws": "*"}), "'aws', which does not exist"),
        (PolicyKind.REPOSITORY, attached(Principal={"AWS": "bob"}), "'bob', which is not *, an account"),
        (PolicyKind.REPOSITORY, attached(Principal={"AWS": "arn:aws:iam::1:user/bob"}), "which is not *, an account"),
        (PolicyKind.REPOSITORY, attached(Action="s3:GetObject"), "is not one of ECR's"),
        (PolicyKind.REGISTRY, attached(), "has no Resource"),
    ],
)
def test_statements_that_cannot_be(kind: PolicyKind, statement: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        policy(statement, kind=kind)
    assert sentence in caught.value.message


def test_a_sid_names_one_statement() -> None:
    with pytest.raises(PolicyInvalid, match="'a' is there twice"):
        policy(identity(Sid="a"), identity(Sid="a"))
    policy(identity(Sid="a"), identity(Sid="b"), identity(), identity())


def test_a_single_statement_may_stand_without_a_list() -> None:
    text = json.dumps({"Statement": identity()})
    assert parse_policy(text, PolicyKind.IDENTITY).decide(request()) is ALLOW


@pytest.mark.parametrize(
    ("role", "action", "decision"),
    [
        (Role.ADMIN, "ecr:DeleteRepository", ALLOW),
        (Role.ADMIN, "secretsmanager:GetSecretValue", ALLOW),
        (Role.PULL, "ecr:GetAuthorizationToken", ALLOW),
        (Role.PULL, "ecr:BatchGetImage", ALLOW),
        (Role.PULL, "ecr:GetDownloadUrlForLayer", ALLOW),
        (Role.PULL, "ecr:BatchCheckLayerAvailability", ALLOW),
        (Role.PULL, "ecr:BatchImportUpstreamImage", ALLOW),
        (Role.PULL, "ecr:CreateRepository", ALLOW),
        (Role.PULL, "ecr:ListImages", ALLOW),
        (Role.PULL, "ecr:DescribeRepositories", ALLOW),
        (Role.PULL, "ecr:ListImageReferrers", ALLOW),
        (Role.PULL, "ecr:PutImage", NONE),
        (Role.PULL, "ecr:InitiateLayerUpload", NONE),
        (Role.PULL, "ecr:BatchDeleteImage", NONE),
        (Role.PULL, "ecr:CreatePullThroughCacheRule", NONE),
        (Role.PULL, "secretsmanager:GetSecretValue", NONE),
    ],
)
def test_roles(role: Role, action: str, decision: PolicyDecision) -> None:
    assert ROLE_POLICIES[role].decide(request(action)) is decision
    assert allows_always(ROLE_POLICIES[role], action) is (decision is ALLOW)


@pytest.mark.parametrize(
    ("statements", "always"),
    [
        ([identity()], True),
        ([identity(Action=None, NotAction="ecr:Put*")], True),
        ([identity(Action=None, NotAction="ecr:Batch*")], False),
        ([identity(Resource=f"{ARN}/*")], False),
        ([identity(Resource=None, NotResource=f"{ARN}/*")], False),
        ([identity(Condition={"Bool": {"aws:SecureTransport": "true"}})], False),
        ([identity(), identity("Deny", Action="ecr:PutImage")], False),
        ([], False),
    ],
)
def test_what_is_allowed_whatever_the_circumstances(statements: list[dict[str, Any]], always: bool) -> None:
    assert allows_always(policy(*statements), "ecr:BatchGetImage") is always


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("", "", True),
        ("*", "", True),
        ("?", "", False),
        ("a*c", "abcbc", True),
        ("a*c", "abcb", False),
        ("*a*", "bab", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("**", "x", True),
        ("*" * 50 + "b", "a" * 5_000, False),
    ],
)
def test_wildcards(pattern: str, text: str, matched: bool) -> None:
    assert matches(pattern, text) is matched


@given(st.text("ab*?", max_size=12), st.text("ab*?", max_size=12))
def test_wildcards_are_what_a_plain_reading_of_them_says(pattern: str, text: str) -> None:
    def plain(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return plain(p[1:], t) or (bool(t) and plain(p, t[1:]))
        return bool(t) and p[0] in ("?", t[0]) and plain(p[1:], t[1:])

    assert matches(pattern, text) is plain(pattern, text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=12), children, max_size=3),
    max_leaves=8,
)
elements = st.dictionaries(
    st.sampled_from(
        [
            *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction"),
            *("Resource", "NotResource", "Condition"),
        ]
    ),
    st.sampled_from(
        [
            "Allow",
            "Deny",
            "*",
            "ecr:*",
            {"AWS": "*"},
            {"StringEquals": {"aws:a": "b"}},
            {"Null": {"aws:username": "true"}},
        ]
    )
    | json_values,
)


@given(st.lists(elements, max_size=3), st.sampled_from(list(PolicyKind)))
def test_any_document_is_taken_or_refused_with_a_sentence(statements: list[dict[str, Any]], kind: PolicyKind) -> None:
    text = json.dumps({"Statement": statements})
    try:
        parsed = parse_policy(text, kind)
    except PolicyInvalid:
        with pytest.raises(PolicyInvalid, match=r"\w"):  # what is refused is refused again
            parse_policy(text, kind)
        return
    assert parsed.decide(request(**KNOWN)) in PolicyDecision
