"""What a bundle is worth: scores, the conformance suite, the gates. No torch, no MLflow, no network."""
