"""Commands with the flags of TorchEasyRec (tzrec), on the user's own tables and without a lake.

`python -m recsys_assets.tzrec.train_eval`, `export`, `predict`, `hitrate` and `create_faiss_index` replace
`tzrec.train_eval`, `tzrec.export`, `tzrec.predict`, `tzrec.tools.hitrate` and `tzrec.tools.create_faiss_index`.
"""
