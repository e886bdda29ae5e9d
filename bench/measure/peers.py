#!/usr/bin/env python3
"""Times the Python systems that compute per-sample gradients beside libpsg, on the problems of libpsg's own benchmarks.

Optional: it runs with the Python that starts it, times those of PyTorch, Opacus and JAX that are installed and lists
what is absent. All need numpy. Example: python3 bench/measure/peers.py --op linear --repeats 5 --markdown

A layer case is the forward pass, the input gradient and the per-sample gradients of every parameter; a step case is
forward, backward, flat clipping, Gaussian noise and SGD on a model of peer_steps.py. All of it is f32. Systems:

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

import peer_steps
import peer_tables

PACKAGES = {"plain": "torch", "plain+noise": "torch", "EW": "torch", "func": "torch", "hooks": "opacus",
            "ghost": "opacus", "JAX": "jax", "loop": "torch"}
SYSTEMS = ("libpsg", *PACKAGES)
SYSTEMS_OF_QUESTION = {"grad_sample": ("libpsg", "plain", "EW", "func", "hooks", "JAX", "loop"),
                       "plain": ("libpsg", "plain"),
                       "private": ("libpsg", "plain+noise", "func", "hooks", "ghost", "loop")}

# Opacus hooks layers, of which a tied head is none; torch.func cannot batch a GRU's initial state.
REFUSED = {"gpt2_step": ("hooks", "ghost"), "gru_small_step": ("func",)}

MALLOC_MODES = {
    "default": {},
    "pinned": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"},
}

TOLERANCE = 1e-4        # of max |difference| / max |naive|
NOTED_MIB = 1024        # of resident memory, from which on a row has a note

Case = collections.namedtuple("Case", "name op problem question line", defaults=("grad_sample", None))


def linear_case(name, batch, times, width_in, width_out):
    x = f"{batch},{width_in}" if times == 1 else f"{batch},{times},{width_in}"
    line = f"{name} | x {x} | weight {width_out},{width_in} | bias {width_out}"
    return Case(name, "linear", (batch, times, width_in, width_out), line=line)


def layer_norm_case(name, batch, times, width):
    x = f"{batch},{width}" if times == 1 else f"{batch},{times},{width}"
    return Case(name, "layer_norm", (batch, times, width), line=f"{name} | x {x} | weight {width} | bias {width}")


def table_case(line):
    return Case(f"{line.op}_{line.name}", line.op, line.name, line=line.text)


def step_case(op, batch, question):
    return Case(f"{op}_B{batch}_{question}", op, (batch,), question)


# problem: what psg-bench calls it: dimensions, or the name of a table's line
CASES = (
    linear_case("linear_B256_T1_784_512", 256, 1, 784, 512),
    linear_case("linear_B64_T1_1024_1024", 64, 1, 1024, 1024),
    linear_case("linear_B64_T16_256_256", 64, 16, 256, 256),
    linear_case("linear_B64_T128_256_256", 64, 128, 256, 256),
    linear_case("linear_B32_T128_768_768", 32, 128, 768, 768),
    layer_norm_case("layer_norm_B64_T128_768", 64, 128, 768),
    layer_norm_case("layer_norm_B1024_T1_256", 1024, 1, 256),
    Case("group_norm_B64_C64_32x32_G8", "group_norm", (64, 64, 1024, 8),
         line="group_norm | x 64,64,32,32 | weight 64 | bias 64 | num_groups=8"),
    *map(table_case, peer_tables.bench_lines()),
    *(step_case(op, batch, question) for op, batch in (("mlp_step", 256), ("cnn_mnist_step", 256),
                                                       ("cnn_group_norm_step", 64), ("transformer_step", 64),
                                                       ("gpt2_step", 4), ("mlp_small_step", 16), ("gru_small_step", 8))
      for question in ("plain", "private")),
)


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


def prepare_layer(system, line):
    run = peer_tables.run_of(system, line)
    result, pairs = run(), []
    for sample in (0, line.shapes[peer_tables.first_operand(line)][0] - 1):
        naive = peer_tables.naive(line, sample)
        pairs += [(result[name][sample].detach() if hasattr(result[name][sample], "detach") else result[name][sample],
                   naive[name]) for name in naive if name in result]
    return run, relative_difference(pairs) if pairs else 0.0


def step_difference(system, op):
    """Checked on a batch of two without noise; the naive gradient is the f64 one."""
    model, x, labels = peer_steps.model_and_batch(op, 2)
    peer_steps.step_run(system, model, x, labels, 0.0)()
    naive, x, labels = peer_steps.model_and_batch(op, 2)
    naive_gradient = peer_steps.plain_gradient if system.startswith("plain") else peer_steps.loop_gradient
    naive_gradient(naive.double(), x.double() if x.is_floating_point() else x, labels, 0.0)
    # by the names of the state: those of the parameters of Opacus's layers differ
    gradients = {value.data_ptr(): value.grad for value in model.parameters()}
    pairs = [(gradients[model.state_dict()[name].data_ptr()], expected.grad)
             for name, expected in naive.named_parameters()]
    return relative_difference(pairs)


def resident_mib(name):
    """VmRSS, what is resident, or VmHWM, the most that was; NaN where /proc does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return math.nan


