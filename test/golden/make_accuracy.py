"""Writes accuracy.txt beside this script: how far PyTorch's f32 is from f64 on the lines of test/accuracy.txt.

    python3 make_accuracy.py [--driver ../../build/test/differential] [op ...]        PyTorch 2.x, NumPy, a C compiler

test/test_accuracy.c reads it and says what a line holds.  The inputs are exact in f32, so that both types compute the
same thing; a parameter's grad_sample comes from running each sample alone.  With a driver nothing is written: the
errors of libpsg and of PyTorch are printed side by side, in units of 2^-24, and their ratio.
"""

import argparse
import os
import sys

import numpy as np
import torch

import case_tables
from torch_results import results_of

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from differential import Driver

HERE = os.path.dirname(os.path.abspath(__file__))
UNIT = 2.0**-24
STORED = 16     # elements of a result
torch.set_num_threads(1)


def lines(ops):
    """(line, its text) of test/accuracy.txt."""
    rules = case_tables.rows()
    with open(os.path.join(HERE, "..", "accuracy.txt")) as file:
        for text in file:
            op, bar, text = text.partition("|")
            if bar and not op.startswith("#") and (not ops or op.strip() in ops):
                yield case_tables.parse_line(op.strip(), rules[op.strip()], text.strip()), rules[op.strip()], text.strip()


def compute(line, rules, real):
    """{result: flat array} by PyTorch in a real type."""
    torch.set_default_dtype(real)

    def tensor(values):
        values = torch.from_numpy(np.asarray(values))
        return values.to(real) if values.is_floating_point() else values
    operands = {name: tensor(case_tables.data_of(line, name)) for name in line.operands}
    results = results_of(line, rules, operands,
                         lambda shape: tensor(case_tables.reals(line.op, line.name, "grad_output", shape)))
    line.check_asked()
    return {name: value.double().numpy().reshape(-1) for name, value in results.items()}


def error(actual, exact):
    """Of the Euclidean norm."""
    return float(np.linalg.norm(actual - exact) / max(np.linalg.norm(exact), 1e-300))


def stored_places(line, name, count):
    """Drawn as an operand of integers of that name would be."""
    drawn = case_tables.words(case_tables.seed_of(line.op, line.name, f"places of {name}"), STORED)
    return (drawn % np.uint64(count)).astype(np.int64)


def digest(line, name, exact, peer):
    values = " ".join(f"{exact[k]:.15g}" for k in stored_places(line, name, exact.size))
    return f"{line.op} {line.name} {name} {exact.size} {error(peer, exact):.3g}  {values}\n"


def show(line, rules, text, driver, exact, peer):
    status, message, results = driver.ask(line.op, text)
    if status:
        print(f"{line.op}/{line.name}: {message}")
        return
    names = {-1: "output", **{k: rule.name for k, rule in enumerate(rules)}}
    for k, values in results.items():
        if k == -2:
            continue
        ours, theirs = error(values.reshape(-1), exact[names[k]]), error(peer[names[k]], exact[names[k]])
        mark = " <--" if ours > 2 * theirs + UNIT else ""
        print(f"{line.op:30} {line.name:16} {names[k]:16} {ours / UNIT:9.3f} {theirs / UNIT:9.3f}"
              f" {ours / max(theirs, 1e-30):9.3g}{mark}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ops", nargs="*")
    parser.add_argument("--driver")
    arguments = parser.parse_args()
    driver, written = arguments.driver and Driver([arguments.driver, "f32"]), []
    for line, rules, text in lines(arguments.ops):
        exact, peer = compute(line, rules, torch.float64), compute(line, rules, torch.float32)
        if driver:
            show(line, rules, text, driver, exact, peer)
        else:
            written += [digest(line, name, exact[name], peer[name]) for name in exact]
    if not driver:
        with open(os.path.join(HERE, "accuracy.txt"), "w") as file:
            file.writelines(written)


if __name__ == "__main__":
    main()
