#!/usr/bin/env python3
"""Times the Python systems that compute per-sample gradients beside libpsg, on the problems of libpsg's own benchmarks.

Optional: it runs with the Python that starts it, times those of PyTorch, Opacus and JAX that are installed and lists
what is absent. All need numpy. Example: python3 bench/peers.py --op linear --repeats 5 --markdown

A layer case is the forward pass, the input gradient and the per-sample gradients of every parameter; a step case is
forward, backward, flat clipping, Gaussian noise and SGD on an MLP. All of it is f32. Systems:

    libpsg       psg-bench (see --psg)
    plain        PyTorch, summed gradients only; in a step neither clipping nor noise
    plain+noise  the plain step and torch's own noise on each gradient, no clipping
    EW           torch.nn.utils ExpandedWeights
    func         torch.func vmap(grad)
    hooks        Opacus GradSampleModule
    ghost        Opacus ghost clipping
    JAX          jit(vmap(value_and_grad)); the value is kept, or XLA would drop the forward pass
    loop         PyTorch, one sample after another, the gradients left as one tensor a sample

Each case runs in a process of its own, once per malloc mode. With glibc's defaults every large result is mapped and
faulted in anew on each step; "pinned" keeps the pages. A time includes freeing the results of the step before.
Before it is timed a peer is compared on two samples with a naive loop in f64; a cell marked ! disagreed.
"""

import argparse
import collections
import functools
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

PACKAGES = {"plain": "torch", "plain+noise": "torch", "EW": "torch", "func": "torch", "hooks": "opacus",
            "ghost": "opacus", "JAX": "jax", "loop": "torch"}
SYSTEMS = ("libpsg", *PACKAGES)
SYSTEMS_OF_QUESTION = {"grad_sample": ("libpsg", "plain", "EW", "func", "hooks", "JAX", "loop"),
                       "plain": ("libpsg", "plain"),
                       "private": ("libpsg", "plain+noise", "func", "hooks", "ghost", "loop")}

MALLOC_MODES = {
    "default": {},
    "pinned": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"},
}

TOLERANCE = 1e-4        # of max |difference| / max |naive|
NORM_EPSILON = 1e-5
MLP_WIDTHS = (784, 512, 256, 10)
MAX_GRAD_NORM, NOISE_MULTIPLIER, LEARNING_RATE, CLIP_EPSILON = 1.0, 1.0, 0.05, 1e-6

# problem: linear B,T,in,out; layer_norm B,T,D; group_norm B,C,HW,G; mlp_step B
Case = collections.namedtuple("Case", "name op problem question", defaults=("grad_sample",))
CASES = (
    Case("linear_B256_T1_784_512", "linear", (256, 1, 784, 512)),
    Case("linear_B64_T1_1024_1024", "linear", (64, 1, 1024, 1024)),
    Case("linear_B64_T16_256_256", "linear", (64, 16, 256, 256)),
    Case("linear_B64_T128_256_256", "linear", (64, 128, 256, 256)),
    Case("linear_B32_T128_768_768", "linear", (32, 128, 768, 768)),
    Case("layer_norm_B64_T128_768", "layer_norm", (64, 128, 768)),
    Case("layer_norm_B1024_T1_256", "layer_norm", (1024, 1, 256)),
    Case("group_norm_B64_C64_32x32_G8", "group_norm", (64, 64, 1024, 8)),
    Case("mlp_step_B256_plain", "mlp_step", (256,), "plain"),
    Case("mlp_step_B256_private", "mlp_step", (256,), "private"),
)


