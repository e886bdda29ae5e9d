"""What a case should give, by PyTorch's autograd in f64: the output and, for every wanted operand, its gradient.

grad_sample of a parameter is that of each sample alone, a batch of one; an ordinary case has one sum instead.
"""

import dataclasses

import torch

from torch_ops import OPS


def as_leaves(line, operands):
    return {name: value.clone().requires_grad_() if value is not None and line.wants_grad(name) else value
            for name, value in operands.items()}


def with_absent(rules, operands):
    return {rule.name: operands.get(rule.name) for rule in rules}


def gradients(output, grad_output, leaves, names):
    """Zeros where the output does not depend on a leaf."""
    wanted = [leaves[name] for name in names]
    if not wanted or not output.requires_grad:
        return {name: torch.zeros_like(leaves[name]) for name in names}
    found = torch.autograd.grad(output, wanted, grad_output, allow_unused=True)
    return {name: torch.zeros_like(leaf) if grad is None else grad for name, leaf, grad in zip(names, wanted, found)}


def sample(line, operands, n):
    return {name: value[n:n + 1] if value is not None and line.operands[name].role == "BATCHED" and value.dim()
            else value for name, value in operands.items()}


def parameters_and_inputs(line):
    wanted = [name for name in line.operands if line.wants_grad(name)]
    parameters = [name for name in wanted if line.operands[name].role == "PARAMETER"]
    return parameters, [name for name in wanted if name not in parameters]


def is_one_value(line, output):
    """Of the whole batch."""
    return output.dim() == 0


def line_of_one(line):
    """The line with a batch of one."""
    def one(operand):
        return dataclasses.replace(operand, shape=(1, *operand.shape[1:])) if operand.role == "BATCHED" else operand
    return dataclasses.replace(line, operands={name: one(operand) for name, operand in line.operands.items()})


def empty_batch(line, rules, operands):
    """B = 0: shapes alone, after one sample of any values was computed; the output's elements have no rows."""
    def any_sample(value):
        return (torch.ones if value.is_floating_point() else torch.zeros)((1, *value.shape[1:]), dtype=value.dtype)
    sample_of_any = {name: any_sample(value) if line.operands[name].role == "BATCHED" else value
                     for name, value in operands.items()}
    OPS[line.op](line_of_one(line), with_absent(rules, sample_of_any))
    parameters, inputs = parameters_and_inputs(line)
    results = {"output": torch.zeros(0), **{name: torch.zeros(0) for name in inputs}}
    results.update({name: torch.zeros((0, *operands[name].shape)) for name in parameters})
    return results


def results_of(line, rules, operands, grad_output_of, ops=OPS):
    """{"output": tensor, operand: gradient}, batch in front; grad_output_of(shape) draws the output's gradient."""
    function = ops[line.op]
    parameters, inputs = parameters_and_inputs(line)
    ordinary = line.flag("ordinary")
    if line.batch_size == 0 and not ordinary:
        return empty_batch(line, rules, operands)
    leaves = as_leaves(line, operands)
    output = function(line, with_absent(rules, leaves))
    if not output.is_floating_point():
        return {"output": output.to(torch.float64)}
    grad_output = grad_output_of(tuple(output.shape))
    results = {"output": output.detach()}
    if ordinary:
        return {**results, **gradients(output, grad_output, leaves, parameters + inputs)}
    results.update(gradients(output, grad_output, leaves, inputs))
    results.update(grad_samples(line, rules, operands, output, grad_output, parameters, function))
    return results


def grad_samples(line, rules, operands, output, grad_output, parameters, function):
    rows = {name: [] for name in parameters}
    one_value, mean = is_one_value(line, output), line.word("reduction", "mean") != "sum"
    factor = float(line.batch_size) if line.flag("mean") else 1.0
    if one_value and mean:
        factor /= line.batch_size
    for n in range(line.batch_size if parameters else 0):
        leaves = as_leaves(line, sample(line, operands, n))
        alone = function(line, with_absent(rules, leaves))
        found = gradients(alone, grad_output if one_value else grad_output[n:n + 1], leaves, parameters)
        for name in parameters:
            rows[name].append(factor * found[name])
    return {name: torch.stack(values) for name, values in rows.items()}
