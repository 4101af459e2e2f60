"""One verb per file: the only place where the other packages are put together."""
