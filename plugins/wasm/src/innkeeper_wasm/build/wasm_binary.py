"""Read and write the outer structure of a WebAssembly module.

Rules of this module:

1. Bytes come from others: every read stays inside them, no number is longer than its type, and what does not
   fit raises :class:`WasmFormatError` with the offset.
2. Only what linking needs is understood (sections, vectors, imports of functions, exports); payloads are kept
   as they are, so that a module that is parsed and written again has the same bytes but for the form of its
   section lengths.

Source: WebAssembly Core Specification 2.0, chapter 5 (binary format), and the data count section of the bulk
memory proposal.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

__all__ = [
    "DATA_PASSIVE",
    "FUNCTION",
    "MEMORY",
    "Export",
    "Module",
    "Reader",
    "Section",
    "SectionId",
    "WasmFormatError",
    "append_to_vector",
    "encode_exports",
    "encode_name",
    "encode_s32",
    "encode_u32",
    "imported_functions",
    "parse_exports",
    "sized",
    "vector_length",
]

HEADER = b"\0asm\x01\x00\x00\x00"
FUNCTION = 0
MEMORY = 2
DATA_PASSIVE = 1
MAX_U32 = 0xFFFF_FFFF
_LAST_U32_BYTE = 0x0F  # a 32-bit number has at most five bytes; the fifth holds four bits
_U32_BYTES = 5


class WasmFormatError(ValueError):
    """Raised when bytes are not what the binary format asks for."""


class SectionId:
    """The ids of the sections that linking reads or changes."""

    CUSTOM = 0
    TYPE = 1
    IMPORT = 2
    FUNCTION = 3
    EXPORT = 7
    CODE = 10
    DATA = 11
    DATA_COUNT = 12


# The order in which a module holds its sections; custom sections may stand anywhere. Section 13 holds exception tags.
_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)


def encode_u32(value: int) -> bytes:
    """Return an unsigned 32-bit number as LEB128 in its shortest form."""
    if not 0 <= value <= MAX_U32:
        msg = f"{value} does not fit an unsigned 32-bit number"
        raise WasmFormatError(msg)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_s32(value: int) -> bytes:
    """Return a signed 32-bit number as LEB128 in its shortest form."""
    if not -(1 << 31) <= value < 1 << 31:
        msg = f"{value} does not fit a signed 32-bit number"
        raise WasmFormatError(msg)
    out = bytearray()
    while not -0x40 <= value < 0x40:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def sized(payload: bytes) -> bytes:
    """Return the payload with its length before it."""
    return encode_u32(len(payload)) + payload


def encode_name(name: str) -> bytes:
    """Return a name as a length and UTF-8."""
    return sized(name.encode())


class Reader:
    """Read from bytes, front to back, never past the end.

    Args:
        data: The bytes.
        what: What they are, for messages.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self.position = 0

    @property
    def at_end(self) -> bool:
        """Whether all bytes are read."""
        return self.position == len(self._data)

    def fail(self, problem: str) -> WasmFormatError:
        """Return the error that names the place and the problem."""
        return WasmFormatError(f"{self._what}, offset {self.position}: {problem}")

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self.position + count
        if end > len(self._data):
            raise self.fail(f"{count} bytes expected, {len(self._data) - self.position} left")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Return the next unsigned 32-bit number."""
        value = 0
        for index in range(_U32_BYTES):
            byte = self.byte()
            if index == _U32_BYTES - 1 and byte > _LAST_U32_BYTE:
                raise self.fail("a number is longer than 32 bits")
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        return value

    def name(self) -> str:
        """Return the next name."""
        raw = self.take(self.u32())
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.fail("a name is not UTF-8") from error

    def rest(self) -> bytes:
        """Return all bytes that are left."""
        return self.take(len(self._data) - self.position)


@frozen
class Section:
    """One section: its id and the bytes after its length."""

    id: int
    payload: bytes


@frozen
class Export:
    """One export: its name, the kind of thing (0 is a function) and the index of that thing."""

    name: str
    kind: int
    index: int


@frozen
class Module:
    """A module as the list of its sections, in the order of the file."""

    sections: tuple[Section, ...]

    @classmethod
    def parse(cls, data: bytes) -> Module:
        """Return the module that the bytes hold.

        Raises:
            WasmFormatError: Not a version 1 module, or sections that are cut, unknown, doubled or out of order.
        """
        reader = Reader(data, "module")
        if data[: len(HEADER)] != HEADER:
            raise reader.fail(f"a WebAssembly module starts with {HEADER!r}, these bytes with {data[:8]!r}")
        reader.take(len(HEADER))
        sections: list[Section] = []
        last = -1
        while not reader.at_end:
            number = reader.byte()
            if number != SectionId.CUSTOM:
                if number not in _ORDER:
                    raise reader.fail(f"section id {number} is unknown")
                if _ORDER.index(number) <= last:
                    raise reader.fail(f"section {number} is doubled or out of order")
                last = _ORDER.index(number)
            sections.append(Section(number, reader.take(reader.u32())))
        return cls(tuple(sections))

    def encode(self) -> bytes:
        """Return the module as bytes."""
        return HEADER + b"".join(bytes([section.id]) + sized(section.payload) for section in self.sections)

    def payload(self, number: int) -> bytes | None:
        """Return the payload of the one section with this id, or ``None``."""
        return next((section.payload for section in self.sections if section.id == number), None)

    def replace(self, number: int, payload: bytes) -> Module:
        """Return the module with this section's payload, which is put at its place if there was none."""
        if self.payload(number) is not None:
            return evolve(
                self,
                sections=tuple(
                    evolve(section, payload=payload) if section.id == number else section for section in self.sections
                ),
            )
        place = _ORDER.index(number)
        position = 0
        for index, section in enumerate(self.sections, start=1):
            if section.id != SectionId.CUSTOM and _ORDER.index(section.id) < place:
                position = index
        added = Section(number, payload)
        return evolve(self, sections=(*self.sections[:position], added, *self.sections[position:]))


