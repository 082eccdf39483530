/* Generating: streamed, stopped, sampled, by hand, and a token at a time. */
#include "outside.h"
#include <math.h>
#include <string.h>

enum { TOKENS = 16 };

static int32_t end_at_third(const char *text, size_t len, uint32_t token, void *user_data) {
    collected *all = user_data;
    collect(text, len, token, user_data);
    return all->n_tokens == 3;
}

static void streamed(const graft_model *model) {
    static collected text, stopped;
    graft_session *session = new_session(model);
    graft_generate_options options;
    graft_report report = {.struct_size = sizeof report};
    const uint32_t *held;
    size_t n_held, len;
    char *whole = NULL;
    graft_text stop[2] = {{"no such text in it", GRAFT_NUL}, {NULL, 0}};

    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = TOKENS;
    options.ignore_eos = 1;
    options.show_special = 1;
    OK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, collect, &text, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_LENGTH && report.tokens == TOKENS && report.prompt_tokens > 0);
    CHECK(report.prompt_seconds > 0 && report.generation_seconds > 0);
    drop_last_piece(&text, &report);
    CHECK(text.n_tokens == TOKENS);
    OK(graft_detokenize(model, text.tokens, text.n_tokens, 0, &whole, &len, &error));
    CHECK(text.len == len && !memcmp(text.data, whole, len));
    graft_free(whole);
    OK(graft_session_tokens(session, &held, &n_held, &error)); /* the prompt and all new tokens but the last */
    CHECK(n_held == report.prompt_tokens + TOKENS - 1);
    CHECK(!memcmp(held + report.prompt_tokens, text.tokens, (TOKENS - 1) * sizeof *held));

    stop[1].data = text.data + 2; /* two bytes that will come, perhaps in the middle of a token */
    while (((unsigned char)*stop[1].data & 0xc0) == 0x80) stop[1].data++;
    stop[1].len = 2;
    while (((unsigned char)stop[1].data[stop[1].len] & 0xc0) == 0x80) stop[1].len++;
    options.stop = stop;
    options.n_stop = 2;
    OK(graft_session_reset(session, &error));
    OK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, collect, &stopped, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_STOP);
    CHECK(stopped.len <= (size_t)(stop[1].data - text.data) && !memcmp(text.data, stopped.data, stopped.len));

    options.n_stop = 0;
    OK(graft_session_reset(session, &error));
    stopped.len = stopped.n_tokens = 0;
    OK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, end_at_third, &stopped, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_CANCELLED && stopped.n_tokens == 3 && report.tokens == 3);
    CHECK(stopped.len <= text.len && !memcmp(text.data, stopped.data, stopped.len));
    OK(graft_generate_text(session, " and", 4, &options, NULL, NULL, NULL, &error));
    graft_session_free(session);
}

