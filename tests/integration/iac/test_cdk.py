"""The CDK construct, synthesized: it makes what `pullthrough apply` makes, and cfn-lint finds nothing.

The CDK runs in Node.js, which starts when it is imported: hence only where a test needs it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import STANDARD_RULES, Declaration, Rule
from pullthrough.errors import InputMissing, PlanProblem, TargetUnusable
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.model.resources import Attributes, Key, ResourceKind
from tests.integration.iac.declarations import ADDRESSES, CASES, OTHER_ADDRESSES, Case, applied
from tests.programs import ROOT, needs
from tests.unit.provision.export.support import TARGET, evaluate_cloudformation, read_cloudformation

Template = dict[str, Any]

_SECRET = "AWS::SecretsManager::Secret"
_RULE = "AWS::ECR::PullThroughCacheRule"
#: What the tests' tokens are kept in.
_STORE = "tokens"


@pytest.fixture(scope="module")
def cdk() -> Iterator[Any]:
    """The library. What it unpacks stays inside the checkout."""
    needs("node")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JSII_RUNTIME_PACKAGE_CACHE_ROOT", str(ROOT / ".cache" / "jsii"))
        import aws_cdk

        yield aws_cdk


@pytest.fixture
def stack(cdk: Any) -> Any:
    return cdk.Stack(cdk.App(), "Stack")


def _token(cdk: Any, field: str) -> Any:
    return cdk.SecretValue.secrets_manager(_STORE, json_field=field)


def _resolved(field: str) -> str:
    return f"{{{{resolve:secretsmanager:{_STORE}:SecretString:{field}::}}}}"


def _cache(cdk: Any, stack: Any, case: Case = CASES["default"], **more: Any) -> Any:
    from pullthrough.cdk import PullThroughCache

    inputs: dict[str, Any] = {
        "docker_hub_username": "acme",
        "docker_hub_access_token": _token(cdk, "docker-hub"),
        "github_username": "octocat",
        "github_access_token": _token(cdk, "github"),
        "accounts": {prefix: (username, _token(cdk, prefix)) for prefix, (username, _) in case.accounts.items()},
        "declaration": case.declaration,
    }
    return PullThroughCache(stack, "Cache", **inputs | more)


def _template(cdk: Any, stack: Any) -> Template:
    synthesized: Template = cdk.App.of(stack).synth().get_stack_by_name(stack.stack_name).template
    return synthesized


def _of(template: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [resource["Properties"] for resource in template["Resources"].values() if resource["Type"] == kind]


def _contents(template: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """By the secret's name; what CloudFormation puts in is `<its name>`."""
    return {secret["Name"]: json.loads(_joined(secret["SecretString"])) for secret in _of(template, _SECRET)}


def _joined(text: Any) -> str:
    parts = text["Fn::Join"][1] if isinstance(text, dict) else [text]
    return "".join(part if isinstance(part, str) else f"<{next(iter(part.values()))}>" for part in parts)


def _findings(template: Template) -> list[str]:
    """Errors and warnings of cfn-lint."""
    from cfnlint.api import ManualArgs, lint

    found = lint(json.dumps(template), config=ManualArgs(regions=[TARGET.region]))
    return [str(finding) for finding in found]


