"""Install the packages of a workflow with npm, once, into a directory that builds share.

Rules of this module:

1. An installation is complete or not there: it is made beside its place, checked, and renamed into it, under a
   lock that other builds of the same packages wait for. One that was damaged since is made again.
2. No package's install script runs but bun's, by name: it puts bun's program in its place, from another package
   of the same installation.
3. The user's npm settings decide the registry, the proxy and the credentials; how the tree is laid out is
   decided here.
4. npm's download cache lies in the build directory, unless the user has set another.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from innkeeper_wasm.build.errors import PackagesError
from innkeeper_wasm.build.locking import locked
from innkeeper_wasm.build.node import Node
from innkeeper_wasm.build.package_set import NPM_SETTINGS, PackageSet
from innkeeper_wasm.build.project import SDK
from innkeeper_wasm.build.tools import Outcome, Toolbox, ToolError, excerpt

__all__ = ["PLUGIN", "Installation", "Installer", "installed_version"]

PLUGIN = "@chainlink/cre-sdk-javy-plugin"
# What a build uses of an installation.
_NEEDED = {
    SDK: "bin/cre-compile.ts",
    PLUGIN: "scripts/shared.ts",
    "typescript": "package.json",
    "bun": "bin/bun.exe",  # so called on every system
}
_FLAGS = (
    "--ignore-scripts",
    "--include=dev",
    "--include=optional",
    "--install-strategy=hoisted",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--no-global",
    "--no-dry-run",
    "--no-package-lock-only",
    "--prefer-offline",
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=5000",
)
_CODE = re.compile(r"npm (?:error|ERR!) code (\S+)")
_STACK = re.compile(r"npm (?:error|ERR!)\s+at ")
_UNREACHABLE = frozenset(
    {
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ENOTCACHED",
        "ENOTFOUND",
        "ERR_SOCKET_TIMEOUT",
        "ETIMEDOUT",
        "FETCH_ERROR",
    }
)
_EXPLAINED: Mapping[str, tuple[str, str]] = {
    "E401": ("the npm registry refuses the credentials", "log in with `npm login`"),
    "E403": ("the npm registry refuses a package", "ask whoever runs the registry"),
    "E404": ("the npm registry does not know a package", "correct its name in package.json"),
    "EINTEGRITY": (
        "a package is not the one that package-lock.json pins",
        "find out which of the two is right before building; see the digests below",
    ),
    "ENOSPC": ("the disk is full", "free space, or choose another place with --build-dir"),
    "ERESOLVE": ("the packages of package.json contradict each other", "see which below"),
    "ETARGET": ("the npm registry does not have a version that package.json asks for", "correct the version"),
    "EUSAGE": (
        "package.json and package-lock.json do not agree",
        "run `npm install --package-lock-only` in the workflow's directory",
    ),
}


@frozen
class Installation:
    """Installed packages: their directory (with node_modules in it) and whether they were there already."""

    directory: Path
    cached: bool

    @property
    def node_modules(self) -> Path:
        """The directory of the packages."""
        return self.directory / "node_modules"

    @property
    def programs(self) -> Path:
        """The directory of the packages' programs."""
        return self.node_modules / ".bin"

    def version(self, package: str) -> str:
        """Return the installed version of a package."""
        return installed_version(self.node_modules, package)


