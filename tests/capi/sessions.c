/* Tokens and chat texts; sessions: adapters, logits, room, state, vectors. */
#include "outside.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 10 };

static void tokens_and_text(const graft_model *model) {
    const char *const text = "Na\xc3\xafve caf\xc3\xa9, 12 \xf0\x9f\x8c\x8a <|im_end|>";
    uint32_t *plain = NULL, *special = NULL;
    size_t n_plain, n_special, i, len, joined = 0;
    char *back = NULL;
    const char *bytes;
    char all[256];
    int64_t found = 0;
    int32_t ends = 0;

    OK(graft_tokenize(model, text, GRAFT_NUL, 0, &plain, &n_plain, &error));
    OK(graft_detokenize(model, plain, n_plain, 0, &back, &len, &error));
    CHECK(!strcmp(back, text) && len == strlen(text));
    graft_free(back);
    for (i = 0; i < n_plain; i++) {
        OK(graft_token_bytes(model, plain[i], &bytes, &len, &error));
        if (joined + len <= sizeof all) memcpy(all + joined, bytes, len);
        joined += len;
    }
    CHECK(joined == strlen(text) && !memcmp(all, text, joined));
    OK(graft_token_find(model, "<|im_end|>", GRAFT_NUL, &found, &error));
    if (found >= 0) {
        OK(graft_tokenize(model, text, GRAFT_NUL, GRAFT_TOKENIZE_SPECIAL, &special, &n_special, &error));
        CHECK(n_special < n_plain && special[n_special - 1] == (uint32_t)found);
        OK(graft_detokenize(model, special, n_special, 1, &back, NULL, &error));
        CHECK(!strstr(back, "<|im_end|>"));
        graft_free(back);
        graft_free(special);
        OK(graft_token_ends(model, (uint32_t)found, &ends, &error));
        CHECK(ends == 1);
    }
    OK(graft_token_ends(model, plain[0], &ends, &error));
    CHECK(ends == 0);
    graft_free(plain);
    OK(graft_token_find(model, "no such token", GRAFT_NUL, &found, &error));
    CHECK(found == -1);
    OK(graft_tokenize(model, NULL, 0, 0, &plain, &n_plain, &error));
    CHECK(n_plain == 0);
    graft_free(plain);
    OK(graft_detokenize(model, NULL, 0, 0, &back, &len, &error));
    CHECK(len == 0 && !*back);
    graft_free(back);
    FAILS(GRAFT_ERROR_USAGE, graft_token_bytes(model, UINT32_MAX, &bytes, &len, &error));
}

static void chat(const graft_model *model) {
    graft_message messages[3] = {{"user", 4, "Hello.", GRAFT_NUL, NULL, 0}, {"assistant", 9, "Hello!", 6, NULL, 0}, {"user", 4, "More.", 5, NULL, 0}};
    static collected first, again, fresh;
    graft_chat_options options;
    graft_generate_options generate;
    graft_report report = {.struct_size = sizeof report};
    graft_session *session = new_session(model);
    uint64_t evaluated;
    char *text = NULL, *longer = NULL;
    size_t len, longer_len;

    graft_chat_options_init(&options, sizeof options);
    CHECK(options.add_generation_prompt == 1);
    OK(graft_chat_render(model, messages, 1, NULL, &longer, &longer_len, &error));
    options.add_generation_prompt = 0;
    OK(graft_chat_render(model, messages, 1, &options, &text, &len, &error));
    CHECK(strstr(text, "Hello.") && len < longer_len && !memcmp(text, longer, len) && longer[longer_len] == 0);
    graft_free(text);
    graft_free(longer);
    options.add_generation_prompt = 1;
    options.template_source = "{% for m in messages %}[{{ m.role }}{{ m.mood }}] {{ m.content }}{% endfor %}";
    options.template_source_len = GRAFT_NUL;
    messages[0].extra = "{\"mood\": \"!\"}";
    messages[0].extra_len = GRAFT_NUL;
    OK(graft_chat_render(model, messages, 1, &options, &text, NULL, &error));
    CHECK(!strcmp(text, "[user!] Hello."));
    graft_free(text);
    messages[0].extra = NULL;
    messages[0].extra_len = 0;

    graft_generate_options_init(&generate, sizeof generate);
    generate.max_tokens = 4;
    OK(graft_generate_messages(session, messages, 1, NULL, &generate, collect, &first, &report, &error));
    CHECK(report.reused_tokens == 0 && report.prompt_tokens > 0 && report.tokens <= 4);
    evaluated = report.prompt_tokens;
    messages[1].content = first.data; /* the model's own answer: the whole beginning is there already */
    messages[1].content_len = first.len;
    OK(graft_generate_messages(session, messages, 3, NULL, &generate, collect, &again, &report, &error));
    CHECK(report.reused_tokens >= evaluated);
    graft_session_free(session);
    session = new_session(model);
    OK(graft_generate_messages(session, messages, 3, NULL, &generate, collect, &fresh, &report, &error));
    CHECK(report.reused_tokens == 0 && same(&again, &fresh));
    graft_session_free(session);
}

