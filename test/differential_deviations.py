"""Where PyTorch 2.13 differs from the right value by design of one of them: what the differential driver excuses."""

import dataclasses
import math
import typing

import numpy as np
import torch

from case_tables import data_of
from differential_cases import SEPARATE
from torch_ops import OPS, affine, effective, normed, reduce, standardized

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


def values_of(line):
    """The real operands' values, by name."""
    return {name: data_of(line, name) for name, operand in line.operands.items() if operand.kind != "INTEGER"}


def has_infinite(line):
    return any(np.isinf(values).any() for values in values_of(line).values())


def infinite(*names):
    """Whether one of these operands holds an infinity."""
    return lambda line: any(np.isinf(values).any() for name, values in values_of(line).items() if name in names)


def out_of_range(*names):
    """Whether one of these operands holds what no square of fits the type, or nothing but zeros."""
    def holds(line):
        return any(name in names and values.size and np.isfinite(values).all() and not 1e-140 < largest(values) < 1e140
                   for name, values in values_of(line).items())
    return holds


def anything(theirs, ours):
    return np.ones(theirs.shape, dtype=bool)


def infinite_recurrence(line):
    """Weights of states, which stand at 0 at first."""
    return any(np.isinf(values).any() or values.size and largest(values) > 1e140
               for name, values in values_of(line).items() if name.startswith(("weight_", "bias_")))


def has_huge(line):
    return any(values.size and 1e140 < largest(values) < np.inf for values in values_of(line).values())


def has_tiny(line):
    return any(values.size and 0 < largest(values) < 1e-140 for values in values_of(line).values())


def has_tiny_weight(line):
    """Of which the direction is used."""
    return line.op in ("weight_norm", "cosine_linear") and any(
        values.size and 0 < largest(values) < 1e-140 for name, values in values_of(line).items() if name != "x")


def cancels(theirs, ours):
    with np.errstate(invalid="ignore"):
        difference, greatest = np.abs(theirs - ours), np.maximum(np.abs(theirs), np.abs(ours))
    return (greatest > 1e100) & ((difference < 1e145) | (greatest > 1e200) & (greatest < 1e300))


def largest(values):
    return float(np.abs(values).max())


def nan_is_number(theirs, ours):
    return np.isnan(theirs) & ~np.isnan(ours)


def never_finite(theirs, ours):
    """Or within a rounding of the greatest number."""
    return (~np.isfinite(theirs) | (np.abs(theirs) > 1e300)) & (~np.isfinite(ours) | (np.abs(ours) > 1e300))


def deviates(*ops, **fields):
    DEVIATIONS.append(Deviation(ops, **fields))


# ---- shapes ----

def squeeze_kept(line, o):
    """The batch is no dimension to drop."""
    x, dim = o["x"], line.int("dim", 1)
    place = int(line.flag("batch_second") and x.dim() >= 3)
    return x if dim % x.dim() == place else OPS["squeeze"](line, o)


deviates("squeeze", pytorch="a batch of one is dropped", right="a batch of one stays", instead=squeeze_kept,
         reason="the batch is a dimension whatever its size", holds=lambda line: line.batch_size == 1)


# ---- activations ----

def as_relu(name):
    """f beyond 1e4, where it is x or 0 to the last bit."""
    def limit(line, o):
        x = o["x"]
        far = x.abs() >= 1e4
        return torch.where(far, torch.relu(x), OPS[name](line, {"x": torch.where(far, 0, x)}))
    return limit


def softsign(line, o):
    x = o["x"]
    far = x.abs() >= 1e100
    return torch.where(far, x.clamp(-1, 1), OPS["softsign"](line, {"x": torch.where(far, 0, x)}))


for _name in ("gelu", "silu", "mish", "hardswish"):
    deviates(_name, pytorch="NaN", right="x or 0, slope 1 or 0", instead=as_relu(_name),
             reason="limits at infinity", holds=has_infinite)
