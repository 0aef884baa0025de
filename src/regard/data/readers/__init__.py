"""Readers: files to examples, each with its origin, streaming.

Text comes as two (or more, or one) parallel files, a line an example, or as one table with named
fields (TSV, CSV, JSON lines, Parquet), or as dialogues (JSON lines). Every file but Parquet may be
plain, ``.gz`` or ``.zst``.

=========================  ========================================================================
what is met                what happens
=========================  ========================================================================
unequal line counts        ``DataError`` with every file's count
empty line                 yielded; ``prepare`` drops an example of which any side is empty (or
                           only white space) and counts it as ``"empty"``
overlong line              yielded; ``prepare`` drops it and counts it as ``"too long"``, keeps it
                           or raises, as it is told
bytes that are not UTF-8   ``DataError`` with file, line and byte; nothing is replaced
byte-order mark (UTF-8)    skipped at the start of a file; kept elsewhere
CRLF                       as LF; a lone CR is a character of the line
U+2028, U+2029, U+0085     characters of the line: only LF ends a line
form feed, NUL, controls   characters of the line
last line without LF       a line
empty file                 ``DataError`` (allowed where prediction reads its input)
missing file               ``DataError`` with the nearest name in its directory
directory given            ``DataError``
damaged or cut archive     ``DataError``
missing field              ``DataError`` with the known fields and the nearest
TSV                        quotes mean nothing; the first line names the fields, unless fields are
                           given as numbers (from 1)
CSV                        RFC 4180 quoting; a field may hold line ends
row too short              ``DataError`` with its line
null in JSON or Parquet    an empty text; numbers are written out; lists, objects, booleans are a
                           ``DataError``
=========================  ========================================================================
"""

from regard.data.readers.dialogues import Dialogues, Turn, turns_of
from regard.data.readers.documents import RunningText
from regard.data.readers.lines import STDIN, check_file, count_lines, display_name, read_lines
from regard.data.readers.source import Example, ParallelText, Source, open_source
from regard.data.readers.tables import Table

__all__ = [
    "STDIN",
    "Dialogues",
    "Example",
    "ParallelText",
    "RunningText",
    "Source",
    "Table",
    "Turn",
    "check_file",
    "count_lines",
    "display_name",
    "open_source",
    "read_lines",
    "turns_of",
]