def installed_version(node_modules: Path, package: str) -> str:
    """Return the version of an installed package.

    Raises:
        PackagesError: It is not there, or does not say.
    """
    path = node_modules / package / "package.json"
    try:
        version = json.loads(path.read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackagesError(f"the package {package} is damaged", path=str(path), actual=str(error)) from error
    return str(version)


def _lacks(directory: Path) -> list[str]:
    modules = directory / "node_modules"
    return [name for name, file in _NEEDED.items() if not (modules / name / file).is_file()]


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


@frozen
class Installer:
    """Install sets of packages.

    Args:
        node: The Node.js and npm to use.
        tools: Runs them.
        build_directory: Holds the installations and npm's cache; it exists.
        say: Called with one line when something will take long.
    """

    node: Node
    tools: Toolbox
    build_directory: Path
    say: Callable[[str], None]

    def install(self, packages: PackageSet) -> Installation:
        """Return an installation of the packages; make it if there is none.

        Raises:
            PackagesError: npm failed, with what it said; or the packages lack what a build needs.
        """
        store = self.build_directory / "packages"
        place = store / packages.digest
        if not _lacks(place):
            return Installation(place, cached=True)
        try:
            store.mkdir(exist_ok=True)
            lock = store / f"{packages.digest}.lock"
            with locked(lock, lambda: self.say("waiting for another build that installs the same packages")):
                if not _lacks(place):
                    return Installation(place, cached=True)
                partial = store / f"{packages.digest}.partial"
                _remove(partial)
                partial.mkdir(mode=0o700)
                try:
                    self._fill(partial, packages)
                    _remove(place)
                    partial.rename(place)
                finally:
                    _remove(partial)
        except OSError as error:
            raise PackagesError(
                "the packages cannot be kept", path=str(error.filename or store), actual=error.strerror
            ) from error
        return Installation(place, cached=False)

    def _fill(self, directory: Path, packages: PackageSet) -> None:
        (directory / "package.json").write_bytes(packages.manifest)
        if packages.lock is not None:
            (directory / "package-lock.json").write_bytes(packages.lock)
        settings = directory / NPM_SETTINGS
        if packages.settings is not None:
            settings.touch(mode=0o600)
            settings.write_bytes(packages.settings)
        self.say(f"installing from the npm registry ({SDK} is under the Business Source License 1.1)")
        command = [self.node.npm, "ci" if packages.exact else "install", *_FLAGS]
        if not any(name.lower() == "npm_config_cache" for name in os.environ):
            command.append(f"--cache={self.build_directory / 'npm'}")
        outcome = self._run(command, directory, os.environ)
        settings.unlink(missing_ok=True)
        if outcome.code != 0:
            raise _npm_failure(outcome, self.build_directory)
        self._place_bun(directory)
        lacking = _lacks(directory)
        if lacking:
            raise _incomplete(directory, lacking)

    def _place_bun(self, directory: Path) -> None:
        bun = directory / "node_modules" / "bun"
        if not (bun / "install.js").is_file():
            raise PackagesError("npm did not install bun", expected=f"{bun}/install.js", actual="none")
        outcome = self._run([self.node.node, "install.js"], bun, os.environ)
        wanted = installed_version(directory / "node_modules", "bun")
        program = bun / _NEEDED["bun"]
        if outcome.code == 0 and program.is_file():
            environment = {"HOME": str(directory), "PATH": os.defpath}
            outcome = self._run([program, "--version"], directory, environment)
            if outcome.code == 0 and outcome.output.strip() == wanted:
                return
        raise PackagesError(
            "bun cannot be run on this machine",
            expected=f"bun {wanted}",
            actual=f"exit code {outcome.code}",
            hint="see what it said below; npm must not leave out optional packages, which hold bun's program",
            detail=excerpt(outcome.output.splitlines()),
        )

    def _run(self, command: list[Path | str], cwd: Path, env: Mapping[str, str]) -> Outcome:
        try:
            return self.tools.run(command, cwd=cwd, env=env)
        except ToolError as error:
            raise PackagesError(
                f"{Path(command[0]).name} {error.problem}",
                hint="give it more time with --timeout, and see what it does with --verbose",
                detail=excerpt(_npm_lines(error.output)),
            ) from error


def _incomplete(directory: Path, lacking: list[str]) -> PackagesError:
    modules = directory / "node_modules"
    versions = [
        f"{name} {installed_version(modules, name)}" for name in lacking if (modules / name / "package.json").is_file()
    ]
    return PackagesError(
        f"the installed packages lack what the official compiler needs of {', '.join(lacking)}",
        expected=", ".join(f"{name}/{_NEEDED[name]}" for name in lacking),
        actual=", ".join(versions) or "none of these packages",
        hint=f"use {SDK} 1.21.1, with which this build is tested",
    )


def _npm_lines(output: str) -> list[str]:
    lines = output.splitlines()
    errors = [line for line in lines if line.startswith(("npm error", "npm ERR!")) and "A complete log" not in line]
    return errors or lines


def _npm_failure(outcome: Outcome, build_directory: Path) -> PackagesError:
    match = _CODE.search(outcome.output)
    code = match[1] if match else ""
    lines = _npm_lines(outcome.output)
    detail = excerpt([line for line in lines if not _STACK.match(line)])
    if code in _UNREACHABLE:
        return PackagesError(
            f"the npm registry could not be reached ({code})",
            hint=(
                "check the network, the proxy and `npm config get registry`; a workflow whose packages are in "
                f"{build_directory} builds without a network"
            ),
            detail=excerpt([line for line in lines if "request to" in line]) or detail,
        )
    problem, hint = _EXPLAINED.get(code, ("npm could not install the packages", "see what it said below"))
    return PackagesError(f"{problem} ({code or f'npm ended with {outcome.code}'})", hint=hint, detail=detail)
