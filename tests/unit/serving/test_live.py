import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import threading
import time

import psutil
import pytest

from bundles import bigram_bundle, stateful_bundle
from lyrics_lm import durable, rollout
from lyrics_lm.bundle import CONTRACT, MODEL, canonical, read
from lyrics_lm.errors import ConformanceError
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.scheduler import Scheduler
from lyrics_lm.records import KnownAnswer, LiveVersion, Verdict
from lyrics_lm.serving import live as serving_live
from lyrics_lm.serving.completions import Answer
from lyrics_lm.serving.live import LiveModel, Serving, check_known_answer, follow, load, mind
from lyrics_lm.serving.types import CompletionRequest

TARGET = "local"
VERDICT = Verdict("d", None, 0.0, ())


def version(made, number):
    return LiveVersion(number, made.digest, made.manifest.name, "by hand", 4.0, "bento:1", str(made.path))


def deploy(home, live_version):
    return rollout.deploy(home, TARGET, live_version, f"version {live_version.version} was better", VERDICT)


@pytest.fixture
def first(tmp_path):
    return version(bigram_bundle(tmp_path / "first"), 1)


@pytest.fixture
def second(tmp_path):
    return version(stateful_bundle(tmp_path / "second"), 2)


@contextlib.asynccontextmanager
async def following(home):
    """A service's live model while it follows."""
    live = LiveModel()
    task = asyncio.create_task(follow(live, home, TARGET))
    try:
        yield live
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition, seconds=8):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        await asyncio.sleep(0.005)


def answered(home, deployment):
    """Whether the service has said what it did with that deployment."""
    return any(seen.deployment == deployment.id for seen in rollout.observed(home, TARGET))


def flip_a_byte(made):
    path = made / MODEL
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path, **changes):
    """Let a bundle's contract say something else; returns the digest it then has."""
    contract = json.loads((path / CONTRACT).read_bytes())
    (path / CONTRACT).write_bytes(canonical({**contract, **changes}))
    return read(path)


def test_a_deployment_is_taken_up(tmp_path, first, second):
    """One that stood before the service began, and each that comes after; with its time and reason."""

    async def scenario():
        one = deploy(tmp_path, first)
        async with following(tmp_path) as live:
            await until(lambda: live.current)
            assert live.current.version == first
            assert (live.current.since, live.current.reason) == (one.time, "version 1 was better")
            two = deploy(tmp_path, second)
            await until(lambda: live.current.version == second)
            await until(lambda: answered(tmp_path, two))
            assert live.current.generator.bundle.digest == second.digest

    asyncio.run(scenario())


def test_an_undo_is_followed_too(tmp_path, first, second):
    """The version before serves again."""

    async def scenario():
        deploy(tmp_path, first)
        deploy(tmp_path, second)
        async with following(tmp_path) as live:
            await until(lambda: live.current and live.current.version == second)
            rollout.undo(tmp_path, TARGET)
            await until(lambda: live.current.version == first)
            assert live.current.reason == "undo of version 2"

    asyncio.run(scenario())


def test_the_service_announces_itself(tmp_path, first):
    """At once with its process and no deployment, then with the deployment it serves."""

    async def scenario():
        async with following(tmp_path):
            await until(lambda: rollout.observed(tmp_path, TARGET))
            [seen] = rollout.observed(tmp_path, TARGET)
            assert (seen.deployment, seen.pid, seen.error) == (None, os.getpid(), None)
            assert abs(seen.time - time.time()) < 5
            one = deploy(tmp_path, first)
            await until(lambda: answered(tmp_path, one))
            assert rollout.observed(tmp_path, TARGET)[0].error is None

    asyncio.run(scenario())


