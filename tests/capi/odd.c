/* What is allowed and seldom done, and what should not be done and must do no harm. */
#include "outside.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The session of a generation under way is used otherwise: adapters switched, tokens appended, all forgotten. */
static void between_tokens(const graft_model *model) {
    graft_session *session = new_session(model);
    graft_adapter *adapter = open_adapter(model, 0);
    graft_generation *one = NULL, *two = NULL;
    graft_generate_options options;
    const char *piece = NULL;
    uint32_t token = 0;
    int32_t more = 1;
    int i;

    graft_generate_options_init(&options, sizeof options);
    options.ignore_eos = 1;
    options.max_tokens = 20;
    OK(graft_generation_of_text(session, PROMPT, GRAFT_NUL, &options, &one, &error));
    for (i = 0; i < 6; i++) {
        OK(graft_generation_next(one, &piece, NULL, &token, &more, &error));
        CHECK(more == 1);
        OK(graft_session_set_adapters(session, (const graft_adapter *const *)&adapter, NULL, i % 2, &error));
    }
    OK(graft_generation_of_text(session, " And", GRAFT_NUL, &options, &two, &error));
    for (i = 0; i < 6; i++) {
        graft_generation *const now = i % 2 ? one : two;
        const graft_status status = graft_generation_next(now, &piece, NULL, &token, &more, NULL);
        CHECK(status == GRAFT_OK || status == GRAFT_ERROR_USAGE);
        if (i == 3) OK(graft_session_reset(session, &error));
    }
    graft_generation_free(one);
    graft_generation_free(two);
    graft_adapter_free(adapter);
    graft_session_free(session);
}

static void stops_and_samplers(const graft_model *model) {
    graft_session *session = new_session(model), *strange;
    graft_model *stranger = open_tiny("qwen2");
    graft_generate_options options;
    graft_sampler_options sampling;
    graft_logit_bias *all;
    graft_model_info info = {.struct_size = sizeof info}, other = info;
    graft_sampler *sampler = NULL;
    graft_text stop = {NULL, 5};
    collected text = {.len = 0};
    uint32_t i;

    strange = new_session(stranger);
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = 3;
    options.ignore_eos = 1;
    options.stop = &stop;
    options.n_stop = 1;
    FAILS(GRAFT_ERROR_USAGE, graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, NULL, &error));
    stop.len = 0; /* is never there, or always: an error, or an end */
    CHECK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, NULL, NULL) != GRAFT_ERROR_INTERNAL);
    stop.data = "\xff";
    stop.len = 1;
    FAILS(GRAFT_ERROR_USAGE, graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, NULL, &error));
    options.n_stop = 0;

    OK(graft_model_get_info(model, &info, &error));
    all = malloc(info.vocab_size * sizeof *all);
    if (!all) return;
    for (i = 0; i < info.vocab_size; i++) {
        all[i].token = i;
        all[i].bias = -INFINITY;
    }
    graft_sampler_options_init(&sampling, sizeof sampling);
    sampling.temperature = 1;
    sampling.logit_bias = all;
    sampling.n_logit_bias = info.vocab_size;
    if (graft_sampler_new(session, &sampling, &sampler, NULL) == GRAFT_OK) { /* every token is banned */
        options.sampler = sampler;
        CHECK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, NULL, NULL) != GRAFT_ERROR_INTERNAL);
        graft_sampler_free(sampler);
    }
    for (i = 0; i < info.vocab_size; i++) all[i].bias = i % 2 ? NAN : INFINITY;
    FAILS(GRAFT_ERROR_USAGE, graft_sampler_new(session, &sampling, &sampler, &error));
    free(all);
    graft_sampler_options_init(&sampling, sizeof sampling);
    sampling.temperature = 1e-30f;
    sampling.top_p = 0;
    OK(graft_sampler_new(strange, &sampling, &sampler, &error));
    options.sampler = sampler;
    answer(session, PROMPT, 1, &text);
    OK(graft_model_get_info(stranger, &other, &error));
    FAILS(info.vocab_size == other.vocab_size ? GRAFT_OK : GRAFT_ERROR_USAGE,
          graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, NULL, &error));
    OK(graft_generate_text(strange, PROMPT, GRAFT_NUL, &options, NULL, NULL, NULL, &error));
    graft_sampler_free(sampler);
    graft_session_free(session);
    graft_session_free(strange);
    graft_model_free(stranger);
}

static void unaligned_and_odd(const graft_model *model) {
    graft_model *opened = NULL, *merged = NULL, *stranger = open_tiny("qwen2");
    graft_adapter *strange = NULL;
    const float infinite = INFINITY;
    size_t len, n;
    uint32_t *tokens = NULL, wrong = UINT32_MAX;
    char *file = read_file(tiny_file("llama-tied/model.gguf"), &len), *moved = malloc(len + 1), *text = NULL, *json;
    int i;

    if (!moved) return;
    for (i = 0; i < 2; i++) { /* also at an odd address */
        memcpy(moved + i, file, len);
        OK(graft_model_open_memory(moved + i, len, NULL, NULL, NULL, &opened, &error));
        graft_model_free(opened);
    }
    free(moved);
    free(file);

    OK(graft_adapter_open(stranger, tiny_file("qwen2/adapters/qv"), GRAFT_NUL, NULL, &strange, &error));
    FAILS(GRAFT_ERROR_MISMATCH, graft_merge(model, (const graft_adapter *const *)&strange, NULL, 1, NULL, &merged, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_merge(stranger, (const graft_adapter *const *)&strange, &infinite, 1, NULL, &merged, &error));
    graft_adapter_free(strange);
    graft_model_free(stranger);
    CHECK(!merged);

    FAILS(GRAFT_ERROR_USAGE, graft_detokenize(model, &wrong, 1, 0, &text, NULL, &error));
    CHECK(graft_chat_render(model, NULL, 0, NULL, &text, NULL, NULL) != GRAFT_ERROR_INTERNAL);
    graft_free(text);
    graft_free(text);
    text = malloc(1 << 20);
    if (!text) return;
    memset(text, 'a', 1 << 20);
    for (i = 0; i < 1 << 20; i += 7) text[i] = ' ';
    OK(graft_tokenize(model, text, 1 << 20, 0, &tokens, &n, &error));
    CHECK(n > 1 << 16);
    graft_free(tokens);
    OK(graft_model_metadata(model, "tokenizer.ggml.tokens", GRAFT_NUL, &json, &len, &error));
    CHECK(json[0] == '[' && json[len - 1] == ']');
    graft_free(json);
    free(text);
}

void test_odd(void) {
    graft_model *model = open_model();
    between_tokens(model);
    stops_and_samplers(model);
    unaligned_and_odd(model);
    graft_model_free(model);
}
