"""Compares libpsg with PyTorch on random configurations: outputs, input gradients, grad_samples, squared norms, in f64.

    make differential ARGS="--count 2000 --seed 3 conv2d lstm"      needs PyTorch 2.x and NumPy

Cases are drawn here (differential_cases.py), answered by the program differential, and computed a sample at a time by
autograd.  A case that one side refuses and the other computes is counted and its messages are listed; --show prints
the lines of mismatches, ready for a table of test/cases.
"""

import argparse
import collections
import os
import random
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden"))
try:
    import numpy as np
    import torch
except ImportError as error:
    raise SystemExit(f"differential.py needs PyTorch and NumPy ({error}); run it with a Python that has them: "
                     "make differential PYTHON=...")

import case_tables
from differential_cases import DRAW
from torch_ops import OPS
from torch_results import results_of

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
TOLERANCE = 1e-10


class Driver:
    def __init__(self, path):   # and arguments
        self.process = subprocess.Popen(path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def take(self, layout):
        size = struct.calcsize(layout)
        data = self.process.stdout.read(size)
        if len(data) != size:
            raise RuntimeError("the driver died")
        return struct.unpack(layout, data)

    def array(self):
        k, rows, row = self.take("=iqq")
        return k, np.frombuffer(self.process.stdout.read(8 * rows * row), dtype=np.float64).reshape(rows, row)

    def ask(self, op, text):
        """(status, message, {k: rows of values})"""
        self.process.stdin.write(f"{op} {text}\n".encode())
        self.process.stdin.flush()
        status, length = self.take("=ii")
        message = self.process.stdout.read(length).decode()
        results = dict(self.array() for _ in range(self.take("=i")[0])) if status == 0 else {}
        return status, message, results


def expected_of(line, rules):
    """The same keys as the driver's answer, or the exception that PyTorch raised."""
    operands = {name: torch.from_numpy(case_tables.data_of(line, name)) for name in line.operands}

    def grad_output_of(shape):
        return torch.from_numpy(case_tables.reals(line.op, line.name, "grad_output", shape))
    results = results_of(line, rules, operands, grad_output_of)
    names = [rule.name for rule in rules]
    ordinary = "ordinary" in line.options
    expected, norms = {}, None
    for name, value in results.items():
        parameter = name != "output" and line.operands[name].role == "PARAMETER"
        rows = 1 if value.dim() == 0 or (ordinary and parameter) else value.shape[0]
        flat = value.reshape(rows, value.numel() // max(rows, 1)).numpy()
        expected[-1 if name == "output" else names.index(name)] = flat
        if parameter and not ordinary:
            norms = (0 if norms is None else norms) + (flat**2).sum(1)
    if norms is not None:
        expected[-2] = norms.reshape(-1, 1)
    return expected


def compare(actual, expected):
    """None, or what disagrees."""
    if set(actual) != set(expected):
        return f"results {sorted(actual)}, expected {sorted(expected)}"
    for k, want in expected.items():
        have = actual[k]
        if have.size == 0 and want.size == 0:
            continue
        if have.shape != want.shape:
            return f"result {k} is {have.shape}, expected {want.shape}"
        if not (np.isnan(have) == np.isnan(want)).all():
            return f"result {k}: NaN in other places"
        have, want = np.nan_to_num(have), np.nan_to_num(want)
        scale = max(1.0, float(np.abs(want).max()))
        error = float(np.abs(have - want).max())
        if not error <= TOLERANCE * scale:
            return f"result {k}: error {error:.3g} of {scale:.3g}"
    return None


def run(driver, op, rules, rng, count, show):
    tally, notes = collections.Counter(), collections.Counter()
    for k in range(count):
        text = f"d{rng.getrandbits(40):010x} | {DRAW[op](rng)}"
        line = case_tables.parse_line(op, rules, text)
        try:
            expected, refusal = expected_of(line, rules), None
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            expected, refusal = None, str(error).split("\n")[0][:110]
        status, message, actual = driver.ask(op, text)
        if expected is None or status:
            kind = "both refuse" if expected is None and status else "libpsg refuses" if status else "torch refuses"
            tally[kind] += 1
            notes[f"{kind}: {message if status else refusal}"[:190]] += 1
            if show and kind == "libpsg refuses":
                print(f"  {op} {text}\n    {message}")
            continue
        difference = compare(actual, expected)
        tally["agree" if difference is None else "MISMATCH"] += 1
        if difference and (show or tally["MISMATCH"] <= 5):
            print(f"  {op} {text}\n    {difference}")
    print(f"{op}: " + ", ".join(f"{number} {kind}" for kind, number in sorted(tally.items())), flush=True)
    for note, number in notes.most_common(6):
        if not note.startswith("both"):
            print(f"    {number} x {note}")
    return tally["MISMATCH"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--driver", default="build/test/differential")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    driver, mismatches = Driver(arguments.driver), 0
    for op, rules in case_tables.rows().items():
        if arguments.ops and op not in arguments.ops:
            continue
        if op not in DRAW or op not in OPS:
            print(f"{op}: not drawn")
            continue
        rng = random.Random(f"{arguments.seed}/{op}")
        mismatches += run(driver, op, rules, rng, arguments.count, arguments.show)
    raise SystemExit(mismatches > 0)


if __name__ == "__main__":
    main()
