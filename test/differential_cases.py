"""Random lines of the case tables: DRAW[op](rng) gives the operands and options of one line."""

import math

from case_tables import functions_of_two, functions_of_x

DRAW = {}


def draws(*names):
    def register(function):
        for name in names:
            DRAW[name] = function
        return function
    return register


def text(*shape):
    return ",".join(map(str, shape)) if shape else "()"


def chance(rng, probability):
    return rng.random() < probability


def batch(rng):
    return rng.choice((1, 2, 3, 5)) if chance(rng, 0.9) else rng.choice((0, 33))


def size(rng, most=6):
    return rng.randint(1, most) if chance(rng, 0.97) else rng.choice((0, 17))


def middle(rng, most=2):
    return [size(rng, 4) for _ in range(rng.randint(0, most))]


def finish(rng, operands, options=(), parameters=(), ordinary=True, second=True):
    """Fields of a line: options of the op, and those that any op knows.  second: a batch in dimension 1 makes sense."""
    words = [f"{key}={value}" for key, value in dict(options).items() if value is not None]
    frozen = [name for name in parameters if chance(rng, 0.12)]
    if frozen:
        words.append("frozen=" + ",".join(frozen))
    for flag, probability in (("batch_second", 0.2 if second else 0), ("mean", 0.25), ("no_input_grad", 0.1),
                              ("ordinary", 0.1 if ordinary else 0)):
        if chance(rng, probability) and not (flag == "mean" and "ordinary" in words):
            words.append(flag)
    return " | ".join([*operands, " ".join(words)])


def optional(rng, operands, parameters, name, *shape, probability=0.7):
    """A parameter that may be absent."""
    if chance(rng, probability):
        operands.append(f"{name} {text(*shape)}")
        parameters.append(name)


@draws("linear")
def linear(rng):
    features, outputs = size(rng, 9), size(rng, 9)
    operands = [f"x {text(batch(rng), *middle(rng, 3), features)}", f"weight {outputs},{features}"]
    parameters = ["weight"]
    optional(rng, operands, parameters, "bias", outputs)
    return finish(rng, operands, {}, parameters)


# ---- norms ----

def eps_of(rng):
    return rng.choice((None, 0.5, 0.001, 1e-5))


@draws("layer_norm")
def layer_norm(rng):
    rank = rng.randint(1, 3)
    shape = [size(rng, 5) for _ in range(rank)]
    positions = middle(rng)
    operands, parameters = [f"x {text(batch(rng), *positions, *shape)}"], []
    optional(rng, operands, parameters, "weight", *shape)
    optional(rng, operands, parameters, "bias", *shape)
    return finish(rng, operands, {"rank": rank, "eps": eps_of(rng)}, parameters, second=bool(positions))


@draws("group_norm")
def group_norm(rng):
    groups, each = rng.randint(1, 4), rng.randint(1, 4)
    channels = groups * each
    operands, parameters = [f"x {text(batch(rng), channels, *middle(rng, 3))}"], []
    optional(rng, operands, parameters, "weight", channels)
    optional(rng, operands, parameters, "bias", channels)
    return finish(rng, operands, {"num_groups": groups, "eps": eps_of(rng)}, parameters)


# ---- activations ----

def elementwise(rng):
    return finish(rng, [f"x {text(batch(rng), *middle(rng, 3))}"])


@draws("softmax")
def softmax(rng):
    rest = middle(rng, 3) or [size(rng)]
    dim = -rng.randint(1, len(rest))
    return finish(rng, [f"x {text(batch(rng), *rest)}"], {"dim": dim}, second=dim > -len(rest))


# ---- losses ----

@draws("cross_entropy")
def cross_entropy(rng):
    n, classes, rest = max(batch(rng), 1), rng.randint(1, 7), middle(rng)
    kind = rng.choice(("", " i32"))
    return finish(rng, [f"x {text(n, classes, *rest)}", f"target {text(n, *rest)} <{classes}{kind}"],
                  {"reduction": rng.choice((None, "mean", "sum", "none")),
                   "label_smoothing": rng.choice((None, 0.1, 0.5))})


# ---- linear maps and tables ----

@draws("bilinear")
def bilinear(rng):
    n, mid, outputs, left, right = batch(rng), middle(rng), size(rng, 5), size(rng, 5), size(rng, 5)
    operands = [f"x1 {text(n, *mid, left)}", f"x2 {text(n, *mid, right)}", f"weight {outputs},{left},{right}"]
    parameters = ["weight"]
    optional(rng, operands, parameters, "bias", outputs)
    return finish(rng, operands, {}, parameters)


def each(rng, spatial, *choices):
    """One number for all dimensions, or one a dimension."""
    values = [rng.choice(choices) for _ in range(spatial)]
    return text(*values) if chance(rng, 0.7) else values[0]


