"""The errors of ``innkeeper workflow build``.

Rules of this module: one class per step of a build, so that the step is in the type, the code and the text;
``detail`` holds the lines of the tool that failed, already cut, and is never part of the one sentence.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from innkeeper_sdk.errors import ProviderError

__all__ = [
    "BuildError",
    "BundleError",
    "LinkError",
    "NodeError",
    "OutputError",
    "PackagesError",
    "ProjectError",
    "Step",
    "TypeCheckError",
]


class Step(StrEnum):
    """The steps of a build, in their order."""

    PROJECT = "project"
    NODE = "node"
    PACKAGES = "packages"
    TYPE_CHECK = "type-check"
    BUNDLE = "bundle"
    LINK = "link"
    OUTPUT = "output"


class BuildError(ProviderError):
    """Raised when a build cannot go on.

    Args:
        message: One sentence.
        path: The file concerned.
        expected: What the step needs.
        actual: What it found.
        hint: What to do next.
        detail: The relevant lines of the tool that failed.
    """

    code = "build-failed"
    step: ClassVar[Step]

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        expected: str | None = None,
        actual: str | None = None,
        hint: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message, path=path, expected=expected, actual=actual, hint=hint)
        self.detail = detail

    @property
    def sentence(self) -> str:
        """The error without its hint, which a command prints on a line of its own."""
        return str(self).removesuffix(f"; {self.hint}") if self.hint else str(self)


class ProjectError(BuildError):
    """Raised when the directory is not a workflow that can be built."""

    code = "build-project"
    step = Step.PROJECT


class NodeError(BuildError):
    """Raised when Node.js or npm is missing, too old or broken."""

    code = "build-node"
    step = Step.NODE


class PackagesError(BuildError):
    """Raised when the packages of the workflow cannot be installed."""

    code = "build-packages"
    step = Step.PACKAGES


class TypeCheckError(BuildError):
    """Raised when the checks of the SDK refuse the workflow's source."""

    code = "build-type-check"
    step = Step.TYPE_CHECK


class BundleError(BuildError):
    """Raised when the workflow's modules cannot be bundled into one script."""

    code = "build-bundle"
    step = Step.BUNDLE


class LinkError(BuildError):
    """Raised when the bundle cannot be compiled or linked with the SDK's plugin."""

    code = "build-link"
    step = Step.LINK


class OutputError(BuildError):
    """Raised when the binary cannot be written where it was asked for."""

    code = "build-output"
    step = Step.OUTPUT