def vector_length(payload: bytes | None, what: str) -> int:
    """Return how many items the vector at the front of a section has; no section is no items."""
    return 0 if payload is None else Reader(payload, what).u32()


def append_to_vector(payload: bytes | None, items: Sequence[bytes], what: str) -> bytes:
    """Return the vector of a section with encoded items behind those that it has."""
    reader = Reader(b"\0" if payload is None else payload, what)
    count = reader.u32()
    return encode_u32(count + len(items)) + reader.rest() + b"".join(items)


def imported_functions(payload: bytes | None) -> int:
    """Return how many functions an import section brings.

    Raises:
        WasmFormatError: The section imports something else than functions, or is cut.
    """
    if payload is None:
        return 0
    reader = Reader(payload, "import section")
    count = reader.u32()
    for _ in range(count):
        name = f"{reader.name()}.{reader.name()}"
        if reader.byte() != FUNCTION:
            raise reader.fail(f"{name} is not a function, and only functions may be imported")
        reader.u32()
    if not reader.at_end:
        raise reader.fail("bytes follow the last import")
    return count


def parse_exports(payload: bytes | None) -> list[Export]:
    """Return the exports of an export section, in order."""
    if payload is None:
        return []
    reader = Reader(payload, "export section")
    exports = [Export(reader.name(), reader.byte(), reader.u32()) for _ in range(reader.u32())]
    if not reader.at_end:
        raise reader.fail("bytes follow the last export")
    return exports


def encode_exports(exports: Sequence[Export]) -> bytes:
    """Return exports as the payload of an export section."""
    items = [encode_name(export.name) + bytes([export.kind]) + encode_u32(export.index) for export in exports]
    return append_to_vector(None, items, "export section")
