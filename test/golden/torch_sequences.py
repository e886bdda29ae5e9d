"""Recurrent layers and attention of the case tables in PyTorch, written out: see torch_ops.py."""

import math

import torch
import torch.nn.functional as F

# ---- recurrent layers: x (N, T, I), states (N, L * D, H), in every pass ----

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def step(kind, line, x, h, c, w):
    """One step: the new h and c.  w: ih, hh, b_ih, b_hh, hr."""
    from_x, from_h = F.linear(x, w[0], w[2]), F.linear(h, w[1], w[3])
    if kind == "rnn":
        return (torch.relu if line.word("nonlinearity") == "relu" else torch.tanh)(from_x + from_h), c
    if kind == "gru":
        (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3, -1), from_h.chunk(3, -1)
        z, n = torch.sigmoid(xz + hz), torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return (h - n) * z + n, c
    i, f, g, o = (from_x + from_h).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return (h if w[4] is None else h @ w[4].T), c


def run_sample(kind, line, x, length, h, c, w, reverse):
    """One direction over one sample x (T, I): (T, R), zeros beyond its length, and the last states."""
    outputs = [None] * x.shape[0]
    for t in range(x.shape[0]):
        if t >= length:
            outputs[t] = torch.zeros_like(h)
    for t in reversed(range(length)) if reverse else range(length):
        h, c = step(kind, line, x[t], h, c, w)
        outputs[t] = h
    return torch.stack(outputs) if outputs else h.new_zeros((0, *h.shape)), h, c


