"""The bytes of an XML file: hostile input refused, one element replaced with every other byte kept, whole-file writing.

The text is handled as UTF-8 whatever the encoding of the file; `Encoded` remembers how to go back.
"""

import codecs
import errno
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from lxml import etree

from .atomic import temporary_prefix
from .errors import InputError

ROOT = "EMDataInfo"
MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
MAX_ATTRIBUTES = 64
MAX_NAME = 200  # characters; messages name elements
MAX_NODES = 100_000  # elements, comments, instructions; each takes a hundred times the memory of its bytes
ATTEMPTS = 5

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SUPPORTED = re.compile(r"utf-8|ascii|iso8859-\d+|cp125\d")
DECLARATION = re.compile(rb"""<\?xml\s[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
START_TAG = re.compile(rb"""<(?:[^"'>]+|"[^"]*"|'[^']*')*>""")
FOREIGN_ENTITY = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos);|#)")
LINE_END = re.compile(rb"\r\n|\n|\r")


def shown(value):
    """A value as a message quotes it: on one line and of bounded length."""
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


@dataclass(frozen=True)
class Encoded:
    """An XML document as UTF-8 bytes, with the byte order mark and the encoding its file has."""

    utf8: bytes
    mark: bytes
    encoding: str

    @classmethod
    def decode(cls, data, file):
        """Takes the bytes of a file; InputError for an encoding that is unknown or does not fit."""
        mark, encoding = _encoding(data, file)
        try:
            text = data[len(mark) :].decode(encoding)
        except UnicodeDecodeError as error:
            problem = f"the byte at {error.start + len(mark)} is not valid in the encoding {encoding}"
            raise InputError(file, problem, "save the file as UTF-8") from error
        if "\0" in text:  # expat would guess another encoding from it
            raise InputError(file, f"not well-formed XML (a NUL at character {text.index(chr(0))})", "save it as UTF-8")
        return cls(text.encode(), mark, encoding)

    def encode(self, utf8):
        """Bytes of a file of the same encoding, with characters that it lacks as character references."""
        return self.mark + utf8.decode().encode(self.encoding, "xmlcharrefreplace")


def _encoding(data, file):
    """Byte order mark and Python's name of the encoding of the bytes of an XML file."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return mark, encoding
    if data[:2] in (b"<\0", b"\0<"):
        return b"", "utf-16-le" if data[0] else "utf-16-be"
    declared = DECLARATION.match(data)
    name = declared[1].decode() if declared else "utf-8"
    with suppress(LookupError):
        encoding = codecs.lookup(name).name
        if SUPPORTED.fullmatch(encoding):
            return b"", encoding
    raise InputError(file, f"the encoding {shown(name)} is unknown or not that of the file", "save the file as UTF-8")


@dataclass
class Span:
    """Where an element stands: byte offsets of its tags and of its first child in the UTF-8 text."""

    name: str
    parent: "Span | None"
    start: int
    open_end: int
    first_child: int | None = None
    close_start: int | None = None
    end: int | None = None
    self_closed: bool = False


@dataclass
class Scanner:
    """One pass of expat: well-formed, no entities, not too deep; finds the elements of one path.

    `wanted` names the path from the root on; `found[i]` lists the spans of its first i + 1 names.
    """

    utf8: bytes
    file: str
    wanted: tuple[str, ...] = (ROOT,)
    depth: int = 0
    nodes: int = 0
    external: bool = False
    found: list[list[Span]] = field(default_factory=list)
    opened: list[Span] = field(default_factory=list)

    def run(self):
        """Scans the whole text and returns `found`; InputError for anything refused."""
        self.found = [[] for _ in self.wanted]
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity
        parser.SkippedEntityHandler = self._entity
        parser.AttlistDeclHandler = self._attribute
        parser.CommentHandler = parser.ProcessingInstructionHandler = self._count
        try:
            parser.Parse(self.utf8, True)
        except expat.ExpatError as error:
            problem = f"not well-formed XML at line {error.lineno}, column {error.offset + 1}"
            reason = expat.ErrorString(error.code)
            raise InputError(self.file, f"{problem} ({reason})", "correct the file there") from error
        finally:
            del self.parser
        return self.found

    def _refuse(self, problem, cure):
        where = f"at line {self.parser.CurrentLineNumber}, column {self.parser.CurrentColumnNumber + 1}"
        raise InputError(self.file, f"{problem} {where}", cure)

    def _doctype(self, name, system_id, public_id, has_internal_subset):
        self.external = system_id is not None

    def _entity(self, name, *_):
        self._refuse(f"the XML entity {shown(name)} is refused", "write its text in its place")

    def _attribute(self, _, name, *__):
        self._refuse(f"a declaration of the attribute {shown(name)} is refused", "write its value where it belongs")

    def _count(self, *_):
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._refuse(f"more than {MAX_NODES} elements and comments are there", "remove some")

    def _start(self, name, attributes):
        self._count()
        self.depth += 1
        if self.depth == 1 and name != ROOT:
            self._refuse(f"the root element is {shown(name)}", f"give an {ROOT} document")
        if self.depth > MAX_DEPTH:
            self._refuse(f"elements are nested more than {MAX_DEPTH} deep", "remove the inner ones")
        if len(name) > MAX_NAME:
            self._refuse(f"the name {shown(name)} has more than {MAX_NAME} characters", "shorten it")
        if len(attributes) > MAX_ATTRIBUTES:
            self._refuse(f"{shown(name)} has more than {MAX_ATTRIBUTES} attributes", "remove some")
        start = self.parser.CurrentByteIndex
        if self.external and (entity := FOREIGN_ENTITY.search(START_TAG.match(self.utf8, start)[0])):
            self._entity(entity.string[entity.end() :].partition(b";")[0].decode())
        if len(self.opened) == self.depth - 1:
            self._record(name, start)

    def _record(self, name, start):
        parent = self.opened[-1] if self.opened else None
        if parent and parent.first_child is None:
            parent.first_child = start
        if self.depth <= len(self.wanted) and name == self.wanted[self.depth - 1]:
            span = Span(name, parent, start, START_TAG.match(self.utf8, start).end())
            self.opened.append(span)
            self.found[self.depth - 1].append(span)

    def _end(self, name):
        if len(self.opened) == self.depth:
            span = self.opened.pop()
            span.self_closed = self.utf8.endswith(b"/>", span.start, span.open_end)
            span.close_start = span.open_end if span.self_closed else self.parser.CurrentByteIndex
            span.end = span.open_end if span.self_closed else self.utf8.index(b">", span.close_start) + 1
        self.depth -= 1


def splice(utf8, path, element, file):
    """UTF-8 text in which `element` replaces the one at `path` (names below the root), or is inserted with its parents.

    InputError for a text that `Scanner` refuses and when more than one element is there.
    """
    found = Scanner(utf8, file, (ROOT, *path)).run()
    level = max(i for i, spans in enumerate(found) if spans)
    if len(found[level]) > 1:
        raise InputError(file, f"{'/'.join(path[:level])} is there {len(found[level])} times", "keep one of them")
    span = found[level][0]
    if level == len(path):
        indent, unit = _indentation(utf8, span.parent, span.start)
        return utf8[: span.start] + _serialise(element, utf8, indent, unit) + utf8[span.end :]
    element = deepcopy(element)
    for name in reversed(path[level:-1]):
        wrapper = etree.Element(name)
        wrapper.append(element)
        element = wrapper
    return _insert(utf8, span, element)


def _insert(utf8, parent, element):
    """UTF-8 text with `element` on lines of its own as the last child of the element at `parent`."""
    newline, outer = _newline(utf8), _line_indent(utf8, parent.start)
    indent, unit = _indentation(utf8, parent, parent.first_child)
    new = indent + _serialise(element, utf8, indent, unit) + newline
    if parent.self_closed:
        new = b">" + newline + new + outer + b"</" + parent.name.encode() + b">"
        return utf8[: parent.open_end - 2] + new + utf8[parent.open_end :]
    at = parent.close_start
    if _starts_line(utf8, at):
        at -= len(_line_indent(utf8, at))
        return utf8[:at] + new + utf8[at:]
    return utf8[:at] + newline + new + outer + utf8[at:]


def _serialise(element, utf8, indent, unit):
    """The element as UTF-8, its lines after the first indented, with the line ends of the text."""
    element = deepcopy(element)
    etree.indent(element, space=unit.decode())
    text = etree.tostring(element, encoding="utf-8", with_tail=False)
    return text.replace(b"\n", _newline(utf8) + indent)


def _newline(utf8):
    """The first line end of the text: the same before and after a group is written, which a majority is not."""
    line = LINE_END.search(utf8)
    return line[0] if line else b"\n"


def _line_start(utf8, at):
    return max(utf8.rfind(b"\n", 0, at), utf8.rfind(b"\r", 0, at)) + 1


def _line_indent(utf8, at):
    line = utf8[_line_start(utf8, at) : at]
    return line[: len(line) - len(line.lstrip(b" \t"))]


def _starts_line(utf8, at):
    return not utf8[_line_start(utf8, at) : at].strip(b" \t")


def _indentation(utf8, parent, child):
    """Indentation of a child of the element at `parent` and the step from level to level (a blank where unclear).

    `child` is the offset of a child whose indentation is followed when it starts its line, or None.
    """
    outer = _line_indent(utf8, parent.start) if parent else b""
    if child is None or not _starts_line(utf8, child):
        return outer + b" ", b" "
    indent = _line_indent(utf8, child)
    unit = indent[len(outer) :] if indent.startswith(outer) else b""
    return indent, unit or b" "


def read_bytes(path):
    """Bytes of a regular file of at most `MAX_BYTES`, and the identity that tells later whether it changed."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(path, "is not a file", "give the path of an XML file")
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "check that it exists and is readable") from error
    if not data:
        raise InputError(path, "is empty", f"give an {ROOT} document")
    if len(data) > MAX_BYTES:
        raise InputError(path, f"is larger than {MAX_BYTES // 2**20} MB", f"give an {ROOT} document")
    return data, _identity(found)


def _without_waiting(path, flags):
    return os.open(path, flags | os.O_NONBLOCK)


def _identity(found):
    return found.st_mtime_ns, found.st_size, found.st_ino


def replace_file(path, data, identity):
    """Replaces a file as a whole, through symbolic links; False, and nothing done, if it is no longer `identity`.

    The temporary file stands beside it and is removed whatever fails; permissions stay.
    """
    target = Path(os.path.realpath(path))
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f"{temporary_prefix()}.", dir=target.parent)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, temporary)
        if _identity(os.stat(target)) != identity:
            return False
        os.replace(temporary, target)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror})", _write_cure(error, target.parent)) from error
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)


def _write_cure(error, directory):
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space on the disk, then run again"
    return f"make the directory {directory} writable, then run again"
