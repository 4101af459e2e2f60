"""One training spread over processes: PyTorch's elastic launcher starts them, and again when one dies.

Each process reads its share of every batch from the mapped token file, and DistributedDataParallel averages
their gradients; so weights, and losses but for rounding, are those of one process (Li et al., "PyTorch
Distributed", VLDB 2020). Between processes of one machine over gloo, between its GPUs over NCCL.
"""

import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # not named in __all__
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lyrics_lm import durable
from lyrics_lm.errors import LyricsError, ModelError
from lyrics_lm.params import ModelParams, TrainingParams
from lyrics_lm.records import Progress, from_json, to_json

_RESTARTS = 3
_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """All that a process must know to take part; token ids by the file they are mapped from."""

    name: str
    tokens: Path
    validation: Path
    vocab_size: int
    chars_per_token: float
    model: ModelParams
    training: TrainingParams
    root: Path
    checkpoint: Path
    key: str


def file_of(tokens: npt.NDArray[np.integer]) -> Path:
    """The file that token ids are mapped from, so that every process can map it too."""
    if not isinstance(tokens, np.memmap):
        raise TypeError("token ids in memory cannot be shared; load them with mmap_mode='r'")
    return Path(str(tokens.filename))


def train(job: Job, on_progress: Callable[[Progress], None]) -> None:
    """Train in `job.training.processes` processes; what they made is in the last checkpoint, at the last step.

    A process that dies takes the others along, and all go on from the checkpoint, up to three times.
    Raises `ModelError` when the training itself fails.
    """
    on_gpu, gpus = job.training.device != "cpu" and torch.cuda.is_available(), torch.cuda.device_count()
    if on_gpu and job.training.processes > gpus:
        raise ModelError(f"training.processes is {job.training.processes}, and here are {gpus} GPUs; set it to that")
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=job.training.processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=_RESTARTS,
        monitor_interval=_POLL_SECONDS,
    )
    with tempfile.TemporaryDirectory() as name, _followed(Path(name) / "progress", on_progress) as progress:
        try:
            to_mend = elastic_launch(launch, _take_part)(job, progress)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            reason = " ".join(str(failure.message).split())[:300]
            raise ModelError(
                f"training failed in process {rank}: {reason}; mend it, or train in one process"
            ) from error
    if said := next(filter(None, to_mend.values()), None):
        raise ModelError(said)


@record
def _take_part(job: Job, progress: Path) -> str | None:
    """One process's part; returns what a person must mend, if anything."""
    from lyrics_lm.training.loop import Loop
    from lyrics_lm.training.model import build

    rank = int(os.environ["LOCAL_RANK"])
    on_gpu = job.training.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.training.processes))
    _join("nccl" if on_gpu else "gloo")

    def report(now: Progress) -> None:
        if rank == 0:
            durable.write(progress, to_json(now))

    try:
        torch.manual_seed(job.training.seed)
        network = build(job.model, job.vocab_size, job.root)
        loop = Loop(network, job.name, job.model.context, job.training, job.checkpoint, job.key)
        tokens, validation = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (job.tokens, job.validation))
        loop.run(tokens, validation, job.chars_per_token, report)
    except LyricsError as error:
        return str(error)
    finally:
        distributed.destroy_process_group()
    return None


def _join(backend: str) -> None:
    """Meet the other processes of this attempt.

    The launcher keeps one store for all attempts, in which the addresses of the last one still stand; whoever
    reads one of those waits for the dead. So each attempt writes under a prefix of its own.
    """
    at = os.environ
    store = TCPStore(at["MASTER_ADDR"], int(at["MASTER_PORT"]), is_master=False)
    attempt = PrefixStore(f"attempt {at['TORCHELASTIC_RESTART_COUNT']}", store)
    distributed.init_process_group(backend, store=attempt, rank=int(at["RANK"]), world_size=int(at["WORLD_SIZE"]))


@contextmanager
def _followed(path: Path, on_progress: Callable[[Progress], None]) -> Iterator[Path]:
    """Tell what the first process writes to `path`, while the block lasts."""
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_POLL_SECONDS):
            tell()

    def tell() -> None:
        if path.is_file():
            on_progress(from_json(path.read_bytes(), Progress))

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield path
    finally:
        ended.set()
        follower.join()
        tell()
