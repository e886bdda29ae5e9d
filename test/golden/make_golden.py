"""Writes ops.txt and models.txt beside this script: reference values that test_golden.c replays.

    python3 make_golden.py        needs PyTorch 2.x

Everything is computed in f64.  Per-sample gradients come from torch.func.vmap(grad) where vmap knows the op, and from a
loop over samples in any case; the two must agree.  Inputs are multiples of 1/64, exact in f32 as well.

One case in a file:

    case <name> <op>
    number <name> <value>
    tensor <name> <f64|i64> <rank> <dimensions ...>
    <values in row-major order, some on a line>
    end

Tensors: x, y, ... operands; grad_output; value; grad_x the gradient of sum(grad_output * value) with respect to x;
sample_w (B, *w) the per-sample gradients of parameter w.
"""

import os

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
GENERATOR = torch.Generator().manual_seed(20240229)


def draw(*shape, spread=2.0):
    """Normal values rounded to multiples of 1/64."""
    return torch.round(torch.randn(shape, generator=GENERATOR) * spread * 64) / 64


def integers(high, *shape):
    return torch.randint(0, high, shape, generator=GENERATOR)


def text(value):
    return f"{float(value):.14g}"


class Writer:
    def __init__(self, path):
        self.file = open(path, "w")

    def case(self, name, op, numbers, tensors):
        self.file.write(f"case {name} {op}\n")
        for key, value in numbers.items():
            self.file.write(f"number {key} {text(value)}\n")
        for key, value in tensors.items():
            kind = "i64" if value.dtype == torch.int64 else "f64"
            shape = "".join(f" {size}" for size in value.shape)
            self.file.write(f"tensor {key} {kind} {value.dim()}{shape}\n")
            flat = [text(element) for element in value.reshape(-1).tolist()]
            for start in range(0, len(flat), 8):
                self.file.write(" ".join(flat[start:start + 8]) + "\n")
        self.file.write("end\n")


def per_sample_loop(objective, params, batch_size, *batched):
    """grad of objective(params, *sample) for each sample alone, a batch of one."""
    result = {key: torch.zeros((batch_size, *value.shape)) for key, value in params.items()}
    for n in range(batch_size):
        leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
        loss = objective(leaves, *(value[n:n + 1] for value in batched))
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for key, gradient in zip(leaves, gradients):
            result[key][n] = gradient
    return result


def per_sample(objective, params, *batched):
    """The loop's values, after comparing them with vmap(grad)."""
    batch_size = batched[0].shape[0]
    result = per_sample_loop(objective, params, batch_size, *batched)
    if batch_size:
        def of_one(leaves, *sample):
            return objective(leaves, *(value.unsqueeze(0) for value in sample))
        mapped = torch.func.vmap(torch.func.grad(of_one), in_dims=(None,) + (0,) * len(batched))(params, *batched)
        for key in result:
            torch.testing.assert_close(mapped[key], result[key], rtol=1e-12, atol=1e-12)
    return result


def op_case(writer, name, op, function, inputs, params=None, numbers=None, constants=None):
    """function(params, *inputs) with a random output gradient."""
    params = params or {}
    constants = constants or {}
    leaves = {key: value.clone().requires_grad_() for key, value in inputs.items()}
    value = function(params, *leaves.values())
    grad_output = draw(*value.shape, spread=1.0)
    tensors = {**inputs, **params, **constants, "grad_output": grad_output, "value": value.detach()}
    if value.grad_fn is not None:
        gradients = torch.autograd.grad(value, list(leaves.values()), grad_output)
        tensors.update({f"grad_{key}": gradient for key, gradient in zip(leaves, gradients)})
    if params:
        def objective(leaf_params, *samples):
            return (function(leaf_params, *samples[:-1]) * samples[-1]).sum()
        samples = per_sample(objective, params, *inputs.values(), grad_output)
        tensors.update({f"sample_{key}": gradient for key, gradient in samples.items()})
    writer.case(name, op, numbers or {}, tensors)