def weights_of(o, layer, reverse):
    suffix = f"l{layer}" + ("_reverse" if reverse else "")
    return [o.get(f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")]


def state_row(state, n, row, width, x):
    if state is None:
        return x.new_zeros(width)
    return state[row] if state.dim() == 2 else state[n, row]


def run_layer(kind, line, x, lengths, o, layer, directions):
    """The layer's output (N, T, D R) and its final h (N, D, R) and c (N, D, H)."""
    samples = []
    for n in range(x.shape[0]):
        ways = []
        for reverse in range(directions):
            w, row = weights_of(o, layer, reverse), layer * directions + reverse
            hidden = w[0].shape[0] // GATES[kind]
            h = state_row(o.get("h0"), n, row, w[1].shape[1], x)
            c = state_row(o.get("c0"), n, row, hidden, x)
            ways.append(run_sample(kind, line, x[n], lengths[n], h, c, w, reverse))
        samples.append((torch.cat([y for y, _, _ in ways], -1), torch.stack([h for _, h, _ in ways]),
                        torch.stack([c for _, _, c in ways])))
    return [torch.stack(parts) for parts in zip(*samples)]


def recurrent(kind):
    def function(line, o):
        line.word("layout"), line.word("dropout"), line.word("nonlinearity")
        x, directions = o["x"], 2 if line.flag("bidirectional") else 1
        lengths = [x.shape[1]] * x.shape[0] if o["lengths"] is None else o["lengths"].tolist()
        h_n, c_n = [], []
        for layer in range(line.int("num_layers", 1)):
            x, h, c = run_layer(kind, line, x, lengths, o, layer, directions)
            h_n.append(h)
            c_n.append(c)
        return {"y": x, "h_n": torch.cat(h_n, 1), "c_n": torch.cat(c_n, 1)}[line.word("output", "y")]
    return function


def cell(kind):
    def function(line, o):
        w = [o["weight_ih"], o["weight_hh"], o["bias_ih"], o["bias_hh"], None]
        hidden = w[0].shape[0] // GATES[kind]

        def state(name):
            value = o.get(name)
            return o["x"].new_zeros(o["x"].shape[0], hidden) if value is None else value.expand(o["x"].shape[0], hidden)
        h, c = step(kind, line, o["x"], state("hx"), state("cx"), w)
        return c if line.word("output") == "c_n" else h
    return function


# ---- attention ----

def attend(scores, allowed):
    """softmax over the keys that are allowed; zero where none is."""
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    nobody = (scores == -math.inf).all(-1, keepdim=True) if scores.shape[-1] else None
    weights = torch.softmax(scores if nobody is None else scores.masked_fill(nobody, 0), -1)
    return weights if nobody is None else weights.masked_fill(nobody, 0)


def causal(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool).tril()


def sdpa(line, o):
    q, k, v, mask = o["query"], o["key"], o["value"], o["attn_mask"]
    line.word("dropout_p")
    if line.flag("enable_gqa"):
        k, v = (m.repeat_interleave(q.shape[-3] // m.shape[-3], -3) for m in (k, v))
    scale = line.real("scale") or 1 / math.sqrt(q.shape[-1])
    scores = q @ k.transpose(-2, -1) * scale
    allowed = causal(q.shape[-2], k.shape[-2]) if line.flag("is_causal") else None
    if mask is not None and mask.is_floating_point():
        scores = scores + mask
    elif mask is not None:
        allowed = mask != 0 if allowed is None else (mask != 0) & allowed
    return attend(scores, None if allowed is None else allowed.expand(scores.shape)) @ v


def projections(o):
    """Rows of the fused weight and bias, or the three weights."""
    width = o["query"].shape[-1]
    fused, bias = o["in_proj_weight"], o["in_proj_bias"]
    weights = fused.split(width) if fused is not None else (o["q_proj_weight"], o["k_proj_weight"], o["v_proj_weight"])
    return weights, (None,) * 3 if bias is None else bias.split(width)


def more_keys(line, o, k, v, heads):
    """bias_k and bias_v, then zeros: as many more keys as are returned last."""
    batch, width = k.shape[0], k.shape[-1]
    rows = []
    if o["bias_k"] is not None:
        rows.append((o["bias_k"].reshape(1, 1, width), o["bias_v"].reshape(1, 1, width)))
    if line.flag("add_zero_attn"):
        rows.append((k.new_zeros(1, 1, width), k.new_zeros(1, 1, width)))
    for row_k, row_v in rows:
        k, v = torch.cat([k, row_k.expand(batch, 1, width)], 1), torch.cat([v, row_v.expand(batch, 1, width)], 1)
    return k, v, len(rows)


def masked(line, o, scores, more, heads):
    """Masks reach the keys given alone."""
    batch, _, queries, keys = scores.shape
    given = keys - more
    allowed = torch.ones(batch, 1, queries, given, dtype=torch.bool)
    added = torch.zeros(1, 1, queries, given)
    for name, shape in (("attn_mask", None), ("key_padding_mask", (batch, 1, 1, given))):
        mask = o[name]
        if mask is None:
            continue
        if shape:
            mask = mask.reshape(shape)
        elif mask.dim() == 3:
            mask = mask.reshape(-1, heads, queries, given)
        if mask.is_floating_point():
            added = added + mask
        else:
            allowed = allowed & (mask == 0)
    if line.flag("is_causal"):
        allowed = allowed & causal(queries, given)
    allowed = F.pad(allowed.expand(batch, heads, queries, given), (0, more), value=True)
    return attend(scores + F.pad(added, (0, more)), allowed)


def multi_head_attention(line, o):
    line.word("dropout_p")
    query, heads = o["query"], line.int("num_heads", 1)
    key = query if o["key"] is None else o["key"]
    value = key if o["value"] is None else o["value"]
    weights, biases = projections(o)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
    k, v, more = more_keys(line, o, k, v, heads)
    batch, width = q.shape[0], q.shape[-1]
    q, k, v = (m.reshape(batch, m.shape[1], heads, width // heads).transpose(1, 2) for m in (q, k, v))
    weights = masked(line, o, q @ k.transpose(-2, -1) / math.sqrt(width // heads), more, heads)
    if line.flag("weights"):
        return weights if line.flag("per_head") else weights.mean(1)
    y = (weights @ v).transpose(1, 2).reshape(batch, query.shape[1], width)
    return F.linear(y, o["out_proj_weight"], o["out_proj_bias"])