def conv(spatial):
    def draw(rng):
        groups = rng.choice((1, 1, 1, 2, 3))
        inputs, outputs = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
        kernel = [rng.randint(1, 4 if spatial < 3 else 3) for _ in range(spatial)]
        image = [rng.randint(1, (14, 9, 6)[spatial - 1]) for _ in range(spatial)]
        operands = [f"x {text(batch(rng), inputs, *image)}", f"weight {text(outputs, inputs // groups, *kernel)}"]
        parameters = ["weight"]
        optional(rng, operands, parameters, "bias", outputs)
        options = {"groups": groups, "stride": each(rng, spatial, 1, 1, 2, 3),
                   "dilation": each(rng, spatial, 1, 1, 2, 3),
                   "padding": rng.choice(("same", "valid", each(rng, spatial, 0, 1, 2, 3), each(rng, spatial, 0, 1)))}
        if options["padding"] not in ("same", "valid"):
            if chance(rng, 0.2):
                options["padding_after"] = each(rng, spatial, 0, 1, 2)
        if chance(rng, 0.2):
            options["padding_mode"] = rng.choice(("reflect", "replicate", "circular"))
        return finish(rng, operands, options, parameters)
    return draw


def conv_transpose(spatial):
    def draw(rng):
        groups = rng.choice((1, 1, 2, 3))
        inputs, outputs = groups * rng.randint(1, 3), rng.randint(1, 3)
        kernel = [rng.randint(1, 4 if spatial < 3 else 3) for _ in range(spatial)]
        image = [rng.randint(1, (12, 6, 4)[spatial - 1]) for _ in range(spatial)]
        operands = [f"x {text(batch(rng), inputs, *image)}", f"weight {text(inputs, outputs, *kernel)}"]
        parameters = ["weight"]
        optional(rng, operands, parameters, "bias", outputs * groups)
        return finish(rng, operands, {"groups": groups, "stride": each(rng, spatial, 1, 2, 3),
                                      "dilation": each(rng, spatial, 1, 1, 2), "padding": each(rng, spatial, 0, 1, 2),
                                      "output_padding": each(rng, spatial, 0, 0, 1)}, parameters)
    return draw


for _spatial in (1, 2, 3):
    DRAW[f"conv{_spatial}d"] = conv(_spatial)
    DRAW[f"conv_transpose{_spatial}d"] = conv_transpose(_spatial)


def ids_words(rng, rows):
    return f"<{rows}" + rng.choice(("", " i32"))


def norm_options(rng):
    """And the flag that lets a forward pass scale rows."""
    if not chance(rng, 0.2):
        return {}, ""
    return {"max_norm": rng.choice((0.2, 0.7, 1.5)), "norm_type": rng.choice((None, 1, 3))}, " allow_updates"


@draws("embedding")
def embedding(rng):
    rows, shape = rng.randint(1, 8), [size(rng, 5) for _ in range(rng.randint(0, 2))]
    ids = f"ids {text(batch(rng), *shape)} {ids_words(rng, rows)}"
    options = {"padding_idx": rng.choice((None, None, rng.randrange(rows), -rng.randint(1, rows)))}
    if chance(rng, 0.3):
        options["scale_grad_by_freq"] = 1
    norms, allowed = norm_options(rng)
    return finish(rng, [ids, f"weight {rows},{size(rng, 5)}"], {**options, **norms}, ["weight"]) + allowed


@draws("embedding_bag")
def embedding_bag(rng):
    rows, n, length, mode = rng.randint(1, 8), max(batch(rng), 1), size(rng, 6), rng.choice(("mean", "sum", "max"))
    operands = [f"ids {n},{length} {ids_words(rng, rows)}", f"weight {rows},{size(rng, 5)}"]
    options = {"mode": mode, "padding_idx": rng.choice((None, rng.randrange(rows)))}
    if mode == "sum" and chance(rng, 0.5):
        operands.append(f"per_sample_weights {n},{length}")
    elif mode != "max" and chance(rng, 0.3):
        options["scale_grad_by_freq"] = 1
    norms, allowed = norm_options(rng) if mode != "max" else ({}, "")   # rows of one norm tie
    return finish(rng, operands, {**options, **norms}, ["weight"], ordinary="scale_grad_by_freq" not in options) \
        + allowed


# ---- norms ----

@draws("rms_norm")
def rms_norm(rng):
    rank, positions = rng.randint(1, 3), middle(rng)
    shape = [size(rng, 5) for _ in range(rank)]
    operands, parameters = [f"x {text(batch(rng), *positions, *shape)}"], []
    optional(rng, operands, parameters, "weight", *shape)
    return finish(rng, operands, {"rank": rank, "eps": eps_of(rng)}, parameters, second=bool(positions))


def by_channel(rng, spatial, statistics):
    channels = rng.randint(1, 6)
    operands, parameters = [f"x {text(batch(rng), channels, *spatial)}"], []
    if statistics:
        operands += [f"running_mean {channels}", f"running_var {channels}"]
    optional(rng, operands, parameters, "weight", channels)
    optional(rng, operands, parameters, "bias", channels)
    return operands, parameters


@draws("instance_norm")
def instance_norm(rng):
    statistics = chance(rng, 0.4)
    spatial = [rng.randint(2, 5) for _ in range(rng.randint(1, 3))]
    operands, parameters = by_channel(rng, spatial, statistics)
    options = {"eps": eps_of(rng), "use_input_stats": 0 if statistics else None}
    return finish(rng, operands, options, parameters)


