"""Token ids in, logits out: the one place that runs a bundle's graph. Knows nothing about text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from lyrics_lm.bundle import IN_PLACE, MODEL, Bundle
from lyrics_lm.errors import ConformanceError
from lyrics_lm.inference.limit import Limit

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

# One call never holds more logits than this (64 MB), nor runs over more columns at once.
_MAX_LOGITS = 16_000_000
_MAX_COLUMNS = 256


@dataclass(frozen=True)
class State:
    """What B sequences have read so far: the graph's tensors (B, *shape), or, for a graph
    without state, each row's last `context` tokens."""

    tensors: tuple[npt.NDArray[np.generic], ...]
    history: tuple[IntArray, ...]


class Engine:
    """One bundle, loaded. Safe to call from several threads: every call carries its own state."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Raises `ConformanceError` when the graph does not load or its names are not the contract's."""
        manifest = bundle.manifest
        self.bundle = bundle
        self.vocab_size = manifest.vocab_size
        self.context = manifest.context
        self._session = _session(bundle, threads)
        self.state = manifest.state
        self.in_place = self._session.get_modelmeta().custom_metadata_map.get(IN_PLACE) == "1"
        self._inputs = tuple(item.name for item in self._session.get_inputs())
        self._outputs = tuple(item.name for item in self._session.get_outputs())
        _check_names(bundle, self._inputs, self._outputs)

    def start(self, batch: int = 1) -> State:
        """The state of `batch` sequences that have read nothing."""
        tensors = tuple(np.zeros((batch, *spec.shape), dtype=spec.dtype) for spec in self.state)
        return State(tensors, tuple(np.empty(0, dtype=np.int64) for _ in range(batch)))

    def advance(self, rows: Sequence[IntArray], state: State) -> tuple[FloatArray, State]:
        """Read each row's tokens (ragged, at least one each); logits (B, V) after the last of each."""
        last = np.empty((len(rows), self.vocab_size), dtype=np.float32)

        def keep(row: int, logits: FloatArray) -> None:
            last[row] = logits[-1]

        return last, self._read(rows, state, keep, every_position=False)

    def advance_all(self, rows: Sequence[IntArray], state: State) -> tuple[list[FloatArray], State]:
        """As `advance`, with logits (T_i, V) after every token of row i."""
        pieces: list[list[FloatArray]] = [[] for _ in rows]
        state = self._read(rows, state, lambda row, logits: pieces[row].append(logits), every_position=True)
        return [np.concatenate(piece) for piece in pieces], state

    def _read(
        self, rows: Sequence[IntArray], state: State, keep: Callable[[int, FloatArray], None], *, every_position: bool
    ) -> State:
        if self.state:
            return self._read_stateful(rows, state, keep)
        return self._read_windows(rows, state, keep, every_position=every_position)

    def _read_stateful(self, rows: Sequence[IntArray], state: State, keep: Callable[[int, FloatArray], None]) -> State:
        """Columns in chunks; a row that has ended leaves the batch, so no row is ever empty."""
        tensors = tuple(tensor.copy() for tensor in state.tensors) if len(rows) > 1 else state.tensors
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        columns = max(1, min(_MAX_COLUMNS, _MAX_LOGITS // (len(rows) * self.vocab_size)))
        for start in range(0, int(lengths.max()), columns):
            active = np.flatnonzero(lengths > start).tolist()
            chunk = [rows[row][start : start + columns] for row in active]
            whole = len(active) == len(rows)
            logits, *following = self.run(chunk, tensors if whole else tuple(tensor[active] for tensor in tensors))
            if whole:
                tensors = tuple(following)
            else:
                for tensor, new in zip(tensors, following, strict=True):
                    tensor[active] = new
            for place, row in enumerate(active):
                keep(row, logits[place, : len(chunk[place])])
        return State(tensors, state.history)

    def _read_windows(
        self,
        rows: Sequence[IntArray],
        state: State,
        keep: Callable[[int, FloatArray], None],
        *,
        every_position: bool,
    ) -> State:
        """No state: show the graph the last `context` tokens before each position that is asked for."""
        texts = [np.concatenate([past, row]) for past, row in zip(state.history, rows, strict=True)]
        for row, (text, new) in enumerate(zip(texts, rows, strict=True)):
            first = len(text) - len(new) if every_position else len(text) - 1
            inside = min(len(text), self.context)  # positions whose whole past fits one window
            if first < inside:
                logits, *_ = self.run([text[:inside]], ())
                keep(row, logits[0, first:inside])
            windows = np.lib.stride_tricks.sliding_window_view(text, inside)[1 + max(0, first - inside) :]
            batch = max(1, _MAX_LOGITS // (self.context * self.vocab_size))
            for start in range(0, len(windows), batch):
                logits, *_ = self.run(list(windows[start : start + batch]), ())
                keep(row, logits[:, -1])
        return State((), tuple(text[-self.context :] for text in texts))

    def run(self, rows: Sequence[IntArray], tensors: tuple[npt.NDArray[np.generic], ...]) -> list[FloatArray]:
        """One call of the graph on ragged rows, padded on the right: logits (B, T, V), then each next state.

        Raises `ConformanceError` when the graph cannot run on them, or does not come back (see `limit`).
        """
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        tokens = np.zeros((len(rows), int(lengths.max())), dtype=np.int64)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row
        return self.call(tokens, lengths, tensors)

    def call(self, tokens: IntArray, lengths: IntArray, tensors: Sequence[npt.NDArray[np.generic]]) -> list[FloatArray]:
        """As `run`, on rows that are padded already: tokens (B, T), of which lengths (B) are valid."""
        feed: dict[str, npt.NDArray[np.generic]] = {"tokens": tokens, "lengths": lengths}
        feed.update({spec.name: tensor for spec, tensor in zip(self.state, tensors, strict=True)})
        limit = Limit(tokens.size)
        try:
            with limit as options:
                outputs: list[FloatArray] = self._session.run(
                    None, {name: feed[name] for name in self._inputs}, options
                )
        except Exception as error:  # ONNX Runtime raises classes of its own extension module, and no common base
            what = f"{self.bundle.path / MODEL} fails on {len(tokens)} rows of up to {lengths.max()} tokens"
            if limit.is_over:
                raise ConformanceError(f"{what}: it did not come back in time; take out what loops for ever") from error
            raise ConformanceError(
                f"{what}: {_one_line(error)}; export it with dynamic batch and time axes and the contract's types"
            ) from error
        return outputs

    def bind(
        self, tokens: IntArray, lengths: IntArray, tensors: Sequence[npt.NDArray[np.generic]], logits: FloatArray
    ) -> Callable[[], None]:
        """A call of the graph on these very arrays: it reads tokens (B, T), lengths (B) and state, and writes
        logits (B, T, V) and the next state over the state. For graphs that are `in_place`, with T = 1."""
        binding = self._session.io_binding()
        fed: dict[str, npt.NDArray[np.generic]] = {"tokens": tokens, "lengths": lengths}
        fed.update({spec.name: tensor for spec, tensor in zip(self.state, tensors, strict=True)})
        held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in fed.items()}
        for name in self._inputs:
            binding.bind_ortvalue_input(name, held[name])
        binding.bind_ortvalue_output(self._outputs[0], onnxruntime.OrtValue.ortvalue_from_numpy(logits))
        for name, spec in zip(self._outputs[1:], self.state, strict=True):
            binding.bind_ortvalue_output(name, held[spec.name])

        def call() -> None:
            with Limit(tokens.size) as options:
                self._session.run_with_iobinding(binding, options)

        return call


def _session(bundle: Bundle, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            str(bundle.path / MODEL), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises classes of its own extension module, and no common base
        raise ConformanceError(
            f"{bundle.path / MODEL} does not load on CPU: {_one_line(error)}; export it again"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_names(bundle: Bundle, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    state = [spec.name for spec in bundle.manifest.state]
    wanted = ["tokens", "lengths", *state]
    required = wanted if state else ["tokens"]
    missing = [name for name in required if name not in inputs]
    unknown = [name for name in inputs if name not in wanted]
    path = bundle.path / MODEL
    if missing or unknown:
        raise ConformanceError(
            f"{path} has inputs {', '.join(inputs)}; the contract asks for {', '.join(wanted)}; rename them at export"
        )
    if not outputs or outputs[0] != "logits" or len(outputs) != 1 + len(state):
        raise ConformanceError(
            f"{path} has outputs {', '.join(outputs)}; the contract asks for logits"
            f"{' and one next tensor per state' if state else ' alone'}; rename them at export"
        )
