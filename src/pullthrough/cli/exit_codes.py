"""What the program's exit code says, one table; the command line reference is generated from it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from pullthrough.errors import (
    AwsUnreachable,
    ConfigurationError,
    ContentError,
    DigestInvalid,
    InputMissing,
    NameInvalid,
    PullthroughError,
    TagInvalid,
    TargetUnusable,
    UpstreamThrottled,
    UpstreamUnavailable,
)


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    CONTENT = 4
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


#: What each code means, for the reference page.
MEANINGS = {
    ExitCode.OK: "It worked.",
    ExitCode.FAILED: "The operation failed; the message says why.",
    ExitCode.USAGE: "The command line or the configuration is wrong. Nothing was done.",
    ExitCode.UNREACHABLE: "The cache, or an upstream, could not be reached or does not take requests now. "
    "The same command may work later.",
    ExitCode.CONTENT: "Bytes are not what they claim to be: a digest or a size differs, or `check` found a problem that "
    "it did not repair.",
    ExitCode.INTERRUPTED: "Interrupted from the keyboard (128 + SIGINT).",
    ExitCode.OUTPUT_CLOSED: "Whoever read the output went away (128 + SIGPIPE).",
}

#: The first class that an error belongs to decides; any other error is FAILED.
_CODES: tuple[tuple[type[PullthroughError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.USAGE),
    (NameInvalid, ExitCode.USAGE),
    (TagInvalid, ExitCode.USAGE),
    (DigestInvalid, ExitCode.USAGE),
    (UpstreamUnavailable, ExitCode.UNREACHABLE),
    (UpstreamThrottled, ExitCode.UNREACHABLE),
    (AwsUnreachable, ExitCode.UNREACHABLE),
    (InputMissing, ExitCode.USAGE),
    (TargetUnusable, ExitCode.USAGE),
    (ContentError, ExitCode.CONTENT),
)


def exit_code_of(error: PullthroughError) -> ExitCode:
    """The code of an error, by its reference: an error that came through the control socket has no class of its own."""
    return exit_code_of_class(next((cls for cls in error_classes() if cls.reference == error.reference), type(error)))


def exit_code_of_class(cls: type[PullthroughError]) -> ExitCode:
    return next((code for base, code in _CODES if issubclass(cls, base)), ExitCode.FAILED)


def error_classes(root: type[PullthroughError] = PullthroughError) -> Iterator[type[PullthroughError]]:
    """`root` and all that derive from it in the error tree itself, each before its children."""
    if root.__module__ == PullthroughError.__module__:
        yield root
        for child in root.__subclasses__():
            yield from error_classes(child)