def first_step(system, op, batch):
    """The step, and the MiB that making its model and its first run added to resident memory."""
    try:
        Path("/proc/self/clear_refs").write_text("5")       # the peak becomes what is resident now
        before = resident_mib("VmRSS")
    except OSError:
        before = math.nan
    run = peer_steps.step_run(system, *peer_steps.model_and_batch(op, batch), peer_steps.NOISE_MULTIPLIER)
    run()
    return run, resident_mib("VmHWM") - before


def run_child(op, problem, line, system, threads, repeats):
    """Times repeats runs after one to warm up. A run frees the result of the one before."""
    warnings.simplefilter("ignore")
    if system != "JAX":
        import torch
        torch.set_num_threads(threads)
    memory = math.nan
    if line:
        run, difference = prepare_layer(system, peer_tables.Line(op, line))
    else:
        run, memory = first_step(system, op, *problem)
        difference = step_difference(system, op)
    times, result = [], run()
    for _ in range(repeats):
        start = time.perf_counter()
        result = None
        result = run()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"min_ms": min(times), "median_ms": statistics.median(times),
                      "peak_rss_mib": memory if math.isfinite(memory) else None,
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


def problem_of(case):
    if isinstance(case.problem, str):
        return "--case", case.problem
    return "--problem", ",".join(map(str, case.problem))


def run_libpsg(case, mode, options):
    command = [options.psg, "--json", "--op", case.op, "--question", case.question,
               *problem_of(case), "--threads", str(options.threads), "--dtype", "f32",
               *(["--budget", "256"] if case.question == "private" else [])]
    problem = case.problem if isinstance(case.problem, str) else list(case.problem)
    wanted = {"op": case.op, "question": case.question, "problem": problem}
    machine = {}
    for printed in run_program(command, mode, options.timeout):
        if "op" not in printed:
            machine = printed
        elif wanted.items() <= printed.items():
            return {"median_ms": printed["ms"], "limit_ms": printed.get("limit_ms"),
                    "peak_rss_mib": printed.get("peak_rss_mib"), "psg": printed, "machine": machine}
    raise RuntimeError("printed no row of this case")


def run_peer(case, system, mode, options):
    request = json.dumps([case.op, case.problem, case.line, system, options.threads, options.repeats])
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
        elif (row.get("peak_rss_mib") or 0) >= NOTED_MIB:
            yield f"{name}: {row['peak_rss_mib']:.0f} MiB resident at most"
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


def systems_of(case, systems):
    refused = REFUSED.get(case.op, ())
    return [system for system in SYSTEMS_OF_QUESTION[case.question] if system in systems and system not in refused]


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
            for system in systems_of(case, systems):
                rows.append(run_case(case, system, mode, options))
                if options.json:
                    print(json.dumps(rows[-1]), flush=True)
    if not options.json:
        print("\n".join([table_text(table_lines(rows), options.markdown), *notes(rows)]))


if __name__ == "__main__":
    main()
