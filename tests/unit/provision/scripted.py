"""An AWS that answers as a test says: `Send` without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from pullthrough.provision.aws import Aws, Refused

#: An answer, an error to raise, or what makes one of the parameters.
Answer = Mapping[str, Any] | Exception | Callable[[Mapping[str, Any]], Mapping[str, Any]]


def denied(action: str) -> Refused:
    return Refused("AccessDeniedException", f"User: someone is not authorized to perform: {action}", 400)


def missing(code: str) -> Refused:
    return Refused(code, "there is none", 400)


class ScriptedAws:
    """Calls without an answer are errors of the test, but for those that `default` answers."""

    def __init__(self, answers: Mapping[str, Answer], default: Answer | None = None) -> None:
        """`answers`: by operation."""
        self.answers = dict(answers)
        self._default = default
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str, Mapping[str, Any]]] = []
        self.slept: list[float] = []

    @property
    def aws(self) -> Aws:
        return Aws(self, sleep=self.slept.append, jitter=lambda: 1.0)

    def __call__(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls.append((service, operation, dict(params)))
        answer = self.answers.get(operation, self._default)
        assert answer is not None, f"nobody answers {operation}"
        if isinstance(answer, Exception):
            raise answer
        return dict(answer(params) if callable(answer) else answer)

    def count(self, operation: str) -> int:
        return sum(name == operation for _, name, _ in self.calls)

    def params(self, operation: str) -> list[Mapping[str, Any]]:
        return [params for _, name, params in self.calls if name == operation]
