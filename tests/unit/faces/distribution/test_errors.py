"""Every error has its answer, from one table."""

from __future__ import annotations

import inspect
import json

import pytest

from pullthrough import errors
from pullthrough.errors import PullthroughError, RangeNotSatisfiable, UpstreamThrottled, UpstreamUnavailable
from pullthrough.faces.distribution.errors import TABLE, EndpointUnknown, answer_for, error_response
from pullthrough.oci.codes import ErrorCode

#: Those of the module are raised by commands and programs, and never reach a face.
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PullthroughError) and not issubclass(kind, errors.ProvisionError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_in_the_table(kind: type[PullthroughError]) -> None:
    assert kind in TABLE


def test_references_are_unique() -> None:
    everywhere: set[type[PullthroughError]] = {*TABLE, errors.ProvisionError, *errors.ProvisionError.__subclasses__()}
    known = [kind.reference for kind in everywhere if kind is not errors.ContentUnknown]
    assert len(set(known)) == len(known)


def test_a_class_that_is_not_there_is_answered_as_its_base() -> None:
    class Special(errors.UpstreamDenied):
        pass

    assert answer_for(Special("x", upstream="r")) == TABLE[errors.UpstreamDenied]


def test_the_answer_is_the_specifications_json() -> None:
    response = error_response(UpstreamUnavailable("it is down", upstream="r", hint="wait"))
    assert isinstance(response.body, bytes)
    (entry,) = json.loads(response.body)["errors"]
    assert (response.status, response.content_type) == (503, "application/json")
    assert entry == {"code": ErrorCode.UNAVAILABLE, "message": "it is down (wait)", "detail": {"reference": "PT304"}}


def test_headers_that_go_with_an_answer() -> None:
    throttled = UpstreamThrottled("slow", upstream="r", retry_after_seconds=6.2)
    assert error_response(throttled).headers["Retry-After"] == "7"
    assert error_response(RangeNotSatisfiable("x", size_bytes=9)).headers["Content-Range"] == "bytes */9"
    assert error_response(EndpointUnknown("x")).status == 404
