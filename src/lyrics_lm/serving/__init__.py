"""The live API: a thin BentoML service over the generation engine. Needs neither torch nor MLflow."""
