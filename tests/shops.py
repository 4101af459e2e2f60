"""A workspace with a registry and a supply of bundles, for tests of the release loop."""

import time

import numpy as np

from bundles import bigram_graph, graph_bundle
from lyrics_lm import params, rollout
from lyrics_lm.corpus import dataset
from lyrics_lm.packaging import bentos
from lyrics_lm.records import GateResult, KnownAnswer, LiveVersion, Verdict
from lyrics_lm.registry import versions
from lyrics_lm.steps import scores
from lyrics_lm.steps.record import record
from lyrics_lm.steps.register import register
from lyrics_lm.training import bigram
from workspaces import make_workspace


class Shop:
    """A workspace with its registry, and a supply of bundles, each better than the one before."""

    def __init__(self, folder):
        self.folder = folder
        self.root = make_workspace(folder / "mine")
        self.settings = params.load(self.root)
        self.home = self.settings.home
        self.prepared = scores.current_dataset(self.settings)
        self._made = 0

    def bundle(self, worse=False):
        """The counted bigram, diluted: less at each call, or, for a worse one, a lot."""
        self._made += 1
        summary = dataset.load_summary(self.prepared)
        table = np.exp(bigram.count(dataset.load_tokens(self.prepared, "train"), summary.vocab_size))
        share = 0.9 if worse else 0.5**self._made
        diluted = np.log((1 - share) * table + share / summary.vocab_size).astype(np.float32)
        tokenizer = dataset.load_tokenizer(self.prepared)
        name = f"bundle-{self._made}"
        known = KnownAnswer((1,), tuple(float(logit) for logit in diluted[1]))
        return graph_bundle(
            self.folder / name,
            bigram_graph(diluted),
            name=name,
            tokenizer=tokenizer,
            known=known,
            vocab_size=summary.vocab_size,
        )

    def register(self, **kwargs):
        return register(self.settings, self.bundle(**kwargs).path).version

    def install(self):
        """Put a diluted bigram live by hand, as the champion to beat."""
        worst = self.bundle(worse=True)
        number = register(self.settings, worst.path).version
        bentos.import_model(self.home, worst)
        path = str(bentos.stored(self.home, worst.digest).path)
        live = LiveVersion(number, worst.digest, "diluted", "bigram", 5.0, bentos.tag(worst.digest), path)
        verdict = Verdict(worst.digest, None, time.time(), (GateResult("quality", True, "", "", "put live by hand"),))
        deployment = rollout.deploy(self.home, "local", live, "by hand", verdict)
        versions.mark_verdict(self.uri, number, verdict)
        versions.mark_delivered(self.uri, number, deployment.id)
        record(self.uri, self.home, "local")
