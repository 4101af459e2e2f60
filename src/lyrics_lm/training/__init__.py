"""From token ids to `model.onnx`: the one home of torch. Knows neither songs nor registries."""