# ---- layers: data and the naive answer (child process, numpy) ----
def layer_data(op, problem):
    """The arrays of a layer case: input and cotangent (B, ...), weight, bias. An axis T of length 1 is left out."""
    import numpy as np
    random = np.random.default_rng(1)
    if op == "group_norm":
        batch, channels, pixels, _ = problem
        input_shape = output_shape = (batch, channels, math.isqrt(pixels), math.isqrt(pixels))
        weight_shape = (channels,)
    else:
        batch, times, *widths = problem
        leading = (batch,) if times == 1 else (batch, times)
        input_shape, output_shape = leading + (widths[0],), leading + (widths[-1],)
        weight_shape = tuple(reversed(widths))
    shapes = {"input": input_shape, "cotangent": output_shape, "weight": weight_shape, "bias": weight_shape[:1]}
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def naive_layer(op, problem, data, sample):
    """Gradients of one sample in f64, from the formulas. Statistics of a norm are taken over a row or a group."""
    weight = data["weight"].astype("f8")
    x, cotangent = (data[name][sample].astype("f8") for name in ("input", "cotangent"))
    if op == "linear":
        rows, cotangent_rows = x.reshape(-1, x.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
        return {"input": cotangent @ weight, "weight": cotangent_rows.T @ rows, "bias": cotangent_rows.sum(axis=0)}
    groups = problem[3] if op == "group_norm" else problem[1]
    scale = weight[:, None, None] if op == "group_norm" else weight
    others = (1, 2) if op == "group_norm" else tuple(range(x.ndim - 1))

    def mean(values):
        return values.reshape(groups, -1).mean(axis=1).repeat(values.size // groups).reshape(values.shape)
    rstd = 1 / (mean((x - mean(x)) ** 2) + NORM_EPSILON) ** 0.5
    normal, scaled = (x - mean(x)) * rstd, cotangent * scale
    return {"input": rstd * (scaled - mean(scaled) - normal * mean(scaled * normal)),
            "weight": (cotangent * normal).sum(axis=others), "bias": cotangent.sum(axis=others)}


# ---- layers: the systems; a run returns {name: gradients by sample} ----
def torch_layer(op, problem, data):
    import torch
    if op == "linear":
        layer = torch.nn.Linear(problem[2], problem[3])
    elif op == "layer_norm":
        layer = torch.nn.LayerNorm(problem[2], eps=NORM_EPSILON)
    else:
        layer = torch.nn.GroupNorm(problem[3], problem[1], eps=NORM_EPSILON)
    layer.load_state_dict({name: torch.from_numpy(data[name]) for name in ("weight", "bias")})
    return layer, torch.from_numpy(data["input"]).requires_grad_(), torch.from_numpy(data["cotangent"])


def plain_layer(layer, x, cotangent):
    from torch.autograd import grad
    return {"input": grad(layer(x), [x, layer.weight, layer.bias], cotangent)[0]}


def loop_layer(layer, x, cotangent):
    from torch.autograd import grad
    by_sample = []
    for i in range(len(x)):
        x_i = x[i:i + 1].detach().requires_grad_()
        of_input, *of_parameters = grad(layer(x_i), [x_i, layer.weight, layer.bias], cotangent[i:i + 1])
        by_sample.append((of_input[0], *of_parameters))
    return dict(zip(("input", "weight", "bias"), zip(*by_sample)))


def func_layer(layer, x, cotangent):
    from torch.func import functional_call, grad, vmap

    def sample_loss(parameters, x_i, cotangent_i):
        return (functional_call(layer, parameters, (x_i.unsqueeze(0),)) * cotangent_i.unsqueeze(0)).sum()
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    gradients = vmap(grad(sample_loss, argnums=(0, 1)), in_dims=(None, 0, 0))
    of_parameters, of_input = gradients(parameters, x.detach(), cotangent)
    return {"input": of_input, **of_parameters}


def wrapped_layer(forward, layer, x, cotangent):
    """forward: the layer as wrapped by ExpandedWeights or Opacus, which leave parameter.grad_sample."""
    x.grad = None
    for parameter in layer.parameters():
        parameter.grad = parameter.grad_sample = None
    forward(x).backward(cotangent)
    return {"input": x.grad, "weight": layer.weight.grad_sample, "bias": layer.bias.grad_sample}


def jax_run(op, problem, data):
    import jax

    def forward(weight, bias, x):
        if op == "linear":
            return x @ weight.T + bias
        rows, shape = (x.reshape(problem[3], -1), (-1, 1, 1)) if op == "group_norm" else (x, (-1,))
        centered = rows - rows.mean(axis=-1, keepdims=True)
        normal = centered * jax.lax.rsqrt((centered ** 2).mean(axis=-1, keepdims=True) + NORM_EPSILON)
        return normal.reshape(x.shape) * weight.reshape(shape) + bias.reshape(shape)

    def sample_loss(weight, bias, x, cotangent):
        return (forward(weight, bias, x) * cotangent).sum()
    gradients = jax.jit(jax.vmap(jax.value_and_grad(sample_loss, argnums=(0, 1, 2)), in_axes=(None, None, 0, 0)))
    arrays = [jax.numpy.asarray(data[name]) for name in ("weight", "bias", "input", "cotangent")]

    def run():
        values, by_sample = jax.block_until_ready(gradients(*arrays))
        return {"value": values, **dict(zip(("weight", "bias", "input"), by_sample))}
    return run


def layer_run(system, op, problem, data):
    if system == "JAX":
        return jax_run(op, problem, data)
    layer, x, cotangent = torch_layer(op, problem, data)
    if system in ("EW", "hooks"):
        if system == "EW":
            from torch.nn.utils._per_sample_grad import call_for_per_sample_grads as wrap
        else:
            from opacus import GradSampleModule as wrap
        return functools.partial(wrapped_layer, wrap(layer, loss_reduction="sum"), layer, x, cotangent)
    run = {"plain": plain_layer, "func": func_layer, "loop": loop_layer}[system]
    return functools.partial(run, layer, x, cotangent)


# ---- steps: the systems; each leaves the gradient to apply in parameter.grad ----
def mlp_and_batch(batch):
    import torch
    torch.manual_seed(1)
    layers = [layer for widths in zip(MLP_WIDTHS, MLP_WIDTHS[1:])
              for layer in (torch.nn.Linear(*widths), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers[:-1])
    return model, torch.randn(batch, MLP_WIDTHS[0]), torch.randint(0, MLP_WIDTHS[-1], (batch,))


def clip_factors(norms):
    """norms: (parameters, samples). Flat clipping: one factor a sample."""
    import torch
    return (MAX_GRAD_NORM / (torch.stack(norms).norm(dim=0) + CLIP_EPSILON)).clamp(max=1)


def set_private_gradient(parameter, clipped_sum, noise, batch):
    import torch
    clipped_sum.add_(torch.randn_like(clipped_sum), alpha=noise * MAX_GRAD_NORM)
    parameter.grad = clipped_sum.div_(batch)


def plain_gradient(model, x, labels, noise):
    import torch
    torch.nn.functional.cross_entropy(model(x), labels).backward()


def plain_noise_gradient(model, x, labels, noise):
    import torch
    plain_gradient(model, x, labels, noise)
    for parameter in model.parameters():
        parameter.grad.add_(torch.randn_like(parameter), alpha=noise * MAX_GRAD_NORM / len(x))


def func_gradient(model, x, labels, noise):
    import torch
    from torch.func import functional_call, grad, vmap

    def sample_loss(parameters, x_i, label):
        logits = functional_call(model, parameters, (x_i.unsqueeze(0),))
        return torch.nn.functional.cross_entropy(logits, label.unsqueeze(0))
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    by_sample = vmap(grad(sample_loss), in_dims=(None, 0, 0))(parameters, x, labels)
    factors = clip_factors([gradient.flatten(1).norm(dim=1) for gradient in by_sample.values()])
    for name, parameter in model.named_parameters():
        set_private_gradient(parameter, torch.einsum("i,i...->...", factors, by_sample[name]), noise, len(x))


def loop_gradient(model, x, labels, noise):
    import torch
    parameters = list(model.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for i in range(len(x)):
        loss = torch.nn.functional.cross_entropy(model(x[i:i + 1]), labels[i:i + 1])
        gradients = torch.autograd.grad(loss, parameters)
        factor = clip_factors([gradient.norm() for gradient in gradients]).item()
        for total, gradient in zip(sums, gradients):
            total.add_(gradient, alpha=factor)
    for parameter, total in zip(parameters, sums):
        set_private_gradient(parameter, total, noise, len(x))


def opacus_run(system, model, x, labels, noise, sgd):
    import torch
    from opacus import grad_sample, optimizers
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
    loss = torch.nn.CrossEntropyLoss()
    settings = {"noise_multiplier": noise, "max_grad_norm": MAX_GRAD_NORM, "expected_batch_size": len(x)}
    if system == "hooks":
        model, optimizer = grad_sample.GradSampleModule(model), optimizers.DPOptimizer(sgd, **settings)
    else:
        model = grad_sample.GradSampleModuleFastGradientClipping(model, max_grad_norm=MAX_GRAD_NORM)
        optimizer = optimizers.DPOptimizerFastGradientClipping(sgd, **settings)
        loss = DPLossFastGradientClipping(model, optimizer, loss, "mean")

    def run():
        optimizer.zero_grad()
        loss(model(x), labels).backward()
        optimizer.step()
    return run


def step_run(system, model, x, labels, noise):
    import torch
    sgd = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    if system in ("hooks", "ghost"):
        return opacus_run(system, model, x, labels, noise, sgd)
    set_gradients = {"plain": plain_gradient, "plain+noise": plain_noise_gradient, "func": func_gradient,
                     "loop": loop_gradient}[system]

    def run():
        sgd.zero_grad()
        set_gradients(model, x, labels, noise)
        sgd.step()
    return run


# ---- child process: check, then time ----
def relative_difference(pairs):
    """The largest max |value - expected| / max |expected| over (value, expected) pairs; NaN when any value is."""
    import numpy as np
    ratios = []
    for value, expected in pairs:
        value, expected = np.asarray(value, dtype="f8"), np.asarray(expected, dtype="f8")
        if value.shape != expected.shape:
            raise ValueError(f"a gradient has shape {value.shape}, the naive one {expected.shape}")
        ratios.append(np.abs(value - expected).max() / np.abs(expected).max())
    return float(np.max(ratios))


def prepare_layer(system, op, problem):
    data = layer_data(op, problem)
    run = layer_run(system, op, problem, data)
    result, pairs = run(), []
    for sample in (0, problem[0] - 1):
        naive = naive_layer(op, problem, data, sample)
        pairs += [(result[name][sample], naive[name]) for name in naive if name in result]
    return run, relative_difference(pairs)


def prepare_step(system, batch):
    """Checked on a batch of two without noise; the naive gradient is the f64 one."""
    model, x, labels = mlp_and_batch(2)
    step_run(system, model, x, labels, 0.0)()
    naive, x, labels = mlp_and_batch(2)
    naive_gradient = plain_gradient if system.startswith("plain") else loop_gradient
    naive_gradient(naive.double(), x.double(), labels, 0.0)
    pairs = [(value.grad, expected.grad) for value, expected in zip(model.parameters(), naive.parameters())]
    return step_run(system, *mlp_and_batch(batch), NOISE_MULTIPLIER), relative_difference(pairs)


def run_child(op, problem, system, threads, repeats):
    """Times repeats runs after one to warm up. A run frees the result of the one before."""
    warnings.simplefilter("ignore")
    if system != "JAX":
        import torch
        torch.set_num_threads(threads)
    run, difference = prepare_step(system, *problem) if op == "mlp_step" else prepare_layer(system, op, problem)
    times, result = [], run()
    for _ in range(repeats):
        start = time.perf_counter()
        result = None
        result = run()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"min_ms": min(times), "median_ms": statistics.median(times),
                      "max_relative_difference": difference if math.isfinite(difference) else None,
                      "mismatch": not difference <= TOLERANCE}))


# ---- parent process: one run after another ----
def run_program(command, mode, timeout, **environment):
    """The JSON objects a program printed, one a line. Raises RuntimeError with the reason when it failed."""
    inherited = {name: value for name, value in os.environ.items()
                 if name != "GLIBC_TUNABLES" and not name.startswith("MALLOC_")}
    try:
        done = subprocess.run(command, env={**inherited, **MALLOC_MODES[mode], **environment}, timeout=timeout,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            last_line = (done.stderr.strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"exit status {done.returncode}: {last_line}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {timeout:g} s") from None
    except (OSError, ValueError) as error:
        raise RuntimeError(str(error)) from None


def run_libpsg(case, mode, options):
    command = [options.psg, "--json", "--op", case.op, "--question", case.question,
               "--problem", ",".join(map(str, case.problem)), "--threads", str(options.threads), "--dtype", "f32"]
    wanted = {"op": case.op, "question": case.question, "problem": list(case.problem)}
    machine = {}
    for printed in run_program(command, mode, options.timeout):
        if "op" not in printed:
            machine = printed
        elif wanted.items() <= printed.items():
            return {"median_ms": printed["ms"], "limit_ms": printed.get("limit_ms"), "psg": printed, "machine": machine}
    raise RuntimeError("printed no row of this case")


def run_peer(case, system, mode, options):
    request = json.dumps([case.op, case.problem, system, options.threads, options.repeats])
    thread_counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"),
                                  str(options.threads))
    objects = run_program([sys.executable, __file__, "--child", request], mode, options.timeout,
                          JAX_PLATFORMS="cpu", **thread_counts)
    return {"repeats": options.repeats, **objects[-1]}


def run_case(case, system, mode, options):
    """One row. A failed run is a row with "error"."""
    print(f"{case.name} {system} {mode}", file=sys.stderr, flush=True)
    row = {"case": case.name, "op": case.op, "problem": case.problem, "question": case.question,
           "system": system, "malloc": mode, "threads": options.threads}
    try:
        if system == "libpsg":
            return {**row, **run_libpsg(case, mode, options)}
        return {**row, **run_peer(case, system, mode, options)}
    except (RuntimeError, LookupError) as error:
        return {**row, "error": str(error)}


# ---- what is printed ----
def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def header_text(header):
    present = [f"{name} {version}" for name, version in header["versions"].items() if version]
    absent = [name for name, version in header["versions"].items() if not version]
    modes = [" ".join([mode] + [f"{name}={value}" for name, value in MALLOC_MODES[mode].items()])
             for mode in header["malloc"]]
    return (f"{header['cpu']}, {header['threads']} threads, f32, median of {header['repeats']} runs in ms\n"
            f"installed: {', '.join(present) or 'none'}; absent: {', '.join(absent) or 'none'}\n"
            f"malloc: {' / '.join(modes)}\nlibpsg: {header['libpsg']}\n")


def format_cell(rows, key):
    """One case of one system, its malloc modes beside each other."""
    def text(row):
        ms = row.get(key)
        if ms is None:
            return "failed" if "error" in row else "-"
        return f"{ms:.{0 if ms >= 100 else 1 if ms >= 10 else 2}f}" + "!" * row.get("mismatch", False)
    return " / ".join(map(text, rows)) or "-"


def table_lines(rows):
    """The title line, then a line a case. A system that no case has is left out."""
    measured = {row["system"] for row in rows}
    columns = [(system, "median_ms", system) for system in SYSTEMS if system in measured]
    if columns and columns[0][0] == "libpsg":
        columns.insert(1, ("libpsg", "limit_ms", "limit"))
    lines = [["case"] + [title for _, _, title in columns]]
    for name in dict.fromkeys(row["case"] for row in rows):
        lines.append([name] + [format_cell([row for row in rows if (row["case"], row["system"]) == (name, system)], key)
                               for system, key, _ in columns])
    return lines


def table_text(lines, markdown):
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])
    first, *others = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines)