@draws("batch_norm")
def batch_norm(rng):
    if chance(rng, 0.3):
        operands, parameters = by_channel(rng, [rng.randint(2, 5) for _ in range(rng.randint(1, 3))], False)
        return finish(rng, operands, {"eps": eps_of(rng)}, parameters, ordinary=False) \
            .replace(" mean", "").replace("| mean", "| ") + " training ordinary"
    operands, parameters = by_channel(rng, middle(rng, 3), True)
    return finish(rng, operands, {"eps": eps_of(rng)}, parameters)


# ---- arithmetic ----

def broadcast(rng):
    """Two operands: both of the batch, or one a parameter or a constant."""
    n, shape = batch(rng), [size(rng, 4) for _ in range(rng.randint(0, 3))]
    one = [1 if chance(rng, 0.3) else length for length in shape]
    other = [1 if chance(rng, 0.3) else length for length in shape]
    kind = rng.choice(("batched", "batched", "parameter", "parameter", "constant"))
    if kind == "batched":
        return [f"a {text(n, *one)}", f"b {text(n, *other)}"], [], bool(shape)
    other = other[rng.randint(0, len(other)):]
    if chance(rng, 0.2) and other and len(other) == len(shape):
        other = [1, *other]
    names = ("a", "b") if chance(rng, 0.7) else ("b", "a")
    operands = sorted([f"{names[0]} {text(n, *one)}", f"{names[1]} {text(*other)} {kind}"])
    return operands, [names[1]] if kind == "parameter" else [], bool(shape)


def arithmetic(positive):
    def draw(rng):
        operands, parameters, second = broadcast(rng)
        if positive:
            operands = [operands[0], operands[1] + " positive"]
        batched = all("parameter" not in operand and "constant" not in operand for operand in operands)
        return finish(rng, operands, {}, parameters, second=second and batched)
    return draw


for _name in functions_of_two():
    DRAW[_name] = arithmetic(_name == "div")
DRAW["neg"] = elementwise


@draws("scale")
def scale(rng):
    return finish(rng, [f"x {text(batch(rng), *middle(rng, 3))}"], {"factor": rng.choice((0, 1, -2.5, 3))})


@draws("matmul")
def matmul(rng):
    n, rows, inner, columns = batch(rng), size(rng, 4), size(rng, 5), size(rng, 4)
    heads = [rng.randint(1, 3) for _ in range(rng.randint(0, 2))]
    other = [1 if chance(rng, 0.3) else length for length in heads]
    kind = rng.choice(("batched", "batched", "parameter", "constant"))
    if kind == "batched":
        return finish(rng, [f"a {text(n, *heads, rows, inner)}", f"b {text(n, *other, inner, columns)}"],
                      second=bool(heads))
    other = other[rng.randint(0, len(other)):]
    parameters = ["a" if chance(rng, 0.4) else "b"] if kind == "parameter" else []
    if parameters == ["a"]:
        operands = [f"a {text(*other, rows, inner)} {kind}", f"b {text(n, *heads, inner, columns)}"]
    else:
        operands = [f"a {text(n, *heads, rows, inner)}", f"b {text(*other, inner, columns)} {kind}"]
    return finish(rng, operands, {}, parameters, second=False)


# ---- pools ----

def pool(kind, spatial):
    def draw(rng):
        image = [rng.randint(1, (16, 9, 6)[spatial - 1]) for _ in range(spatial)]
        options = {"kernel_size": each(rng, spatial, 1, 2, 2, 3, 4)}
        if chance(rng, 0.7):
            options["stride"] = each(rng, spatial, 1, 2, 3)
        if chance(rng, 0.5):
            options["padding"] = each(rng, spatial, 0, 1)
        if chance(rng, 0.4):
            options["ceil_mode"] = 1
        # a window wholly in the padding makes PyTorch's backward pass write outside its memory
        if kind == "max" and "padding" not in options and chance(rng, 0.6):
            options["dilation"] = each(rng, spatial, 1, 2, 3)
        if kind == "avg" and chance(rng, 0.4):
            options["count_include_pad"] = 0
        if kind == "avg" and chance(rng, 0.2):
            options["divisor_override"] = rng.randint(1, 7)
        return finish(rng, [f"x {text(batch(rng), rng.randint(1, 3), *image)}"], options)
    return draw


def adaptive_pool(spatial):
    def draw(rng):
        image = [rng.randint(1, (16, 9, 6)[spatial - 1]) for _ in range(spatial)]
        return finish(rng, [f"x {text(batch(rng), rng.randint(1, 3), *image)}"],
                      {"output_size": each(rng, spatial, 1, 2, 3, 4, 5, 7, -1)})
    return draw


for _spatial in (1, 2, 3):
    for _kind in ("max", "avg"):
        DRAW[f"{_kind}_pool{_spatial}d"] = pool(_kind, _spatial)
        DRAW[f"adaptive_{_kind}_pool{_spatial}d"] = adaptive_pool(_spatial)


