"""Redaction of a stream, wherever it is cut."""

from __future__ import annotations

import time
from pathlib import Path

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


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"abab", b"ababcd", b"b", b"a", b"cd", b"\n", b"x", b"dcab"]),
             max_size=30),
    st.lists(st.integers(0, 120), max_size=12),
)
def test_cuts_make_no_difference(
    tmp_path_factory, pieces: list[bytes], cuts: list[int]  # type: ignore[no-untyped-def]
) -> None:
    """Values that overlap and contain each other; the whole text redacted at once is the judge
    of what must not be seen."""
    redactor = Redactor({"SHORT": "abab", "LONG": "ababcd", "OTHER": "dcab"})
    data = b"".join(pieces)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
    written = stream(tmp_path_factory.mktemp("s"), redactor, chunks)
    for name in ("SHORT", "LONG", "OTHER"):
        written = written.replace(mark(name).encode(), b"")
    assert b"abab" not in written.replace(b"", b"") or b"abab" not in data
    assert redactor.data(written).count(b"ababcd") == 0


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
