/* GPT-2 small (Radford et al., 2019): 12 pre-norm layers of width 768 with 12 heads, causal, feed-forward 3072 with the
 * tanh form of GELU, learned positions, the output head tied to the embedding.  First values are uniform, of about
 * GPT-2's deviation of 0.02: 1/sqrt(3 * 768) of most weights. */
#include "blocks.h"
#include "step_models.h"

enum { HEADS = 12 };

#define LAYER(name) BLOCK_ENCODER_PARAMS(name, GPT2_WIDTH, 4 * GPT2_WIDTH)

static const model_param params[] = {
    { "embedding.weight", MODEL_SMALL, 2, { GPT2_VOCABULARY, GPT2_WIDTH } },
    { "positions", MODEL_SMALL, 2, { GPT2_TOKENS, GPT2_WIDTH } },
    LAYER("layer_1"), LAYER("layer_2"), LAYER("layer_3"), LAYER("layer_4"), LAYER("layer_5"), LAYER("layer_6"),
    LAYER("layer_7"), LAYER("layer_8"), LAYER("layer_9"), LAYER("layer_10"), LAYER("layer_11"), LAYER("layer_12"),
    { "norm.weight", MODEL_ONES, 1, { GPT2_WIDTH } }, { "norm.bias", MODEL_ZEROS, 1, { GPT2_WIDTH } },
    { NULL, MODEL_ZEROS, 0, { 0 } },
};

static psg_var scores(psg_tape *tape, const psg_var *w, psg_var tokens) {
    const int64_t width = GPT2_WIDTH;
    const psg_var *layer = w + 2, *norm = layer + GPT2_LAYERS * BLOCK_ENCODER_COUNT;
    psg_var x = psg_add(tape, psg_embedding(tape, tokens, w[0], NULL), w[1]);
    for (int k = 0; k < GPT2_LAYERS; k++) x = block_decoder(tape, layer + k * BLOCK_ENCODER_COUNT, x, width, HEADS);
    x = psg_layer_norm(tape, x, 1, &width, norm[0], norm[1], 1e-5);
    return psg_linear(tape, x, w[0], psg_none());
}

const model_kind gpt2_model = { "gpt2", "GPT-2 small on 256 tokens", params, scores };
