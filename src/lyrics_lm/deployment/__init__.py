"""Places where a version can live: one file per target, all behind one Protocol."""
