"""Every error of ours has a code in each service, and one that its model knows where there is one."""

from __future__ import annotations

import inspect

import pytest

from pullthrough import errors
from pullthrough.errors import PullthroughError
from pullthrough.faces.ecr.wire.errors import TABLE, Codes, api_error
from pullthrough.faces.ecr.wire.models import service_model

#: Those of the module are raised by commands and programs, and never reach a face.
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PullthroughError) and not issubclass(kind, errors.ProvisionError)
]
#: In no model, but in AWS's "Common errors".
COMMON = {"AccessDeniedException", "ThrottlingException", "Throttling", "ValidationError", "InternalFailure"}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_in_the_table(kind: type[PullthroughError]) -> None:
    assert kind in TABLE


@pytest.mark.parametrize("codes", dict.fromkeys(TABLE.values()), ids=str)
@pytest.mark.parametrize("service", ["ecr", "secretsmanager", "sts"])
def test_every_code_is_one_that_the_service_has(codes: Codes, service: str) -> None:
    for code in getattr(codes, service):
        assert code in service_model(service).statuses or code in COMMON


def test_the_code_is_one_that_the_operation_declares() -> None:
    exists = errors.AlreadyExists("it is there")
    for operation, code in (
        ("CreateRepository", "RepositoryAlreadyExistsException"),
        ("CreatePullThroughCacheRule", "PullThroughCacheRuleAlreadyExistsException"),
        ("CreateRepositoryCreationTemplate", "TemplateAlreadyExistsException"),
        ("PutAccountSetting", "InvalidParameterException"),
    ):
        declared = service_model("ecr").operation(operation).errors
        assert api_error(exists, "ecr", declared).code == code
    upstream = errors.UpstreamUnavailable("it is down", upstream="r")
    for operation, code in (
        ("GetDownloadUrlForLayer", "UnableToGetUpstreamLayerException"),
        ("BatchGetImage", "UnableToGetUpstreamImageException"),
        ("ListImageReferrers", "UnableToListUpstreamImageReferrersException"),
    ):
        assert api_error(upstream, "ecr", service_model("ecr").operation(operation).errors).code == code


def test_what_may_work_later_is_a_503_and_says_what_to_try() -> None:
    error = api_error(errors.DiskFull("no space is left", hint="evict"), "ecr")
    assert (error.code, error.status, error.message) == ("ServerException", 503, "no space is left (evict)")


def test_a_class_that_is_not_there_is_answered_as_its_base() -> None:
    class Special(errors.NameInvalid):
        pass

    assert api_error(Special("x"), "secretsmanager").code == "InvalidParameterException"