def _without_accounts(resources: Mapping[Key, Attributes]) -> dict[Key, dict[str, Any]]:
    return {
        key: {name: value for name, value in attributes.items() if name not in ("username", "accessToken")}
        for key, attributes in resources.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_template_has_what_apply_makes_and_cfn_lint_finds_nothing(cdk: Any, stack: Any, case: str) -> None:
    _cache(cdk, stack, CASES[case])
    template = _template(cdk, stack)
    assert read_cloudformation(evaluate_cloudformation(template)["Resources"]) == _without_accounts(
        applied(CASES[case])
    )
    assert _findings(template) == []


def test_four_inputs_are_five_rules_and_two_secrets_with_references(cdk: Any, stack: Any) -> None:
    _cache(cdk, stack)
    template = _template(cdk, stack)
    rules = _of(template, _RULE)
    assert len(rules) == 5
    assert {rule["EcrRepositoryPrefix"]: rule["UpstreamRegistryUrl"] for rule in rules} == {
        "docker-hub": "registry-1.docker.io",
        "github": "ghcr.io",
        "quay": "quay.io",
        "kubernetes": "registry.k8s.io",
        "ecr-public": "public.ecr.aws",
    }
    assert _contents(template) == {
        "ecr-pullthroughcache/docker-hub": {"username": "acme", "accessToken": _resolved("docker-hub")},
        "ecr-pullthroughcache/github": {"username": "octocat", "accessToken": _resolved("github")},
    }


@pytest.mark.parametrize("case", ["accounts of their own", "an account for one rule", "two rules with one secret"])
def test_account_reaches_the_secret_of_its_rule(cdk: Any, stack: Any, case: str) -> None:
    _cache(cdk, stack, CASES[case])
    contents = _contents(_template(cdk, stack))
    assert {name: content["username"] for name, content in contents.items()} == {
        key.name: attributes["username"]
        for key, attributes in applied(CASES[case]).items()
        if key.kind is ResourceKind.SECRET
    }
    for prefix in CASES[case].accounts:
        assert contents[f"ecr-pullthroughcache/{prefix}"]["accessToken"] == _resolved(prefix)


@pytest.mark.parametrize(("case", "expected"), [("default", ADDRESSES), *OTHER_ADDRESSES])
def test_registries_are_the_addresses_to_write_in_image_names(cdk: Any, case: str, expected: dict[str, str]) -> None:
    stack = cdk.Stack(cdk.App(), "Stack", env=cdk.Environment(account=TARGET.account, region=TARGET.region))
    cache = _cache(cdk, stack, CASES[case])

    words = {"<AWS::URLSuffix>": "amazonaws.com"} | {
        f"<{logical_id}>": resource["Properties"]["EcrRepositoryPrefix"]
        for logical_id, resource in _template(cdk, stack)["Resources"].items()
        if resource["Type"] == _RULE
    }

    def evaluated(address: str) -> str:
        """As CloudFormation would."""
        return re.sub("<.*?>", lambda match: str(words[match[0]]), _joined(stack.resolve(address)))

    assert {name: evaluated(cache.registries[name]) for name in expected} == expected
    for name in ("ecr_public", "kubernetes", "quay", "docker_hub", "github"):
        assert getattr(cache, f"{name}_registry") == cache.registries[name]


def test_two_caches_and_their_tags_go_into_one_stack(cdk: Any, stack: Any) -> None:
    from pullthrough.cdk import PullThroughCache

    cdk.Tags.of(stack).add("stage", "test")
    for name in ("one", "two"):
        rules = (Rule(name, DOCKER_HUB),)
        PullThroughCache(
            stack,
            name,
            docker_hub_username="acme",
            docker_hub_access_token=_token(cdk, name),
            declaration=Declaration(name=name, rules=rules),
        )
    template = _template(cdk, stack)
    assert [secret["Tags"] for secret in _of(template, _SECRET)] == [
        [{"Key": "pullthrough:declaration", "Value": name}, {"Key": "stage", "Value": "test"}]
        for name in ("one", "two")
    ]
    assert _findings(template) == []


def _no_echo(cdk: Any, stack: Any) -> Any:
    return cdk.CfnParameter(stack, "Token", no_echo=True)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (lambda cdk, stack: cdk.SecretValue.cfn_parameter(_no_echo(cdk, stack)), "<Token>"),
        (lambda cdk, stack: _no_echo(cdk, stack).value_as_string, "<Token>"),
        (lambda cdk, stack: _token(cdk, "x").unsafe_unwrap(), _resolved("x")),
        (
            lambda cdk, stack: cdk.SecretValue.secrets_manager(cdk.CfnParameter(stack, "Name").value_as_string),
            "{{resolve:secretsmanager:<Name>:SecretString:::}}",
        ),
        (lambda cdk, stack: cdk.Fn.import_value("token"), "<token>"),
    ],
    ids=["parameter", "its text", "text of a reference", "reference by parameter", "import"],
)
def test_token_that_the_template_does_not_hold_is_taken(
    cdk: Any, stack: Any, token: Callable[[Any, Any], Any], expected: str
) -> None:
    _cache(cdk, stack, docker_hub_access_token=token(cdk, stack))
    content = _contents(_template(cdk, stack))["ecr-pullthroughcache/docker-hub"]
    assert content == {"username": "acme", "accessToken": expected}


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (lambda cdk, stack: "dckr_pat_clear", "would stand in the template in clear; pass SecretValue.secrets_manager"),
        (
            lambda cdk, stack: cdk.SecretValue.unsafe_plain_text("dckr_pat_clear"),
            "would stand in the template in clear",
        ),
        (
            lambda cdk, stack: f"dckr_pat_clear{cdk.CfnParameter(stack, 'Rest', no_echo=True).value_as_string}",
            "would stand in the template in clear",
        ),
        (
            lambda cdk, stack: cdk.CfnParameter(stack, "Open").value_as_string,
            "is the parameter Open, which Cloud.* no_echo",
        ),
        (
            lambda cdk, stack: cdk.SecretValue.ssm_secure("/token"),
            "is an ssm_secure one, which CloudFormation does not",
        ),
        (lambda cdk, stack: None, "is missing; make a personal access token at"),
        (lambda cdk, stack: "", "is missing; make a personal access token at"),
    ],
    ids=["text", "secret value of a text", "part of a text", "open parameter", "ssm-secure", "none", "empty"],
)
def test_token_that_the_template_would_hold_is_refused(
    cdk: Any, stack: Any, token: Callable[[Any, Any], Any], message: str
) -> None:
    with pytest.raises(InputMissing, match=f"docker_hub_access_token {message}") as error:
        _cache(cdk, stack, docker_hub_access_token=token(cdk, stack))
    assert "dckr_pat_clear" not in str(error.value)


