"""The traffic log: whole batches whatever is killed, readable by others while it grows, merged, forgotten, private."""

import os
import signal
import subprocess
import sys
import time

import duckdb
import polars as pl
import pytest

from lyrics_lm import segments, traffic
from lyrics_lm.records import TrafficRecord
from lyrics_lm.traffic import Keeping, TrafficLog

WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from test_traffic import record
from lyrics_lm.traffic import TrafficLog
log = TrafficLog(Path(sys.argv[1]))
number = 0
while True:
    log.append(record(number, time=time.time()))
    print(number, flush=True)
    number += 1
    time.sleep(0.005)
"""


def record(number, time=1.0, **changes):
    facts = {
        "time": time,
        "request": f"request-{number}",
        "digest": "d" * 64,
        "prompt": f"love {number}",
        "params": {"max_tokens": 9},
        "text": "is all",
        "prompt_tokens": 6,
        "tokens": 9,
        "seconds": 0.1,
        "finish": "length",
        "prompt_bits_per_char": 2.5 if number % 2 else None,
        "prompt_chars": 6,
        "unknown_share": 0.125,
        "prompt_words": (17, 4095),
    }
    return TrafficRecord(**facts | changes)


def write(folder, numbers, keeping=None):
    log = TrafficLog(folder, keeping)
    for number in numbers:
        log.append(record(number))
    log.close()


def requests(folder):
    return [item.request for item in traffic.read(folder)]


def test_what_is_appended_is_read_back(tmp_path):
    """Every field comes back as it went in, in order, and one record is found by its id."""
    write(tmp_path, range(5))
    read = list(traffic.read(tmp_path))
    assert [item.request for item in read] == [f"request-{number}" for number in range(5)]
    expected = record(3)
    assert {name: getattr(read[3], name) for name in expected.__dict__ if name != "written"} == {
        name: value for name, value in expected.__dict__.items() if name != "written"
    }
    assert traffic.find(tmp_path, "request-4").prompt == "love 4"
    assert traffic.find(tmp_path, "nobody") is None


def test_reading_goes_on_where_it_stopped(tmp_path):
    """Given the time of the last record read, only later ones come."""
    write(tmp_path, range(3))
    last = list(traffic.read(tmp_path))[-1].written
    assert list(traffic.read(tmp_path, after=last)) == []
    write(tmp_path, [3])
    assert [item.request for item in traffic.read(tmp_path, after=last)] == ["request-3"]


def test_duckdb_and_polars_read_it_while_it_is_written(tmp_path):
    """Others query the folder with what they know, at any moment."""
    log = TrafficLog(tmp_path)
    log.append(record(1))
    while not list(tmp_path.glob("*.parquet")):
        time.sleep(0.01)
    assert duckdb.sql(f"select count(*), max(prompt) from '{tmp_path}/*.parquet'").fetchall() == [(1, "love 1")]
    assert pl.scan_parquet(tmp_path / "*.parquet").select("request").collect().item() == "request-1"
    log.close()


def test_kill_9_loses_at_most_a_second(tmp_path):
    """Whatever was appended a second before the kill is there, once."""
    code = WRITER.format(paths=[os.path.dirname(__file__), *sys.path])
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob("*.parquet"))) < 3:
        time.sleep(0.01)
    killed = time.time()
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0].split()
    read = requests(tmp_path)
    assert read == [f"request-{number}" for number in range(len(read))]
    latest = max(item.time for item in traffic.read(tmp_path))
    assert killed - latest < 1
    assert len(read) <= len(said) + 1
    write(tmp_path, [10**6])
    assert requests(tmp_path)[-1] == "request-1000000"


def test_small_files_are_merged_and_nothing_is_told_twice(tmp_path, monkeypatch):
    """Many batches become few files with the same records, also where a kill left the sources of a merge."""
    frames = [traffic._frame([record(number)], lambda text: text) for number in range(segments.MERGED + 5)]
    for frame in frames:
        segments.write(tmp_path, frame)
    before = requests(tmp_path)
    left = {path: path.read_bytes() for path in tmp_path.glob("0-*.parquet")}
    segments.compact(tmp_path)
    assert len(segments.listing(tmp_path)) == 6
    assert sorted(requests(tmp_path)) == sorted(before)
    for path, content in left.items():
        path.write_bytes(content)
    assert sorted(requests(tmp_path)) == sorted(before)
    segments.compact(tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 6


def test_a_damaged_file_is_set_aside_and_the_rest_is_read(tmp_path):
    """Half a file costs its own batch and no other."""
    write(tmp_path, [1])
    [whole] = tmp_path.glob("*.parquet")
    broken = tmp_path / "0-0000000000001-0000000000001-00000000.parquet"
    broken.write_bytes(whole.read_bytes()[:200])
    assert requests(tmp_path) == ["request-1"]
    assert not broken.exists()


def test_old_records_and_those_beyond_the_size_are_forgotten(tmp_path):
    """The oldest go first, by age and by megabytes."""
    write(tmp_path, [1])
    write(tmp_path, [2])
    old, new = segments.listing(tmp_path)
    segments.forget(tmp_path, days=1, megabytes=new.path.stat().st_size * 1.5 / 1e6)
    assert requests(tmp_path) == ["request-2"]
    segments.forget(tmp_path, days=0, megabytes=1)
    assert requests(tmp_path) == []
    assert not old.path.exists()


@pytest.mark.parametrize("store", ["hash", "none"])
def test_text_can_be_left_out(tmp_path, store):
    """Without text nothing of it is on the disk, numbers stay, and a hash still tells equal from different."""
    write(tmp_path, [1, 1, 2], Keeping(store_text=store))
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("*"))
    assert b"love" not in stored
    read = list(traffic.read(tmp_path))
    assert read[0].prompt_words == (17, 4095)
    assert read[0].prompt_bits_per_char == 2.5
    assert (read[0].prompt == read[1].prompt != read[2].prompt) == (store == "hash")
