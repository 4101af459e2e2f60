"""`python -m lyrics_lm` is `lyrics-lm`."""

from lyrics_lm.cli import main

main()
