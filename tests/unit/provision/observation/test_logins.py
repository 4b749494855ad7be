"""Where a registry is, by GetAuthorizationToken."""

from __future__ import annotations

import pytest

from pullthrough.errors import TargetUnusable
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.logins import registry_host
from tests.unit.provision.scripted import ScriptedAws

ENGINE = DeploymentTarget("123456789012", "us-east-1", "http://127.0.0.1:5000", is_engine=True, has_iam=False)


def test_the_registrys_host_on_aws_costs_no_call() -> None:
    script = ScriptedAws({})
    assert registry_host(script.aws, DeploymentTarget("123456789012", "eu-west-1")) == (
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    )
    assert not script.calls


def test_elsewhere_it_is_where_the_token_is_for() -> None:
    script = ScriptedAws(
        {"GetAuthorizationToken": {"authorizationData": [{"proxyEndpoint": "https://cache.example:8443"}]}}
    )
    assert registry_host(script.aws, ENGINE) == "cache.example:8443"
    assert script.count("GetAuthorizationToken") == 1
    with pytest.raises(TargetUnusable, match="where its registry is"):
        registry_host(ScriptedAws({"GetAuthorizationToken": {"authorizationData": []}}).aws, ENGINE)
