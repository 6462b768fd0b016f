"""Two tools of TorchEasyRec (tzrec) with its flags and defaults: hit rate of embedding tables, and a faiss index.

`python -m recsys_assets.tzrec.hitrate` and `python -m recsys_assets.tzrec.create_faiss_index` take the place of
`python -m tzrec.tools.hitrate` and `python -m tzrec.tools.create_faiss_index`.
"""
