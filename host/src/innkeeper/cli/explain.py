"""``innkeeper explain``."""

from __future__ import annotations

from typing import Final

import click

from innkeeper.cli.codes import CODES
from innkeeper.cli.options import HostCommand, Invocation, output_option, pass_invocation
from innkeeper.cli.output import show_one, show_rows
from innkeeper.cli.provided import installed
from innkeeper_sdk.errors import NotFoundError

__all__ = ["explain"]

_COLUMNS: Final = {"code": "code", "title": "title", "provider": "provider"}
_FIELDS: Final = {**_COLUMNS, "explanation": "explanation"}


@click.command(cls=HostCommand)
@click.argument("code", required=False)
@output_option
@pass_invocation
def explain(invocation: Invocation, code: str | None) -> None:
    """Say more about an error's CODE.

    Without one, list all codes.
    """
    rows = [
        {"code": key, "title": known.title, "provider": "", "explanation": known.text} for key, known in CODES.items()
    ]
    rows += [
        {"code": key, "title": declared["title"], "provider": found.id, "explanation": declared.get("explanation", "")}
        for found in installed(invocation)
        for key, declared in ((found.document or {}).get("errors") or {}).items()
    ]
    if code is None:
        show_rows(sorted(rows, key=lambda row: row["code"]), _COLUMNS, invocation.output, empty="no codes")
        return
    found = [row for row in rows if row["code"] == code]
    if not found:
        from difflib import get_close_matches  # noqa: PLC0415 - of use only here

        near = get_close_matches(code, [row["code"] for row in rows])
        raise NotFoundError(
            f"no error has the code {code!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else "`innkeeper explain` lists them",
        )
    if len(found) == 1:
        show_one(found[0], invocation.output, fields=_FIELDS)
    else:  # nothing forbids two providers the same code
        show_rows(found, _FIELDS, invocation.output, empty="")
