"""The ops of the case tables in PyTorch: OPS[table](line, operands), operands by name, absent ones None.

Batch in front, whatever the pass: for a line with batch_second, those whose options name dimensions are wrapped in
`physical`, which hands the operands over as the library receives them.
"""

import torch
import torch.nn.functional as F

from case_tables import functions_of_two, functions_of_x
from torch_sequences import cell, multi_head_attention, recurrent, sdpa

OPS = {"scaled_dot_product_attention": sdpa, "multi_head_attention": multi_head_attention}
OPS.update({kind: recurrent(kind) for kind in ("rnn", "lstm", "gru")})
OPS.update({f"{kind}_cell": cell(kind) for kind in ("rnn", "lstm", "gru")})


def op(*names):
    def register(function):
        for name in names:
            OPS[name] = function
        return function
    return register


def physical(function):
    def swap(value):
        return value.transpose(0, 1) if torch.is_tensor(value) and value.dim() >= 3 else value

    def wrapped(line, operands):
        if not line.flag("batch_second"):
            return function(line, operands)
        batched = {name for name, operand in line.operands.items() if operand.role == "BATCHED"}
        return swap(function(line, {name: swap(value) if name in batched else value
                                    for name, value in operands.items()}))
    return wrapped


def losing_dimensions(function):
    """As `physical`, of x alone: a dimension before the batch may go, and the batch moves."""
    def batch_dim(line, x):
        many = 7919   # a batch that no other dimension resembles
        return function(line, {"x": x.new_empty(x.shape[0], many, *x.shape[2:], device="meta")}).shape.index(many)

    def wrapped(line, operands):
        x = operands["x"]
        if not line.flag("batch_second") or x.dim() < 3:
            return function(line, operands)
        x = x.transpose(0, 1)
        return function(line, {"x": x}).movedim(batch_dim(line, x), 0)
    return wrapped


@op("linear")
def linear(line, o):
    return F.linear(o["x"], o["weight"], o["bias"])


# ---- norms ----

@op("layer_norm")
def layer_norm(line, o):
    rank, x = line.int("rank", 1), o["x"]
    shape = line.ints("shape") or x.shape[x.dim() - rank:]
    return F.layer_norm(x, tuple(shape), o["weight"], o["bias"], line.real("eps", 1e-5))


@op("group_norm")
def group_norm(line, o):
    """By layer_norm: PyTorch cannot differentiate a bias alone and refuses single values."""
    x = o["x"]
    groups = line.int("num_groups", 1)
    if not x.numel():
        return affine(x * 0, o)
    grouped = x.reshape(x.shape[0], groups, -1)
    return affine(F.layer_norm(grouped, grouped.shape[2:], None, None, line.real("eps", 1e-5)).reshape(x.shape), o)


def affine(x, o):
    shape = (1, -1) + (1,) * (x.dim() - 2)
    if o["weight"] is not None:
        x = x * o["weight"].reshape(shape)
    return x if o["bias"] is None else x + o["bias"].reshape(shape)


# ---- activations ----

for _name in functions_of_x():
    OPS[_name] = lambda line, o, f=getattr(F, _name, None) or getattr(torch, _name): f(o["x"])


@op("softmax")
@physical
def softmax(line, o):
    return F.softmax(o["x"], line.int("dim", -1))


# ---- losses ----

@op("cross_entropy")
def cross_entropy(line, o):
    x, target, soft = o["x"], o["target"], o["target"].is_floating_point()
    if line.flag("class_last"):
        x, target = x.movedim(-1, 1), target.movedim(-1, 1) if soft else target
    return F.cross_entropy(x, target if soft else target.long(), weight=o["weight"],
                           reduction=line.word("reduction", "mean"), ignore_index=line.int("ignore_index", -100),
                           label_smoothing=line.real("label_smoothing", 0.0))


@op("nll")
def nll(line, o):
    return F.nll_loss(o["x"], o["target"].long(), weight=o["weight"], reduction=line.word("reduction", "mean"),
                      ignore_index=line.int("ignore_index", -100))