void test_texts(void) {
    graft_model *model = open_model();
    tokens_and_text(model);
    chat(model);
    graft_model_free(model);
}

/* One conversation, three adapters, mixes of them, and the model alone, each from one token to the next. */
static void adapters(const graft_model *model) {
    static collected alone, one, other, third;
    graft_adapter *all[3];
    const graft_adapter *on[3];
    const float weights[3] = {0.5f, -0.25f, 1}, none[1] = {0}, broken[1] = {NAN};
    graft_adapter_info info = {.struct_size = sizeof info};
    graft_session *session = new_session(model);
    graft_model *stranger;
    graft_adapter *strange = NULL;
    int i;

    answer_alone(model, NULL, PROMPT, TOKENS, &alone);
    for (i = 0; i < 3; i++) {
        on[i] = all[i] = open_adapter(model, i);
        OK(graft_adapter_get_info(all[i], &info, &error));
        CHECK(!strcmp(info.method, "LORA") && info.sites && info.parameters && info.bytes && info.min_rank && info.min_rank <= info.max_rank);
        OK(graft_session_set_adapters(session, on + i, NULL, 1, &error));
        answer(session, i ? " And" : PROMPT, 3, &other);
        CHECK(other.n_tokens == 3);
    }
    OK(graft_session_set_adapters(session, on, weights, 3, &error));
    answer(session, " And", 3, &other);
    CHECK(other.n_tokens == 3);
    OK(graft_session_set_adapters(session, NULL, NULL, 0, &error));
    OK(graft_session_reset(session, &error));
    answer(session, PROMPT, TOKENS, &other);
    CHECK(same(&alone, &other));

    answer_alone(model, all[0], PROMPT, TOKENS, &one);
    CHECK(!same(&alone, &one));
    OK(graft_session_set_adapters(session, on, none, 1, &error));
    OK(graft_session_reset(session, &error));
    answer(session, PROMPT, TOKENS, &other);
    CHECK(same(&alone, &other));

    OK(graft_session_set_adapters(session, on, NULL, 1, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_set_adapters(session, on, broken, 1, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_set_adapters(session, NULL, NULL, 1, &error));
    stranger = open_tiny("qwen2");
    OK(graft_adapter_open(stranger, tiny_file("qwen2/adapters/qv"), GRAFT_NUL, NULL, &strange, &error));
    on[1] = strange;
    FAILS(GRAFT_ERROR_MISMATCH, graft_session_set_adapters(session, on, NULL, 2, &error));
    on[1] = NULL;
    FAILS(GRAFT_ERROR_HANDLE, graft_session_set_adapters(session, on, NULL, 2, &error));
    graft_adapter_free(strange);
    graft_model_free(stranger);
    for (i = 0; i < 3; i++) graft_adapter_free(all[i]); /* the session keeps what it has on */
    FAILS(GRAFT_ERROR_HANDLE, graft_session_set_adapters(session, on, NULL, 1, &error));
    OK(graft_session_reset(session, &error));
    answer(session, PROMPT, TOKENS, &third);
    CHECK(same(&one, &third));
    graft_session_free(session);
}

static void adapter_from_memory(const graft_model *model) {
    static collected plain, other;
    char path[1024];
    size_t config_len, tensors_len;
    char *config, *tensors;
    graft_adapter *adapter = open_adapter(model, 0), *copy = NULL;
    snprintf(path, sizeof path, "%s/adapter_config.json", adapter_paths[0]);
    config = read_file(path, &config_len);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", adapter_paths[0]);
    tensors = read_file(path, &tensors_len);
    FAILS(GRAFT_ERROR_INVALID, graft_adapter_open_memory(model, config, config_len / 2, tensors, tensors_len, NULL, &copy, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_adapter_open_memory(model, config, config_len, tensors, tensors_len / 2, NULL, &copy, &error));
    OK(graft_adapter_open_memory(model, config, config_len, tensors, tensors_len, NULL, &copy, &error));
    memset(config, 0, config_len);
    memset(tensors, 0, tensors_len);
    free(config);
    free(tensors);
    answer_alone(model, adapter, PROMPT, TOKENS, &plain);
    answer_alone(model, copy, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    graft_adapter_free(copy);
    graft_adapter_free(adapter);
}

typedef struct {
    size_t calls, end_at;
    float *last;
    int finite;
} each_state;

static int32_t on_logits(size_t index, const float *logits, size_t n_logits, void *user_data) {
    each_state *state = user_data;
    CHECK(index == state->calls);
    state->finite = state->finite && isfinite(logits[0]) && isfinite(logits[n_logits - 1]);
    memcpy(state->last, logits, n_logits * sizeof *logits);
    return ++state->calls == state->end_at;
}

static void logits(const graft_model *model) {
    graft_session *session = new_session(model);
    graft_session_info info = {.struct_size = sizeof info};
    each_state state = {0, 0, NULL, 1};
    uint32_t *tokens = NULL;
    const uint32_t *held = NULL;
    const float *now = NULL;
    size_t n, n_held, n_now = 1;

    OK(graft_session_logits(session, &now, &n_now, &error));
    CHECK(n_now == 0);
    OK(graft_tokenize(model, PROMPT, GRAFT_NUL, 0, &tokens, &n, &error));
    OK(graft_session_get_info(session, &info, &error));
    CHECK(info.position == 0 && info.precision == GRAFT_PRECISION_FAST && info.context >= n);
    state.last = malloc(info.vocab_size * sizeof(float));
    if (!state.last) return;
    OK(graft_session_eval_each(session, tokens, n, on_logits, &state, &error));
    CHECK(state.calls == n && state.finite);
    OK(graft_session_logits(session, &now, &n_now, &error));
    CHECK(n_now == info.vocab_size && !memcmp(now, state.last, n_now * sizeof *now));
    OK(graft_session_tokens(session, &held, &n_held, &error));
    CHECK(n_held == n && !memcmp(held, tokens, n * sizeof *held));

    OK(graft_session_truncate(session, n - 1, &error));
    OK(graft_session_eval(session, tokens + n - 1, 1, &error));
    OK(graft_session_get_info(session, &info, &error));
    CHECK(info.position == n);
    FAILS(GRAFT_ERROR_USAGE, graft_session_truncate(session, n + 1, &error));
    OK(graft_session_reset(session, &error));
    state.calls = 0;
    state.end_at = 2;
    FAILS(GRAFT_ERROR_CANCELLED, graft_session_eval_each(session, tokens, n, on_logits, &state, &error));
    CHECK(state.calls == 2);
    FAILS(GRAFT_ERROR_USAGE, graft_session_eval(session, NULL, 0, &error));
    tokens[0] = UINT32_MAX;
    FAILS(GRAFT_ERROR_USAGE, graft_session_eval(session, tokens, n, &error));
    free(state.last);
    graft_free(tokens);
    graft_session_free(session);
}

static void room(const graft_model *model) {
    static collected text;
    graft_session_options options;
    graft_session_info info = {.struct_size = sizeof info};
    graft_generate_options generate;
    graft_report report = {.struct_size = sizeof report};
    graft_session *session = NULL;
    uint32_t *tokens = NULL;
    size_t n;

    graft_session_options_init(&options, sizeof options);
    CHECK(options.chunk == 512);
    options.context = 16;
    OK(graft_session_new(model, &options, &session, &error));
    OK(graft_tokenize(model, "a b c d e f g h i j k l m n o p q r s t", GRAFT_NUL, 0, &tokens, &n, &error));
    CHECK(n > 16);
    FAILS(GRAFT_ERROR_LIMIT, graft_session_eval(session, tokens, 17, &error));
    OK(graft_session_get_info(session, &info, &error));
    CHECK(info.position == 0 && info.context == 16);
    OK(graft_session_eval(session, tokens, 16, &error));
    FAILS(GRAFT_ERROR_LIMIT, graft_session_eval(session, tokens, 1, &error));
    OK(graft_session_slide(session, 4, &error));
    OK(graft_session_get_info(session, &info, &error));
    CHECK(info.position == 4 + (16 - 4) / 2);
    OK(graft_session_reset(session, &error));

    graft_generate_options_init(&generate, sizeof generate);
    CHECK(generate.keep == -1);
    generate.ignore_eos = 1;
    text.len = text.n_tokens = 0;
    OK(graft_generate_tokens(session, tokens, 10, &generate, collect, &text, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_CONTEXT);
    CHECK(report.tokens >= 6 && report.tokens <= 7 && report.prompt_tokens == 10);
    OK(graft_session_reset(session, &error));
    generate.keep = 2;
    generate.max_tokens = 30;
    text.len = text.n_tokens = 0;
    OK(graft_generate_tokens(session, tokens, 10, &generate, collect, &text, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_LENGTH && report.tokens == 30);
    OK(graft_session_reset(session, &error));
    FAILS(GRAFT_ERROR_LIMIT, graft_generate_tokens(session, tokens, 17, &generate, collect, &text, &report, &error));
    graft_free(tokens);
    graft_session_free(session);
}

/* What was saved goes on as what was not. */
static void state(const graft_model *model) {
    static collected before, going_on, restored;
    graft_session *session = new_session(model), *other = new_session(model);
    graft_model *stranger = open_tiny("qwen2");
    graft_session *strange = new_session(stranger);
    graft_session_info info = {.struct_size = sizeof info};
    uint8_t *bytes = NULL;
    size_t n;

    answer(session, PROMPT, TOKENS, &before);
    OK(graft_session_save(session, "state", GRAFT_NUL, &error));
    OK(graft_session_save_memory(session, &bytes, &n, &error));
    answer(session, " And", TOKENS, &going_on);
    OK(graft_session_restore(other, "state", 5, &error));
    answer(other, " And", TOKENS, &restored);
    CHECK(same(&going_on, &restored));
    OK(graft_session_restore_memory(session, bytes, n, &error));
    answer(session, " And", TOKENS, &restored);
    CHECK(same(&going_on, &restored));

    FAILS(GRAFT_ERROR_MISMATCH, graft_session_restore_memory(strange, bytes, n, &error));
    OK(graft_session_get_info(session, &info, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_session_restore_memory(session, bytes, n / 2, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_session_restore_memory(session, NULL, 0, &error));
    FAILS(GRAFT_ERROR_IO, graft_session_restore(session, "no-state", GRAFT_NUL, &error));
    FAILS(GRAFT_ERROR_IO, graft_session_save(session, "no/folder/state", GRAFT_NUL, &error));
    {
        const uint64_t position = info.position;
        OK(graft_session_get_info(session, &info, &error));
        CHECK(info.position == position);
    }
    graft_free(bytes);
    graft_session_free(session);
    graft_session_free(other);
    graft_session_free(strange);
    graft_model_free(stranger);
    remove("state");
}

static void vectors(const graft_model *model) {
    graft_model_info info = {.struct_size = sizeof info};
    graft_session *session = new_session(model);
    uint32_t *tokens = NULL;
    const float *now = NULL;
    float *vector[3];
    size_t n, i, n_now = 1;
    int pooling;

    OK(graft_model_get_info(model, &info, &error));
    OK(graft_tokenize(model, PROMPT, GRAFT_NUL, 0, &tokens, &n, &error));
    for (pooling = 0; pooling < 3; pooling++) {
        vector[pooling] = malloc(info.hidden_size * sizeof(float));
        if (!vector[pooling]) return;
        OK(graft_session_reset(session, &error));
        OK(graft_session_embed(session, tokens, n, pooling, vector[pooling], info.hidden_size, &error));
        for (i = 0; i < info.hidden_size; i++)
            if (!isfinite(vector[pooling][i])) CHECK(!"finite");
    }
    CHECK(memcmp(vector[GRAFT_POOLING_LAST], vector[GRAFT_POOLING_MEAN], info.hidden_size * sizeof(float)));
    CHECK(memcmp(vector[GRAFT_POOLING_LAST], vector[GRAFT_POOLING_FIRST], info.hidden_size * sizeof(float)));
    OK(graft_session_logits(session, &now, &n_now, &error));
    CHECK(n_now == 0);
    FAILS(GRAFT_ERROR_USAGE, graft_session_embed(session, tokens, n, GRAFT_POOLING_LAST, vector[0], info.hidden_size - 1, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_embed(session, tokens, 0, GRAFT_POOLING_LAST, vector[0], info.hidden_size, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_embed(session, tokens, n, 3, vector[0], info.hidden_size, &error));
    for (pooling = 0; pooling < 3; pooling++) free(vector[pooling]);
    graft_free(tokens);
    graft_session_free(session);
}

void test_sessions(void) {
    graft_model *model = open_model();
    adapters(model);
    adapter_from_memory(model);
    logits(model);
    room(model);
    state(model);
    vectors(model);
    graft_model_free(model);
}