def linear_cases(writer):
    def function(p, x):
        return F.linear(x, p["weight"], p.get("bias"))
    shapes = [((0, 3), 4), ((1, 3), 4), ((8, 3), 4), ((2, 3, 3), 4), ((2, 3, 8), 8), ((3, 8), 8), ((2, 2, 3, 4), 5),
              ((3, 17, 4), 3), ((2, 1, 2, 3, 2), 1), ((4, 1), 1), ((2, 0, 3), 2)]
    for index, (shape, out) in enumerate(shapes):
        for bias in (True, False):
            params = {"weight": draw(out, shape[-1])}
            if bias:
                params["bias"] = draw(out)
            name = f"linear_{index}_rank{len(shape)}_{'bias' if bias else 'plain'}"
            op_case(writer, name, "linear", function, {"x": draw(*shape)}, params)


AFFINE = ("both", "bias", "weight", "none")


def layer_norm_cases(writer):
    shapes = [((4, 5, 5), 1, 1e-3), ((2, 2, 2, 5), 3, 1e-3), ((2, 2, 3), 2, 0.5), ((1, 2), 1, 1e-5), ((3, 17), 1, 1e-5),
              ((0, 5), 1, 1e-5), ((3, 1), 1, 1e-5), ((2, 3, 9), 1, 0.0)]
    for index, (shape, rank, eps) in enumerate(shapes):
        normalized = shape[len(shape) - rank:]
        for which in AFFINE if index in (1, 2, 5) else AFFINE[:1 + index % 2]:
            params = {}
            if which in ("both", "weight"):
                params["weight"] = draw(*normalized)
            if which in ("both", "bias"):
                params["bias"] = draw(*normalized)

            def function(p, x):
                return F.layer_norm(x, normalized, p.get("weight"), p.get("bias"), eps)
            op_case(writer, f"layer_norm_{index}_{which}", "layer_norm", function, {"x": draw(*shape)}, params,
                    {"rank": rank, "eps": eps})


def group_norm_cases(writer):
    shapes = [((4, 6, 5), 3, 1e-3), ((4, 12), 3, 1e-3), ((5, 6), 1, 1e-5), ((2, 6, 2, 3), 3, 1e-5), ((4, 5, 5), 5, 0.5),
              ((1, 2, 2), 1, 1e-5), ((0, 2), 1, 1e-5), ((2, 4, 1), 2, 1e-5)]
    for index, (shape, groups, eps) in enumerate(shapes):
        for which in AFFINE if index in (1, 2, 5) else AFFINE[:1 + index % 2]:
            params = {}
            if which in ("both", "weight"):
                params["weight"] = draw(shape[1])
            if which in ("both", "bias"):
                params["bias"] = draw(shape[1])

            def function(p, x):
                weight = p.get("weight", torch.ones(shape[1]))   # PyTorch cannot differentiate a bias alone
                return F.group_norm(x, groups, weight, p.get("bias"), eps)
            op_case(writer, f"group_norm_{index}_{which}", "group_norm", function, {"x": draw(*shape)}, params,
                    {"num_groups": groups, "eps": eps})


