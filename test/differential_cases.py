"""Random lines of the case tables: DRAW[op](rng) gives the operands and options of one line."""

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
    operands, parameters = [f"x {text(batch(rng), *middle(rng, 3), features)}", f"weight {outputs},{features}"], ["weight"]
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


draws("relu")(elementwise)


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
