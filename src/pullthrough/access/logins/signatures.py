"""AWS Signature Version 4, verified: in the Authorization header, or in the query of a presigned URL. No I/O.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

    read_claim        what the request says of itself: which key, when, for what; whatever is missing is refused
    Claim.check_*     whether that can be: the time, the scope
    Claim.verify      whether the key's secret half made the signature over this very request and body

All but the last are about a request's head, so that they can come before its body is read.

Refusals have AWS's codes and words. AWS's JSON services and its query services (STS) call the same things differently.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from pullthrough.access.logins.canonical_requests import SignedRequest, canonical_request, query_pairs

#: How far the client's clock may be off, and how long a request may be repeated.
WINDOW_SECONDS = 15 * 60
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
MAX_PRESIGNED_SECONDS = 7 * 24 * 3600
ALGORITHM = "AWS4-HMAC-SHA256"
_TERMINATOR = "aws4_request"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_SIGNED_HEADERS = 100
#: Headers that may be there once only: of two, each reader could take another one.
_SINGLE = (
    "authorization",
    "host",
    "date",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "x-amz-target",
)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and "
    "signing method. Consult the service documentation for details."
)


class ApiDenied(Exception):
    """A request of the AWS APIs whose sender is not known. `code`, `message` and `status` are the answer's."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class _Refusal(NamedTuple):
    """One reason's code and status in AWS's JSON services, and in its query services."""

    json: tuple[str, int]
    query: tuple[str, int]


MISSING = _Refusal(("MissingAuthenticationTokenException", 400), ("MissingAuthenticationToken", 403))
INCOMPLETE = _Refusal(("IncompleteSignatureException", 400), ("IncompleteSignature", 400))
INVALID = _Refusal(("InvalidSignatureException", 400), ("SignatureDoesNotMatch", 403))
UNKNOWN_KEY = _Refusal(("UnrecognizedClientException", 400), ("InvalidClientTokenId", 403))
WEB_PAGE = _Refusal(("AccessDeniedException", 400), ("AccessDenied", 403))
_QUERY_SERVICES = ("sts", "iam")


def denied(refusal: _Refusal, service: str, message: str) -> ApiDenied:
    code, status = refusal.query if service in _QUERY_SERVICES else refusal.json
    return ApiDenied(code, message, status)


@dataclass(slots=True)
class Claim:
    """Who a request says it is from, and how it is signed."""

    access_key_id: str
    #: The scope: `20260131`, the region, the service.
    date: str
    region: str
    service: str
    #: `20260131T120000Z`, and the same in seconds since 1970.
    time: str
    signed_at: float
    #: None where it is in the header; how long it is valid where it is in the query.
    expires_seconds: int | None
    signed_headers: tuple[str, ...]
    signature: str = field(repr=False)
    has_session_token: bool = False
    #: Of the body, as the request has it; None where it does not say.
    body_sha256: str | None = None

    def check_scope(self, region: str, service: str) -> None:
        """Raises ApiDenied where it is signed for another region or service."""
        if self.region != region:
            raise denied(
                INVALID, service, f"Credential should be scoped to a valid region. This registry is in {region}."
            )
        if self.service != service:
            raise denied(INVALID, service, f"Credential should be scoped to correct service: '{service}'.")

    def check_time(self, now: float, service: str) -> None:
        """Raises ApiDenied outside the window."""
        if self.expires_seconds is None:
            earliest = now - WINDOW_SECONDS
            if self.signed_at < earliest:
                raise denied(
                    INVALID,
                    service,
                    f"Signature expired: {self.time} is now earlier than {_iso(earliest)} ({_iso(now)} - 15 min.)",
                )
        elif self.signed_at + self.expires_seconds < now:
            ended = _iso(self.signed_at + self.expires_seconds)
            raise denied(INVALID, service, f"Signature expired: {ended} is now earlier than {_iso(now)}")
        if self.signed_at > now + WINDOW_SECONDS:
            latest = _iso(now + WINDOW_SECONDS)
            raise denied(
                INVALID,
                service,
                f"Signature not yet current: {self.time} is still later than {latest} ({_iso(now)} + 15 min.)",
            )

    def verify(self, request: SignedRequest, body_sha256: str, secret: bytes, service: str) -> None:
        """Raises ApiDenied unless this secret signed this request. `body_sha256` is its body's, in hexadecimal digits."""
        if self.body_sha256 is not None and not hmac.compare_digest(
            self.body_sha256.encode(errors="replace"), body_sha256.encode()
        ):
            raise denied(
                INVALID, service, "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        canonical = canonical_request(
            request, self.signed_headers, body_sha256, is_presigned=self.expires_seconds is not None
        )
        scope = f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"
        digest = hashlib.sha256(canonical).hexdigest()
        text = f"{ALGORITHM}\n{self.time}\n{scope}\n{digest}".encode()
        key = b"AWS4" + secret
        for part in (self.date, self.region, self.service, _TERMINATOR):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.new(key, text, "sha256").hexdigest(), self.signature):
            raise denied(INVALID, service, _MISMATCH)


