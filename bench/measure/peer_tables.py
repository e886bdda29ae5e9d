"""Layers of the case tables (test/cases/*.txt, lines flagged `bench`) in PyTorch, Opacus and JAX, for peers.py.

A layer is made of a table's line: operand shapes and options. run(system) gives {name: gradients by sample} for the
input and every parameter, under PyTorch's names of them.
"""

import functools
from pathlib import Path

TABLES = Path(__file__).resolve().parent.parent / "test/cases"


class Line:
    """name | operand dims [<K] | ... | key=value flag"""

    def __init__(self, op, text):
        self.text = text
        self.op, (self.name, *fields) = op, (field.strip() for field in text.split("|"))
        self.shapes, self.limits, self.options = {}, {}, {}
        for field in fields:
            words = field.split()
            if not words:
                continue
            if "=" in words[0] or len(words) == 1 or not (words[1][0].isdigit() or words[1] == "()"):
                self.options.update(word.split("=", 1) if "=" in word else (word, True) for word in words)
                continue
            self.shapes[words[0]] = tuple(int(n) for n in words[1].split(",") if n not in ("", "()"))
            self.limits.update({words[0]: int(word[1:]) for word in words[2:] if word[0] == "<"})

    def number(self, key, default):
        return int(self.options.get(key, default))


def bench_lines():
    """Every line flagged `bench`, by table."""
    lines = []
    for table in sorted(TABLES.glob("*.txt")):
        for text in table.read_text().splitlines():
            text = text.split("#")[0].strip()
            if "|" in text and "bench" in text.split("|")[-1].split():
                lines.append(Line(table.stem, text))
    return lines


# ---- modules: (module, forward(module, x), Opacus's own module or None) ----
def conv_module(line):
    import torch
    weight = line.shapes["weight"]
    dims, groups = len(weight) - 2, line.number("groups", 1)
    cls = getattr(torch.nn, f"Conv{dims}d")
    return cls(weight[1] * groups, weight[0], weight[2:], stride=line.number("stride", 1), groups=groups,
               padding=line.number("padding", 0), dilation=line.number("dilation", 1), bias="bias" in line.shapes)


def instance_norm_module(line):
    import torch
    shape = line.shapes["x"]
    return getattr(torch.nn, f"InstanceNorm{len(shape) - 2}d")(shape[1], affine="weight" in line.shapes)


def group_norm_module(line):
    import torch
    return torch.nn.GroupNorm(line.number("num_groups", 1), line.shapes["x"][1])


def layer_norm_module(line):
    import torch
    return torch.nn.LayerNorm(line.shapes["weight"])


def linear_module(line):
    import torch
    out, features = line.shapes["weight"]
    return torch.nn.Linear(features, out, bias="bias" in line.shapes)


def embedding_module(line):
    import torch
    return torch.nn.Embedding(*line.shapes["weight"])


