"""Where PyTorch 2.13 differs from the right value by design of one of them: what the differential driver excuses."""

import dataclasses
import typing

import numpy as np
import torch

DEVIATIONS = []


@dataclasses.dataclass
class Deviation:
    """Of `ops`, where holds(line).  Either the op computed `instead` gives the library's values within the driver's
    tolerance, or accepts(PyTorch's, the library's) says for each element that differs whether it is right."""
    ops: tuple
    pytorch: str
    right: str
    reason: str
    holds: typing.Callable
    instead: typing.Callable = None
    accepts: typing.Callable = None
