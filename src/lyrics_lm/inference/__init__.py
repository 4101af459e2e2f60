"""Run any bundle that meets the contract, on ONNX Runtime alone: no torch, no MLflow, no HTTP."""
