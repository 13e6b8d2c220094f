"""Files of entries: first in, first out, through reopening; the disk holds what waits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.serve import segments
from persona_agent.serve.segments import LOCK, SUFFIX, Segments, entries_in

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 9)),
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("die"), st.just(0)),
    ),
    max_size=60,
)
LINE = len('{"n": 1000, "text": "\\u2028"}\n')


def entry(number: int) -> dict[str, str | int]:
    return {"n": 1000 + number, "text": "\u2028"}


def taken_over(folder: Path) -> Segments:
    (found,) = Segments.take_over(folder)
    return found


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_what_goes_in_comes_out_in_order_and_is_kept_until_it_is_dropped(
    steps: list[tuple[str, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(segments, "MOST_BYTES", 5 * LINE)
        folder = Path(name)
        files = Segments.begin(folder, sync=False)
        begun = True
        waiting: list[int] = []  # what is in them, by this test's own count
        read = count = 0
        again: list[int] = []  # dropped of a file that was not deleted yet when a process died
        for step, most in steps:
            if step == "append" and begun:
                new = range(count, count + most)
                files.append([entry(number) for number in new])
                waiting += new
                count += most
            elif step == "read":
                found = [int(str(one["n"])) - 1000 for one in files.read(most)]
                assert found == waiting[: len(found)]
                assert bool(found) == bool(waiting)
                read = len(found)
            elif step == "drop":
                files.drop()
                again += waiting[:read]
                waiting = waiting[read:]
                read = 0
            elif step == "die" and waiting:
                files.close()
                files, begun = taken_over(folder), False
                left = [int(str(one["n"])) - 1000 for one in files.read(1000)]
                repeated = [number for number in left if number < waiting[0]]
                assert repeated == again[len(again) - len(repeated) :]
                waiting, read = repeated + waiting, len(left)
                again = again[: len(again) - len(repeated)]
            assert files.waiting == len(waiting)
            sizes = [path.stat().st_size for path in folder.glob(f"*{SUFFIX}")]
            assert sum(sizes) <= (len(waiting) + 5 + 9) * LINE
        while files.waiting:
            files.read(1000)
            files.drop()
        files.close()
        assert list(folder.iterdir()) == []


def test_files_of_the_living_are_left_alone(tmp_path: Path) -> None:
    with Segments.begin(tmp_path) as one:
        one.append([entry(1)])
        assert list(Segments.take_over(tmp_path)) == []
    heir = taken_over(tmp_path)
    assert heir.waiting == 1
    assert list(Segments.take_over(tmp_path)) == []
    heir.close()


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    import os

    for age, name in enumerate(("a", "b", "c")):
        with Segments.begin(tmp_path) as one:
            one.append([{"of": name}])
            (lock,) = [path for path in tmp_path.glob(f"*{LOCK}") if path.stat().st_mtime > 1e6]
        os.utime(lock, (1000 - age, 1000 - age))
    found = list(Segments.take_over(tmp_path))
    assert [one.read(1)[0]["of"] for one in found] == ["c", "b", "a"]
    for one in found:
        one.close()


def test_a_line_that_holds_nothing_is_told_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Segments.begin(tmp_path) as one:
        one.append([entry(1), entry(2)])
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    first, second = path.read_text().splitlines()
    path.write_text(f'{first}\n[1]\n{second}\n{{"half a li')
    heir = taken_over(tmp_path)
    assert heir.waiting == 4
    assert heir.read(10) == [entry(1), entry(2)] == list(entries_in(path))
    heir.drop()
    assert heir.waiting == 0
    assert caplog.text.count("holds no turn") == 2
    heir.close()
    assert list(entries_in(path)) == []


def test_nothing_is_written_that_cannot_be_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = segments.os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(28, "No space left on device")
        return real(file, data[:20])

    with Segments.begin(tmp_path) as one:
        one.append([entry(1)])
        monkeypatch.setattr(segments.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            one.append([entry(2)])
        monkeypatch.undo()
        one.append([entry(3)])
        assert one.read(10) == [entry(1), entry(3)]
        one.drop()
    assert list(tmp_path.iterdir()) == []