def read_claim(request: SignedRequest, service: str) -> Claim:
    """Raises ApiDenied where there is no signature, or not one that can be verified whatever the body is."""
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name.lower(), []).append(value)
    for name in _SINGLE:
        if len(headers.get(name, ())) > 1:
            raise denied(INCOMPLETE, service, f"The header {name} is there more than once.")
    query = query_pairs(request.raw_query)
    repeated = [name for name, count in Counter(n for n, _ in query).items() if count > 1 and name.startswith("X-Amz-")]
    if repeated:
        raise denied(INCOMPLETE, service, f"The parameter {_shown(repeated[0])} is there more than once.")
    parameters = dict(query)
    presigned = "X-Amz-Signature" in parameters or "X-Amz-Credential" in parameters
    if "authorization" in headers and presigned:
        raise denied(
            INCOMPLETE, service, "The request is signed in its Authorization header and in its query; only one may be."
        )
    if presigned:
        claim = _from_query(parameters, service)
    elif "authorization" in headers:
        claim = _from_header(headers, service)
    else:
        raise denied(MISSING, service, "Missing Authentication Token")
    _check_signed_headers(claim, headers, service)
    claim.body_sha256 = _body_sha256(headers, service)
    return claim


def _from_header(headers: Mapping[str, list[str]], service: str) -> Claim:
    algorithm, _, rest = headers["authorization"][0].strip().partition(" ")
    _check_algorithm(algorithm, service)
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in parts:
            raise denied(INCOMPLETE, service, f"Authorization header is not of the form {ALGORITHM} Name=value, ....")
        parts[name] = value
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if not parts.get(name)]
    time = headers.get("x-amz-date", [""])[0].strip() or _basic_format(headers.get("date", [""])[0])
    if missing or not time:
        sentences = [f"Authorization header requires '{name}' parameter." for name in missing]
        if not time:
            sentences.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
        raise denied(INCOMPLETE, service, " ".join(sentences))
    return _claim(
        parts["Credential"],
        time,
        None,
        parts["SignedHeaders"],
        parts["Signature"],
        "x-amz-security-token" in headers,
        service,
    )


def _from_query(parameters: Mapping[str, str], service: str) -> Claim:
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    missing = [name for name in names if not parameters.get(f"X-Amz-{name}")]
    if missing:
        sentences = [f"AWS query-string parameters must include 'X-Amz-{name}'." for name in missing]
        raise denied(INCOMPLETE, service, " ".join(sentences))
    _check_algorithm(parameters["X-Amz-Algorithm"], service)
    expires = parameters["X-Amz-Expires"]
    if re.fullmatch(r"[0-9]{1,6}", expires, re.ASCII) is None or not 1 <= int(expires) <= MAX_PRESIGNED_SECONDS:
        raise denied(INCOMPLETE, service, f"X-Amz-Expires must be a number from 1 to {MAX_PRESIGNED_SECONDS}.")
    return _claim(
        parameters["X-Amz-Credential"],
        parameters["X-Amz-Date"],
        int(expires),
        parameters["X-Amz-SignedHeaders"],
        parameters["X-Amz-Signature"],
        "X-Amz-Security-Token" in parameters,
        service,
    )


