"""Compares libpsg with PyTorch on random configurations: outputs, input gradients, grad_samples, squared norms, in f64.

    make differential ARGS="--count 2000 --seed 3 conv2d lstm"      needs PyTorch 2.x and NumPy

Cases are drawn here (differential_cases.py), answered by the program differential, and computed a sample at a time by
autograd.  Every op of the registry must be drawn.  A share of the draws holds infinities, huge, tiny and zero values;
where PyTorch differs from the right value by design, differential_deviations.py says so, and such draws are counted as
excused.  A case that one side refuses and the other computes is counted and its messages are listed; --show prints the
lines of mismatches, ready for a table of test/cases.
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
from differential_cases import ADDING_MOODS, DRAW, SEPARATE, TABLES_OF, with_extremes
from differential_deviations import DEVIATIONS
from torch_ops import OPS
from torch_results import results_of

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
TOLERANCE = 1e-10
EXTREMES = 0.2   # the share of such draws


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


def expected_of(line, rules, ops=OPS):
    """The same keys as the driver's answer, or the exception that PyTorch raised."""
    operands = {name: torch.from_numpy(case_tables.data_of(line, name)) for name in line.operands}

    def grad_output_of(shape):
        return torch.from_numpy(case_tables.reals(line.op, line.name, "grad_output", shape))
    results = results_of(line, rules, operands, grad_output_of, ops)
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


def finite(values):
    return np.where(np.isfinite(values), values, 0)


def same(have, want, floor):
    """Where NaN stands on both sides, or one infinity, or numbers near each other for the greatest of the row, or for
    `floor` in a row of tiny ones."""
    with np.errstate(over="ignore", invalid="ignore"):
        greatest = np.abs(finite(want)).max(1, keepdims=True)
        scale = np.maximum(np.where((0 < greatest) & (greatest < 1e-100), floor, 1.0), greatest)
        near = np.abs(finite(have) - finite(want)) <= TOLERANCE * scale
    near &= np.isfinite(have) & np.isfinite(want)
    return near | (have == want) | (np.isnan(have) & np.isnan(want))


def differences(actual, expected, floor=1.0):
    """{result: where the two differ, or None where their shapes do}"""
    found = {k: None for k in set(actual) ^ set(expected)}
    for k in set(actual) & set(expected):
        have, want = actual[k], expected[k]
        if have.size == 0 and want.size == 0:
            continue
        if have.shape != want.shape:
            found[k] = None
        else:
            where = ~same(have, want, floor)
            if where.any():
                found[k] = where
    return found


def described(found, actual, expected):
    texts = []
    for k, where in found.items():
        if where is None:
            shapes = [results[k].shape if k in results else None for results in (actual, expected)]
            texts.append(f"result {k} is {shapes[0]}, expected {shapes[1]}")
        else:
            at = tuple(int(i) for i in np.argwhere(where)[0])
            texts.append(f"result {k}{list(at)} is {actual[k][at]!r}, expected {expected[k][at]!r}".replace(
                "np.float64", ""))
    return "; ".join(texts)


def excuse(line, rules, actual, expected, found, floor):
    """The deviation whose right values are the library's, or None."""
    for deviation in DEVIATIONS:
        if line.op not in deviation.ops or not deviation.holds(line):
            continue
        if deviation.instead:
            right = expected_of(line, rules, {**OPS, line.op: deviation.instead})
            if not differences(actual, right, floor):
                return deviation
        elif all(where is not None and deviation.accepts(expected[k][where], actual[k][where]).all()
                 for k, where in found.items()):
            return deviation
    return None


class Masks:
    """Kept elements that the library drew: their number against the binomial distribution."""
    def __init__(self):
        self.surplus, self.variance = 0.0, 0.0

    def take(self, line, actual):
        p = line.real("p", 0.5)
        kept = actual.get(0, actual[-1])   # the gradient, if there is one: inputs may be 0
        line.kept = torch.from_numpy(kept.reshape(line.operands["x"].shape)) != 0
        if 0 < p < 1 and "evaluation" not in line.options and line.kept.numel():
            planes = line.kept.flatten(2)[:, :, 0] if line.op == "feature_dropout" else line.kept
            self.surplus += float(planes.sum()) - planes.numel() * (1 - p)
            self.variance += planes.numel() * p * (1 - p)

    def are_likely(self):
        return abs(self.surplus) <= 5 * max(self.variance, 1)**0.5


