"""Claim: the field's standard harness scores the live API, and finds what our own evaluation finds.

A version is served, `lm-eval` asks it as it asks any OpenAI completions API (`local-completions`: token ids,
echo, logprobs) for the bits per byte of some held-out songs, and the `baseline` is `evaluation/scoring.py` on
the exported graph itself. The harness begins each text with its end-of-text token, here a line end, and so do we.

    python benchmarks/lm_eval_scores.py [--lm-eval PATH/TO/lm-eval] [songs.csv]
"""

import argparse
import functools
import json
import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from gate import losses as trained
from serving import deploy, served

from lyrics_lm import bundle
from lyrics_lm.bundle import MODEL, TOKENIZER
from lyrics_lm.corpus import dataset, sample
from lyrics_lm.evaluation.conformance import known_answer
from lyrics_lm.evaluation.scoring import graph_losses
from lyrics_lm.inference.engine import Engine
from lyrics_lm.packaging import bentos
from lyrics_lm.params import CorpusParams, TokenizerParams
from lyrics_lm.serving import HOME, TARGET
from lyrics_lm.steps.scores import unpublished

SONGS = 12
CHARACTERS = 1500  # of each, so that one request holds it
TASK = """
task: lyrics
dataset_path: json
dataset_kwargs: {{data_files: {{test: {texts}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path, nargs="?", help="song file; the sample songs if there is none")
    parser.add_argument("--lm-eval", default=shutil.which("lm-eval"), help="the command, where it is not on the PATH")
    asked = parser.parse_args()
    if asked.lm_eval is None:
        print("not measured; pip install 'lm-eval[api]' transformers in an environment, and name its lm-eval")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, prepared, home = asked.songs or folder / "songs.csv", folder / "corpus", folder / "home"
        home.mkdir()
        if asked.songs is None:
            sample.write(path)
        dataset.prepare([path], corpus=CorpusParams(), tokenizer=TokenizerParams(), digest="", directory=prepared)
        trained(prepared, folder, 1)
        (folder / "model" / TOKENIZER).write_bytes((prepared / TOKENIZER).read_bytes())
        loaded = unpublished(folder / "model", dataset.load_summary(prepared).vocab_size)
        known = known_answer(Engine(loaded), [1, 2, 3])
        manifest = functools.partial(type(loaded.manifest), **{**vars(loaded.manifest), "known_answer": known})
        sources = {file: folder / "model" / file for file in (MODEL, TOKENIZER)}
        made = bundle.write(folder / "bundle", sources, manifest(format=bundle.FORMAT, name="lyrics-lm"))
        texts = [text[:CHARACTERS].lower() for text in dataset.split_songs(prepared, "test")["text"][:SONGS]]
        ours = own_bits_per_byte(made, texts)
        deploy(home, made)
        with served(bentos.SERVICE, home, **{HOME: str(home), TARGET: "local"}) as (url, _, _):
            theirs = harness_bits_per_byte(asked.lm_eval, url, made, texts, folder)
    print(f"{len(texts)} songs: lm-eval {theirs:.5f} bits per byte over HTTP, our evaluation {ours:.5f}: ", end="")
    print(f"ratio {theirs / ours:.6f}, difference {abs(theirs - ours):.2g} (target 1e-3)")


def own_bits_per_byte(made: bundle.Bundle, texts: list[str]) -> float:
    engine, tokenizer = Engine(made), dataset.load_tokenizer(made.path)
    ids = [np.array(tokenizer.encode(text).ids, dtype=np.int64) for text in ["\n", *texts]]
    nats = [each.sum() for each in graph_losses(engine, ids[0], ids[1:])]
    return float(nats.sum() / math.log(2) / sum(len(text.encode()) for text in texts))


def harness_bits_per_byte(command: str, url: str, made: bundle.Bundle, texts: list[str], folder: Path) -> float:
    tokenizer, tasks, results = folder / "tokenizer", folder / "tasks", folder / "results"
    tokenizer.mkdir()
    tasks.mkdir()
    (tokenizer / TOKENIZER).write_bytes((made.path / TOKENIZER).read_bytes())
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "\n", "clean_up_tokenization_spaces": False}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(facts))
    file = tasks / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tasks / "lyrics.yaml").write_text(TASK.format(texts=file))
    arguments = (
        f"model=lyrics-lm,base_url={url}/v1/completions,tokenizer={tokenizer},max_length=2048,add_bos_token=False"
    )
    asked = [
        "--model",
        "local-completions",
        "--model_args",
        arguments,
        "--tasks",
        "lyrics",
        "--include_path",
        str(tasks),
    ]
    subprocess.run([command, *asked, "--output_path", str(results)], check=True)
    [found] = results.rglob("*.json")
    scores = json.loads(found.read_text())["results"]["lyrics"]
    return float(scores["bits_per_byte,none"])


if __name__ == "__main__":
    main()