def lstm_module(line):
    import torch
    weight = line.shapes["weight_ih_l0"]
    return torch.nn.LSTM(weight[1], weight[0] // 4, batch_first=True)


def attention_module(line):
    import torch
    return torch.nn.MultiheadAttention(line.shapes["query"][2], line.number("num_heads", 1), batch_first=True)


MODULES = {"conv1d": conv_module, "conv2d": conv_module, "conv3d": conv_module, "instance_norm": instance_norm_module,
           "group_norm": group_norm_module, "layer_norm": layer_norm_module, "linear": linear_module,
           "embedding": embedding_module, "lstm": lstm_module, "multi_head_attention": attention_module}


def opacus_module(line, module):
    """The module that Opacus puts in the place of one it cannot hook."""
    if line.op == "lstm":
        from opacus.layers import DPLSTM
        own = DPLSTM(module.input_size, module.hidden_size, batch_first=True)
    elif line.op == "multi_head_attention":
        from opacus.layers import DPMultiheadAttention
        own = DPMultiheadAttention(module.embed_dim, module.num_heads, batch_first=True)
    else:
        return module
    own.load_state_dict(module.state_dict())
    return own


def call(line, module, x):
    if line.op == "lstm":
        return module(x)[0]
    if line.op == "multi_head_attention":
        return module(x, x, x, need_weights=False)[0]
    return module(x)


def first_operand(line):
    return next(iter(line.shapes))


def make(line):
    """The module, its input and the gradient of its output, all from one seed."""
    import torch
    torch.manual_seed(1)
    module, name = MODULES[line.op](line), first_operand(line)
    if name in line.limits:
        x = torch.randint(0, line.limits[name], line.shapes[name])
    else:
        x = torch.randn(line.shapes[name]).requires_grad_()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
        cotangent = torch.randn_like(call(line, module, x))
    return module, x, cotangent


# ---- the systems ----
def inputs_of(x):
    return [x] if x.is_floating_point() else []


def plain(line, module, x, cotangent):
    from torch.autograd import grad
    parameters = list(module.parameters())
    found = grad(call(line, module, x), [*inputs_of(x), *parameters], cotangent)
    return {"input": found[0]} if inputs_of(x) else {}


def loop(line, module, x, cotangent):
    from torch.autograd import grad
    names, by_sample = [name for name, _ in module.named_parameters()], []
    for i in range(len(x)):
        x_i = x[i:i + 1].detach().requires_grad_(x.is_floating_point())
        found = grad(call(line, module, x_i), [*inputs_of(x_i), *module.parameters()], cotangent[i:i + 1])
        by_sample.append((found[0][0], *found[1:]) if inputs_of(x) else found)
    return dict(zip((["input"] if inputs_of(x) else []) + names, zip(*by_sample)))


def func(line, module, x, cotangent):
    import torch
    from torch.func import functional_call, grad, vmap

    class Called(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x_i):
            return call(line, self.module, x_i)
    called = Called()

    def sample_loss(parameters, x_i, cotangent_i):
        return (functional_call(called, parameters, (x_i.unsqueeze(0),)) * cotangent_i.unsqueeze(0)).sum()
    parameters = {name: parameter.detach() for name, parameter in called.named_parameters()}
    wanted = (0, 1) if inputs_of(x) else 0
    gradients = vmap(grad(sample_loss, argnums=wanted), in_dims=(None, 0, 0), randomness="different")
    found = gradients(parameters, x.detach(), cotangent)
    of_parameters, of_input = found if inputs_of(x) else (found, None)
    result = {name.removeprefix("module."): value for name, value in of_parameters.items()}
    return {"input": of_input, **result} if inputs_of(x) else result


def wrapped(line, wrapper, module, x, cotangent):
    """wrapper: ExpandedWeights or Opacus, which leave parameter.grad_sample."""
    x.grad = None
    for parameter in module.parameters():
        parameter.grad = parameter.grad_sample = None
    call(line, wrapper, x).backward(cotangent)
    result = {name: parameter.grad_sample for name, parameter in module.named_parameters()}
    return {"input": x.grad, **result} if inputs_of(x) else result


def run_of(system, line):
    module, x, cotangent = make(line)
    if system == "JAX":
        return jax_run(line, module, x, cotangent)
    if system == "EW":
        from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
        wrapper = call_for_per_sample_grads(module, loss_reduction="sum")
    elif system == "hooks":
        from opacus import GradSampleModule
        module = opacus_module(line, module)
        wrapper = GradSampleModule(module, loss_reduction="sum")
    else:
        return functools.partial({"plain": plain, "func": func, "loop": loop}[system], line, module, x, cotangent)
    return functools.partial(wrapped, line, wrapper, module, x, cotangent)


def naive(line, sample):
    """Gradients of one sample in f64."""
    module, x, cotangent = make(line)
    x = x.detach()[sample:sample + 1]
    x = x.double() if x.is_floating_point() else x
    found = loop(line, module.double(), x, cotangent[sample:sample + 1].double())
    return {name: values[0].numpy() for name, values in found.items()}


# ---- JAX ----
def jax_forward(line):
    """f(parameters by PyTorch's names, one sample with a batch of 1)."""
    import jax
    from jax import numpy as jnp
    if line.op.startswith("conv"):
        dims = len(line.shapes["weight"]) - 2
        axes = "DHW"[3 - dims:]
        layout = (f"NC{axes}", f"OI{axes}", f"NC{axes}")

        def forward(p, x):
            y = jax.lax.conv_general_dilated(x, p["weight"], (line.number("stride", 1),) * dims,
                                             [(line.number("padding", 0),) * 2] * dims, dimension_numbers=layout,
                                             rhs_dilation=(line.number("dilation", 1),) * dims,
                                             feature_group_count=line.number("groups", 1))
            return y + p["bias"].reshape((1, -1) + (1,) * dims)
    elif line.op.endswith("_norm"):
        def forward(p, x):
            groups = line.number("num_groups", x.shape[1])
            rows = x if line.op == "layer_norm" else x.reshape(groups, -1)
            centered = rows - rows.mean(axis=-1, keepdims=True)
            y = centered * jax.lax.rsqrt((centered ** 2).mean(axis=-1, keepdims=True) + 1e-5)
            shape = (-1,) if line.op == "layer_norm" else (1, -1) + (1,) * (x.ndim - 2)
            return y.reshape(x.shape) * p["weight"].reshape(shape) + p["bias"].reshape(shape)
    elif line.op == "linear":
        def forward(p, x):
            return x @ p["weight"].T + p["bias"]
    elif line.op == "embedding":
        def forward(p, x):
            return p["weight"][x]
    elif line.op == "lstm":
        def forward(p, x):
            hidden = p["weight_hh_l0"].shape[1]
            projected = x[0] @ p["weight_ih_l0"].T + p["bias_ih_l0"] + p["bias_hh_l0"]

            def step(state, row):
                h, c = state
                i, f, g, o = jnp.split(row + h @ p["weight_hh_l0"].T, 4)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h
            return jax.lax.scan(step, (jnp.zeros(hidden), jnp.zeros(hidden)), projected)[1][None]
    elif line.op == "multi_head_attention":
        def forward(p, x):
            heads, (times, width) = line.number("num_heads", 1), x.shape[1:]
            q, k, v = jnp.split(x[0] @ p["in_proj_weight"].T + p["in_proj_bias"], 3, axis=1)
            q, k, v = (m.reshape(times, heads, -1).transpose(1, 0, 2) for m in (q, k, v))
            scores = jax.nn.softmax(q @ k.transpose(0, 2, 1) / (width // heads) ** 0.5, axis=-1)
            y = (scores @ v).transpose(1, 0, 2).reshape(times, width)
            return (y @ p["out_proj.weight"].T + p["out_proj.bias"])[None]
    else:
        raise LookupError(f"no JAX form of {line.op}")
    return forward


def jax_run(line, module, x, cotangent):
    import jax
    forward, real = jax_forward(line), bool(inputs_of(x))
    parameters = {name: jax.numpy.asarray(value.detach().numpy()) for name, value in module.named_parameters()}
    arrays = [jax.numpy.asarray(value.detach().numpy()) for value in (x, cotangent)]

    def sample_loss(p, x_i, cotangent_i):
        return (forward(p, x_i[None])[0] * cotangent_i).sum()
    gradients = jax.jit(jax.vmap(jax.value_and_grad(sample_loss, argnums=(0, 1) if real else 0), in_axes=(None, 0, 0)))

    def run():
        values, found = jax.block_until_ready(gradients(parameters, *arrays))
        of_parameters, of_input = found if real else (found, None)
        return {"value": values, **of_parameters, **({"input": of_input} if real else {})}
    return run
