"""Writes models.txt beside this script: reference values that test_golden.c replays.

    python3 make_golden.py        needs PyTorch 2.x

Everything is computed in f64.  Per-sample gradients come from torch.func.vmap(grad) where vmap knows the op, and from a
loop over samples in any case; the two must agree.  Inputs are multiples of 1/64, exact in f32 as well.

One case in a file:

    case <name> <op>
    number <name> <value>
    tensor <name> <f64|i64> <rank> <dimensions ...>
    <values in row-major order, some on a line>
    end

Tensors: x, target, parameters; value, the loss; grad_x, its gradient; sample_w (B, *w), the per-sample gradients of
parameter w; what the questions answer of all parameters.
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


REDUCTIONS = ("mean", "sum", "none")


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


if __name__ == "__main__":
    models(Writer(os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.txt")))
