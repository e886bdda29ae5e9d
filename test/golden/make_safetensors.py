#!/usr/bin/env python3
"""Writes test/golden/safetensors: files of the reference implementation (the Python package safetensors, with PyTorch),
which test_safetensors.c reads and, where all types can be written, writes again to the same bytes.
Usage: make_safetensors.py [FOLDER]"""
import pathlib
import sys

import torch
from safetensors.torch import save_file

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "safetensors")
folder.mkdir(exist_ok=True)

inf = float("inf")
reals = [0.0, -0.0, 1.0, -2.5, 65504.0, 2.0**-14, 2.0**-24, -(2.0**-24) * 1023, inf, -inf, float("nan")]
halves = {"half": torch.tensor(reals, dtype=torch.float16), "brain": torch.tensor(reals, dtype=torch.bfloat16)}


def counting(dtype, *shape):
    count = torch.Size(shape).numel()
    return (torch.arange(count, dtype=torch.float64) - 2).to(dtype).reshape(shape)


save_file(halves, folder / "halves.safetensors")
types = {"z.f32": counting(torch.float32, 2, 3), "a.f64": counting(torch.float64, 3),
         "b.i32": counting(torch.int32, 1, 1, 5), "c.i64": counting(torch.int64, 4, 2), "a.f32": counting(torch.float32, 7)}
save_file(types, folder / "types.safetensors", metadata={"format": "pt"})
save_file({"scalar": torch.tensor(-2.0), "none": torch.zeros(0), "rows": torch.zeros(3, 0, 2, dtype=torch.int64)},
          folder / "shapes.safetensors")
save_file({}, folder / "empty.safetensors")
save_file({"gewicht \"ß\" \\ \n\t\x01 😀": counting(torch.float32, 2)}, folder / "texts.safetensors",
          metadata={"schlüssel \"1\"\r\b\f\x1f": "värde / 值 😀"})
save_file({name: counting(torch.float32, 2) for name in ("a", "aa", "b", "B", "é", "")}, folder / "names.safetensors")