deviates("softsign", pytorch="NaN", right="1 or -1, slope 0", instead=softsign, reason="limits at infinity",
         holds=has_infinite)

# ---- losses ----

LOSSES = ("mse", "l1", "smooth_l1", "huber", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll", "soft_margin",
          "hinge_embedding", "cross_entropy", "nll")
deviates(*LOSSES, pytorch="NaN", right="the limit; 0 where a formula says 0 times infinity",
         reason="limits of infinite arguments", holds=has_infinite, accepts=nan_is_number)


class BinaryCrossEntropy(torch.autograd.Function):
    """-y log x - (1 - y) log(1 - x) with logarithms of at least -100, flat at 0 and 1 alone."""
    @staticmethod
    def logarithms(x):
        return torch.log(x).clamp(min=-100), torch.log1p(-x).clamp(min=-100)

    @staticmethod
    def forward(context, x, y):
        context.save_for_backward(x, y)
        log_x, log_rest = BinaryCrossEntropy.logarithms(x)
        return -y * log_x - (1 - y) * log_rest

    @staticmethod
    def backward(context, grad):
        x, y = context.saved_tensors
        log_x, log_rest = BinaryCrossEntropy.logarithms(x)
        rest = torch.where(x == 1, 0, (1 - y) / (1 - x))
        return grad * (rest - torch.where(x == 0, 0, y / x)), grad * (log_rest - log_x)


def loss_of(function):
    return lambda line, o: reduce(line, function.apply(o["x"], o["target"]))


deviates("binary_cross_entropy", pytorch="a slope of (x - y) / max(x (1 - x), 1e-12); the target's not clamped",
         right="(1 - y) / (1 - x) - y / x, the target's with the logarithms of the value",
         reason="the gradient of binary_cross_entropy near 0 and 1", instead=loss_of(BinaryCrossEntropy),
         holds=lambda line: any(((v < 1e-11) | (v > 1 - 1e-11)).any() for v in values_of(line).values()))


class Divergence(torch.autograd.Function):
    """y (log y - x)"""
    @staticmethod
    def forward(context, x, y):
        context.save_for_backward(x, y)
        return torch.where(y == 0, 0, y * (torch.log(y) - x))

    @staticmethod
    def backward(context, grad):
        x, y = context.saved_tensors
        return -grad * y, grad * (torch.log(y) + 1 - x)


deviates("kl_div", pytorch="log y - x without the 1 where y times the output's gradient underflows; NaN at 0",
         right="log y + 1 - x; -inf at 0", instead=loss_of(Divergence), reason="the slope of kl_div at tiny targets",
         holds=lambda line: not line.flag("log_target") and (values_of(line)["target"] < 1e-290).any())
deviates("poisson_nll", pytorch="NaN", right="0 times the gradient where the target is at most 1",
         accepts=nan_is_number, reason="Stirling's term where it is not used",
         holds=lambda line: line.flag("full") and (values_of(line)["target"] <= 1).any())


# ---- tables ----

for _name in ("embedding", "embedding_bag"):
    deviates(_name, pytorch="rows times max_norm / (norm + 1e-7)", right="rows times max_norm / norm",
             reason="rows scaled to max_norm", holds=lambda line: line.flag("max_norm"),
             instead=lambda line, o: OPS[line.op](line, o, slack=0))


# ---- norms and effective weights at any magnitude: by a power of two beside the greatest ----

def power_of(x):
    return 2.0**round(float(torch.log2(x.detach().abs().max()))) if x.numel() and x.detach().abs().max() > 0 else 1.0


def rescaled(name, otherwise):
    def norm(line, o):
        scale = power_of(o["x"])
        eps = line.real("eps", otherwise) / scale / scale
        return OPS[name](dataclasses.replace(line, options={**line.options, "eps": repr(eps)}),
                         {**o, "x": o["x"] / scale})
    return norm


