"""Two tools with the flags and defaults of TorchEasyRec (tzrec): hit rate of embedding tables, and a faiss index.

`python -m recsys_assets.tzrec.hitrate` and `python -m recsys_assets.tzrec.create_faiss_index` replace
`python -m tzrec.tools.hitrate` and `python -m tzrec.tools.create_faiss_index`.
"""
