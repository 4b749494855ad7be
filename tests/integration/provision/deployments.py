"""The module at a real engine, and IAM beside it where a test wants roles: deployments as the commands make them."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pullthrough.declaration import CredentialSource, Declaration, InlineToken, Rule
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.aws import connect
from pullthrough.provision.deployment import Deployment
from pullthrough.provision.model.plan import Options, Plan
from tests.aws import ACCOUNT_ID, REGION, Account
from tests.e2e.processes import Process, environment, free_port
from tests.integration.ecr import TOKEN, USER

HUB = Rule("docker-hub", DOCKER_HUB, credential=CredentialSource(USER, access_token=InlineToken(TOKEN)))
QUAY = Rule("quay", "quay.io")


@contextmanager
def aws_environment(endpoint: str, *, iam: str = "", account: Account | None = None) -> Iterator[Mapping[str, str]]:
    """What the SDK reads while a deployment is made: the engine's endpoint, and IAM's where it is another one."""
    account = account or Account(endpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", account.access_key_id)
        patch.setenv("AWS_SECRET_ACCESS_KEY", account.secret_access_key)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        environ = {"AWS_REGION": REGION, "AWS_ENDPOINT_URL": endpoint}
        if iam:
            patch.setenv("AWS_ENDPOINT_URL_IAM", iam)
            environ["AWS_ENDPOINT_URL_IAM"] = iam
        yield environ


@contextmanager
def deployed(
    declaration: Declaration, endpoint: str, folder: Path, *, iam: str = "", account: Account | None = None
) -> Iterator[Deployment]:
    """`folder` is the home folder: journal and fingerprint key are there."""
    with aws_environment(endpoint, iam=iam, account=account) as environ:
        home = {**environ, "HOME": str(folder)}
        yield Deployment(declaration, connect(home), home)


def applied(deployment: Deployment, options: Options | None = None) -> Plan:
    """The plan that was carried out."""
    plan = deployment.plan(options or Options())
    assert plan.problems == ()
    deployment.apply(plan)
    return plan


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """IAM's URL."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    env = environment(folder, MOTO_ACCOUNT_ID=ACCOUNT_ID)
    with Process("moto", command, env=env, log=folder / "moto.log") as process:
        process.wait_until(lambda: _answers(port), "moto to answer")
        yield f"http://127.0.0.1:{port}"


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