def test_a_stream_ends_on_the_version_it_began_with(tmp_path, first, second):
    """A swap while it runs changes no token of it."""
    request = CompletionRequest(prompt="la", max_tokens=3000, seed=1, stream=True)

    async def scenario():
        deploy(tmp_path, second)
        async with following(tmp_path) as live:
            await until(lambda: live.current)
            whole = await Answer(request, live.current, "one").whole()
            running = Answer(request, live.current, "two")
            frames = [frame async for frame in swapping(running.frames(), live)]
            after = await Answer(request, live.current, "three").whole()
            assert live.current.version == first
        texts = [json.loads(frame.removeprefix(b"data: ")) for frame in frames[:-1]]
        assert "".join(text["choices"][0]["text"] for text in texts) == whole.choices[0].text
        assert {text["system_fingerprint"] for text in texts} == {second.digest[:12]}
        assert after.choices[0].text != whole.choices[0].text
        assert [record.digest for record in running.records()] == [second.digest]

    async def swapping(frames, live):
        """The frames of a stream, the other version taking over after the tenth."""
        count = 0
        async for frame in frames:
            yield frame
            count += 1
            if count == 10:
                deploy(tmp_path, first)
                await until(lambda: live.current.version == first)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        ("flipped byte", "SHA-256 differs"),
        ("other bundle", "holds bundle"),
        ("gone", "is not a directory"),
        ("wrong known answer", "the known answer differs by"),
        ("known answer of another size", "the known answer"),
        ("known answer of no tokens", "the known answer"),
        ("known answer outside the vocabulary", "fails on 1 rows"),
    ],
)
def test_a_version_that_must_not_serve_stays_out(tmp_path, first, second, damage, error):
    """The old one serves on, the reason is reported, and the next good version is taken up."""
    folder, live_version = tmp_path / "second", second
    match damage:
        case "flipped byte":
            flip_a_byte(folder)
        case "other bundle":
            live_version = dataclasses.replace(second, digest="0" * 64)
        case "gone":
            folder.rename(tmp_path / "elsewhere")
        case "wrong known answer":
            made = rewrite(folder, known_answer={"tokens": [1], "logits": [100.0] * 34})
        case "known answer of another size":
            made = rewrite(folder, known_answer={"tokens": [1], "logits": [0.0] * 7})
        case "known answer of no tokens":
            made = rewrite(folder, known_answer={"tokens": [], "logits": []})
        case _:
            made = rewrite(folder, known_answer={"tokens": [999], "logits": [0.0] * 34})
    if "known answer" in damage:
        live_version = dataclasses.replace(second, digest=made.digest)

    async def scenario():
        deploy(tmp_path, first)
        async with following(tmp_path) as live:
            await until(lambda: live.current)
            old = live.current
            bad = deploy(tmp_path, live_version)
            await until(lambda: answered(tmp_path, bad))
            assert error in rollout.observed(tmp_path, TARGET)[0].error
            assert live.current is old
            good = deploy(tmp_path, version(bigram_bundle(tmp_path / "third", seed=3), 3))
            await until(lambda: answered(tmp_path, good))
            assert live.current.version.version == 3

    asyncio.run(scenario())


def test_a_restarted_service_serves_what_the_last_one_did(tmp_path, first, second):
    """It reads the rollout anew, and says so with its own announcement."""

    async def scenario():
        deploy(tmp_path, first)
        two = deploy(tmp_path, second)
        for _ in range(2):
            began = time.time()
            async with following(tmp_path) as live:
                await until(lambda live=live: live.current and live.current.version == second)
                await until(lambda began=began: rollout.observed(tmp_path, TARGET)[0].time >= began)
                await until(lambda: answered(tmp_path, two))

    asyncio.run(scenario())


