"""Write the binary in the form that its name asks for.

Rules of this module: the form is the file's suffix; the file is whole or what it was before; only a file is
replaced, and through a link the file that it names.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import brotli
from attrs import frozen

from innkeeper_wasm.build.errors import OutputError

__all__ = ["SUFFIXES", "Output", "prepare_output"]

# Level 9 makes a guest of 2.3 MB 675 kB in 0.15 s; the best level, 11, saves another tenth in 4 s. Any level is valid.
BROTLI_QUALITY = 9


def _compress(binary: bytes) -> bytes:
    return bytes(brotli.compress(binary, quality=BROTLI_QUALITY))


_FORMS: Mapping[str, Callable[[bytes], bytes]] = {
    ".wasm": lambda binary: binary,
    ".wasm.br": _compress,
    ".wasm.br.b64": lambda binary: base64.b64encode(_compress(binary)),
}
SUFFIXES = tuple(_FORMS)


@frozen
class Output:
    """A place for the binary that was found fit to be written to, and how it is written there."""

    path: Path
    form: Callable[[bytes], bytes]

    def write(self, binary: bytes) -> bytes:
        """Write the binary and return the bytes of the file.

        Raises:
            OutputError: The file cannot be written; what was there is still there.
        """
        content = self.form(binary)
        try:
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o666 & ~_umask())
                temporary.rename(self.path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return content


def _umask() -> int:
    # There is no way to read it but to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "the binary cannot be written",
        path=str(path),
        actual=error.strerror,
        hint="name another file with -o",
    )


def prepare_output(path: Path) -> Output:
    """Return the output for a path, whose directory is made if need be.

    Called before the work, so that a place that cannot be written to costs no time.

    Raises:
        OutputError: The suffix is unknown, or there can be no such file.
    """
    suffix = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(suffix)), None)
    if suffix is None or path.name == suffix:
        raise OutputError(
            "the output's name does not say its form", path=str(path), expected=f"a name with {', '.join(SUFFIXES)}"
        )
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            raise OutputError("the output is no file", path=str(path), expected="a file, or a new name")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, RuntimeError) as error:
        raise _unwritable(path, error if isinstance(error, OSError) else OSError(None, str(error))) from error
    return Output(path, _FORMS[suffix])
