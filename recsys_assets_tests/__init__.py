"""Tests of recsys_assets.

A test file is in the folder, and has the name, of the module or asset that it tests; the files at this level test
modules at the package's own level and the project as a whole. `helpers/` holds what several files share. The other
modules here are programs that a maintainer runs by hand, such as `python -m recsys_assets_tests.week`.
"""
