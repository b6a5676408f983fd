"""What ``innkeeper explain CODE`` says of the host's and the SDK's own errors.

Every error class has an entry; those of providers stand in their manifests.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CODES", "Explanation"]


class Explanation(NamedTuple):
    """What there is to say of a code."""

    title: str
    text: str


CODES: Final[dict[str, Explanation]] = {
    "error": Explanation("Something failed", "The message is all that is known. The host's log may say more."),
    "host": Explanation(
        "The host or its machine is at fault",
        "Something that the host needs from its machine is missing or refused: a file, a directory, a process, a"
        " socket. The message names it.",
    ),
    "host-key": Explanation(
        "The host's key cannot be used",
        "host.key in the data directory is what this host signs with. It is made once, and only this user may read it"
        " (mode 600): with wider permissions, another owner or damaged content the host does not start. Restore it from"
        " a backup; if it is removed a new one is made, and whoever knew the old one takes this for another host.",
    ),
    "usage": Explanation(
        "The command was called wrongly",
        "An argument is missing, unknown or not of the form that it must have. Add --help to the command to see"
        " what it takes. Exit code 2.",
    ),
    "config-invalid": Explanation(
        "A configuration is not valid",
        "plugins.yaml, innkeeper.yaml, a flag or an INNKEEPER_ variable holds something that it must not. Every"
        " fault is listed with file, line and column. A host does not start with a faulty plugins.yaml; `innkeeper"
        " run --keep-going` leaves out the faulty entries and starts the others. Exit code 3.",
    ),
    "verification-failed": Explanation(
        "Something is not what it should be",
        "A digest, an id or an owner was compared with what was expected, and differs. Nothing was done with it."
        " Exit code 4.",
    ),
    "host-unreachable": Explanation(
        "No host answers",
        "The command speaks to a running host through its control socket, and none listens there. Start one with"
        " `innkeeper run`, or name the right one: --runtime-dir and --host-name, or INNKEEPER_RUNTIME_DIR and"
        " INNKEEPER_NAME, must be those that it was started with. Exit code 5.",
    ),
    "not-found": Explanation(
        "There is no such thing",
        "Nothing has this name or id, or you are not the one who may see it: the two look the same on purpose."
        " `innkeeper workflow list`, `executions list` and `capabilities list` show what there is.",
    ),
    "conflict": Explanation(
        "It contradicts what already stands",
        "Another host, workflow or provider already has this name, id or directory, or a name fits more than one."
        " The message says which.",
    ),
    "workflow": Explanation(
        "A workflow is not acceptable, or it failed",
        "Its binary, configuration or attributes were refused, or its code failed while it subscribed. Attributes"
        " are one JSON object; every key must be declared by an installed provider.",
    ),
    "deadline-exceeded": Explanation(
        "It took too long",
        "What ran was ended at its deadline. Deadlines are limits: `limits` in innkeeper.yaml sets them,"
        " globally, for an owner or for a workflow.",
    ),
    "limit-exceeded": Explanation(
        "A limit is passed",
        "The message names the limit, its value and what was asked for. `limits` in innkeeper.yaml sets it,"
        " globally, for an owner or for a workflow.",
    ),
    "unavailable": Explanation(
        "It cannot be done yet",
        "Something that it needs is not ready. A workflow that waits for a provider is *deferred*: it starts by"
        " itself when the provider is ready, and never runs in another way. `innkeeper plugins list` says what is"
        " not ready.",
    ),
    "provider": Explanation(
        "A provider is at fault",
        "The host goes on without it. `innkeeper plugins list` shows its state and the reason.",
    ),
    "manifest-invalid": Explanation(
        "A provider's manifest is missing or not valid",
        "innkeeper-provider.yaml lies in the provider's top-level package; the host reads it without importing"
        " the provider. Tell its author what the message says, or leave it out with `enabled: false`.",
    ),
    "provider-failed": Explanation(
        "A provider could not be started",
        "Its import, its registration or its start raised an error or did not end in time. The host goes on"
        " without it, unless its entry says `required: true`. `innkeeper plugins list` shows the reason.",
    ),
    "capability": Explanation(
        "A call of a capability failed",
        "The capability answered with an error: a code, whose fault it is, and a text. A workflow gets the same.",
    ),
    "value-invalid": Explanation(
        "A value is not one that workflows can have",
        "Values are texts, bytes, booleans, whole and decimal numbers, times, lists and maps.",
    ),
    "database": Explanation(
        "The database cannot be used",
        "It cannot be opened, read or written. The message names it, without its password.",
    ),
    "database-newer": Explanation(
        "A newer host wrote the database",
        "Its tables are of a later version than this host knows; nothing was changed. Install the newer host.",
    ),
    "store-closed": Explanation(
        "The host is stopping",
        "The database was closed while something was still to be read or written. Ask again after the restart.",
    ),
    "engine-closed": Explanation(
        "The workflow does not run",
        "What was asked needs a workflow that runs, and this one has stopped or has not started. `innkeeper"
        " workflow show` says what it is in, and why.",
    ),
    "engine-draining": Explanation(
        "The workflow only finishes what runs",
        "It was paused, deleted or replaced, or the host stops: executions that run go on, no new ones begin.",
    ),
    "drain-in-progress": Explanation(
        "Executions still run",
        "A workflow stops when its executions are over; nothing is cut off. What was asked for is kept and done"
        " then. Ask again to wait for it, or lower PerWorkflow.ExecutionTimeout.",
    ),
    "queue-full": Explanation(
        "Too many events wait",
        "The workflow gets events faster than it executes them, and as many wait as may wait. The event was not"
        " accepted. See PerWorkflow.TriggerEventQueueLimit and PerWorkflow.ExecutionConcurrencyLimit.",
    ),
    "trigger-registration": Explanation(
        "A workflow's triggers cannot all be registered",
        "Triggers are registered all or none. One of them was refused, is not there for this workflow, or took"
        " too long; the message says which and why.",
    ),
    "replay-divergence": Explanation(
        "A workflow did something else the second time",
        "After a crash an execution is tried again and given the answers that it already got. This one asked for"
        " something else than before, so its answers do not fit. Code that reads what is not given by the host may"
        " do that.",
    ),
    "in-doubt": Explanation(
        "A call may or may not have taken effect",
        "The host stopped while a call was under way whose method may not be repeated. The execution ends"
        " `in_doubt`: look at what the call was about, and decide yourself.",
    ),
    "plain-refused": Explanation(
        "A bound workflow would become unbound",
        "Its attributes bound it to a module type, and the new ones do not. That is done only if it is asked for,"
        " with --allow-plain, and it is recorded.",
    ),
}
