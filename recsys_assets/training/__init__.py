"""Methods: the trainer, checkpoints and ONNX export that all models share."""

import recsys_assets.models  # noqa: F401 (it sets how torch waits, before a module here imports torch)
