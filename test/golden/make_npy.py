#!/usr/bin/env python3
"""Writes test/golden/npy: files of numpy, which test_npy.c and test_npz.c read and, where all of them can be written, write
again to the same bytes.  Usage: make_npy.py [FOLDER]"""
import io
import pathlib
import sys

import numpy as np
from numpy.lib import format as npy

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "npy")
folder.mkdir(exist_ok=True)

inf = float("inf")
halves = np.array([0.0, -0.0, 1.0, -2.5, 65504.0, 2.0**-14, 2.0**-24, -(2.0**-24) * 1023, inf, -inf, np.nan], "<f2")


def counting(dtype, *shape):
    first = 0 if dtype[1] == "u" else -2
    return (np.arange(np.prod(shape, dtype=int)) + first).astype(dtype).reshape(shape)


class Stream(io.BytesIO):
    """A file that cannot go back: sizes follow the data."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation

    def tell(self):
        raise io.UnsupportedOperation


for name, array in {"matrix": counting("<f4", 2, 3), "scalar": np.array(-2.0), "row": counting("<i8", 1234)[:17],
                    "empty": np.zeros((0, 3), "<i4"), "deep": counting("<f8", 1, 2, 1, 2, 1, 2, 1, 1),
                    "fortran": np.asfortranarray(counting("<i4", 2, 3, 4)), "half": halves}.items():
    np.save(folder / f"{name}.npy", array)
for version in (2, 3):
    with open(folder / f"version{version}.npy", "wb") as file:
        npy.write_array(file, counting("<f4", 5), version=(version, 0))

types = {dtype[1:]: counting(dtype, 3, 2) for dtype in ("<f4", "<f8", "<f2", "<i4", "<i8", "|i1", "|u1", "<i2", "<u2", "<u4")}
types["b1"] = np.array([[True, False], [False, True], [True, True]])
ends = {f"{dtype[1:]}.ends": np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
        for dtype in ("<i4", "<i8", "|i1", "|u1", "<i2", "<u2", "<u4")}
np.savez(folder / "types.npz", **types)
np.savez_compressed(folder / "packed.npz", **ends, f4=np.asfortranarray(counting("<f4", 3, 2)),
                    long=np.zeros((100, 50), "<f8"))
np.savez(folder / "names.npz", **{"é/ä": counting("<f4", 2), "": counting("<f4", 3), "a": counting("<f4", 4),
                                  "a b": counting("<f4", 1)})
np.savez(folder / "none.npz")
stream = Stream()
np.savez(stream, a=counting("<f4", 2), b=counting("<f8", 3))
(folder / "stream.npz").write_bytes(stream.getvalue())