def elementwise_cases(writer):
    functions = {
        "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    }
    for name, function in functions.items():
        for shape in ((3, 7), (2, 1, 5), (0, 4), (19,)):
            label = f"{name}_{'x'.join(map(str, shape))}"
            op_case(writer, label, name, lambda p, x, f=function: f(x), {"x": draw(*shape)})
    wide = torch.tensor([[-1000.0, -40.0, -20.0, -10.0, -6.0, -0.0, 0.0, 2.0**-30, 6.0, 10.0, 20.0, 40.0, 1000.0]])
    for name, function in functions.items():
        op_case(writer, f"{name}_wide", name, lambda p, x, f=function: f(x), {"x": wide})
    op_case(writer, "scale", "scale", lambda p, x: -2.5 * x, {"x": draw(3, 4)}, numbers={"factor": -2.5})


def binary_cases(writer):
    shapes = [((3, 4), (3, 4)), ((2, 3, 4), (2, 1, 4)), ((2, 1, 4), (2, 3, 1)), ((0, 4), (0, 4)), ((5,), (5,))]
    for name, function in (("add", torch.add), ("mul", torch.mul)):
        for index, (left, right) in enumerate(shapes):
            op_case(writer, f"{name}_{index}", name, lambda p, x, y, f=function: f(x, y),
                    {"x": draw(*left), "y": draw(*right)})


def shape_cases(writer):
    for dims in ((1, 2), (2, 1), (-1, -2), (1, 3)):
        op_case(writer, f"transpose_{dims[0]}_{dims[1]}", "transpose", lambda p, x: x.transpose(*dims),
                {"x": draw(2, 3, 4, 2)}, numbers={"dim0": dims[0], "dim1": dims[1]})
    for dims in ((1, -1), (1, 2), (2, 3)):
        op_case(writer, f"flatten_{dims[0]}_{dims[1]}", "flatten", lambda p, x: x.flatten(*dims),
                {"x": draw(2, 3, 4, 2)}, numbers={"start_dim": dims[0], "end_dim": dims[1]})
    for dims, keepdim in (((1,), 0), ((2,), 1), ((1, 2), 0), ((-1, 1), 1)):
        numbers = {"count": len(dims), "keepdim": keepdim}
        numbers.update({f"dim{k}": dim for k, dim in enumerate(dims)})
        op_case(writer, f"mean_{'_'.join(map(str, dims))}_{keepdim}", "mean",
                lambda p, x: x.mean(dims, bool(keepdim)), {"x": draw(2, 3, 5)}, numbers=numbers)


def softmax_cases(writer):
    for shape, dim in (((3, 5), 1), ((3, 5), -1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 3, 2, 2), -3), ((0, 4), 1),
                       ((2, 1), 1)):
        op_case(writer, f"softmax_{'x'.join(map(str, shape))}_{dim}", "softmax",
                lambda p, x: F.softmax(x, dim), {"x": draw(*shape)}, numbers={"dim": dim})
    op_case(writer, "softmax_wide", "softmax", lambda p, x: F.softmax(x, 1),
            {"x": torch.tensor([[10000.0, -10000.0, 9999.0], [-10000.0, -10000.0, -10000.0]])}, numbers={"dim": 1})


REDUCTIONS = ("mean", "sum", "none")


def cross_entropy_cases(writer):
    shapes = [((5, 4), (5,)), ((2, 3, 5), (2, 5)), ((2, 4, 2, 3), (2, 2, 3)), ((1, 2), (1,)), ((3, 1), (3,))]
    for index, (shape, target_shape) in enumerate(shapes):
        for code, reduction in enumerate(REDUCTIONS):
            for smoothing in (0.0, 0.125):
                target = integers(shape[1], *target_shape)
                op_case(writer, f"cross_entropy_{index}_{reduction}_{smoothing}", "cross_entropy",
                        lambda p, x: F.cross_entropy(x, target, reduction=reduction, label_smoothing=smoothing),
                        {"x": draw(*shape)}, constants={"target": target},
                        numbers={"reduction": code, "label_smoothing": smoothing})
    for ignore_index in (1, -100):
        for reduction in ("sum", "none"):
            for smoothing in (0.0, 0.25):
                target = integers(4, 6)
                target[1::2] = ignore_index
                op_case(writer, f"cross_entropy_ignore_{ignore_index}_{reduction}_{smoothing}", "cross_entropy",
                        lambda p, x: F.cross_entropy(x, target, reduction=reduction, ignore_index=ignore_index,
                                                     label_smoothing=smoothing),
                        {"x": draw(6, 4)}, constants={"target": target},
                        numbers={"reduction": REDUCTIONS.index(reduction), "label_smoothing": smoothing,
                                 "ignore_index": ignore_index})
    target = torch.tensor([0, 1, 2])
    op_case(writer, "cross_entropy_wide", "cross_entropy",
            lambda p, x: F.cross_entropy(x, target, reduction="none"),
            {"x": torch.tensor([[10000.0, -10000.0, 0.0], [10000.0, -10000.0, 0.0], [1.0, 1.0, 1.0]])},
            constants={"target": target}, numbers={"reduction": 2, "label_smoothing": 0.0})