# ---- recurrent layers ----

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def layer_weights(rng, kind, suffix, inputs, hidden, projected, biases, parameters):
    gates = GATES[kind] * hidden
    shapes = [("weight_ih", (gates, inputs)), ("weight_hh", (gates, projected or hidden))]
    shapes += [(name, (gates,)) for name, given in zip(("bias_ih", "bias_hh"), biases) if given]
    if projected:
        shapes.append(("weight_hr", (projected, hidden)))
    parameters += [name + suffix for name, _ in shapes]
    return [f"{name}{suffix} {text(*shape)}" for name, shape in shapes]


def initial_states(rng, kind, n, rows, hidden, projected, parameters):
    operands, form = [], rng.choice(("none", "batched", "parameter", "constant"))
    for name, width in (("h0", projected or hidden), ("c0", hidden))[:1 + (kind == "lstm")]:
        if form != "none":
            operands.append(f"{name} {text(n, rows, width) if form == 'batched' else text(rows, width)} {form}")
            parameters += [name] if form == "parameter" else []
    return operands


def recurrent(kind):
    def draw(rng):
        n, steps, inputs, hidden = max(batch(rng) % 9, 1), rng.randint(1, 6), rng.randint(1, 4), rng.randint(2, 4)
        layers, directions = rng.randint(1, 3), rng.randint(1, 2)
        projected = rng.randint(1, hidden - 1) if kind == "lstm" and chance(rng, 0.3) else 0
        biases, parameters = rng.choice(((1, 1), (1, 1), (0, 0), (1, 0), (0, 1))), []
        operands = [f"x {n},{steps},{inputs}"]
        if chance(rng, 0.5):
            operands.append(f"lengths {n} <{steps + 1}" + rng.choice(("", " i32")))
        operands += initial_states(rng, kind, n, layers * directions, hidden, projected, parameters)
        for layer in range(layers):
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[:directions]:
                width = inputs if layer == 0 else directions * (projected or hidden)
                operands += layer_weights(rng, kind, suffix, width, hidden, projected, biases, parameters)
        outputs = ("y", "h_n", "c_n") if kind == "lstm" else ("y", "h_n")
        options = {"num_layers": layers, "output": rng.choice((None, *outputs))}
        if directions == 2:
            options["bidirectional"] = 1
        if kind == "rnn":
            options["nonlinearity"] = rng.choice((None, "tanh", "relu"))
        return finish(rng, operands, options, parameters)
    return draw


def cell(kind):
    def draw(rng):
        n, inputs, hidden, parameters = max(batch(rng), 1), rng.randint(1, 5), rng.randint(1, 5), []
        operands, form = [f"x {n},{inputs}"], rng.choice(("none", "batched", "parameter"))
        for name in ("hx", "cx")[:1 + (kind == "lstm")]:
            if form != "none":
                operands.append(f"{name} {text(n, hidden) if form == 'batched' else hidden} {form}")
                parameters += [name] if form == "parameter" else []
        biases = rng.choice(((1, 1), (0, 0), (1, 0), (0, 1)))
        operands += layer_weights(rng, kind, "", inputs, hidden, 0, biases, parameters)
        options = {"output": rng.choice((None, "h_n", "c_n"))} if kind == "lstm" else {}
        if kind == "rnn":
            options["nonlinearity"] = rng.choice((None, "tanh", "relu"))
        return finish(rng, operands, options, parameters)
    return draw


for _kind in GATES:
    DRAW[_kind] = recurrent(_kind)
    DRAW[f"{_kind}_cell"] = cell(_kind)


# ---- attention ----

@draws("scaled_dot_product_attention")
def sdpa(rng):
    n, queries, keys = max(batch(rng) % 9, 1), rng.randint(1, 6), rng.randint(1, 6)
    width, value_width = rng.randint(1, 5), rng.randint(1, 5)
    heads = [rng.randint(1, 3) for _ in range(rng.randint(0, 2))]
    q_heads, options, parameters = list(heads), {"scale": rng.choice((None, None, 0.3))}, []
    if heads and chance(rng, 0.3):
        q_heads[-1] *= rng.randint(1, 3)
        options["enable_gqa"] = 1
    operands = [f"query {text(n, *q_heads, queries, width)}", f"key {text(n, *heads, keys, width)}",
                f"value {text(n, *heads, keys, value_width)}"]
    if chance(rng, 0.3):
        options["is_causal"] = 1
    if chance(rng, 0.6):
        kind = rng.choice(("constant", "parameter", "batched"))
        mask = [1 if chance(rng, 0.3) else length for length in (*q_heads, queries, keys)]
        mask = [n, *mask] if kind == "batched" else mask[rng.randint(0, len(q_heads)):]
        number = "" if kind == "parameter" or chance(rng, 0.6) else "<2"
        operands.append(f"attn_mask {text(*mask)} {kind} {number}")
        parameters += ["attn_mask"] if kind == "parameter" else []
    # With the batch second dimension -3 may be the batch, and a mask without a batch aligns with other dimensions.
    aligned = all("batched" in mask for mask in operands[3:])
    second = aligned and len(heads) > (1 if "enable_gqa" in options else 0)
    return finish(rng, operands, options, parameters, second=second)