def test_a_damaged_rollout_leaves_the_old_version_serving(tmp_path, first, second):
    """Until the file is whole again."""

    async def scenario():
        deploy(tmp_path, first)
        async with following(tmp_path) as live:
            await until(lambda: live.current)
            file = rollout.path(tmp_path, TARGET)
            whole = file.read_bytes()
            durable.write(file, whole[: len(whole) // 2])
            await asyncio.sleep(0.2)
            assert live.current.version == first
            durable.write(file, whole)
            deploy(tmp_path, second)
            await until(lambda: live.current.version == second)

    asyncio.run(scenario())


def test_a_full_disk_does_not_end_the_following(tmp_path, first, second, monkeypatch):
    """What was observed is then not reported, but the service goes on, and reports when there is room."""
    real = os.fsync

    def full(descriptor):
        if "observed" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    async def scenario():
        monkeypatch.setattr(os, "fsync", full)
        deploy(tmp_path, first)
        async with following(tmp_path) as live:
            await until(lambda: live.current)
            assert rollout.observed(tmp_path, TARGET) == []
            monkeypatch.setattr(os, "fsync", real)
            two = deploy(tmp_path, second)
            await until(lambda: answered(tmp_path, two))

    asyncio.run(scenario())


def test_many_swaps_leave_memory_where_it_was(tmp_path, first, second):
    """What was replaced is let go, its thread and its state with it."""

    async def scenario():
        live, process, sizes = LiveModel(), psutil.Process(), []
        deployments = [(one, deploy(tmp_path, one)) for one in (first, second)]
        for number in range(90):
            live.swap(load(*deployments[number % 2]))
            await Answer(CompletionRequest(prompt="la", max_tokens=20), live.current, "one").whole()
            if number % 30 == 29:
                await asyncio.sleep(1.2)  # the threads of the replaced end when they have been idle
                sizes.append(process.memory_info().rss / 1e6)
        assert threading.active_count() < 20
        assert sizes[-1] - sizes[0] < 15

    asyncio.run(scenario())


class Endless:
    """A batch whose engine does not come back until it is told to."""

    written, written_to = 0, ()

    def __init__(self, back):
        self.back, self.streams = back, []

    def __len__(self):
        return len(self.streams)

    def add(self, stream):
        self.streams.append(stream)

    def turn(self):
        self.back.wait()
        self.streams.clear()
        return []


def test_an_engine_that_hangs_ends_the_process(tmp_path, first, monkeypatch):
    """One that is busy is left alone; one that does not come back from a turn is given up on, to be started anew."""
    monkeypatch.setattr(serving_live, "_STALLED_SECONDS", 0.5)
    back, given_up = threading.Event(), []

    async def scenario():
        live = LiveModel()
        loaded = load(first, deploy(tmp_path, first))
        live.swap(Serving(loaded.generator, Scheduler(lambda: Endless(back)), first, 0.0, ""))
        minding = asyncio.create_task(mind(live, lambda: given_up.append(True)))
        await asyncio.sleep(1.2)
        assert given_up == []
        Answer(CompletionRequest(prompt="a"), live.current, "1")
        await until(lambda: given_up)
        back.set()
        minding.cancel()

    asyncio.run(scenario())


def test_a_change_wakes_whoever_waits_for_it(tmp_path, first):
    """At the swap, not at the end of the wait; without a swap the wait ends in time."""

    async def scenario():
        live = LiveModel()
        assert not await live.changed(0.02)
        waiting = asyncio.create_task(live.changed(5))
        await asyncio.sleep(0)
        began = time.monotonic()
        live.swap(load(first, deploy(tmp_path, first)))
        assert await waiting
        assert time.monotonic() - began < 1

    asyncio.run(scenario())


def test_the_known_answer_may_be_of_every_token_or_of_the_last(tmp_path):
    """Both forms of the contract are checked, within 1e-4."""
    generator = Generator(bigram_bundle(tmp_path / "b"))
    known = generator.bundle.manifest.known_answer
    check_known_answer(generator, known)
    rows = [known.logits] * (len(known.tokens) - 1) + [known.logits]
    check_known_answer(generator, KnownAnswer(known.tokens, tuple(rows)))
    near, far = (tuple(logit + by for logit in known.logits) for by in (5e-5, 1e-3))
    check_known_answer(generator, KnownAnswer(known.tokens, near))
    for wrong in (far, (float("nan"), *known.logits[1:])):
        with pytest.raises(ConformanceError, match="the known answer differs"):
            check_known_answer(generator, KnownAnswer(known.tokens, wrong))


def test_a_trial_shares_clients_and_each_keeps_its_version(tmp_path, first, second):
    """About the share asked for meet the challenger; as it grows nobody is sent back; an abort ends it."""

    async def scenario():
        deploy(tmp_path, first)
        rollout.deploy(tmp_path, TARGET, second, "tried", VERDICT, share=5)
        async with following(tmp_path) as live:
            await until(lambda: live.challenger)
            clients = [f"client {number}" for number in range(2000)]
            few = {client for client in clients if live.pick(client).version.digest == second.digest}
            assert 50 < len(few) < 160
            rollout.shift(tmp_path, TARGET, 25, "going well")
            await until(lambda: live.challenger.version.share == 25)
            more = {client for client in clients if live.pick(client).version.digest == second.digest}
            assert few < more
            rollout.shift(tmp_path, TARGET, 0, "worse")
            await until(lambda: live.challenger is None)
            assert live.pick(clients[0]).version.digest == first.digest

    asyncio.run(scenario())