def test_token_of_one_rule_is_refused_in_clear_too(cdk: Any, stack: Any) -> None:
    with pytest.raises(InputMissing, match="the token of docker-hub would stand in the template in clear"):
        _cache(cdk, stack, accounts={"docker-hub": ("acme", "dckr_pat_clear")})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"docker_hub_username": None}, "docker_hub_username is missing"),
        ({"github_username": "octo cat"}, "github_username is empty or holds a space"),
        ({"github_access_token": None}, "github_access_token is missing; .*read:packages"),
    ],
)
def test_input_that_is_missing_or_malformed_is_named(
    cdk: Any, stack: Any, inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputMissing, match=message):
        _cache(cdk, stack, **inputs)


def test_what_aws_refuses_is_refused(cdk: Any, stack: Any) -> None:
    with pytest.raises(PlanProblem, match="which is none of those that AWS's pull-through cache takes"):
        _cache(cdk, stack, Case(Declaration(rules=(Rule("own", "registry.example.com"),))))
    china = cdk.Stack(cdk.App(), "China", env=cdk.Environment(region="cn-north-1"))
    with pytest.raises(TargetUnusable, match="AWS offers no pull-through caches in the China regions"):
        _cache(cdk, china, Case(Declaration(rules=STANDARD_RULES[2:])))


@pytest.mark.parametrize(
    ("case", "kind"), [("access", "has one policy"), ("scanned all the time", "has one scanning configuration")]
)
def test_owning_a_document_of_the_whole_registry_is_said(cdk: Any, stack: Any, case: str, kind: str) -> None:
    from aws_cdk.assertions import Annotations, Match

    _cache(cdk, stack, CASES[case])
    Annotations.from_stack(stack).has_warning("/Stack/Cache", Match.string_like_regexp(f".*{kind}.*"))


def test_rights_of_other_accounts_end_with_their_declaration(cdk: Any, stack: Any) -> None:
    _cache(cdk, stack, CASES["access"])
    (policy,) = (
        resource
        for resource in _template(cdk, stack)["Resources"].values()
        if resource["Type"] == "AWS::ECR::RegistryPolicy"
    )
    assert policy["DeletionPolicy"] == "Delete"


@pytest.mark.parametrize("library", ["aws_cdk", "constructs"])
def test_missing_library_is_named_with_what_to_install(library: str) -> None:
    done = _import(f"sys.modules[{library!r}] = None")
    assert f"{library} is not installed: pip install 'pullthrough[cdk]'" in done


def test_missing_node_is_named_with_what_to_install(tmp_path: Path) -> None:
    assert "and node is not installed; on Debian: apt-get install nodejs" in _import(
        f"import os; os.environ['PATH'] = {str(tmp_path)!r}"
    )


def _import(before: str) -> str:
    program = f"import sys; {before}; import pullthrough.cdk"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    return done.stderr


def _examples() -> list[str]:
    page = (ROOT / "docs" / "pulumi-cdk.md").read_text()
    return [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "pullthrough.cdk" in block]


@pytest.mark.parametrize("example", _examples())
def test_example_of_the_documentation_runs(
    cdk: Any, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pullthrough.toml").write_text('[access]\nnode_roles = ["nodes"]\n')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "app.py", "exec"), names)
    (stack,) = names["app"].synth().stacks
    assert len(_of(stack.template, _RULE)) >= 5
    assert "DockerHubRegistry" in stack.template["Outputs"]
    assert _findings(stack.template) == []