def elementwise_loss(function, **numbers):
    """numbers: keyword of PyTorch = (option of the line, default)."""
    def loss(line, o):
        words = {keyword: line.real(key, otherwise) for keyword, (key, otherwise) in numbers.items()}
        return function(o["x"], o["target"], reduction=line.word("reduction", "mean"), **words)
    return loss


OPS.update(mse=elementwise_loss(F.mse_loss), l1=elementwise_loss(F.l1_loss),
           smooth_l1=elementwise_loss(F.smooth_l1_loss, beta=("beta", 1.0)),
           huber=elementwise_loss(F.huber_loss, delta=("delta", 1.0)),
           binary_cross_entropy_with_logits=elementwise_loss(F.binary_cross_entropy_with_logits),
           binary_cross_entropy=elementwise_loss(F.binary_cross_entropy),
           hinge_embedding=elementwise_loss(F.hinge_embedding_loss, margin=("margin", 1.0)))


def reduce(line, value):
    return {"mean": value.mean, "sum": value.sum, "none": lambda: value}[line.word("reduction", "mean")]()


@op("soft_margin")
def soft_margin(line, o):
    """PyTorch's has no gradient of the target."""
    return reduce(line, F.softplus(-o["target"] * o["x"]))


@op("kl_div")
def kl_div(line, o):
    return F.kl_div(o["x"], o["target"], reduction=line.word("reduction", "mean"), log_target=line.flag("log_target"))


@op("poisson_nll")
def poisson_nll(line, o):
    return F.poisson_nll_loss(o["x"], o["target"], log_input=not line.flag("input_is_rate"), full=line.flag("full"),
                              eps=line.real("eps", 1e-8), reduction=line.word("reduction", "mean"))


# ---- linear maps ----

@op("bilinear")
def bilinear(line, o):
    y = torch.einsum("...i,oij,...j->...o", o["x1"], o["weight"], o["x2"])
    return y if o["bias"] is None else y + o["bias"]


def zeros_of(o, *shape):
    """What sums over nothing are, where PyTorch refuses the shapes, with gradients of 0."""
    return sum(0 * value.sum() for value in o.values() if value is not None) + torch.zeros(shape)


def places(size, kernel, stride, padding, dilation):
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)]


@op("conv1d", "conv2d", "conv3d")
def conv(line, o):
    """padding=same or valid, or numbers; padding_after=... those behind; padding_mode=reflect, replicate, circular."""
    x, weight = o["x"], o["weight"]
    spatial = weight.dim() - 2
    stride, dilation = line.each("stride", 1, spatial), line.each("dilation", 1, spatial)
    before, after = paddings(line, weight.shape[2:], dilation)
    if not weight.numel():
        padded = [n + b + a for n, b, a in zip(x.shape[2:], before, after)]
        size = places(padded, weight.shape[2:], stride, [0] * spatial, dilation)
        return zeros_of(o, len(x), len(weight), *size) + o["bias"].view(-1, *[1] * spatial)
    widths = [width for pair in reversed(list(zip(before, after))) for width in pair]
    mode = line.word("padding_mode", "zeros")
    x = F.pad(x, widths) if mode == "zeros" else F.pad(x, widths, mode=mode)
    function = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    return function(x, weight, o["bias"], stride, 0, dilation, line.int("groups", 1))