@draws("multi_head_attention")
def multi_head_attention(rng):
    n, queries, keys, heads = max(batch(rng) % 9, 1), rng.randint(1, 5), rng.randint(1, 5), rng.randint(1, 3)
    width, parameters = heads * rng.randint(1, 3), []
    form = rng.choice(("self", "pair", "cross", "separate"))
    operands = [f"query {n},{queries},{width}"]
    key_width = rng.randint(1, 5) if form == "separate" else width
    value_width = rng.randint(1, 5) if form == "separate" else width
    if form == "self":
        keys = queries
    else:
        operands.append(f"key {n},{keys},{key_width}")
    if form in ("cross", "separate"):
        operands.append(f"value {n},{keys},{value_width}")
    if form == "separate":
        shapes = [("q_proj_weight", (width, width)), ("k_proj_weight", (width, key_width)),
                  ("v_proj_weight", (width, value_width))]
    else:
        shapes = [("in_proj_weight", (3 * width, width))]
    if chance(rng, 0.6):
        shapes.append(("in_proj_bias", (3 * width,)))
    if chance(rng, 0.3):
        shapes += [("bias_k", (1, 1, width)), ("bias_v", (1, 1, width))]
    shapes.append(("out_proj_weight", (width, width)))
    if chance(rng, 0.6):
        shapes.append(("out_proj_bias", (width,)))
    parameters += [name for name, _ in shapes]
    operands += [f"{name} {text(*shape)}" for name, shape in shapes]
    if chance(rng, 0.4):
        shape = rng.choice(([queries, keys], [1, 1, queries, keys], [1, heads, queries, keys]))
        operands.append(f"attn_mask {text(*shape)} {rng.choice(('', '<2'))}")
    if chance(rng, 0.4):
        operands.append(f"key_padding_mask {n},{keys} <2")
    options = {"num_heads": heads}
    options.update({flag: 1 for flag, odds in (("is_causal", 0.3), ("add_zero_attn", 0.2), ("weights", 0.2),
                                               ("per_head", 0.3)) if chance(rng, odds)})
    return finish(rng, operands, options, parameters)


# ---- activations and losses ----

for _name in (*functions_of_x(), "gelu"):
    DRAW[_name] = elementwise
for _name in ("log", "sqrt"):
    DRAW[_name] = lambda rng: finish(rng, [f"x {text(batch(rng), *middle(rng, 3))} positive"])
for _name in ("log_softmax", "softmin"):
    DRAW[_name] = softmax


def numbered(**choices):
    def draw(rng):
        options = {key: rng.choice((None, *values)) for key, values in choices.items()}
        return finish(rng, [f"x {text(batch(rng), *middle(rng, 3))}"], options)
    return draw


DRAW.update(elu=numbered(alpha=(0.3, -0.7)), celu=numbered(alpha=(0.3, -0.7)),
            leaky_relu=numbered(negative_slope=(0.3, -2)), softplus=numbered(beta=(3, 0.5), threshold=(0.5, 0.2)),
            hardtanh=numbered(min_val=(-0.3, -0.1), max_val=(0.5, 0.2)), softshrink=numbered(**{"lambda": (0.2, 0)}),
            hardshrink=numbered(**{"lambda": (0.2, 0)}), threshold=numbered(threshold=(0.2, -0.3), value=(3, -1)))


@draws("dropout", "feature_dropout")
def dropout(rng):
    x = [batch(rng), *[size(rng, 5) for _ in range(rng.randint(2, 4))]]
    evaluation = " evaluation" if chance(rng, 0.15) else ""
    return finish(rng, [f"x {text(*x)}"], {"p": rng.choice((0, 0.1, 0.5, 0.75, 0.9, 1))}) + evaluation


@draws("glu")
def glu(rng):
    rest, at = middle(rng, 3) or [size(rng)], rng.randrange(1, 3)
    at = min(at, len(rest))
    rest[-at] = 2 * max(rest[-at], 1)
    return finish(rng, [f"x {text(batch(rng), *rest)}"], {"dim": -at}, second=at < len(rest))


@draws("prelu")
def prelu(rng):
    channels = size(rng, 5)
    x = f"x {text(batch(rng), channels, *middle(rng))}"
    return finish(rng, [x, f"weight {rng.choice((1, channels))}"], {}, ["weight"])


def loss(x="", target="", **flags):
    def draw(rng):
        shape = text(max(batch(rng), 1), *middle(rng, 2))
        options = {"reduction": rng.choice((None, "sum", "none"))}
        options.update({key: rng.choice((None, *values)) for key, values in flags.items()})
        return finish(rng, [f"x {shape} {x}", f"target {shape} {target}"], options)
    return draw


DRAW.update(mse=loss(), l1=loss(), smooth_l1=loss(beta=(0.3, 0)), huber=loss(delta=(0.3,)), soft_margin=loss(),
            binary_cross_entropy_with_logits=loss(), binary_cross_entropy=loss(), kl_div=loss(log_target=(1,)),
            poisson_nll=lambda rng: rng.choice(POISSON)(rng))
POISSON = (loss(full=(1,)), loss("positive", full=(1,), input_is_rate=(1,), eps=(0.1,)))


