"""Lyrics language models that deliver themselves."""
