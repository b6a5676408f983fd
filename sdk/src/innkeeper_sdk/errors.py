"""The errors of Innkeeper.

Rules of this module:

1. Every error that crosses a public edge descends from :class:`InnkeeperError`, in one of two branches:
   :class:`HostError` (the host, its operator or its configuration is at fault) or :class:`ProviderError` (a provider
   is).
2. An error carries fields, not only text: who, where, what was expected, what was found, and what to do next.
3. ``str()`` is one sentence for a person; ``to_dict()`` is the same for a program; ``code`` is what
   ``innkeeper explain CODE`` takes; ``exit_code`` is what a command ends with.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

__all__ = [
    "ConfigError",
    "ConflictError",
    "DeadlineExceededError",
    "ExitCode",
    "HostError",
    "HostUnreachableError",
    "InnkeeperError",
    "LimitExceededError",
    "ManifestError",
    "NotFoundError",
    "ProviderError",
    "ProviderFailedError",
    "UnavailableError",
    "UsageError",
    "VerificationError",
    "WorkflowError",
]


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    PROBLEMS = 1
    USAGE = 2
    CONFIG = 3
    VERIFICATION = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


class InnkeeperError(Exception):
    """Say what went wrong, where, and what to do about it.

    Args:
        message: One sentence, without the fields below unless it reads better with them.
        provider: The id of the provider concerned.
        path: The file, or ``file:line:column``, or the field concerned.
        expected: What the rule asks for.
        actual: What was found.
        hint: What to do next, best as a command.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.PROBLEMS

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        path: str | None = None,
        expected: str | None = None,
        actual: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.path = path
        self.expected = expected
        self.actual = actual
        self.hint = hint

    def __str__(self) -> str:
        """Return the error as one sentence, with its fields behind it."""
        parts = [self.message]
        if self.path is not None and self.path not in self.message:
            parts.insert(0, f"{self.path}: ")
        if self.provider is not None and self.provider not in self.message:
            parts.insert(0, f"provider {self.provider}: ")
        tail = []
        if self.expected is not None:
            tail.append(f"expected {self.expected}")
        if self.actual is not None:
            tail.append(f"found {self.actual}")
        text = "".join(parts)
        if tail:
            text += f" ({', '.join(tail)})"
        return f"{text}; {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, str]:
        """Return code, message and the fields that are set, as a JSON-able object."""
        fields = {
            "code": self.code,
            "message": self.message,
            "provider": self.provider,
            "path": self.path,
            "expected": self.expected,
            "actual": self.actual,
            "hint": self.hint,
        }
        return {key: value for key, value in fields.items() if value is not None}


class HostError(InnkeeperError):
    """Raised when the host, its operator or its configuration is at fault."""

    code = "host"


class UsageError(HostError):
    """Raised when a command was called with arguments that it does not take."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ConfigError(HostError):
    """Raised when plugins.yaml, innkeeper.yaml, a flag or a variable is not valid."""

    code = "config-invalid"
    exit_code = ExitCode.CONFIG


class VerificationError(HostError):
    """Raised when something is not what its digest, signature or identity says it is."""

    code = "verification-failed"
    exit_code = ExitCode.VERIFICATION


class HostUnreachableError(HostError):
    """Raised when no host answers on the control socket."""

    code = "host-unreachable"
    exit_code = ExitCode.UNREACHABLE


class NotFoundError(HostError):
    """Raised when the thing asked for does not exist, or the caller may not see it."""

    code = "not-found"


class ConflictError(HostError):
    """Raised when an act contradicts what already stands."""

    code = "conflict"


class WorkflowError(HostError):
    """Raised when a workflow, its binary or its attributes are not acceptable, or its run failed."""

    code = "workflow"


class DeadlineExceededError(WorkflowError):
    """Raised when an execution was not over by its deadline, and was ended."""

    code = "deadline-exceeded"


class LimitExceededError(HostError):
    """Raised when a declared limit is passed."""

    code = "limit-exceeded"


class UnavailableError(InnkeeperError):
    """Raised when something cannot be done *yet*: what needs it is deferred, never done another way."""

    code = "unavailable"


class ProviderError(InnkeeperError):
    """Raised when a provider is at fault."""

    code = "provider"


class ManifestError(ProviderError):
    """Raised when a provider's manifest is missing or not valid."""

    code = "manifest-invalid"


class ProviderFailedError(ProviderError):
    """Raised when a provider's import, registration or start fails or does not end in time."""

    code = "provider-failed"
