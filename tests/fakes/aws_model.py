"""botocore's model of AWS's APIs, as a judge: what boto3 would not send fails the test, and what it would not expect, too."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import botocore.loaders
from botocore.model import OperationModel, ServiceModel
from botocore.validate import ParamValidator


@functools.cache
def _service(service: str) -> ServiceModel:
    return ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)


@functools.cache
def operation_model(service: str, operation: str) -> OperationModel:
    """KeyError or botocore's OperationNotFoundError for what AWS does not have."""
    return _service(service).operation_model(operation)


def check_parameters(service: str, operation: str, params: Mapping[str, Any]) -> None:
    _check(f"boto3 does not send {operation}", operation_model(service, operation).input_shape, params)


def check_answer(service: str, operation: str, answer: Mapping[str, Any]) -> None:
    _check(f"the fake answers {operation} as AWS does not", operation_model(service, operation).output_shape, answer)


def _check(what: str, shape: Any, values: Mapping[str, Any]) -> None:
    if shape is None:
        assert not values, f"{what}: {sorted(values)}"
        return
    report = ParamValidator().validate(dict(values), shape)
    assert not report.has_errors(), f"{what}: {report.generate_report()}"
