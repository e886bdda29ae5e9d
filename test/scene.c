#include "scene.h"

#include <string.h>

double scene_memory[4 * 1024];
int64_t scene_integers[64];

psg_tensor scene_view(int rank, const int64_t *shape) { return psg_tensor_of(PSG_F64, scene_memory, rank, shape); }

psg_status scene_begin(scene *s) { return psg_tape_begin(s->tape, NULL); }

psg_var scene_input(scene *s, psg_tensor value) { return psg_input(s->tape, &value); }

psg_status scene_record(scene *s, const psg_op *op, psg_var a, psg_var b) {
    psg_record(s->tape, op, (psg_var[]){ a, b }, 2, NULL);
    return psg_tape_status(s->tape);
}

psg_status scene_linear(scene *s, const psg_pass *pass, psg_tensor x) {
    psg_tape_begin(s->tape, pass);
    psg_linear(s->tape, scene_input(s, x), psg_use(s->tape, s->weight), psg_use(s->tape, s->bias));
    return psg_tape_status(s->tape);
}

/* ---- tables ---- */

static void check_sticky(scene *s, psg_status status) {
    char message[512];
    psg_gradient gradient;
    psg_tensor out;
    strncpy(message, psg_tape_message(s->tape), sizeof message - 1);
    message[sizeof message - 1] = 0;
    assert_int_equal(psg_input(s->tape, &s->x).id, -1);
    assert_int_equal(psg_constant(s->tape, NULL).id, -1);
    assert_int_equal(psg_use(s->tape, s->weight).id, -1);
    assert_int_equal(psg_record(s->tape, NULL, NULL, 0, NULL).id, -1);
    assert_int_equal(psg_apply(s->tape, "no such op", NULL, 0, NULL).id, -1);
    assert_int_equal(psg_backward(s->tape, psg_none()), status);
    assert_int_equal(psg_backward_from(s->tape, psg_none(), NULL), status);
    assert_int_equal(psg_value(s->tape, psg_none(), &out), status);
    assert_int_equal(psg_input_grad(s->tape, psg_none(), &out), status);
    assert_int_equal(psg_gradient_of(s->tape, s->weight, &gradient), status);
    assert_int_equal(gradient.block_count, 0);
    assert_int_equal(psg_tape_status(s->tape), status);
    assert_string_equal(psg_tape_message(s->tape), message);
    TEST_OK(s->context, psg_tape_begin(s->tape, NULL));
    assert_string_equal(psg_tape_message(s->tape), "");
}

static psg_param *parameter(psg_context *context, const char *name, psg_tensor value) {
    psg_param *param;
    TEST_OK(context, psg_param_create(context, name, &value, &param));
    return param;
}

static void run_row(const scene_row *r) {
    scene s = { .context = test_context(1, NULL), .x = VIEW(B, IN) };
    TEST_OK(s.context, psg_tape_create(s.context, &s.tape));
    s.weight = parameter(s.context, "weight", VIEW(OUT, IN));
    s.bias = parameter(s.context, "bias", VIEW(OUT));
    s.scale = parameter(s.context, "scale", VIEW(IN));
    psg_status status = r->scene(&s);
    const char *message = psg_context_message(s.context);
    if (status != r->status || (r->text && !strstr(message, r->text))) {
        fail_msg("%s: %s \"%s\", expected %s \"%s\"", r->original, psg_status_name(status), message,
                 psg_status_name(r->status), r->text ? r->text : "");
    }
    psg_status kept = psg_tape_status(s.tape);
    if (kept) {
        assert_int_equal(kept, status);
        assert_string_equal(psg_tape_message(s.tape), message);
        check_sticky(&s, status);
    }
    psg_param_destroy(s.weight);
    psg_param_destroy(s.bias);
    psg_param_destroy(s.scale);
    psg_tape_destroy(s.tape);
    test_context_free(s.context);
}

void scene_check_rows(const scene_row *rows, size_t count) {
    for (size_t k = 0; k < count; k++) {
        assert_non_null(rows[k].original);
        if (rows[k].scene) run_row(&rows[k]);
        else assert_non_null(rows[k].text);
    }
}
