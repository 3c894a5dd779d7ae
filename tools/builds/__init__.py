"""The parts of tools/compare_builds.py: cases, their runs, and the comparison of two runs."""
