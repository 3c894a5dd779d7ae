"""Measures the seconds from process start to the first byte of generated text, with a cold and a warm shader cache.
The cache is Mesa's, in a directory set by MESA_SHADER_CACHE_DIR. Prints one JSON object.

first_text.py WGPT
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

COMMAND = [sys.argv[1], "generate", "-p", "Once upon a time", "-n", "4", "--seed", "1"]


def seconds(cache):
    environment = dict(os.environ, MESA_SHADER_CACHE_DIR=cache)
    start = time.perf_counter()
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    process.stdout.read(1)
    elapsed = time.perf_counter() - start
    process.stdout.read()
    process.wait()
    return round(elapsed, 3)


samples = {"cold_s": [], "warm_s": []}
for _ in range(5):
    with tempfile.TemporaryDirectory() as cache:
        samples["cold_s"].append(seconds(cache))
        samples["warm_s"].append(seconds(cache))
medians = {f"median_{name}": statistics.median(values) for name, values in samples.items()}
print(json.dumps({**samples, **medians}))
