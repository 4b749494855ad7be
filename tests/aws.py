"""AWS's SDK pointed at a server of a test: clients, how a call must fail, images as the API takes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import create_loader

from tests.e2e import images
from tests.e2e.images import Image, Index

REGION = "us-east-1"
#: What moto calls its account, and the engine here too, so that both give the same ARNs.
ACCOUNT_ID = "123456789012"


#: Reads each service's model once, of all the clients that tests make.
_loader = create_loader()


def _session() -> botocore.session.Session:
    session = botocore.session.Session()
    session.register_component("data_loader", _loader)
    return session


@dataclass(frozen=True)
class Account:
    """Where the APIs are, and as whom they are asked."""

    endpoint: str
    access_key_id: str = "AKIDADMIN"
    secret_access_key: str = "the-admin-keys-secret-half"
    region: str = REGION

    def client(self, service: str, *, validate: bool = True) -> Any:
        """A client that asks once: what a server refuses must not be hidden by a second try.

        Without `validate`, requests are sent that the SDK itself would refuse.
        """
        session = boto3.session.Session(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            botocore_session=_session(),
        )
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=validate, read_timeout=60)
        return session.client(service, endpoint_url=self.endpoint, config=config)

    @property
    def environ(self) -> dict[str, str]:
        """The same for programs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }


def key_settings(folder: Path, account: Account, *, name: str = "admin", role: str = "admin") -> str:
    """The table of `pullthrough.toml` that lets this account in; the secret half is in a file of `folder`."""
    secret = folder / f"{name}.secret"
    secret.touch(mode=0o600)
    secret.write_text(account.secret_access_key)
    return (
        f'[ecr.keys.{name}]\naccess_key_id = "{account.access_key_id}"\n'
        f'secret_access_key_file = "{secret}"\nrole = "{role}"\n'
    )


@contextmanager
def fails_with(code: str, *words: str) -> Iterator[None]:
    """The call in the block is refused with this code, and the message has each of `words`."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    for word in words:
        assert word in error["Message"], error


def answer(response: Mapping[str, Any]) -> dict[str, Any]:
    """The response without what the SDK adds."""
    return {name: value for name, value in response.items() if name != "ResponseMetadata"}


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def small_image(mark: str = "", *, architecture: str = "amd64") -> Image:
    """An image of one small layer; `mark` makes it another one."""
    return images.image([images.tar({"etc/mark": f"{mark} {architecture}".encode()})], architecture=architecture)


def upload_blobs(ecr: Any, repository: str, image: Image | Index) -> None:
    """Each blob in one part, as amazon-ecr-containerd-resolver does."""
    for blob in image.everything:
        upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
        ecr.upload_layer_part(
            repositoryName=repository,
            uploadId=upload,
            partFirstByte=0,
            partLastByte=len(blob.body) - 1,
            layerPartBlob=blob.body,
        )
        ecr.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=[blob.digest])


def put(ecr: Any, repository: str, image: Image | Index, tag: str = "") -> Mapping[str, Any]:
    """PutImage of the outermost manifest, whose blobs are there; what the API says of it."""
    more = {"imageTag": tag} if tag else {}
    found: Mapping[str, Any] = ecr.put_image(
        repositoryName=repository,
        imageManifest=image.manifest.body.decode(),
        imageManifestMediaType=image.manifest.media_type,
        **more,
    )["image"]
    return found


def push(ecr: Any, repository: str, image: Image | Index, tag: str = "") -> None:
    """Through the API alone: blobs, then the manifests from the inside out."""
    upload_blobs(ecr, repository, image)
    if isinstance(image, Index):
        for child in image.children.values():
            put(ecr, repository, child)
    put(ecr, repository, image, tag)
