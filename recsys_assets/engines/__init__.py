"""Engines: where the SQL of an asset runs. DuckDB in this process is the default; Spark is for what one machine cannot.

The text of all statements is DuckDB's. `RECSYS_ENGINE` chooses the engine of the assets that open one with
`chosen.open_engine`; whatever reads a few rows, or works on arrays, goes on with `datasets/duck.py`.
"""
