"""Redaction of a stream, wherever it is cut."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.model.secrets import Redactor, mark
from runbook.transports.ssh.output import HEAD, OutputStream
from tests.transports.ssh_lab import silent


def stream(folder: Path, redactor: Redactor, chunks: list[bytes]) -> bytes:
    path = folder / "out"
    with OutputStream(path, redactor, silent) as out:
        for chunk in chunks:
            out.feed(chunk)
        assert out.offset == sum(map(len, chunks))
        out.finish()
    return path.read_bytes()


OVERLAPPING = {"SHORT": "abab", "LONG": "ababcd", "OTHER": "dcab"}
NESTED = {"SHORT": "<one>", "LONG": "<one>two"}
PIECES = [b"abab", b"ababcd", b"b", b"a", b"cd", b"\n", b"x", b"dcab", b"<one>", b"two", b"<on",
          b"e>"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=30), st.lists(st.integers(0, 120), max_size=12)
)
def test_cuts_leave_nothing_to_be_seen(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(pieces)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[a:b] for a, b in pairwise(places)]
    written = stream(tmp_path_factory.mktemp("s"), Redactor(OVERLAPPING), chunks)
    assert not [value for value in OVERLAPPING.values() if value.encode() in written]
    nested = Redactor(NESTED)
    written = stream(tmp_path_factory.mktemp("s"), nested, chunks)
    assert written == nested.data(data), "as if it had come in one piece"


def test_every_cut_of_a_value_is_seen_through(tmp_path: Path) -> None:
    redactor = Redactor({"PW": "correct-horse"})
    data = b"<correct-horse>correct-hors<"
    for cut in range(len(data)):
        written = stream(tmp_path, redactor, [data[:cut], data[cut:]])
        assert written == f"<{mark('PW')}>correct-hors<".encode()


def test_byte_by_byte(tmp_path: Path) -> None:
    redactor = Redactor({"A": "abab", "B": "ababcdef"})
    data = b"xababcdefyababcdezabab"
    written = stream(tmp_path, redactor, [data[i : i + 1] for i in range(len(data))])
    assert written == f"x{mark('B')}y{mark('A')}cdez{mark('A')}".encode()


def test_lines_are_told_as_they_become_whole(tmp_path: Path) -> None:
    lines: list[str] = []
    with OutputStream(tmp_path / "out", Redactor(), lines.append) as out:
        out.feed(b"one\ntw")
        assert lines == ["one"]
        out.feed(b"o\r\n\xff\nlast")
        assert lines == ["one", "two", "�"]
    assert lines[-1] == "last"


def test_the_head_is_bounded_and_the_file_whole(tmp_path: Path) -> None:
    with OutputStream(tmp_path / "out", Redactor(), silent) as out:
        for _ in range(5):
            out.feed(b"x" * (HEAD // 2))
        assert len(out.head) == HEAD
        assert out.cut
        out.restart()
        out.feed(b"x" * HEAD)
        assert not out.cut
        out.feed(b"x" * (4 * (HEAD // 2) + HEAD // 2 - HEAD))
    assert (tmp_path / "out").stat().st_size == 5 * (HEAD // 2)


def test_time_is_linear_in_the_size(tmp_path: Path) -> None:
    redactor = Redactor({f"S{n}": f"secret-value-number-{n}" for n in range(10)})

    def seconds(chunks: int) -> float:
        block = (b"y" * 99 + b"\n") * 10_000
        start = time.process_time()
        stream(tmp_path, redactor, [block] * chunks)
        return time.process_time() - start

    seconds(2)
    assert seconds(32) < 16 * 4 * max(seconds(2), 0.005)
