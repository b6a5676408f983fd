"""``innkeeper plugins list`` without a host: what plugins.yaml and the installed packages tell."""

from __future__ import annotations


def test_entries_are_listed_in_order_with_what_is_installed(command) -> None:
    command.write(
        "plugins.yaml",
        "plugins:\n"
        "  toys:\n"
        "    - {package: ik-toy, required: true}\n"
        "  more:\n"
        "    - {package: not-installed}\n"
        "    - {package: left-out, enabled: false}\n"
        "  go:\n"
        "    - {moduleURI: example.com/x, gitRef: v1, installPath: ./cmd}\n",
    )
    toy, missing, disabled, built = command.json("plugins", "list")
    assert (toy["id"], toy["state"], toy["version"], toy["required"]) == ("toy", "stopped", "1.0", True)
    assert toy["title"] == "Toy workflows"
    assert toy["origin"].endswith("plugins.yaml:3:7")
    assert missing["state"] == "failed"
    assert "not-installed" in missing["reason"]
    assert disabled["state"] == "disabled"
    assert built["state"] == "stopped"
    assert "ID" in command("plugins", "list").stdout.splitlines()[0]
    plain = command("plugins", "list", "-o", "plain").stdout.splitlines()
    assert plain[0] == "toy\thost\thost\tstopped\t\t\tik-toy\t1.0\t"
    assert plain[2] == "plugins.more[1]\t\thost\tdisabled\t\t\tleft-out\t\t"


def test_nothing_is_imported_or_started(command) -> None:
    command.write("site_marker", "")
    plugin = command.folder.parent / "site" / "ik_toy" / "plugin.py"
    plugin.write_text("raise SystemExit('imported')")
    assert command.json("plugins", "list")[0]["state"] == "stopped"


def test_faulty_entries_are_left_out_and_told(command) -> None:
    command.write("plugins.yaml", "plugins:\n  toys:\n    - {package: ik-toy}\n    - {pakage: typo}\n")
    done = command("plugins", "list")
    assert "plugins.yaml:4" in done.stderr
    assert "package" in done.stderr
    assert done.stdout.splitlines()[1].startswith("toy")


def test_without_plugins_yaml_it_says_where_it_looked(command) -> None:
    (command.folder / "plugins.yaml").unlink()
    assert "INNKEEPER_PLUGINS" in command("plugins", "list", code=3).stderr


def test_no_entries_are_no_rows(command) -> None:
    command.write("plugins.yaml", "plugins: {}\n")
    assert command.json("plugins", "list") == []
    assert command("plugins", "list").stdout == ""
