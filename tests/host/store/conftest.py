"""The databases that the store is tested on: SQLite, and PostgreSQL where there is a server to be had."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from innkeeper.store.database import Database
from innkeeper.store.stores import Stores

_NUMBERS = itertools.count()
_START_SECONDS = 30.0


def _tool(name: str) -> str | None:
    found = shutil.which(name)
    if found is not None and Path(found).resolve().with_name("postgres").exists():
        return str(Path(found).resolve())
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the URL of a PostgreSQL server: the given one, else one that is started on a private unix socket."""
    given = os.environ.get("INNKEEPER_TEST_POSTGRES")
    if given:
        yield given
        return
    initdb = _tool("initdb")
    if initdb is None:
        pytest.skip("no PostgreSQL: INNKEEPER_TEST_POSTGRES is not set, and initdb is not installed")
    directory = Path(tempfile.mkdtemp(prefix="ik-pg-"))
    account: dict[str, object] = {}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data, log = directory / "data", directory / "log"
    try:
        subprocess.run(
            [initdb, "-D", str(data), "-U", "innkeeper", "-E", "UTF8", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=directory,
            **account,  # type: ignore[call-overload] # which of them there are depends on who runs the tests
        )
        with log.open("wb") as output:
            server = subprocess.Popen(
                [
                    str(Path(initdb).with_name("postgres")),
                    *("-D", str(data), "-k", str(directory)),
                    *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                **account,  # type: ignore[call-overload] # as above
            )
        try:
            url = f"postgresql://innkeeper@/postgres?host={directory}"
            _wait_ready(url, server, log)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=_START_SECONDS)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Return the URL of an empty PostgreSQL database."""
    name = f"innkeeper_test_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of a SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path}/host.db"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, of each kind."""
    found = request.getfixturevalue(f"{request.param}_url")
    assert isinstance(found, str)
    return found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Return an open database, of each kind."""
    opened = Database(url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def stores(database: Database) -> Stores:
    """Return the stores of a database, of each kind."""
    return Stores.of(database)
