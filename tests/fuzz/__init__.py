"""A structure-aware fuzzer for every format that posegen reads: `python -m tests.fuzz --cases 20000`.

A sample (a small valid file) is changed by mutators and given to its reader in a child process. Right are a value that
is finite and of the documented shape, and an error of posegen's that names the file, within 10 s and 1.5 GB.
"""
