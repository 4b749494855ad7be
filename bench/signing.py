"""Signed requests to the AWS APIs, made before the clock starts: a signature is good for minutes, so each can be sent
again and again, and the load generator need not sign."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "us-east-1"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "AKIDBENCH", "the-benchmarks-secret-half"
_TARGET = "AmazonEC2ContainerRegistry_V20150921"


@dataclass(frozen=True)
class SignedCall:
    """One POST to `/` of a server."""

    headers: Mapping[str, str]
    body: str


def sign(url: str, operation: str, **input: Any) -> SignedCall:
    """A call of ECR's `operation`."""
    body = json.dumps(input)
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{_TARGET}.{operation}"}
    request = AWSRequest("POST", f"{url}/", headers=headers, data=body)
    SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY), "ecr", REGION).add_auth(request)
    return SignedCall(dict(request.headers.items()), body)


def write_wrk_script(path: Path, calls: Sequence[SignedCall]) -> None:
    """A script for wrk (https://github.com/wg/wrk/blob/master/SCRIPTING) that sends these in turn, made into bytes once."""
    made = ",\n".join(f"  wrk.format('POST', '/', {_lua_table(call.headers)}, {_lua(call.body)})" for call in calls)
    path.write_text(
        "local requests, next_one\n"
        f"function init(args)\n  requests, next_one = {{\n{made}\n  }}, 0\nend\n"
        "function request()\n  next_one = next_one % #requests + 1\n  return requests[next_one]\nend\n"
    )


def _lua_table(pairs: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"[{_lua(name)}] = {_lua(value)}" for name, value in pairs.items()) + "}"


def _lua(text: str) -> str:
    """A text in Lua: what is signed is ASCII, and JSON's escapes for quotes are Lua's."""
    assert text.isascii()
    return json.dumps(text)