def _basic_format(date: str) -> str:
    """The Date header in the form of X-Amz-Date; what is no HTTP date as it is."""
    try:
        return parsedate_to_datetime(date).astimezone(UTC).strftime(_DATE_FORMAT)
    except (ValueError, OverflowError):
        return date.strip()


def _check_algorithm(algorithm: str, service: str) -> None:
    if algorithm != ALGORITHM:
        raise denied(INCOMPLETE, service, f"Unsupported AWS 'algorithm': '{_shown(algorithm)}'; use {ALGORITHM}.")


def _claim(
    credential: str,
    time: str,
    expires_seconds: int | None,
    signed_headers: str,
    signature: str,
    has_session_token: bool,
    service: str,
) -> Claim:
    scope = credential.split("/")
    if len(scope) != 5 or not all(scope):
        raise denied(
            INCOMPLETE,
            service,
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{_shown(credential)}'",
        )
    access_key_id, date, region, scope_service, terminator = scope
    if terminator != _TERMINATOR:
        raise denied(
            INVALID,
            service,
            f"Credential should be scoped with a valid terminator: '{_TERMINATOR}', not '{_shown(terminator)}'.",
        )
    try:
        if _DATE.fullmatch(time) is None:
            raise ValueError
        signed_at = _seconds(time)
    except ValueError:
        raise denied(
            INCOMPLETE,
            service,
            f"Date must be in ISO-8601 'basic format'. Got '{_shown(time)}'. See http://en.wikipedia.org/wiki/ISO_8601",
        ) from None
    if date != time[:8]:
        raise denied(
            INVALID,
            service,
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{_shown(date)}' != '{time[:8]}', from '{time}'.",
        )
    names = tuple(signed_headers.split(";"))
    if len(names) > _MAX_SIGNED_HEADERS or len(set(names)) != len(names) or any(n != n.lower() or not n for n in names):
        raise denied(INCOMPLETE, service, "SignedHeaders must be names in lower case, each once, separated by ';'.")
    if _SIGNATURE.fullmatch(signature) is None:
        raise denied(INVALID, service, _MISMATCH)
    return Claim(
        access_key_id,
        date,
        region,
        scope_service,
        time,
        signed_at,
        expires_seconds,
        tuple(sorted(names)),
        signature,
        has_session_token,
    )


def _seconds(time: str) -> float:
    """Raises ValueError for a day or an hour that there is not. Ten times as fast as strptime."""
    year, month, day = int(time[:4]), int(time[4:6]), int(time[6:8])
    hour, minute, second = int(time[9:11]), int(time[11:13]), int(time[13:15])
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _check_signed_headers(claim: Claim, headers: Mapping[str, list[str]], service: str) -> None:
    """What is not signed could have been put there by somebody else."""
    if "host" not in claim.signed_headers:
        raise denied(INVALID, service, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    for name in claim.signed_headers:
        if name not in headers:
            raise denied(INVALID, service, f"The signed header '{_shown(name)}' is not in the request.")
    for name in headers:
        if name.startswith("x-amz-") and name not in claim.signed_headers:
            raise denied(INVALID, service, f"'{_shown(name)}' must be a 'SignedHeader' in the AWS Authorization.")


def _body_sha256(headers: Mapping[str, list[str]], service: str) -> str | None:
    given = headers.get("x-amz-content-sha256", [None])[0]
    encodings = ",".join(headers.get("content-encoding", ())).lower().replace(" ", "").split(",")
    if (given or "").startswith("STREAMING-") or "aws-chunked" in encodings:
        raise denied(
            INVALID, service, "A body signed in chunks (aws-chunked) is not taken; send it whole, with its SHA-256."
        )
    if given == "UNSIGNED-PAYLOAD":
        raise denied(INVALID, service, "UNSIGNED-PAYLOAD is not taken; the body must be signed.")
    return None if given is None else given.strip()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_DATE_FORMAT)


def _shown(text: str) -> str:
    """Foreign text in a message: cut, and only what can be printed."""
    return "".join(character if character.isprintable() else "?" for character in text[:100])