@draws("hinge_embedding")
def hinge_embedding(rng):
    shape = [rng.randint(1, 4) for _ in range(rng.randint(1, 3))]   # 64 values at most
    target = ",".join(rng.choice(("1", "-1")) for _ in range(math.prod(shape)))
    options = {"reduction": rng.choice((None, "sum", "none")), "margin": rng.choice((None, 0.3, -0.2))}
    return finish(rng, [f"x {text(*shape)}", f"target {text(*shape)} ={target}"], options)


@draws("nll")
def nll(rng):
    n, classes, rest = max(batch(rng), 1), rng.randint(1, 7), middle(rng)
    operands, reduction = [f"x {text(n, classes, *rest)}", f"target {text(n, *rest)} <{classes}"], rng.choice(
        (None, "sum", "none"))
    if reduction and chance(rng, 0.5):
        operands.append(f"weight {classes}")
    return finish(rng, operands, {"reduction": reduction})


# ---- shapes; dimensions are those of the pass ----

def in_pass(rng, x):
    """(whether the batch is second, x as the pass has it)"""
    if len(x) < 3 or not chance(rng, 0.2):
        return False, x
    return True, [x[1], x[0], *x[2:]]


def shaped(rng, x, options, second=False):
    return finish(rng, [f"x {text(*x)}"], options, second=False) + (" batch_second physical" if second else "")


def other_dims(rank, second):
    """All but the batch."""
    return [d for d in range(rank) if d != second]


def other_dim(rng, rank, second=False):
    dim = rng.choice(other_dims(rank, second))
    return dim if chance(rng, 0.7) else dim - rank


def some_dims(rng, rank, second):
    others = other_dims(rank, second)
    return rng.sample(others, rng.randint(1, len(others)))


@draws("reshape")
def reshape(rng):
    """Elements of a sample in other runs: factors of their count; -1 for one of them or for the batch."""
    n, shape, factors = batch(rng), [size(rng, 6) for _ in range(rng.randint(1, 4))], []
    rest = math.prod(shape)
    while rest > 1 and len(factors) < 3:
        factors.append(rng.choice([d for d in range(1, rest + 1) if rest % d == 0]))
        rest //= factors[-1]
    factors = ["B", *(factors + [rest] if rest != 1 or not factors else factors)]
    if n and 0 not in shape and chance(rng, 0.3):
        factors[rng.randrange(len(factors))] = -1
    return shaped(rng, [n, *shape], {"shape": text(*factors)})


@draws("expand")
def expand(rng):
    shape = [size(rng, 4) for _ in range(rng.randint(0, 4))]
    second, wide = in_pass(rng, ["B", *shape])
    x = [1 if d != "B" and chance(rng, 0.5) else d for d in wide]
    wide = [-1 if chance(rng, 0.2) else d for d in wide]
    narrow = [d for d in x if d != "B"]
    return shaped(rng, [batch(rng), *narrow], {"shape": text(*wide)}, second)


@draws("squeeze")
def squeeze(rng):
    second, x = in_pass(rng, [batch(rng), *(1 if chance(rng, 0.5) else d for d in middle(rng, 3)), size(rng, 3)])
    dim = rng.randint(-len(x), len(x) - 1)
    return shaped(rng, [x[second], *(d for k, d in enumerate(x) if k != second)], {"dim": dim}, second)


@draws("unsqueeze")
def unsqueeze(rng):
    second, x = in_pass(rng, [batch(rng), *middle(rng, 3), size(rng, 4)])
    dim = rng.randint(1 + second, len(x))
    return shaped(rng, [x[second], *(d for k, d in enumerate(x) if k != second)],
                  {"dim": dim if chance(rng, 0.7) else dim - len(x) - 1}, second)


@draws("flatten")
def flatten(rng):
    x = [batch(rng), *middle(rng, 3), size(rng, 4)]
    second = in_pass(rng, x)[0]
    start = rng.randint(1 + second, len(x) - 1)
    return shaped(rng, x, {"start_dim": start, "end_dim": rng.randint(start, len(x) - 1)}, second)


@draws("transpose")
def transpose(rng):
    x = [batch(rng), size(rng, 6), *middle(rng, 2), size(rng, 6)]
    second = in_pass(rng, x)[0]
    return shaped(rng, x, {"dim0": other_dim(rng, len(x), second), "dim1": other_dim(rng, len(x), second)}, second)


@draws("permute")
def permute(rng):
    x = [batch(rng), *middle(rng, 3), size(rng, 4)]
    second = in_pass(rng, x)[0]
    dims = rng.sample(other_dims(len(x), second), len(x) - 1)
    dims.insert(second, int(second))
    return shaped(rng, x, {"dims": text(*dims)}, second)


@draws("flip")
def flip(rng):
    x = [batch(rng), *middle(rng, 3), size(rng, 4)]
    second = in_pass(rng, x)[0]
    return shaped(rng, x, {"dims": text(*some_dims(rng, len(x), second))}, second)


