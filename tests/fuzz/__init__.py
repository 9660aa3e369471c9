"""A structure-aware fuzzer for every format that posegen reads: `python -m tests.fuzz --cases 20000`, see docs/fuzzing.md."""
