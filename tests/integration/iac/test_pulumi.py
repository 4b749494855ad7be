"""The Pulumi component makes what `pullthrough apply` makes, and gives no token away."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from pullthrough._inputs import STANDARD
from pullthrough.declaration import Declaration, Rule
from pullthrough.errors import InputMissing, PlanProblem, TargetUnusable
from pullthrough.pulumi import PullThroughCache
from tests.integration.iac.declarations import (
    ADDRESSES,
    CASES,
    DOCKER_HUB_TOKEN,
    GITHUB_TOKEN,
    INPUTS,
    MORE_TOKEN,
    OTHER_ADDRESSES,
    Case,
    applied,
)
from tests.integration.iac.pulumi_stack import Stack, is_secret, opened, run
from tests.programs import ROOT
from tests.unit.provision.export.support import TOKEN

_RULE = "ecr/pullThroughCacheRule:PullThroughCacheRule"
_VERSION = "secretsmanager/secretVersion:SecretVersion"


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One for all tests, and never closed: Pulumi keeps threads in it, with loops of their own that it leaves open."""
    return asyncio.new_event_loop()


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    """Pulumi takes the thread's event loop, which tests of coroutines leave closed or none."""
    asyncio.set_event_loop(_event_loop())
    yield
    asyncio.set_event_loop(None)


def _run(case: Case, **more: Any) -> Stack:
    inputs = {**INPUTS, "accounts": case.accounts, "declaration": case.declaration, **more}
    return run(lambda: _export(PullThroughCache("cache", **inputs)))


def _export(cache: PullThroughCache) -> None:
    for name in ("ecr_public", "kubernetes", "quay", "docker_hub", "github"):
        pulumi.export(name, getattr(cache, f"{name}_registry"))
    pulumi.export("registries", cache.registries)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_stack_has_what_apply_makes(case: Case) -> None:
    assert _run(case).observed() == applied(case)


def test_four_inputs_are_five_rules_and_two_secrets() -> None:
    stack = _run(CASES["default"])
    rules = stack.of(_RULE)
    assert len(rules) == 5
    assert {rule["ecrRepositoryPrefix"]: rule["upstreamRegistryUrl"] for rule in rules} == {
        "docker-hub": "registry-1.docker.io",
        "github": "ghcr.io",
        "quay": "quay.io",
        "kubernetes": "registry.k8s.io",
        "ecr-public": "public.ecr.aws",
    }
    contents = [json.loads(opened(version["secretString"])) for version in stack.of(_VERSION)]
    assert sorted(contents, key=lambda content: str(content["username"])) == [
        {"username": "acme", "accessToken": DOCKER_HUB_TOKEN},
        {"username": "octocat", "accessToken": GITHUB_TOKEN},
    ]
    # Read back by Pulumi, ROOT would be a difference, and a new rule each time.
    assert all("upstreamRepositoryPrefix" not in rule for rule in rules)


def test_outputs_are_the_addresses_to_write_in_image_names() -> None:
    assert _run(CASES["default"]).exported == ADDRESSES | {"registries": ADDRESSES}


@pytest.mark.parametrize(("case", "expected"), OTHER_ADDRESSES)
def test_registry_without_a_rule_is_its_own_address(case: str, expected: dict[str, str]) -> None:
    registries = _run(CASES[case]).exported["registries"]
    assert {name: registries[name] for name in expected} == expected


@pytest.mark.parametrize("case", ["default", "accounts of their own", "an account for one rule"])
def test_tokens_go_out_as_secrets_only(case: str) -> None:
    stack = _run(CASES[case])
    versions = stack.of(_VERSION)
    assert versions
    for version in versions:
        assert is_secret(version.pop("secretString"))
    everything = json.dumps([[made.inputs for made in stack.made], stack.outputs], default=str)
    for token in (DOCKER_HUB_TOKEN, GITHUB_TOKEN, MORE_TOKEN, TOKEN):
        assert token not in everything


def test_outputs_of_other_resources_are_taken_and_a_line_break_at_the_end_of_a_token_is_not() -> None:
    stack = _run(
        CASES["default"],
        docker_hub_username=pulumi.Output.from_input("acme"),
        docker_hub_access_token=pulumi.Output.from_input(f"{DOCKER_HUB_TOKEN}\n"),
    )
    assert stack.observed() == applied(CASES["default"])


