"""Writes cases/<op>.txt beside this script: digests of what PyTorch computes for the case tables of test/cases.

    python3 make_cases.py [op ...]        needs PyTorch 2.x, NumPy and a C compiler

test/case_golden.c reads them and says what a line holds.  Everything is f64; a parameter's grad_sample comes from
running each sample alone.
"""

import os
import sys

import numpy as np
import torch

import case_tables
from torch_ops import OPS
from torch_results import results_of

torch.set_default_dtype(torch.float64)
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")


def digest(line, name, value, ordinary):
    parameter = name != "output" and line.operands[name].role == "PARAMETER"
    one_row = value.dim() == 0 or (ordinary and parameter)
    rows = 1 if one_row else value.shape[0]
    flat = value.numpy().reshape(rows, -1) if rows else np.zeros((0, value[:0].numel()))
    row = flat.shape[1] if rows else int(np.prod(value.shape[1:])) if parameter else 0
    weights = [case_tables.reals(line.op, line.name, f"digest{j}", (row,)) for j in range(2)]
    text = [f"{line.name} {name} {rows} {row} "]
    for values in flat:
        sums = [float(np.dot(w, values)) for w in weights]
        text.append(f" {sums[0]:.15g} {sums[1]:.15g} {float(np.abs(values).sum()):.3g}")
    return "".join(text) + "\n"


def write_table(op, rules):
    text = []
    for line in case_tables.read_table(op, rules):
        if "error" in line.options or "bench" in line.options:
            continue
        operands = {name: torch.from_numpy(np.asarray(case_tables.data_of(line, name))) for name in line.operands}

        def grad_output_of(shape):
            return torch.from_numpy(case_tables.reals(op, line.name, "grad_output", shape))
        try:
            results = results_of(line, rules, operands, grad_output_of)
        except Exception as error:
            print(f"{op}/{line.name}: {type(error).__name__} {error}", file=sys.stderr)
            continue
        line.check_asked()
        text += [digest(line, name, value, "ordinary" in line.options) for name, value in results.items()]
    with open(os.path.join(FOLDER, f"{op}.txt"), "w") as file:
        file.writelines(text)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    for op, rules in case_tables.rows().items():
        if sys.argv[1:] and op not in sys.argv[1:]:
            continue
        if op not in OPS:
            print(f"{op}: no PyTorch function in torch_ops.py")
            continue
        write_table(op, rules)


if __name__ == "__main__":
    main()