class Run:
    """The draws of one op."""
    def __init__(self, driver, op, rules, options):
        self.driver, self.op, self.rules, self.options = driver, op, rules, options
        self.rng = random.Random(f"{options.seed}/{op}")
        self.tally, self.notes, self.excused = (collections.Counter() for _ in range(3))
        self.masks = Masks()

    def draw(self):
        """(line, its text, the least scale of a tolerance)"""
        fields = DRAW[self.op](self.rng)
        floor = 1.0
        if self.rng.random() < EXTREMES:
            line = case_tables.parse_line(self.op, self.rules, f"x | {fields}")
            mood, fields = with_extremes(self.rng, line, fields, self.op not in SEPARATE)
            floor = ADDING_MOODS["tiny"] if mood == "tiny" else 1.0
        text = f"d{self.rng.getrandbits(40):010x} | {fields}"
        return case_tables.parse_line(self.op, self.rules, text), text, floor

    def note_refusal(self, status, message, refusal, text):
        kind = "both refuse" if refusal and status else "libpsg refuses" if status else "torch refuses"
        self.tally[kind] += 1
        self.notes[f"{kind}: {message if status else refusal}"[:190]] += 1
        if self.options.show and kind != "both refuse":
            print(f"  {self.op} {text}\n    {message if status else refusal}")

    def judge(self, line, text, floor, actual, expected):
        found = differences(actual, expected, floor)
        deviation = excuse(line, self.rules, actual, expected, found, floor) if found else None
        self.tally["excused" if deviation else "MISMATCH" if found else "agree"] += 1
        if deviation:
            self.excused[deviation.reason] += 1
        elif found and (self.options.show or self.tally["MISMATCH"] <= 5):
            print(f"  {self.op} {text}\n    {described(found, actual, expected)}")

    def once(self):
        line, text, floor = self.draw()
        status, message, actual = self.driver.ask(self.op, text)
        if not status and self.op in ("dropout", "feature_dropout"):
            self.masks.take(line, actual)
        refusal = None
        try:
            expected = expected_of(line, self.rules)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            refusal = str(error).split("\n")[0][:110] or type(error).__name__
        if refusal or status:
            self.note_refusal(status, message, refusal, text)
        else:
            self.judge(line, text, floor, actual, expected)

    def report(self):
        if not self.masks.are_likely():
            self.tally["MISMATCH"] += 1
            print(f"  {self.op}: {self.masks.surplus:.4g} more elements kept than 1 - p, of variance "
                  f"{self.masks.variance:.4g}")
        print(f"{self.op}: " + ", ".join(f"{number} {kind}" for kind, number in sorted(self.tally.items())), flush=True)
        for note, number in self.notes.most_common(6):
            if not note.startswith("both"):
                print(f"    {number} x {note}")
        for reason, number in self.excused.most_common():
            print(f"    {number} excused: {reason}")


def check_coverage(rows):
    """Every op of the registry is drawn, through the tables that record it."""
    missing = [op for op in case_tables.registry() if not all(
        table in rows and table in DRAW and table in OPS for table in TABLES_OF.get(op, (op,)))]
    if missing:
        raise SystemExit(f"ops of the registry without draws: {missing}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--driver", default="build/test/differential")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    rows, total = case_tables.rows(), collections.Counter()
    check_coverage(rows)
    driver = Driver(arguments.driver)
    for op, rules in rows.items():
        if arguments.ops and op not in arguments.ops:
            continue
        run = Run(driver, op, rules, arguments)
        for _ in range(arguments.count):
            run.once()
        run.report()
        total += run.tally
    print("all: " + ", ".join(f"{number} {kind}" for kind, number in sorted(total.items())))
    raise SystemExit(total["MISMATCH"] > 0)


if __name__ == "__main__":
    main()
