"""The live API: a thin BentoML service over the generation engine. Needs neither torch nor MLflow."""

from lyrics_lm.rollout import HOME as HOME

# Set in the environment by whoever starts the service for a target; without them a Bento serves the
# bundle it carries.
TARGET = "LYRICS_LM_SERVE_TARGET"
WORKERS = "LYRICS_LM_SERVE_WORKERS"
KEYS = "LYRICS_LM_API_KEYS"  # SHA-256 of each API key, between commas, or `none`; without it, those of the home
COPYING = "LYRICS_LM_SERVE_COPYING"  # characters in a row of one training song that no text gets to; 0: any
COUNTERS = "LYRICS_LM_SERVE_COUNTERS"  # the folder where the workers count together, in memory
KEEPING = "LYRICS_LM_SERVE_TRAFFIC"  # a `traffic.Keeping`, as JSON
TRUST = "LYRICS_LM_SERVE_TRUST"  # a `signing.Trust`, as JSON; without it no signature is verified
