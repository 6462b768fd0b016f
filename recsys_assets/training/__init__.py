"""Methods: the trainer, checkpoints and ONNX export that all models share."""
