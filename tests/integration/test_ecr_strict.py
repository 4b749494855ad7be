"""What `[ecr] strict` changes: the registry refuses what AWS refuses, and lends no account to rules made here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, fails_with, unique
from tests.integration.ecr import TOKEN, USER, Site, open_site

UNSUPPORTED = "UnsupportedUpstreamRegistryException"
INVALID = "InvalidParameterException"
GOOD = json.dumps({"username": USER, "accessToken": TOKEN})
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/pulls"


@contextmanager
def opened(folder: Path, workers: int, ecr: str = "") -> Iterator[Site]:
    """With Docker Hub's account in the settings."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    top = f'docker_hub_username = "{USER}"\ndocker_hub_access_token_file = "{token}"'
    with open_site(folder, workers, top=top, ecr=ecr) as site:
        yield site


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with opened(tmp_path_factory.mktemp("strict"), request.param, "strict = true") as site:
        yield site


@pytest.fixture(scope="module")
def ecr(strict: Site) -> Any:
    return strict.client()


def create(ecr: Any, url: str, prefix: str = "", **more: str) -> str:
    """The prefix of a new rule."""
    made = ecr.create_pull_through_cache_rule(
        ecrRepositoryPrefix=prefix or unique("p"), upstreamRegistryUrl=url, **more
    )
    return str(made["ecrRepositoryPrefix"])


def private_image(site: Site, repository: str) -> None:
    image = site.add(repository, repository)
    site.closed.add(repository, image, "latest")
    options = site.closed.options
    site.closed.options = replace(options, private=options.private | {repository})


@pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])
def test_a_lenient_registry_lends_the_account_of_the_upstream(tmp_path: Path, workers: int) -> None:
    with opened(tmp_path, workers) as site:
        ecr = site.client()
        private_image(site, "acme/app")
        prefix = create(ecr, "docker.io")
        assert site.pulls(f"{prefix}/acme/app") == {200}
        assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)["isValid"]
        # A secret of its own goes before it.
        secret = site.secret("hub", '{"username": "somebody", "accessToken": "else"}')
        ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=secret)
        failure = ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)["failure"]
        assert failure.startswith("UPSTREAM_AUTH_FAILED: ")


@pytest.mark.parametrize(
    "url",
    ["registry.example.com", "mcr.microsoft.com", "docker.io", "https://quay.io", "quay.io/", "QUAY.IO", "quay.io:443"],
)
def test_only_the_hosts_that_aws_knows_are_upstreams(ecr: Any, url: str) -> None:
    sentence = f"The upstream registry URL {url} is invalid. Specify a valid upstream registry URL and try again"
    with fails_with(UNSUPPORTED, sentence):
        create(ecr, url)


@pytest.mark.parametrize(
    "url", ["registry-1.docker.io", "ghcr.io", "registry.gitlab.com", "myown.azurecr.io", "cgr.dev"]
)
def test_upstreams_that_want_a_login_need_a_secret(strict: Site, ecr: Any, url: str) -> None:
    sentence = "The specified upstream registry requires authentication. Specify a valid Secrets Manager ARN"
    with fails_with(UNSUPPORTED, sentence):
        create(ecr, url)
    create(ecr, url, credentialArn=strict.secret(unique("s"), GOOD))


@pytest.mark.parametrize("url", ["quay.io", "public.ecr.aws", "registry.k8s.io"])
def test_upstreams_without_a_login_take_no_secret(strict: Site, ecr: Any, url: str) -> None:
    create(ecr, url)
    with fails_with(INVALID, "credentialArn"):
        create(ecr, url, credentialArn=strict.secret(unique("s"), GOOD))


def test_roles_and_upstream_prefixes_are_for_ecr(ecr: Any) -> None:
    other = f"{ACCOUNT_ID}.dkr.ecr.eu-west-1.amazonaws.com"
    create(ecr, other, customRoleArn=ROLE, upstreamRepositoryPrefix="team")
    with fails_with(INVALID, "customRoleArn"):
        create(ecr, "quay.io", customRoleArn=ROLE)
    with fails_with(INVALID, "upstreamRepositoryPrefix"):
        create(ecr, "quay.io", upstreamRepositoryPrefix="team")
    with fails_with(INVALID, "upstreamRepositoryPrefix", "ROOT"):
        create(ecr, other, "ROOT", upstreamRepositoryPrefix="team")
    create(ecr, "quay.io", upstreamRepositoryPrefix="ROOT")


def test_a_secret_has_secrets_managers_own_key(strict: Site, ecr: Any) -> None:
    secrets = strict.client("secretsmanager")
    arn = strict.secret(unique("s"), GOOD)
    secrets.update_secret(SecretId=arn, KmsKeyId="alias/mine")
    with fails_with("UnableToDecryptSecretValueException", "alias/mine"):
        create(ecr, "registry-1.docker.io", credentialArn=arn)
    prefix = create(ecr, "registry-1.docker.io", credentialArn=strict.secret(unique("s"), GOOD))
    with fails_with("UnableToDecryptSecretValueException", "alias/mine"):
        ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=arn)
    secrets.update_secret(SecretId=arn, KmsKeyId="alias/aws/secretsmanager")
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=arn)


def test_an_update_needs_an_arn(strict: Site, ecr: Any) -> None:
    prefix = create(ecr, "registry-1.docker.io", credentialArn=strict.secret(unique("s"), GOOD))
    with fails_with(INVALID, "Invalid input: Please set either credential arn or role arn to update the credentials"):
        ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=strict.secret(unique("s"), GOOD))
    assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix=prefix)["isValid"]


def test_a_rule_pulls_with_its_own_secret(strict: Site, ecr: Any) -> None:
    repository = f"{unique('acme')}/app"
    private_image(strict, repository)
    bad = strict.secret(unique("s"), "test")
    prefix = create(ecr, "registry-1.docker.io", credentialArn=bad)
    assert strict.pull(f"{prefix}/{repository}").status in (403, 404)
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=strict.secret(unique("s"), GOOD))
    assert strict.pulls(f"{prefix}/{repository}") == {200}