def of_one_value(line):
    """Whether a mean is taken of one value alone."""
    shape = line.operands["x"].shape
    places = {"layer_norm": shape[len(shape) - line.int("rank", 1):], "instance_norm": shape[2:],
              "group_norm": (shape[1] // line.int("num_groups", 1), *shape[2:])}
    return line.int("use_input_stats", 1) == 1 and math.prod(places[line.op]) == 1


deviates("layer_norm", "group_norm", "instance_norm", pytorch="NaN, or a rounding of its mean",
         right="0: a value is its own mean", reason="norms of single values", holds=of_one_value,
         instead=lambda line, o: affine(o["x"] * 0, o) if line.op != "layer_norm" else
         o["x"] * 0 * (1 if o["weight"] is None else o["weight"]) + (0 if o["bias"] is None else o["bias"]))
for _name in ("layer_norm", "group_norm", "rms_norm", "instance_norm", "batch_norm"):
    deviates(_name, pytorch="0, NaN or Inf", right="the normalized values", holds=out_of_range("x"),
             reason="squares out of the type's range",
             instead=rescaled(_name, 2.0**-52 if _name == "rms_norm" else 1e-5))


def standardized_at_any(line, w, gain):
    scale = power_of(w)
    by_fan_in = line.flag("by_fan_in")
    eps = line.real("eps", 1e-4 if by_fan_in else 1e-6) / scale / scale
    return standardized(dataclasses.replace(line, options={**line.options, "eps": repr(eps)}), w / scale, gain)


def normed_at_any(line, v, g):
    if not v.detach().abs().max() > 0:
        return v * 0 if g is None else v * 0 + 0 * g.sum()
    return normed(line, v / power_of(v), g)


def cosine_at_any(line, o):
    x, w = o["x"], o["weight"]
    scale = power_of(x)
    unit = x / scale / ((x / scale).square().sum(-1, keepdim=True) + line.real("eps", 1e-12) / scale / scale).sqrt()
    rows = w * 0 if w.numel() and not w.detach().abs().max() > 0 else w / power_of(w)
    lengths = rows.norm(dim=1, keepdim=True) if rows.detach().abs().sum() > 0 else 1
    return line.real("scale", 1.0) * torch.nn.functional.linear(unit, rows / lengths)


deviates("weight_standardize", pytorch="0, NaN or Inf", right="the standardized values", holds=out_of_range("weight"),
         reason="squares out of the type's range", instead=effective("weight", standardized_at_any, normed))
deviates("weight_norm", pytorch="0, NaN or Inf; NaN of a zero row", right="the normalized values; 0, slope 0",
         holds=out_of_range("v"), reason="squares out of the type's range, or rows of zeros",
         instead=effective("v", normed_at_any, standardized))
deviates("cosine_linear", pytorch="0, NaN or Inf; NaN of a zero row", right="the normalized values; 0, slope 0",
         holds=out_of_range("x", "weight"), reason="squares out of the type's range, or rows of zeros",
         instead=cosine_at_any)

# ---- infinities in products ----

PRODUCTS = ("linear", "bilinear", "matmul", "rnn", "lstm", "gru", "rnn_cell", "lstm_cell", "gru_cell",
            "scaled_dot_product_attention", "multi_head_attention", "weight_standardize", "weight_norm",
            "cosine_linear", "layer_norm", "group_norm", "rms_norm", "instance_norm", "batch_norm")
deviates(*PRODUCTS, pytorch="NaN of 0 times infinity, of inf - inf in its order of terms",
         right="0 where the output's gradient or the attention weight is 0; an infinity of another order",
         reason="infinite operands", holds=has_infinite, accepts=nan_is_number)
CONVOLUTIONS = tuple(f"conv{kind}{spatial}d" for kind in ("", "_transpose") for spatial in (1, 2, 3))
deviates(*CONVOLUTIONS, pytorch="what the windows inside the image give", right="not specified",
         reason="windows of a weight that is not finite reach into padding", holds=infinite("weight"),
         accepts=lambda theirs, ours: np.isnan(ours) | np.isnan(theirs))
deviates("weight_norm", "weight_standardize", pytorch="what the windows inside the image give", right="not specified",
         reason="windows of a weight that is not finite reach into padding",
         holds=infinite("v", "g", "weight", "gain"),
         accepts=lambda theirs, ours: np.isnan(ours) | np.isnan(theirs))
deviates("bilinear", pytorch="x1 W first", right="NaN or an infinity: the sum's terms are infinities of both signs",
         reason="infinite operands", holds=has_infinite, accepts=never_finite)
deviates("weight_standardize", "weight_norm", pytorch="inf - inf", right="not finite: squares of huge operands are not",
         reason="squares of huge operands", holds=lambda line: has_huge(line) or has_infinite(line),
         accepts=never_finite)
deviates("div", pytorch="-inf: a / b / b before the output's gradient", right="-(g a / b) / b",
         reason="the slope of a quotient near the greatest number", holds=out_of_range("b"),
         accepts=lambda theirs, ours: ~np.isfinite(theirs) & (np.abs(ours) > 1e300))
deviates("rnn", "lstm", "gru", "scaled_dot_product_attention", "multi_head_attention",
         pytorch="NaN of products beyond the type's range that cancel, or times 0",
         right="an infinity, NaN or 0, by multiply-adds and masks", reason="products of huge operands", holds=has_huge,
         accepts=lambda theirs, ours: np.isnan(theirs) | np.isnan(ours))
deviates("multi_head_attention", pytorch="the slope of the weights without the values", right="PyTorch's",
         reason="a limit: where the weights alone are used, a weight that is NaN meets the values' slope of 0",
         holds=lambda line: line.flag("weights") and has_infinite(line),
         accepts=lambda theirs, ours: np.isnan(theirs) | np.isnan(ours))
deviates("lstm_cell", "lstm", pytorch="slopes that leave out the state which is not used", right="NaN as that state is",
         reason="states that are not finite", holds=infinite_recurrence,
         accepts=lambda theirs, ours: np.isnan(theirs) | np.isnan(ours))
deviates("rnn", "rnn_cell", pytorch="one sign of inf - inf", right="not specified: multiply-adds may give another",
         reason="a huge recurrent weight under relu: states beyond the type's range",
         holds=lambda line: line.word("nonlinearity") == "relu" and has_huge(line), accepts=anything)
deviates("multi_head_attention", pytorch="0: every score overflows to -inf", right="scores of scaled queries, in range",
         reason="scores near the end of the type's range", holds=has_huge,
         accepts=lambda theirs, ours: (np.abs(theirs) < 10) | np.isnan(theirs) | (np.abs(ours) > 1e100) | (ours == 0))
deviates("multi_head_attention", pytorch="NaN too, as inf - inf; the reference hides the key", right="NaN",
         reason="a real mask of infinity at a key that another mask hides", holds=infinite("attn_mask"),
         accepts=lambda theirs, ours: np.isnan(theirs) | np.isnan(ours))
deviates("multi_head_attention", pytorch="0, or another rounding", right="0 to a rounding of terms that cancel",
         reason="slopes of scores over values that are all but equal", holds=has_tiny,
         accepts=lambda theirs, ours: (np.abs(theirs) < 1e-14) & (np.abs(ours) < 1e-14))
# 1e-10 of terms of 1e155 that cancel is 1e145; in squared norms and tied weights it is a square's.
deviates(*(op for op in OPS if op not in SEPARATE), pytorch="another rounding",
         right="a rounding of 1e-10 of the terms", reason="terms of 1e155 that cancel",
         holds=lambda line: has_huge(line) or has_tiny_weight(line), accepts=cancels)
deviates("weight_norm", "cosine_linear", pytorch="Inf", right="0: nothing across a row of one value",
         reason="rows of one tiny value", holds=has_tiny_weight,
         accepts=lambda theirs, ours: (~np.isfinite(theirs) & (np.abs(ours) < 1e290)) | cancels(theirs, ours))