@draws("mean", "sum")
def reduced(rng):
    x = [batch(rng), *(max(length, 1) for length in middle(rng, 3)), rng.randint(1, 40)]
    second = in_pass(rng, x)[0]
    keep = " keepdim" if chance(rng, 0.5) else ""
    return shaped(rng, x, {"dims": text(*some_dims(rng, len(x), second))}, second) + keep


@draws("slice")
def slice_of(rng):
    x = [batch(rng), *middle(rng, 2), size(rng, 9)]
    second = in_pass(rng, x)[0]
    return shaped(rng, x, {"dim": other_dim(rng, len(x), second), "start": rng.randint(-9, 9),
                           "stop": rng.choice((None, rng.randint(-9, 9))), "step": rng.choice((None, 1, 2, 3))}, second)


@draws("select")
def select(rng):
    x = [batch(rng), *(max(length, 1) for length in middle(rng, 2)), rng.randint(1, 5)]
    second = in_pass(rng, x)[0]
    dim = other_dim(rng, len(x), second)
    length = ([x[1], x[0], *x[2:]] if second else x)[dim]
    return shaped(rng, x, {"dim": dim, "index": rng.randint(-length, length - 1)}, second)


@draws("fold2d")
def fold2d(rng):
    """The number of windows follows from the size."""
    each_of = {"kernel": (1, 2, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (1, 1, 2)}
    value = {key: [rng.choice(choices) for _ in range(2)] for key, choices in each_of.items()}
    size_of = [rng.randint(d * (k - 1) + 1, 8) for k, d in zip(value["kernel"], value["dilation"])]
    windows = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(
        size_of, value["padding"], value["dilation"], value["kernel"], value["stride"])]
    planes = rng.randint(1, 3) * math.prod(value["kernel"])
    options = {"output_size": text(*size_of), **{key: text(*values) for key, values in value.items()}}
    return finish(rng, [f"x {batch(rng)},{planes},{math.prod(windows)}"], options)


@draws("pad")
def pad(rng):
    mode, spatial = rng.choice((None, "reflect", "replicate", "circular")), rng.randint(1, 3)
    x = [batch(rng), rng.randint(1, 3), *(rng.randint(3, 5) for _ in range(spatial))]
    widths = [rng.randint(0 if mode else -2, 2) for _ in range(2 * spatial)]
    return finish(rng, [f"x {text(*x)}"], {"pad": text(*widths), "mode": mode, "value": rng.choice((None, 0.5))}
                  if not mode else {"pad": text(*widths), "mode": mode})


@draws("unfold2d")
def unfold2d(rng):
    x = [batch(rng), rng.randint(1, 3), rng.randint(2, 7), rng.randint(2, 7)]
    return finish(rng, [f"x {text(*x)}"], {"kernel": each(rng, 2, 1, 2, 3), "stride": each(rng, 2, 1, 2),
                                           "padding": each(rng, 2, 0, 1), "dilation": each(rng, 2, 1, 1, 2)})


@draws("cat")
def cat(rng):
    x, count = [batch(rng), *middle(rng, 2), size(rng, 5)], rng.randint(1, 5)
    second, lengths = in_pass(rng, x)[0], [size(rng, 5) for _ in range(count)]
    dim, operands = other_dim(rng, len(x), second), []
    for k, length in enumerate(lengths):
        part = [x[1], x[0], *x[2:]] if second else list(x)
        part[dim] = length
        operands.append(f"x{k} {text(*([part[1], part[0], *part[2:]] if second else part))}")
    return finish(rng, operands, {"dim": dim}, second=False) + (" batch_second physical" if second else "")


@draws("stack")
def stack(rng):
    x = [batch(rng), *middle(rng, 2)]
    second = in_pass(rng, x)[0]
    dim = rng.choice((2, -1)) if second else rng.choice((1, -1))
    return finish(rng, [f"x{k} {text(*x)}" for k in range(rng.randint(1, 5))], {"dim": dim}, second=False) \
        + (" batch_second physical" if second else "")


# ---- effective weights ----

def used_weight(rng, name):
    """(operands, options, parameters, shape of the weight): a layer that takes it."""
    kind = rng.choice(("mul", "linear", "conv1d", "conv2d", "lookup"))
    options = {}
    if kind == "mul":
        shape = [rng.randint(1, 6)]
        x = f"x {text(batch(rng), *middle(rng), *shape)}"
    elif kind == "lookup":
        shape = [rng.randint(1, 6), size(rng)]
        x, options = f"x {text(batch(rng), *middle(rng))} <{shape[0]}", {"lookup": 1}
    elif kind == "linear":
        shape = [size(rng, 7), rng.randint(2, 9)]
        x = f"x {text(batch(rng), *middle(rng), shape[1])}"
    else:
        groups, spatial = rng.choice((1, 1, 2, 3)), 1 if kind == "conv1d" else 2
        kernel = [rng.randint(1, 3) for _ in range(spatial)]
        shape = [groups * rng.randint(1, 3), rng.randint(1, 3), *kernel]
        x = f"x {text(batch(rng), groups * shape[1], *[k + rng.randint(0, 3) for k in kernel])}"
        options = {"groups": groups}
    operands, parameters = [x, f"{name} {text(*shape)}"], [name]
    for use in ("tied", "raw"):
        if kind != "lookup" and chance(rng, 0.15):
            options[use] = 1
    return kind, operands, options, parameters, shape


