"""Real providers, made on the fly: a package with a manifest, and the metadata of its distribution."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

LONG_AGO = 1_000_000_000_500_000_000
"""A time stamp, in nanoseconds, that no clock calls recent and no coarse file system would have."""


class Site:
    """A directory of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packages: set[str] = set()

    def install(
        self,
        id_: str,
        code: str = "plugin = object()\n",
        *,
        manifest: dict[str, object] | str | None = None,
        value: str | None = None,
        distribution: str | None = None,
        version: str = "1.0",
        package: str | None = None,
        init: str = "",
        source: str | None = None,
        entry_points: str | None = None,
        **parts: object,
    ) -> Path:
        """Lay out a provider as pip would, and return its package's directory.

        Args:
            id_: Its id.
            code: What is in its module ``plugin``.
            manifest: Its manifest instead of one made of the id and ``parts``.
            value: What its entry point names; by default ``plugin`` in its module.
            distribution: Its distribution; ``ik-<id>`` by default.
            version: The distribution's version.
            package: Its package; ``ik_<id>`` by default.
            init: What is in its ``__init__``.
            source: The URL of its direct_url.json.
            entry_points: The whole entry_points.txt instead.
            parts: Keys of the manifest.
        """
        name = package or f"ik_{id_.replace('-', '_')}"
        self.packages.add(name)
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(textwrap.dedent(init))
        (folder / "plugin.py").write_text(textwrap.dedent(code))
        if isinstance(manifest, str):
            text = manifest
        else:
            text = yaml.safe_dump({"id": id_, "title": id_.title(), "sdk": ">=0", **parts, **(manifest or {})})
        (folder / "innkeeper-provider.yaml").write_text(text)
        project = distribution or f"ik-{id_}"
        info = self.path / f"{project.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        points = entry_points or f"[innkeeper.providers]\n{id_} = {value or f'{name}.plugin:plugin'}\n"
        (info / "entry_points.txt").write_text(points)
        if source is not None:
            (info / "direct_url.json").write_text(f'{{"url": "{source}", "dir_info": {{"editable": true}}}}')
        return folder

    def plain(self, name: str, entry_points: str | None = None) -> None:
        """Lay out a distribution that is no provider."""
        info = self.path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        if entry_points is not None:
            (info / "entry_points.txt").write_text(entry_points)

    def age(self) -> None:
        """Make everything look as if it had been there for long."""
        for path in [self.path, *self.path.rglob("*")]:
            os.utime(path, ns=(LONG_AGO, LONG_AGO))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return an empty directory of distributions, on this process's search path."""
    path = tmp_path / "site"
    path.mkdir()
    made = Site(path)
    monkeypatch.syspath_prepend(str(path))
    # Coverage looks at a changed search path when it next meets a new file, and then takes away what other threads are
    # importing just now (its inorout.py). It shall meet one here, while nobody imports.
    exec(compile("(lambda: None)()", str(path / "new.py"), "exec"), {})  # noqa: S102 - our own three words
    yield made
    for name in list(sys.modules):
        if name.partition(".")[0] in made.packages:
            del sys.modules[name]
