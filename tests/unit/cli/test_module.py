"""The commands of the module, against an AWS in memory: what they print, what they ask, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.provision.aws import Aws, AwsConnection, connected
from tests.fakes.aws import REGION, FakeAws
from tests.unit.cli.support import Command, Outcome

TOKENS = ("dckr_pat_secret-one", "ghp_secret-two")
INPUTS = {
    "PULLTHROUGH_DOCKER_HUB_USERNAME": "acme",
    "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": TOKENS[0],
    "PULLTHROUGH_GITHUB_USERNAME": "octo",
    "PULLTHROUGH_GITHUB_ACCESS_TOKEN": TOKENS[1],
}


class Person:
    """Sits at a terminal, or not, and answers what they are asked in order."""

    def __init__(self, *answers: str, is_there: bool = True) -> None:
        self._answers = list(answers)
        self._is_there = is_there
        self.asked: list[tuple[str, bool]] = []

    def is_terminal(self) -> bool:
        return self._is_there

    def ask(self, question: str, secret: bool) -> str:
        self.asked.append((question, secret))
        return self._answers.pop(0)


class Module:
    """`pullthrough ...` for one account. No output may hold a token."""

    def __init__(self, run: Command, aws: FakeAws, person: Person) -> None:
        self._run = run
        self.aws = aws
        self.person = person

    def __call__(self, *arguments: str, environ: Mapping[str, str] = INPUTS, code: int = 0) -> Outcome:
        outcome = self._run(
            *arguments,
            environ=environ,
            connect=self._connect,
            is_terminal=self.person.is_terminal,
            ask=self.person.ask,
        )
        assert outcome.code == code, f"{outcome.out}{outcome.err}"
        assert not any(token in outcome.out + outcome.err for token in TOKENS)
        return outcome

    def _connect(self, environ: Mapping[str, str], **where: str | None) -> AwsConnection:
        aws = Aws(self.aws, sleep=lambda seconds: None, jitter=lambda: 0.0)
        return connected(aws, where["region"] or REGION, where["endpoint_url"] or "")


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


@pytest.fixture
def module(run: Command, aws: FakeAws) -> Callable[..., Module]:
    def made(*answers: str, is_there: bool = True) -> Module:
        return Module(run, aws, Person(*answers, is_there=is_there))

    return made


@pytest.fixture
def alone(module: Callable[..., Module]) -> Module:
    """Nobody sits at the terminal."""
    return module(is_there=False)


def test_a_plan_shows_each_step_with_its_reason_and_changes_nothing(alone: Module, aws: FakeAws) -> None:
    out = alone("plan").out
    assert out.startswith(f"Plan for account {aws.account}, region {REGION}\n")
    assert "  + secret    ecr-pullthroughcache/docker-hub  registry-1.docker.io is asked as acme\n" in out
    assert "Keep the newest 200 tagged images" in out
    assert "by digest AWS can not fill them" in out
    assert out.endswith("12 to create, 0 to change, 0 to replace, 0 to delete\n")
    assert aws.writes == []


def test_the_exit_code_of_a_plan_tells_a_script(alone: Module, aws: FakeAws) -> None:
    assert alone("plan", "--exit-code", code=2).out
    alone("apply", "--yes", "--no-verify")
    alone("plan", "--exit-code", code=0)
    aws.denied.add("ecr:DescribePullThroughCacheRules")
    said = alone("plan", "--exit-code", code=1).err
    assert "ecr:DescribePullThroughCacheRules" in said
    assert "pullthrough policy operator" in said
    assert alone("plan", "--exit-code", environ={}, code=1).err.startswith("error: 4 inputs are missing")
    assert alone("plan", environ={}, code=ExitCode.USAGE)


def test_json_is_the_plan_itself(alone: Module) -> None:
    plan = alone("plan", "--json").json
    assert [step["id"] for step in plan["steps"]][:2] == [
        "secret:ecr-pullthroughcache/docker-hub",
        "secret:ecr-pullthroughcache/github",
    ]
    assert plan["target"] == {"account": "123456789012", "region": REGION, "endpoint": "", "engine": False}
    assert plan["problems"] == []


def test_apply_asks_on_a_terminal_and_takes_only_a_whole_yes(module: Callable[..., Module], aws: FakeAws) -> None:
    hesitant = module("y")
    assert "nothing was done" in hesitant("apply", "--no-verify", code=1).err
    ((question, is_secret),) = hesitant.person.asked
    assert question.startswith(f"Apply 12 steps to account {aws.account}, region {REGION}?")
    assert not is_secret
    assert aws.writes == []
    assert "done: 12 steps" in module("yes")("apply", "--no-verify").err


def test_apply_without_a_terminal_needs_yes(alone: Module, aws: FakeAws) -> None:
    assert "--yes" in alone("apply", code=ExitCode.USAGE).err
    assert aws.writes == []


def test_apply_tells_each_step_and_goes_on_after_a_failure(alone: Module, aws: FakeAws) -> None:
    aws.denied.add("ecr:CreateRepositoryCreationTemplate")
    said = alone("apply", "--yes", "--no-verify", code=1).err
    assert "ecr:CreateRepositoryCreationTemplate" in said
    assert "not done:" in said
    assert "`pullthrough apply` goes on where this one stopped" in said
    aws.denied.clear()
    err = alone("apply", "--yes", "--no-verify").err
    assert "+ template docker-hub: done in" in err
    assert "+ rule quay" not in err
    aws.forget_calls()
    alone("apply", "--yes")
    assert aws.writes == []


def test_missing_inputs_are_asked_for_on_a_terminal_tokens_unseen(module: Callable[..., Module], aws: FakeAws) -> None:
    here = module("acme", TOKENS[0], "octo", TOKENS[1], "yes")
    here("apply", "--no-verify", environ={})
    assert here.person.asked[:4] == [
        ("docker_hub_username", False),
        ("docker_hub_access_token", True),
        ("github_username", False),
        ("github_access_token", True),
    ]
    assert json.loads(aws.secret("ecr-pullthroughcache/github").value or "") == {
        "username": "octo",
        "accessToken": TOKENS[1],
    }


@pytest.mark.parametrize("option", ["--no-input", "--json"])
def test_nothing_is_asked_where_that_is_not_wanted(module: Callable[..., Module], option: str) -> None:
    here = module()
    here("plan", option, environ={}, code=ExitCode.USAGE)
    assert here.person.asked == []


def test_a_saved_plan_brings_its_own_options_and_is_not_asked_about(
    module: Callable[..., Module], alone: Module, aws: FakeAws, tmp_path: Path
) -> None:
    saved = tmp_path / "plan.json"
    aws.add_rule("old", "quay.io")
    alone("plan", "--prune", "old", "--out", str(saved))
    assert not any(token in saved.read_text() for token in TOKENS)
    assert "has its own options" in alone("apply", str(saved), "--replace", code=ExitCode.USAGE).err
    alone("apply", str(saved), "--no-verify")
    assert "old" not in aws.ecr.rules
    assert "PT607" in alone("apply", str(saved), code=1).err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2, "steps": []}', '{"format": 1, "steps": []}', "\0"])
def test_what_is_no_plan_is_refused(alone: Module, tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    assert "plan" in alone("apply", str(tmp_path / "plan.json"), code=ExitCode.USAGE).err
    assert "cannot be read" in alone("apply", str(tmp_path / "none.json"), code=ExitCode.USAGE).err


def test_problems_are_shown_and_keep_the_plan_from_being_applied(alone: Module, aws: FakeAws) -> None:
    aws.add_rule("quay", "public.ecr.aws")
    outcome = alone("plan", code=1)
    assert "Problems, which keep this plan from being applied:" in outcome.out
    assert "--replace" in outcome.out
    assert "--replace" in alone("apply", "--yes", code=1).err
    assert aws.writes == []
    alone("apply", "--yes", "--no-verify", "--replace")
    assert aws.ecr.rules["quay"]["upstreamRegistryUrl"] == "quay.io"


def test_destroy_asks_and_leaves_what_was_there_before(module: Callable[..., Module], aws: FakeAws) -> None:
    aws.add_rule("quay", "quay.io")
    aws.add_rule("other", "quay.io")
    module("yes")("apply", "--no-verify")
    leaving = module("yes")
    out = leaving("destroy").out
    assert leaving.person.asked[0][0].startswith("Destroy 11 things in account")
    assert "rule quay (quay.io) is not recorded as made here; --include-adopted removes it too" in out
    assert set(aws.ecr.rules) == {"quay", "other"}
    module("yes")("apply", "--no-verify")
    module("yes")("destroy", "--include-adopted")
    assert set(aws.ecr.rules) == {"other"}


def test_addresses_in_each_form(alone: Module, aws: FakeAws) -> None:
    host = f"{aws.account}.dkr.ecr.{REGION}.amazonaws.com"
    assert f"{host}/docker-hub" in alone("addresses").out
    assert alone("addresses", "--json").json["quay_registry"]["address"] == f"{host}/quay"
    assert alone("addresses", "--format", "json").json == alone("addresses", "--json").json
    assert f"export ECR_PUBLIC_REGISTRY={host}/ecr-public\n" in alone("addresses", "--format", "shell").out
    assert f'kubernetes_registry = "{host}/kubernetes"\n' in alone("addresses", "--format", "terraform").out
    aws.forget_calls()
    assert "export DOCKER_HUB_REGISTRY=docker.io\n" in alone("addresses", "--cache-off", "--format", "shell").out
    assert aws.calls == []


def test_status_tells_drift_unmanaged_rules_and_the_age_of_credentials(alone: Module, aws: FakeAws) -> None:
    alone("apply", "--yes", "--no-verify")
    assert "Everything is as declared." in alone("status").out
    aws.add_rule("old", "quay.io")
    del aws.ecr.templates["quay"]
    outcome = alone("status").out
    assert "+ template quay" in outcome
    assert "--prune old removes it" in outcome
    assert "ecr-pullthroughcache/docker-hub, changed" in outcome
    assert alone("status", "--json").json["in_line"] is False
    assert "Credentials were not compared" in alone("status", environ={}).out


def test_policies_are_printed_for_the_account_that_is_named_without_asking(alone: Module, aws: FakeAws) -> None:
    where = ("--account", "123456789012", "--region", REGION)
    node = alone("policy", "node", *where).json
    assert node["Statement"][1]["Resource"][0] == f"arn:aws:ecr:{REGION}:123456789012:repository/docker-hub/*"
    assert {"ecr:CreateRepository", "ecr:BatchImportUpstreamImage"} <= set(node["Statement"][1]["Action"])
    assert "no template of this declaration needs such a role" in alone("policy", "template", *where).err
    operator = alone("policy", "operator", *where).json
    assert aws.calls == []
    assert "12 digits" in alone("policy", "node", "--account", "1", code=ExitCode.USAGE).err
    assert "--region" in alone("policy", "node", "--account", "1" * 12, code=ExitCode.USAGE).err
    assert alone("policy", "operator").json == operator


def test_exports_hold_no_token_and_ask_nobody(alone: Module, aws: FakeAws) -> None:
    assert alone("export", "terraform").json["resource"]
    assert alone("export", "cloudformation").json["Resources"]
    assert aws.calls == []
    alone("apply", "--yes", "--no-verify")
    assert len(alone("export", "terraform", "--imports").json["import"]) >= 12


def test_what_was_imported_is_a_declaration_with_nothing_to_do(alone: Module, aws: FakeAws, tmp_path: Path) -> None:
    alone("apply", "--yes", "--no-verify")
    imported = tmp_path / "imported" / "pullthrough.toml"
    assert "wrote" in alone("import", "--out", str(imported)).err
    assert "is there already" in alone("import", "--out", str(imported), code=ExitCode.USAGE).err
    assert alone("import").out == imported.read_text()
    plan = alone("plan", "--config", str(imported), "--json", environ={}).json
    assert [step["id"] for step in plan["steps"]] == []
    assert plan["problems"] == []


def test_regions_without_caches_are_refused_with_the_reason(alone: Module) -> None:
    for region, where in (("us-gov-west-1", "GovCloud"), ("cn-north-1", "China")):
        assert where in alone("plan", "--region", region, code=ExitCode.USAGE).err


@pytest.fixture
def declared(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "declared.toml").write_text(text)
        return str(tmp_path / "declared.toml")

    return write


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[rules.docker-hub]\nanonymous = true\n", "AWS takes no rule for registry-1.docker.io without an account"),
        ('[rules.mcr]\nupstream = "mcr.microsoft.com"\n', "none of those that AWS's pull-through cache takes"),
        ('[rules.a]\nupstream = "quay.io"\n', "breaks ECR's grammar"),
        ('[rules."quay/more"]\nupstream = "quay.io"\n', "overlap"),
        ('[rules.gitlab]\nupstream = "registry.gitlab.com"\n', "has no account"),
        ('[rules.quay]\nusername = "u"\naccess_token_env = "T"\n', "AWS pulls from quay.io without one only"),
        (f'docker_hub_access_token = "{TOKENS[0]}"\n', "would put a secret into the file"),
        ('[template]\nkms_key = "arn:aws:kms:eu-central-1:123456789012:key/1"\n', "kms_key"),
    ],
)
def test_a_declaration_that_aws_cannot_have_is_refused_with_why_and_what_to_do(
    alone: Module, declared: Callable[[str], str], text: str, sentence: str
) -> None:
    outcome = alone("plan", "--config", declared(text), environ={**INPUTS, "T": "t"}, code=_any_error(text))
    assert sentence in outcome.err


def _any_error(text: str) -> int:
    """Settings that are wrong by themselves are usage errors; what AWS cannot have is a failure."""
    return ExitCode.USAGE if "secret" in text or "kms" in text or "gitlab" in text else ExitCode.FAILED


def test_an_inline_token_is_taken_with_a_warning_where_the_file_says_so(
    alone: Module, declared: Callable[[str], str], aws: FakeAws
) -> None:
    text = f'allow_inline_tokens = true\ndocker_hub_access_token = "{TOKENS[0]}"\n'
    environ = {name: value for name, value in INPUTS.items() if name != "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN"}
    assert "warning:" in alone("apply", "--config", declared(text), "--yes", "--no-verify", environ=environ).err
    assert json.loads(aws.secret("ecr-pullthroughcache/docker-hub").value or "")["accessToken"] == TOKENS[0]