def notes(rows):
    for row in rows:
        name = f"{row['case']} {row['system']} {row['malloc']}"
        if "error" in row:
            yield f"failed: {name}: {row['error']}"
        elif row.get("mismatch"):
            yield f"! {name}: relative difference {row['max_relative_difference']} from the naive loop"
    for machine in [row["machine"] for row in rows if row.get("machine")][:1]:
        yield "libpsg's machine: " + ", ".join(f"{name} {value}" for name, value in machine.items())


def parse_options():
    built = Path(__file__).resolve().parent.parent / "build/bench/psg-bench"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", choices=sorted({case.op for case in CASES}), help="cases of this op alone")
    parser.add_argument("--case", default="", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--malloc", nargs="+", choices=list(MALLOC_MODES), default=list(MALLOC_MODES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of a peer in a process (default 7)")
    parser.add_argument("--timeout", type=float, default=180, help="seconds one process may take (default 180)")
    parser.add_argument("--psg", default=str(built), metavar="PROGRAM", help="default build/bench/psg-bench")
    parser.add_argument("--markdown", action="store_true", help="print a markdown table")
    parser.add_argument("--json", action="store_true", help="print a header object, then one object a row")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.threads, options.repeats) < 1:
        parser.error("--threads and --repeats must be at least 1")
    options.cases = [case for case in CASES if options.op in (None, case.op) and options.case in case.name]
    if not options.cases:
        parser.error("no case matches --op and --case")
    return options


def main():
    options = parse_options()
    if options.child:
        return run_child(*json.loads(options.child))
    installed = {package.metadata["Name"]: package.version for package in importlib.metadata.distributions()}
    versions = {name: installed.get(name) for name in ("torch", "opacus", "jax")}
    found = os.access(options.psg, os.X_OK)
    systems = {system for system in options.systems if (found if system == "libpsg" else versions[PACKAGES[system]])}
    header = {"cpu": cpu_model(), "versions": versions, "threads": options.threads, "repeats": options.repeats,
              "malloc": options.malloc, "libpsg": options.psg if found else f"{options.psg} is missing, peers alone"}
    print(json.dumps(header) if options.json else header_text(header), flush=True)
    rows = []
    for case in options.cases:
        for mode in options.malloc:
            for system in (system for system in SYSTEMS_OF_QUESTION[case.question] if system in systems):
                rows.append(run_case(case, system, mode, options))
                if options.json:
                    print(json.dumps(rows[-1]), flush=True)
    if not options.json:
        print("\n".join([table_text(table_lines(rows), options.markdown), *notes(rows)]))


if __name__ == "__main__":
    main()
