"""From a pile of song files to token ids: read, clean, split, tokenise. Knows nothing of models or versions."""