def test_rule_waits_for_the_content_of_its_secret_and_template_for_the_rights_of_its_role() -> None:
    stack = _run(CASES["tags, KMS and a role"])
    assert "cache-docker-hub" in stack.depends_on[f"aws:{_RULE}", "cache-docker-hub"]
    template = stack.depends_on["aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate", "cache-quay"]
    assert template.count("cache-template-role") == 2  # the role and its policy


def test_what_has_a_name_of_its_own_is_deleted_before_it_is_replaced() -> None:
    stack = _run(CASES["default"])
    kept = {key for key, deleted in stack.replaced_by_deletion.items() if not deleted}
    assert {kind for kind, _ in kept if kind.startswith("aws:")} == {f"aws:{_VERSION}"}


def test_provider_of_the_component_makes_its_resources_and_says_where_they_are() -> None:
    def program() -> None:
        provider = aws.Provider("other", region="us-east-1")
        _export(PullThroughCache("cache", **INPUTS, opts=pulumi.ResourceOptions(provider=provider)))

    stack = run(program)
    made = [resource.provider for resource in stack.made if resource.typ.startswith("aws:")]
    assert len(made) == 14
    assert {str(provider).rpartition("::")[0].rpartition("::")[2] for provider in (*made, *stack.asked)} == {"other"}


@pytest.mark.parametrize("case", ["access", "scanned when they come in"])
def test_owning_a_document_of_the_whole_registry_is_said(case: str, caplog: pytest.LogCaptureFixture) -> None:
    _run(CASES[case])
    assert "replaced. `pullthrough apply` merges instead" in caplog.text


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"docker_hub_username": None}, "docker_hub_username is missing"),
        ({"docker_hub_access_token": None}, "docker_hub_access_token is missing; make a personal access token at"),
        ({"github_username": ""}, "github_username is missing"),
        ({"github_access_token": ""}, "github_access_token is missing; .*read:packages"),
        ({"docker_hub_username": "a@example.com"}, "docker_hub_username looks like an e-mail address"),
        ({"github_access_token": "two words"}, "github_access_token holds a space"),
        ({"accounts": {"quay": ("a", "b")}}, "accounts has 'quay', which is not the prefix of a rule that wants"),
    ],
)
def test_input_that_is_missing_or_malformed_is_named(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputMissing, match=re.compile(message, re.DOTALL)) as error:
        _run(CASES["default"], **inputs)
    assert DOCKER_HUB_TOKEN not in str(error.value)
    assert "two words" not in str(error.value)


def test_all_that_is_missing_is_said_at_once() -> None:
    with pytest.raises(InputMissing) as error:
        run(lambda: PullThroughCache("cache"))
    assert len(str(error.value).splitlines()) == 4


def test_further_upstream_wants_its_account() -> None:
    case = Case(Declaration(rules=(Rule("gitlab", "registry.gitlab.com"),)))
    with pytest.raises(InputMissing, match=re.escape('accounts={"gitlab": (username, access_token)}; make a deploy')):
        _run(case)


def test_what_aws_refuses_is_refused_before_anything_is_made() -> None:
    with pytest.raises(PlanProblem, match="which is none of those that AWS's pull-through cache takes"):
        _run(Case(Declaration(rules=(Rule("own", "registry.example.com"),))))


def test_region_without_pull_through_caches_is_refused() -> None:
    with pytest.raises(TargetUnusable, match="AWS offers no pull-through caches in AWS GovCloud"):
        run(
            lambda: _export(
                PullThroughCache("cache", declaration=Declaration(rules=STANDARD.rules[2:])),
            ),
            region="us-gov-west-1",
        )


@pytest.mark.parametrize("library", ["pulumi", "pulumi_aws"])
def test_missing_library_is_named_with_what_to_install(library: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import pullthrough.pulumi"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert f"{library} is not installed: pip install 'pullthrough[pulumi]'" in done.stderr


def _examples() -> list[str]:
    page = (ROOT / "docs" / "pulumi-cdk.md").read_text()
    return [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "pullthrough.pulumi" in block]


@pytest.mark.parametrize("example", _examples())
def test_example_of_the_documentation_runs(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pullthrough.toml").write_text('[access]\nnode_roles = ["nodes"]\n')
    monkeypatch.chdir(tmp_path)
    config = {
        "docker_hub_username": "acme",
        "docker_hub_access_token": DOCKER_HUB_TOKEN,
        "github_username": "octocat",
        "github_access_token": GITHUB_TOKEN,
        "gitlab_access_token": MORE_TOKEN,
    }
    stack = run(lambda: exec(compile(example, "__main__.py", "exec"), {}), config=config)
    assert ADDRESSES["docker_hub"] in stack.exported.values()