static void by_hand(const graft_model *model) {
    static collected text, hand;
    graft_session *session = new_session(model), *again = new_session(model);
    graft_generate_options options;
    graft_sampler *greedy = NULL, *warm = NULL, *banned = NULL;
    graft_sampler_options sampling;
    graft_logit_bias bias;
    uint32_t *tokens = NULL, token = 0;
    const float *logits = NULL;
    size_t n, n_logits, i, step;

    OK(graft_tokenize(model, PROMPT, GRAFT_NUL, GRAFT_TOKENIZE_BOS_EOS, &tokens, &n, &error));
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = TOKENS;
    options.ignore_eos = 1;
    OK(graft_generate_tokens(session, tokens, n, &options, collect, &text, NULL, &error));
    OK(graft_sampler_new(session, NULL, &greedy, &error));
    OK(graft_session_eval(again, tokens, n, &error));
    for (step = 0; step < TOKENS; step++) {
        size_t best = 0;
        OK(graft_session_logits(again, &logits, &n_logits, &error));
        for (i = 1; i < n_logits; i++)
            if (logits[i] > logits[best]) best = i;
        OK(graft_session_sample(again, greedy, &token, &error));
        CHECK(token == best && token == text.tokens[step]);
        OK(graft_session_eval(again, &token, 1, &error));
    }

    graft_sampler_options_init(&sampling, sizeof sampling);
    CHECK(sampling.temperature == 0 && sampling.repeat_penalty == 1 && sampling.repeat_last_n == 64);
    sampling.temperature = 0.9f;
    sampling.top_k = 40;
    sampling.top_p = 0.95f;
    sampling.min_p = 0.01f;
    sampling.repeat_penalty = 1.1f;
    sampling.frequency_penalty = 0.1f;
    sampling.presence_penalty = 0.1f;
    sampling.seed = 7;
    OK(graft_sampler_new(session, &sampling, &warm, &error));
    options.sampler = warm;
    OK(graft_session_reset(session, &error));
    text.len = text.n_tokens = 0;
    OK(graft_generate_tokens(session, tokens, n, &options, collect, &text, NULL, &error));
    OK(graft_sampler_reset(warm, &error));
    OK(graft_session_reset(again, &error));
    OK(graft_session_eval(again, tokens, n, &error));
    for (step = 0; step < TOKENS; step++) {
        OK(graft_session_sample(again, warm, &token, &error));
        CHECK(token == text.tokens[step]);
        OK(graft_session_eval(again, &token, 1, &error));
    }
    OK(graft_sampler_reset(warm, &error));
    OK(graft_session_reset(session, &error));
    OK(graft_generate_tokens(session, tokens, n, &options, collect, &hand, NULL, &error));
    CHECK(same(&text, &hand));

    options.sampler = NULL;
    OK(graft_session_reset(session, &error));
    text.len = text.n_tokens = 0;
    OK(graft_generate_tokens(session, tokens, n, &options, collect, &text, NULL, &error));
    bias.token = text.tokens[0];
    bias.bias = -INFINITY;
    graft_sampler_options_init(&sampling, sizeof sampling);
    sampling.logit_bias = &bias;
    sampling.n_logit_bias = 1;
    OK(graft_sampler_new(session, &sampling, &banned, &error));
    options.sampler = banned;
    OK(graft_session_reset(session, &error));
    hand.len = hand.n_tokens = 0;
    OK(graft_generate_tokens(session, tokens, n, &options, collect, &hand, NULL, &error));
    for (step = 0; step < hand.n_tokens; step++) CHECK(hand.tokens[step] != bias.token);
    bias.token = UINT32_MAX;
    FAILS(GRAFT_ERROR_USAGE, graft_sampler_new(session, &sampling, &banned, &error));

    OK(graft_session_reset(session, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_sample(session, greedy, &token, &error)); /* no logits yet */
    FAILS(GRAFT_ERROR_USAGE, graft_generate_tokens(session, NULL, 0, &options, NULL, NULL, NULL, &error));
    graft_sampler_free(greedy);
    graft_sampler_free(warm);
    graft_sampler_free(banned);
    graft_free(tokens);
    graft_session_free(session);
    graft_session_free(again);
}

static void pulled(const graft_model *model) {
    static collected text, pieces;
    graft_session *session = new_session(model);
    graft_generation *generation = NULL;
    graft_generate_options options;
    graft_report report = {.struct_size = sizeof report};
    graft_message message = {"user", 4, "Hello.", 6, NULL, 0};
    const char *piece = NULL;
    size_t len = 0, rounds = 0;
    uint32_t token = 0;
    int32_t more = 1;

    answer(session, PROMPT, TOKENS, &text);
    OK(graft_session_reset(session, &error));
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = TOKENS;
    options.ignore_eos = 1;
    OK(graft_generation_of_text(session, PROMPT, GRAFT_NUL, &options, &generation, &error));
    OK(graft_generation_report(generation, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_NONE && report.tokens == 0);
    for (;;) {
        OK(graft_generation_next(generation, &piece, &len, &token, &more, &error));
        if (!more) break;
        CHECK(piece[len] == 0 && collect(piece, len, token, &pieces) == 0);
        if (++rounds > 2 * TOKENS) break; /* a hang would be worse */
    }
    OK(graft_generation_next(generation, &piece, NULL, NULL, &more, &error));
    CHECK(!more);
    OK(graft_generation_report(generation, &report, &error));
    drop_last_piece(&pieces, &report);
    CHECK(same(&text, &pieces));
    CHECK(report.finish == GRAFT_FINISH_LENGTH && report.tokens == TOKENS);
    graft_generation_free(generation);

    OK(graft_session_reset(session, &error));
    OK(graft_generation_of_messages(session, &message, 1, NULL, &options, &generation, &error));
    OK(graft_generation_next(generation, &piece, &len, &token, &more, &error));
    CHECK(more);
    OK(graft_generation_cancel(generation, &error));
    for (rounds = 0; more && rounds < 4; rounds++) OK(graft_generation_next(generation, &piece, &len, &token, &more, &error));
    CHECK(!more);
    OK(graft_generation_report(generation, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_CANCELLED && report.tokens < 3);
    graft_generation_free(generation);

    OK(graft_generation_of_text(session, PROMPT, GRAFT_NUL, &options, &generation, &error));
    OK(graft_generation_next(generation, &piece, &len, &token, &more, &error));
    graft_session_free(session);
    FAILS(GRAFT_ERROR_HANDLE, graft_generation_next(generation, &piece, &len, &token, &more, &error));
    graft_generation_free(generation);
}

void test_generation(void) {
    graft_model *model = open_model();
    streamed(model);
    by_hand(model);
    pulled(model);
    graft_model_free(model);
}