def paddings(line, kernel, dilation):
    word = line.word("padding", "0")
    if word == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return [t // 2 for t in total], [t - t // 2 for t in total]
    before = [0] * len(kernel) if word == "valid" else line.each("padding", 0, len(kernel))
    return before, line.each("padding_after", 0, len(kernel)) if line.flag("padding_after") else before


@op("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(line, o):
    spatial = o["weight"].dim() - 2
    each = [line.each(key, otherwise, spatial) for key, otherwise in
            (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1))]
    x, weight, groups = o["x"], o["weight"], line.int("groups", 1)
    if not x[0].numel() or not weight.numel():
        size = [(n - 1) * s - 2 * p + d * (k - 1) + more + 1
                for n, k, s, p, more, d in zip(x.shape[2:], weight.shape[2:], *each)]
        return zeros_of(o, len(x), groups * weight.shape[1], *size) + o["bias"].view(-1, *[1] * spatial)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
    return function(x, weight, o["bias"], each[0], each[1], each[2], groups, each[3])


# ---- pools ----

def without_elements(function):
    """PyTorch refuses an image of no channels, and to differentiate an output of no elements."""
    def wrapped(line, o):
        x = o["x"]
        sizes = line.each("output_size", 1, x.dim() - 2)
        if 0 in sizes:
            sizes = [x.shape[2 + d] if size == -1 else size for d, size in enumerate(sizes)]
            return x.new_zeros(*x.shape[:2], *sizes) + 0 * x.sum()
        if x.shape[1]:
            return function(line, o)
        return function(line, {"x": x.new_ones(x.shape[0], 1, *x.shape[2:])})[:, :0] + x.sum()
    return wrapped


def windows(line, spatial):
    kernel = line.each("kernel_size", 1, spatial)
    return kernel, line.each("stride", 0, spatial) if line.flag("stride") else kernel, line.each("padding", 0, spatial)


@op("max_pool1d", "max_pool2d", "max_pool3d")
@without_elements
def max_pool(line, o):
    spatial = o["x"].dim() - 2
    return getattr(F, line.op)(o["x"], *windows(line, spatial), line.each("dilation", 1, spatial),
                               line.flag("ceil_mode"))


@op("avg_pool1d", "avg_pool2d", "avg_pool3d")
@without_elements
def avg_pool(line, o):
    spatial = o["x"].dim() - 2
    words = [*windows(line, spatial), line.flag("ceil_mode"), bool(line.int("count_include_pad", 1))]
    if spatial > 1:
        return getattr(F, line.op)(o["x"], *words, line.int("divisor_override"))
    if line.int("divisor_override"):   # of one dimension PyTorch has none
        flat = [[1, words[0][0]], [1, words[1][0]], [0, words[2][0]], *words[3:], line.int("divisor_override")]
        return F.avg_pool2d(o["x"][:, :, None], *flat)[:, :, 0]
    return F.avg_pool1d(o["x"], *words)


@op("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d")
@without_elements
def adaptive_pool(line, o):
    spatial = o["x"].dim() - 2
    sizes = [o["x"].shape[2 + d] if size == -1 else size
             for d, size in enumerate(line.each("output_size", -1, spatial))]
    return getattr(F, line.op)(o["x"], sizes if spatial > 1 else sizes[0])


# ---- tables ----

PYTORCH_SLACK = 1e-7   # what torch.embedding_renorm_ adds to a norm


class SlopeOfWeight(torch.autograd.Function):
    """Other values, which count as the weight's own."""
    @staticmethod
    def forward(context, weight, values):
        return values.clone()

    @staticmethod
    def backward(context, grad):
        return grad, None


def renormed(line, weight, slack):
    """Rows of at most max_norm, as torch.embedding_renorm_ leaves those that are looked up; with a slack of 0 at any
    magnitude."""
    most, w = line.real("max_norm", 0.0), weight.detach()
    if not most or not w.numel():
        return weight
    scale = 1 if slack else w.abs().amax(1, keepdim=True).clamp(1, 1e300)
    norm = (w / scale).norm(line.real("norm_type", 2.0), dim=1, keepdim=True) * scale
    return SlopeOfWeight.apply(weight, w * torch.where(norm > most, most / (norm + slack), 1))


@op("embedding")
def embedding(line, o, slack=PYTORCH_SLACK):
    """By hand: scale_grad_by_freq counts within what is given, and ids without a batch serve every sample."""
    ids, weight = o["ids"].long(), renormed(line, o["weight"], slack)
    rows = weight[ids]
    if line.flag("padding_idx"):
        padding = line.int("padding_idx") % weight.shape[0]
        rows = torch.where((ids == padding)[..., None], rows.detach(), rows)
    if line.flag("scale_grad_by_freq"):
        rows = by_frequency(rows, ids)
    return rows


class SharedGradient(torch.autograd.Function):
    """The rows as they are; their gradients over how many share them."""
    @staticmethod
    def forward(context, rows, counts):
        context.counts = counts
        return rows.clone()

    @staticmethod
    def backward(context, grad):
        return grad / context.counts, None


def by_frequency(rows, ids):
    counts = torch.bincount(ids.reshape(-1), minlength=1)[ids][..., None] if ids.numel() else 1
    return SharedGradient.apply(rows, counts)


# ---- more norms ----

@op("rms_norm")
def rms_norm(line, o):
    rank, x = line.int("rank", 1), o["x"]
    shape = tuple(line.ints("shape") or x.shape[x.dim() - rank:])
    return F.rms_norm(x, shape, o["weight"], line.real("eps"))


def by_channel(values, x):
    return values.reshape((1, -1) + (1,) * (x.dim() - 2))


@op("instance_norm")
def instance_norm(line, o):
    x, eps = o["x"], line.real("eps", 1e-5)
    line.real("momentum")
    if line.int("use_input_stats", 1):
        if not x.numel():
            return affine(x * 0, o)
        flat = x.reshape(*x.shape[:2], -1)
        return affine(F.layer_norm(flat, flat.shape[2:], None, None, eps).reshape(x.shape), o)
    return affine((x - by_channel(o["running_mean"], x)) / torch.sqrt(by_channel(o["running_var"], x) + eps), o)


@op("batch_norm")
def batch_norm(line, o):
    x, eps = o["x"], line.real("eps", 1e-5)
    line.real("momentum")
    mean, var = o["running_mean"], o["running_var"]
    if line.flag("training"):
        dims = [0, *range(2, x.dim())]
        mean = x.mean(dims)
        var = (x - by_channel(mean, x)).square().mean(dims)
    return affine((x - by_channel(mean, x)) / torch.sqrt(by_channel(var, x) + eps), o)


# ---- arithmetic ----

for _name in functions_of_two():
    OPS[_name] = lambda line, o, function=getattr(torch, _name): function(o["a"], o["b"])
OPS.update(neg=lambda line, o: -o["x"], scale=lambda line, o: line.real("factor", 1.0) * o["x"])


@op("matmul")
def matmul(line, o):
    return o["a"] @ o["b"]


# ---- more activations ----

def hard(x):
    """PyTorch's own derivatives of hardsigmoid, hardswish and celu round 1/6 and 1/alpha to f32."""
    return (x + 3).clamp(0, 6) / 6


def celu(line, o):
    x, alpha = o["x"], line.real("alpha", 1.0)
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


def with_numbers(function, **numbers):
    """numbers: option = default, in the order of PyTorch's arguments after x."""
    return lambda line, o: function(o["x"], *(line.real(key, otherwise) for key, otherwise in numbers.items()))


OPS.update(gelu=lambda line, o: F.gelu(o["x"], approximate="tanh" if line.flag("approximate_tanh") else "none"),
           elu=with_numbers(F.elu, alpha=1.0), celu=celu,
           hardsigmoid=lambda line, o: hard(o["x"]), hardswish=lambda line, o: o["x"] * hard(o["x"]),
           leaky_relu=with_numbers(F.leaky_relu, negative_slope=0.01),
           softplus=with_numbers(F.softplus, beta=1.0, threshold=20.0),
           hardtanh=with_numbers(F.hardtanh, min_val=-1.0, max_val=1.0),
           softshrink=with_numbers(F.softshrink, **{"lambda": 0.5}),
           hardshrink=with_numbers(F.hardshrink, **{"lambda": 0.5}),
           threshold=with_numbers(F.threshold, threshold=0.0, value=0.0),
           prelu=lambda line, o: F.prelu(o["x"], o["weight"]))


@op("dropout", "feature_dropout")
def dropout(line, o):
    """By the mask that the library drew, line.kept, of whole channels for feature_dropout."""
    x, p = o["x"], line.real("p", 0.5)
    if p == 1 and not line.flag("evaluation"):
        return torch.where(torch.zeros_like(x, dtype=torch.bool), x, 0)
    if p == 0 or line.flag("evaluation") or line.kept is None:
        return x.clone()
    kept = line.kept[:len(x)].to(x.dtype)
    if line.op == "feature_dropout" and x.numel():
        kept = kept.amax(tuple(range(2, x.dim())), keepdim=True)
    return torch.where(kept > 0, x, 0) / (1 - p)


@op("softmin")
@physical
def softmin(line, o):
    return F.softmin(o["x"], line.int("dim", -1))


@op("glu")
@physical
def glu(line, o):
    return F.glu(o["x"], line.int("dim", -1))


@op("log_softmax")
@physical
def log_softmax(line, o):
    return F.log_softmax(o["x"], line.int("dim", -1))


# ---- shapes ----

@op("reshape")
@physical
def reshape(line, o):
    return o["x"].reshape(line.ints("shape"))


@op("flatten")
@physical
def flatten(line, o):
    return o["x"].flatten(line.int("start_dim", 1), line.int("end_dim", -1))


@op("transpose")
@physical
def transpose(line, o):
    return o["x"].transpose(line.int("dim0", 1), line.int("dim1", 2))


@op("permute")
@physical
def permute(line, o):
    return o["x"].permute(line.ints("dims"))


@op("mean", "sum")
@losing_dimensions
def reduced(line, o):
    return getattr(torch, line.op)(o["x"], line.ints("dims"), keepdim=line.flag("keepdim"))


@op("squeeze")
@losing_dimensions
def squeeze(line, o):
    return o["x"].squeeze(line.int("dim", 1))


@op("unsqueeze")
@physical
def unsqueeze(line, o):
    return o["x"].unsqueeze(line.int("dim", 1))


@op("expand")
@physical
def expand(line, o):
    return o["x"].expand(line.ints("shape"))


@op("flip")
@physical
def flip(line, o):
    return o["x"].flip(line.ints("dims"))


@op("slice")
@physical
def slice_of(line, o):
    places = [slice(None)] * o["x"].dim()
    places[line.int("dim", 1)] = slice(line.int("start", 0), line.int("stop"), line.int("step", 1))
    return o["x"][tuple(places)]


@op("select")
@losing_dimensions
def select(line, o):
    return o["x"].select(line.int("dim", 1), line.int("index", 0))


@op("cat", "stack")
@physical
def joined(line, o):
    return getattr(torch, line.op)([value for value in o.values() if value is not None], line.int("dim", 1))


@op("pad")
def pad(line, o):
    mode = line.word("mode", "constant")
    return F.pad(o["x"], line.ints("pad"), mode, line.real("value", 0.0) if mode == "constant" else None)


def window_options(line):
    return [line.each(key, otherwise, 2) for key, otherwise in
            (("kernel", 1), ("dilation", 1), ("padding", 0), ("stride", 1))]


@op("unfold2d")
def unfold(line, o):
    x, (kernel, dilation, padding, stride) = o["x"], window_options(line)
    if x[:1].numel():
        return F.unfold(x, kernel, dilation, padding, stride)
    rows, columns = places(x.shape[2:], kernel, stride, padding, dilation)
    return zeros_of(o, len(x), x.shape[1] * kernel[0] * kernel[1], rows * columns)


@op("fold2d")
def fold(line, o):
    x, size, (kernel, dilation, padding, stride) = o["x"], line.each("output_size", 1, 2), window_options(line)
    if x[:1].numel() and size[0] and size[1]:
        return F.fold(x, size, kernel, dilation, padding, stride)
    return zeros_of(o, len(x), x.shape[1] // (kernel[0] * kernel[1]), *size)


# ---- recurrent layers ----

RECURRENT = {"rnn": (1, torch._VF.rnn_tanh), "lstm": (4, torch._VF.lstm), "gru": (3, torch._VF.gru)}


def weight_sets(line, o):
    """The flat weights as torch._VF takes them; one bias alone goes with zeros."""
    suffixes = [f"l{layer}{way}" for layer in range(line.int("num_layers", 1))
                for way in (("", "_reverse") if line.flag("bidirectional") else ("",))]
    flat, biases = [], any(o[f"bias_{part}_l0"] is not None for part in ("ih", "hh"))
    for suffix in suffixes:
        suffix = "l0" if line.flag("tied") else suffix
        weights = [o[f"{name}_{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        zeros = torch.zeros(weights[0].shape[0])
        flat += weights[:2] + [zeros if bias is None else bias for bias in weights[2:] if biases]
        flat += [o[f"weight_hr_{suffix}"]] if o.get(f"weight_hr_{suffix}") is not None else []
    return suffixes, flat, biases


def states_of(o, name, batch, rows, width):
    """(B, rows, width)"""
    state = o.get(name)
    if state is None:
        return torch.zeros(batch, rows, width)
    return state.expand(batch, rows, width) if state.dim() == 2 else state


@op("rnn", "lstm", "gru")
def recurrent(line, o):
    """Every sample on its own when there are lengths: its first steps, and zeros after them."""
    x, lengths = o["x"], o["lengths"]
    suffixes, flat, biases = weight_sets(line, o)
    gates, function = RECURRENT[line.op]
    if line.word("nonlinearity") == "relu":
        function = torch._VF.rnn_relu
    line.word("layout"), line.real("dropout")
    batch, steps, rows = x.shape[0], x.shape[1], len(suffixes)
    hidden, output = o["weight_hh_l0"].shape[0] // gates, o["weight_hh_l0"].shape[1]
    h0, c0 = states_of(o, "h0", batch, rows, output), states_of(o, "c0", batch, rows, hidden)
    ways = 2 if line.flag("bidirectional") else 1

    def run(first, last, length):
        h, c = (state[first:last].transpose(0, 1).contiguous() for state in (h0, c0))
        if length == 0:
            return x.new_zeros(last - first, steps, ways * output), h.transpose(0, 1), c.transpose(0, 1)
        state = (h, c) if line.op == "lstm" else h
        y, *final = function(x[first:last, :length].contiguous(), state, flat, biases, rows // ways, 0.0, False,
                             ways == 2, True)
        return (F.pad(y, (0, 0, 0, steps - length)), *(value.transpose(0, 1) for value in final))

    if lengths is None:
        results = run(0, batch, steps)
    else:
        each = [run(n, n + 1, int(lengths[n])) for n in range(batch)]
        results = [torch.cat(values) for values in zip(*each)]
    if line.word("output", "y") == "all":
        return torch.cat([value.flatten(1) for value in results[:3 if line.op == "lstm" else 2]], 1)
    return results[("y", "h_n", "c_n").index(line.word("output", "y"))]


@op("rnn_cell", "lstm_cell", "gru_cell")
def recurrent_cell(line, o):
    x, weights = o["x"], (o["weight_ih"], o["weight_hh"])
    biases = [torch.zeros(weights[0].shape[0]) if bias is None else bias for bias in (o["bias_ih"], o["bias_hh"])]
    given = [torch.zeros(weights[1].shape[1]) if o.get(name) is None else o[name] for name in ("hx", "cx")]
    hx, cx = (state.expand(x.shape[0], -1) for state in given)
    if line.op == "lstm_cell":
        h, c = torch._VF.lstm_cell(x, (hx, cx), *weights, *biases)
        return c if line.word("output") == "c_n" else h
    function = {"gru_cell": torch._VF.gru_cell, "relu": torch._VF.rnn_relu_cell}.get(
        line.word("nonlinearity", line.op), torch._VF.rnn_tanh_cell)
    return function(x, hx, *weights, *biases)


@op("embedding_bag")
def embedding_bag(line, o, slack=PYTORCH_SLACK):
    """By hand, for ids (N, T): PyTorch's own counts frequencies over the batch in every pass."""
    ids, weight = o["ids"].long(), renormed(line, o["weight"], slack)
    mode, (batch, _) = line.word("mode", "mean"), ids.shape
    counted = torch.ones_like(ids, dtype=torch.bool)
    if line.flag("padding_idx"):
        counted = ids != line.int("padding_idx") % weight.shape[0]
    if mode == "max":
        return torch.stack([weight[row[kept]].max(0).values if kept.any() else weight.new_zeros(weight.shape[1])
                            for row, kept in zip(ids, counted)]) if batch else weight.new_zeros(0, weight.shape[1])
    rows = torch.where(counted[..., None], weight[ids], 0)
    if line.flag("scale_grad_by_freq"):
        others = ids.reshape(1, 1, -1) if line.flag("ordinary") else ids[:, None, :]
        same = (ids[:, :, None] == others).sum(2)
        rows = SharedGradient.apply(rows, same[..., None])
    if o["per_sample_weights"] is not None:
        rows = torch.where(counted[..., None], rows * o["per_sample_weights"][..., None], 0)
    total = rows.sum(1)
    return total / counted.sum(1).clamp(min=1)[:, None] if mode == "mean" else total


# ---- effective weights ----

def standardized(line, w, gain):
    rows = w.reshape(w.shape[0], -1)
    var, mean = torch.var_mean(rows, dim=1, correction=0, keepdim=True)
    by_fan_in = line.flag("by_fan_in")
    eps = line.real("eps", 1e-4 if by_fan_in else 1e-6)
    square = torch.clamp(rows.shape[1] * var, min=eps) if by_fan_in else var + eps
    unit = (rows - mean) / square.sqrt()
    return (unit if gain is None else unit * gain.reshape(-1, 1)).reshape(w.shape)


def normed(line, v, g):
    """PyTorch's own, which knows no g left out, and dim None as -1."""
    over_all, dim = line.flag("over_all"), line.int("dim", 0) % v.dim()
    shape = [1 if over_all or d != dim else n for d, n in enumerate(v.shape)]
    g = torch.ones(shape) if g is None else g.reshape(() if over_all else shape)
    return torch._weight_norm(v, g, -1 if over_all else dim)


def recurrent_layer(line, x, weight_ih, weight_hh):
    """One layer without biases, from zero states."""
    states = [x.new_zeros(1, x.shape[0], weight_hh.shape[1]) for _ in range(2)]
    options = [weight_ih, weight_hh], False, 1, 0.0, False, False, True
    if line.flag("gru"):
        return torch._VF.gru(x, states[0], *options)[0]
    return torch._VF.lstm(x, states, *options)[0]


def effective(raw, made, other):
    """The network of test/cases/weight_cases.c."""
    def run(line, o):
        def layer(w):
            x, bias = o["x"], o["bias"]
            if line.flag("lstm") or line.flag("gru"):
                return recurrent_layer(line, x, *((w, bias) if line.flag("lstm") else (bias, w)))
            if line.flag("transposed"):
                return F.conv_transpose1d(x, w, bias, groups=line.int("groups", 1))
            if line.flag("bilinear"):
                return F.bilinear(x, x, w, bias)
            if line.flag("bag"):
                return w[x.long()].mean(-2)
            if line.flag("scaled"):
                return torch.tanh(x) * w
            if line.flag("head"):
                return F.linear(w[x.long()], w)
            if line.flag("lookup"):
                return w[o["x"].long()]
            if line.flag("matmul"):
                return o["x"] @ w
            if w.dim() == 1:
                return o["x"] * w
            if w.dim() == 2:
                return F.linear(o["x"], w, o["bias"])
            return (F.conv1d if w.dim() == 3 else F.conv2d)(
                o["x"], w, o["bias"], line.int("stride", 1), line.int("padding", 0), groups=line.int("groups", 1))
        if not o[raw].numel():   # PyTorch divides by zero
            return zeros_of(o, *layer(o[raw]).shape)
        w = made(line, o[raw], o["gain" if raw == "weight" else "g"])
        y = layer(w)
        for flag, factor in (("tied", lambda: w), ("raw", lambda: o[raw]), ("two", lambda: other(line, o[raw], None))):
            if line.flag(flag):
                y = y * layer(factor())
        return y
    return run


OPS.update(weight_standardize=effective("weight", standardized, normed),
           weight_norm=effective("v", normed, standardized))


@op("cosine_linear")
def cosine_linear(line, o):
    x, w = o["x"], o["weight"]
    unit = x / (x.square().sum(-1, keepdim=True) + line.real("eps", 1e-12)).sqrt()
    return line.real("scale", 1.0) * F.linear(unit, w / w.norm(dim=1, keepdim=True))
