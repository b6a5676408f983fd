"""The whole command line, as a table: nouns, verbs and their lines, none of them imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from innkeeper import __version__
from innkeeper.cli.lazy import LazyCommand, LazyGroup
from innkeeper.cli.provided import PROVIDED

__all__ = ["COMMANDS", "GROUPS", "app"]

COMMANDS: Final = {
    "run": LazyCommand("innkeeper.cli.run:run", "Run a host until it is told to stop."),
    "status": LazyCommand("innkeeper.cli.status:status", "Say whether a host runs, and how it is."),
    "explain": LazyCommand("innkeeper.cli.explain:explain", "Say more about an error's CODE."),
}

# Nouns: their lines, and their verbs.
GROUPS: Final[Mapping[str, tuple[str, Mapping[str, LazyCommand]]]] = {
    "plugins": (
        "Providers: what extends this host.",
        {
            "list": LazyCommand("innkeeper.cli.plugins:list_", "List what plugins.yaml names, part by part."),
            "info": LazyCommand("innkeeper.cli.plugins:info", "Show one provider, by the ID that plugins list shows."),
        },
    ),
    "capabilities": (
        "What workflows may trigger on and call.",
        {
            "list": LazyCommand("innkeeper.cli.capabilities:list_", "List the capabilities of the running host."),
            "info": LazyCommand("innkeeper.cli.capabilities:info", "Show one capability; ID is name@version."),
        },
    ),
    "workflow": (
        "Deploy, run and look after workflows.",
        {
            "run": LazyCommand("innkeeper.cli.workflow_run:run", "Run a workflow's BINARY once, on a host of its own."),
            "deploy": LazyCommand(
                "innkeeper.cli.workflow:deploy", "Deploy a workflow, or update the one of the same owner and name."
            ),
            "list": LazyCommand("innkeeper.cli.workflow:list_", "List the deployed workflows."),
            "show": LazyCommand("innkeeper.cli.workflow:show", "Show one workflow and its triggers."),
            "activate": LazyCommand("innkeeper.cli.workflow:activate", "Let a paused workflow run again."),
            "pause": LazyCommand("innkeeper.cli.workflow:pause", "Stop a workflow and keep it."),
            "delete": LazyCommand("innkeeper.cli.workflow:delete", "Stop a workflow and forget it."),
            "logs": LazyCommand("innkeeper.cli.workflow:logs", "Print what a workflow logged, oldest first."),
        },
    ),
    "executions": (
        "What workflows have done.",
        {
            "list": LazyCommand("innkeeper.cli.executions:list_", "List executions, newest first."),
            "show": LazyCommand("innkeeper.cli.executions:show", "Show one execution, its result and its log."),
        },
    ),
}

app = LazyGroup(
    "innkeeper",
    help="A plugin host for workflows.",
    lazy=COMMANDS,
    provided=PROVIDED,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _noun, (_line, _verbs) in GROUPS.items():
    app.add_command(LazyGroup(_noun, help=_line, lazy=_verbs, provided=PROVIDED, noun=_noun))
app = click.version_option(__version__, prog_name="innkeeper", message="%(prog)s %(version)s")(app)