def finish_weight(rng, kind, operands, options, parameters, shape):
    if kind in ("linear", "conv1d", "conv2d"):
        optional(rng, operands, parameters, "bias", shape[0], probability=0.4)
    return finish(rng, operands, options, parameters, second=False)


@draws("weight_standardize")
def weight_standardize(rng):
    kind, operands, options, parameters, shape = used_weight(rng, "weight")
    ones = [1] * (len(shape) - 1) if chance(rng, 0.3) else []
    optional(rng, operands, parameters, "gain", shape[0], *ones)
    options.update(eps=rng.choice((None, 0.5, 1e-3)), by_fan_in=1 if chance(rng, 0.5) else None)
    return finish_weight(rng, kind, operands, options, parameters, shape)


@draws("weight_norm")
def weight_norm(rng):
    kind, operands, options, parameters, shape = used_weight(rng, "v")
    dim, over_all = rng.randrange(len(shape)), chance(rng, 0.2)
    options.update(dim=dim, over_all=1 if over_all else None)
    optional(rng, operands, parameters, "g", *([] if over_all else [shape[dim]]))
    return finish_weight(rng, kind, operands, options, parameters, shape)


@draws("cosine_linear")
def cosine_linear(rng):
    features, outputs = size(rng, 9), size(rng, 9)
    operands = [f"x {text(batch(rng), *middle(rng, 3), features)}", f"weight {outputs},{features}"]
    return finish(rng, operands, {"scale": rng.choice((None, 16, 0.5)), "eps": rng.choice((0.5, 1e-3))}, ["weight"])


# ---- the registry ----

# The tables that record an op of the registry, where they are not one of its name.
TABLES_OF = {"conv": [f"conv{d}d" for d in (1, 2, 3)], "conv_transpose": [f"conv_transpose{d}d" for d in (1, 2, 3)],
             "unfold": ["unfold2d"], "fold": ["fold2d"],
             "head_attention": ["multi_head_attention"], "in_projection": ["multi_head_attention"]}
TABLES_OF.update({f"{kind}_pool": [f"{kind}_pool{d}d" for d in (1, 2, 3)]
                  for kind in ("max", "avg", "adaptive_avg", "adaptive_max")})


# ---- extreme values ----

# Ops whose elements meet in no sum of more than two terms.
SEPARATE = {*functions_of_x(), "gelu", "elu", "celu", "leaky_relu", "softplus", "hardtanh", "softshrink", "hardshrink",
            "threshold", "glu", "dropout", "feature_dropout", "scale", "neg", "softmax", "log_softmax", "softmin",
            "reshape", "flatten", "squeeze", "unsqueeze", "expand", "permute", "transpose", "flip", "slice", "select",
            "cat", "stack", "pad", "unfold2d"}

MOST_VALUES = 64   # of an operand that a line lists
ANY = (math.inf, -math.inf, 1e300, -1e300, 1e155, -1e155, 1e-155, -1e-155, 1e-300, -1e-300, 5e-324, 0.0, -0.0)
ALLOWED = {"REAL": ANY, "POSITIVE": tuple(value for value in ANY if value > 0),
           "UNIT": (0.0, 1.0, 5e-324, 1e-300, 1e-155, 1e-16, 1 - 2.0**-53)}
# Sums of huge terms of both signs depend on their order: ops that add have one magnitude, or infinities among ordinary.
ADDING_MOODS = {"infinite": (math.inf, -math.inf), "huge": 1e155, "tiny": 1e-155, "zero": 0.0}


def ordinary_value(rng, kind):
    value = rng.uniform(-1, 1) if kind == "REAL" else rng.uniform(0.05, 0.95)
    return value + 0.5 if kind == "POSITIVE" else value


def extreme_values(rng, kind, count, mood):
    values = [ordinary_value(rng, kind) for _ in range(count)]
    if mood == "any" or kind == "UNIT":
        return [rng.choice(ALLOWED[kind]) if chance(rng, 0.4) else value for value in values]
    if mood == "infinite":
        at = rng.randrange(count)
        values[at] = math.inf if kind == "POSITIVE" else rng.choice(ADDING_MOODS[mood])
        return values
    return [value * ADDING_MOODS[mood] for value in values]


def listed(rng, operand, mood):
    """The operand with its values listed, or None where they are too many or not real."""
    count = math.prod(operand.shape)
    if operand.kind == "INTEGER" or operand.values is not None or not 0 < count <= MOST_VALUES:
        return None
    return " =" + ",".join(map(repr, extreme_values(rng, operand.kind, count, mood)))


def with_extremes(rng, line, drawn, adds):
    """The drawn line with one operand's values extreme; (mood, text)."""
    *fields, options = drawn.split(" | ")
    mood = rng.choice(tuple(ADDING_MOODS)) if adds else "any"
    at = rng.randrange(len(fields))
    values = listed(rng, line.operands[fields[at].split()[0]], mood)
    if values is None:
        return None, drawn
    fields[at] += values
    return mood, " | ".join([*fields, options])
