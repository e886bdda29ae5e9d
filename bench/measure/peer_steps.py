"""Whole steps of DP-SGD in PyTorch and Opacus, for peers.py: the models, and how each system makes the gradient."""

MAX_GRAD_NORM, NOISE_MULTIPLIER, LEARNING_RATE, CLIP_EPSILON = 1.0, 1.0, 0.05, 1e-6


# ---- the models of the step benchmarks; each with the input of a batch ----
def mlp(batch):
    import torch
    widths = (784, 512, 256, 10)
    layers = [layer for pair in zip(widths, widths[1:]) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers[:-1]), torch.randn(batch, widths[0])


def cnn_mnist(batch):
    """The network of Opacus's MNIST example."""
    from torch import nn, randn
    model = nn.Sequential(nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1),
                          nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(),
                          nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, randn(batch, 1, 28, 28)


def cnn_group_norm(batch):
    from torch import nn, randn
    layers = []
    for channels_in, channels in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.GroupNorm(8, channels), nn.ReLU()]
        layers += [nn.AvgPool2d(2)] if channels == 64 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)), randn(batch, 3, 32, 32)


def transformer(batch):
    """Two pre-norm encoder layers of width 128, 4 heads, one fused projection, on 64 tokens."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.projection, self.output = nn.Linear(128, 384), nn.Linear(128, 128)

        def forward(self, x):
            q, k, v = (m.unflatten(2, (4, 32)).transpose(1, 2) for m in self.projection(x).chunk(3, dim=2))
            return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.Sequential(nn.LayerNorm(128), Attention())
            self.feed_forward = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))

        def forward(self, x):
            x = x + self.attention(x)
            return x + self.feed_forward(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.layers = nn.Embedding(1000, 128), nn.Sequential(Layer(), Layer())
            self.head = nn.Linear(128, 10)

        def forward(self, tokens):
            return self.head(self.layers(self.embedding(tokens)).mean(dim=1))
    return Model(), torch.randint(0, 1000, (batch, 64))


def gpt2(batch):
    """GPT-2 small without dropout, on 256 tokens; the head shares the embedding's weight."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    vocabulary, tokens, width, heads = 50257, 256, 768, 12

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.projection, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x):
            q, k, v = (m.unflatten(2, (heads, -1)).transpose(1, 2) for m in self.projection(x).chunk(3, dim=2))
            return self.output(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.Sequential(nn.LayerNorm(width), Attention())
            self.feed_forward = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width),
                                              nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

        def forward(self, x):
            x = x + self.attention(x)
            return x + self.feed_forward(x)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Parameter(0.02 * torch.randn(vocabulary, width))
            self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
            self.layers, self.norm = nn.Sequential(*(Layer() for _ in range(12))), nn.LayerNorm(width)

        def forward(self, x):
            x = F.embedding(x, self.embedding) + self.positions
            return F.linear(self.norm(self.layers(x)), self.embedding)
    return Model(), torch.randint(0, vocabulary, (batch, tokens))


def mlp_small(batch):
    from torch import nn, randn
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)), randn(batch, 784)


def gru_small(batch):
    """Two layers of 32 units on 20 steps, the last one classified."""
    from torch import nn, randn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(32, 32, num_layers=2, batch_first=True), nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.gru(x)[0][:, -1])
    return Model(), randn(batch, 20, 32)


MODELS = {"mlp_step": mlp, "cnn_mnist_step": cnn_mnist, "cnn_group_norm_step": cnn_group_norm,
          "transformer_step": transformer, "gpt2_step": gpt2, "mlp_small_step": mlp_small,
          "gru_small_step": gru_small}


def model_and_batch(op, batch):
    """The model, its input and labels: a class a sample, or of gpt2 the next token at each position."""
    import torch
    torch.manual_seed(1)
    model, x = MODELS[op](batch)
    return model, x, x.roll(-1, dims=1) if op == "gpt2_step" else torch.randint(0, 10, (batch,))


# ---- the systems: each leaves the gradient to apply in parameter.grad ----
def clip_factors(norms):
    """norms: (parameters, samples). Flat clipping: one factor a sample."""
    import torch
    return (MAX_GRAD_NORM / (torch.stack(norms).norm(dim=0) + CLIP_EPSILON)).clamp(max=1)


def set_private_gradient(parameter, clipped_sum, noise, batch):
    import torch
    clipped_sum.add_(torch.randn_like(clipped_sum), alpha=noise * MAX_GRAD_NORM)
    parameter.grad = clipped_sum.div_(batch)


def batch_loss(logits, labels):
    """The mean over samples of each one's loss, which is a sum over its positions."""
    import torch
    total = torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    return total / len(labels)


def plain_gradient(model, x, labels, noise):
    batch_loss(model(x), labels).backward()


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
        return batch_loss(logits, label.unsqueeze(0))
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
        loss = batch_loss(model(x[i:i + 1]), labels[i:i + 1])
        gradients = torch.autograd.grad(loss, parameters)
        factor = clip_factors([gradient.norm() for gradient in gradients]).item()
        for total, gradient in zip(sums, gradients):
            total.add_(gradient, alpha=factor)
    for parameter, total in zip(parameters, sums):
        set_private_gradient(parameter, total, noise, len(x))


def replace_for_opacus(model):
    """Puts Opacus's own layer in the place of one it cannot hook."""
    from opacus.layers import DPGRU
    for name, module in model.named_children():
        if type(module).__name__ == "GRU":
            own = DPGRU(module.input_size, module.hidden_size, num_layers=module.num_layers, batch_first=True)
            own.load_state_dict(module.state_dict())
            setattr(model, name, own)


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
    if system in ("hooks", "ghost"):
        replace_for_opacus(model)
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