def elementwise_loss_cases(writer):
    for code, reduction in enumerate(REDUCTIONS):
        for shape in ((5,), (3, 4), (2, 3, 2)):
            label = "x".join(map(str, shape))
            target = draw(*shape)
            op_case(writer, f"mse_{label}_{reduction}", "mse", lambda p, x: F.mse_loss(x, target, reduction=reduction),
                    {"x": draw(*shape)}, constants={"target": target}, numbers={"reduction": code})
            target = torch.round(torch.rand(*shape, generator=GENERATOR) * 8) / 8
            x = draw(*shape)
            x.view(-1)[0] = -200.0
            x.view(-1)[-1] = 200.0
            op_case(writer, f"bce_{label}_{reduction}", "bce",
                    lambda p, x: F.binary_cross_entropy_with_logits(x, target, reduction=reduction), {"x": x},
                    constants={"target": target}, numbers={"reduction": code})


# ---- whole passes ----

def mlp(p, x):
    hidden = F.gelu(F.linear(x, p["w1"], p["b1"]))
    hidden = F.layer_norm(hidden, (6,), p["gain"], p["shift"], 1e-5)
    return F.linear(hidden, p["w2"], p["b2"])


def tied(p, x):
    """x (B, T, 5); one weight used twice, once after a transpose of positions and features is undone."""
    hidden = torch.tanh(F.linear(x, p["w"], p["b"]))
    hidden = F.linear(hidden, p["w"], p["b"])
    hidden = F.group_norm(hidden, 1, p["gain"], p["shift"], 1e-5)
    return F.linear(hidden, p["head"]).mean(1)


def model_case(writer, name, forward, params, x, target, reduction):
    batch_size = x.shape[0]

    def sample_loss(leaves, one, label):
        return F.cross_entropy(forward(leaves, one), label, reduction=reduction)
    samples = per_sample(sample_loss, params, x, target)
    leaf = x.clone().requires_grad_()
    loss = F.cross_entropy(forward(params, leaf), target, reduction=reduction)
    grad_x, = torch.autograd.grad(loss, leaf)
    flat = torch.cat([samples[key].reshape(batch_size, -1) for key in params], 1)
    weights = draw(batch_size, spread=1.0)
    norms = flat.norm(dim=1)
    max_grad_norm = float(norms.median())
    factors = torch.clamp(max_grad_norm / norms, max=1.0)
    tensors = {"x": x, "target": target, **params, "value": loss.detach(), "grad_x": grad_x}
    tensors.update({f"sample_{key}": gradient for key, gradient in samples.items()})
    tensors.update(weights=weights, sqnorm=flat.square().sum(1), gram=flat @ flat.T, factors=factors)
    for label, factor in (("weighted", weights), ("clipped", factors)):
        for key, gradient in samples.items():
            tensors[f"{label}_{key}"] = torch.tensordot(factor, gradient, 1)
    for key, gradient in samples.items():
        tensors[f"squares_{key}"] = gradient.square().sum(0)
    writer.case(f"{name}_{reduction}", name, {"reduction": REDUCTIONS.index(reduction), "max_grad_norm": max_grad_norm},
                tensors)


def models(writer):
    for reduction in ("mean", "sum"):
        params = {"w1": draw(6, 7, spread=0.5), "b1": draw(6), "gain": draw(6), "shift": draw(6),
                  "w2": draw(4, 6, spread=0.5), "b2": draw(4)}
        model_case(writer, "mlp", mlp, params, draw(5, 7), integers(4, 5), reduction)
        params = {"w": draw(5, 5, spread=0.5), "b": draw(5), "gain": draw(3), "shift": draw(3),
                  "head": draw(4, 5, spread=0.5)}
        model_case(writer, "tied", tied, params, draw(4, 3, 5), integers(4, 4), reduction)


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    writer = Writer(os.path.join(folder, "ops.txt"))
    for cases in (linear_cases, layer_norm_cases, group_norm_cases, elementwise_cases, binary_cases, shape_cases,
                  softmax_cases, cross_entropy_cases, elementwise_loss_cases):
        cases(writer)
    models(Writer(os.path.join(folder, "models.txt")))


if __name__ == "__main__":
    main()
