/* Everything that can be wrong: files, handles, texts, options. */
#include "outside.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void files(const graft_model *model) {
    static const char *const fields[] = {"file", "item", "expected", "found"};
    const char *(*const of[])(const graft_error *) = {graft_error_file, graft_error_item, graft_error_expected, graft_error_found};
    graft_model *opened = NULL;
    graft_adapter *adapter = NULL;
    graft_model_options options;
    graft_error *error = NULL;
    char *bytes;
    size_t len, i;

    STATUS(GRAFT_ERROR_IO, graft_model_open("no-such-file.gguf", GRAFT_NUL, NULL, &opened, &error));
    CHECK(graft_error_file(error) && strstr(graft_error_file(error), "no-such-file.gguf"));
    CHECK(graft_error_message(error) && strstr(graft_error_message(error), "no-such-file.gguf"));
    for (i = 0; i < 4; i++) { /* NULL or a text that lives as long as the error */
        const char *text = of[i](error);
        if (text) CHECK(strlen(text) > 0 && fields[i]);
    }
    graft_error_free(error);
    graft_error_free(error); /* is known as freed */
    CHECK(graft_error_status(error) == GRAFT_ERROR_HANDLE && !graft_error_message(error) && !graft_error_file(error));
    CHECK(graft_error_status(NULL) == GRAFT_ERROR_HANDLE && !graft_error_message(NULL) && !graft_error_found(NULL));
    graft_error_free(NULL);
    STATUS(GRAFT_ERROR_IO, graft_model_open("no-such-file.gguf", GRAFT_NUL, NULL, &opened, NULL));
    CHECK(!opened);

    write_file("empty.gguf", "", 0);
    FAILS(GRAFT_ERROR_INVALID, graft_model_open("empty.gguf", GRAFT_NUL, NULL, &opened, &error));
    write_file("text.gguf", "It was a dark and stormy night; the rain fell in torrents.", 58);
    FAILS(GRAFT_ERROR_INVALID, graft_model_open("text.gguf", GRAFT_NUL, NULL, &opened, &error));
    bytes = read_file(tiny_file("llama-tied/model.gguf"), &len);
    write_file("half.gguf", bytes, len / 2);
    FAILS(GRAFT_ERROR_INVALID, graft_model_open("half.gguf", GRAFT_NUL, NULL, &opened, &error));
    for (i = 24; i < len; i += len / 60) { /* broken anywhere: an error or a model, nothing else */
        const char was = bytes[i];
        graft_status status;
        bytes[i] = (char)~was;
        opened = NULL;
        error = (graft_error *)&model_path;
        status = graft_model_open_memory(bytes, len, NULL, NULL, NULL, &opened, &error);
        CHECK(status == GRAFT_OK ? opened && !error : !opened && graft_error_status(error) == status);
        graft_error_free(error);
        graft_model_free(opened);
        opened = NULL;
        bytes[i] = was;
    }
    free(bytes);
    remove("empty.gguf");
    remove("text.gguf");
    remove("half.gguf");
    FAILS(GRAFT_ERROR_INVALID, graft_model_open(".", GRAFT_NUL, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_model_open("", 0, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_model_open("a\0b", 3, NULL, &opened, &error));
    graft_model_options_init(&options, sizeof options);
    options.tokenizer = "no-such-tokenizer.json";
    options.tokenizer_len = GRAFT_NUL;
    FAILS(GRAFT_ERROR_IO, graft_model_open(model_path, GRAFT_NUL, &options, &opened, &error));

    FAILS(GRAFT_ERROR_IO, graft_adapter_open(model, "no-such-folder", GRAFT_NUL, NULL, &adapter, &error));
    FAILS(GRAFT_ERROR_MISMATCH, graft_adapter_open(model, tiny_file("qwen3/adapters/qv"), GRAFT_NUL, NULL, &adapter, &error));
    CHECK(!adapter && !opened);
}

static void handles(graft_model *model) {
    graft_session *session = new_session(model), *freed = new_session(model);
    graft_session_info info = {.struct_size = sizeof info};
    graft_model_info facts = {.struct_size = sizeof facts};
    graft_session *made = (graft_session *)&info; /* must stay */
    uint32_t *tokens = NULL;
    int on_stack = 0;
    size_t n = 5;

    FAILS(GRAFT_ERROR_HANDLE, graft_session_new(NULL, NULL, &made, &error));
    FAILS(GRAFT_ERROR_HANDLE, graft_session_new((graft_model *)session, NULL, &made, &error));
    FAILS(GRAFT_ERROR_HANDLE, graft_session_get_info((graft_session *)model, &info, &error));
    FAILS(GRAFT_ERROR_HANDLE, graft_session_get_info(NULL, &info, &error));
    FAILS(GRAFT_ERROR_HANDLE, graft_model_get_info(NULL, &facts, &error));
    CHECK(made == (graft_session *)&info);
    graft_session_free(freed);
    FAILS(GRAFT_ERROR_HANDLE, graft_session_get_info(freed, &info, &error));
    graft_session_free(freed);
    graft_model_free((graft_model *)session); /* of another kind: stays */
    OK(graft_session_get_info(session, &info, &error));
    graft_free(session);
    OK(graft_session_get_info(session, &info, &error));
    graft_free(&on_stack);
    STATUS(GRAFT_ERROR_HANDLE, graft_session_cancel(NULL));
    STATUS(GRAFT_ERROR_HANDLE, graft_cancel_set(NULL));
    STATUS(GRAFT_ERROR_HANDLE, graft_cancel_clear((graft_cancel *)model));

    FAILS(GRAFT_ERROR_USAGE, graft_session_new(model, NULL, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_get_info(session, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_model_open(model_path, GRAFT_NUL, NULL, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, "a", 1, 0, NULL, &n, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, "a", 1, 0, &tokens, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_eval(session, NULL, 3, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_logits(session, NULL, NULL, &error));
    CHECK(!tokens && n == 5);
    STATUS(GRAFT_ERROR_HANDLE, graft_session_eval(NULL, NULL, 0, NULL));
    graft_model_free(NULL);
    graft_session_free(NULL);
    graft_adapter_free(NULL);
    graft_sampler_free(NULL);
    graft_generation_free(NULL);
    graft_team_free(NULL);
    graft_cancel_free(NULL);
    graft_session_free(session);
}

static void texts(const graft_model *model) {
    static const char *const broken[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf5\x80\x80\x80"};
    graft_message message = {"user", 4, "Hi.", 3, "no JSON", 7};
    graft_chat_options options;
    graft_session *session = new_session(model);
    uint32_t *tokens = NULL;
    char *text = NULL;
    size_t n, i;

    for (i = 0; i < sizeof broken / sizeof *broken; i++) {
        FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, broken[i], GRAFT_NUL, 0, &tokens, &n, &error));
        FAILS(GRAFT_ERROR_USAGE, graft_generate_text(session, broken[i], GRAFT_NUL, NULL, NULL, NULL, NULL, &error));
        message.content = broken[i];
        message.content_len = GRAFT_NUL;
        message.extra = NULL;
        message.extra_len = 0;
        FAILS(GRAFT_ERROR_USAGE, graft_chat_render(model, &message, 1, NULL, &text, NULL, &error));
    }
    FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, NULL, 3, 0, &tokens, &n, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, NULL, GRAFT_NUL, 0, &tokens, &n, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, "a", SIZE_MAX / 2 + 2, 0, &tokens, &n, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_tokenize(model, "a", 1, 128, &tokens, &n, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_session_eval(session, (const uint32_t *)&n, SIZE_MAX / 2, &error));
    message.content = "Hi.";
    message.content_len = 3;
    message.extra = "no JSON";
    message.extra_len = 7;
    FAILS(GRAFT_ERROR_USAGE, graft_chat_render(model, &message, 1, NULL, &text, NULL, &error));
    message.extra = NULL;
    message.extra_len = 0;
    graft_chat_options_init(&options, sizeof options);
    options.template_source = "{% for m in %}";
    options.template_source_len = GRAFT_NUL;
    FAILS(GRAFT_ERROR_INVALID, graft_chat_render(model, &message, 1, &options, &text, NULL, &error));
    options.template_source = "{{ raise_exception('no') }}";
    FAILS(GRAFT_ERROR_INVALID, graft_chat_render(model, &message, 1, &options, &text, NULL, &error));
    options.template_source = "{% for i in range(10000) %}{% for j in range(10000) %}{% for k in range(10000) %}{% endfor %}{% endfor %}{% endfor %}";
    CHECK(graft_chat_render(model, &message, 1, &options, &text, NULL, NULL) != GRAFT_OK);
    CHECK(!text && !tokens);
    graft_session_free(session);
}

void test_errors(void) {
    graft_model *model = open_model();
    files(model);
    handles(model);
    texts(model);
    graft_model_free(model);
}

/* What a program of tomorrow hands over: the struct of today, and more. */
typedef struct {
    graft_session_options now;
    uint64_t later;
} later_options;

static void sizes(const graft_model *model) {
    later_options later;
    struct {
        graft_session_info now;
        uint64_t later;
    } info;
    graft_session_options options;
    graft_session *session = NULL;
    size_t i;

    memset(&later, 0xff, sizeof later);
    graft_session_options_init(&later.now, sizeof later);
    CHECK(later.now.struct_size == sizeof later && later.later == 0 && later.now.chunk == 512);
    OK(graft_session_new(model, &later.now, &session, &error));
    memset(&info, 0, sizeof info);
    info.now.struct_size = sizeof info;
    OK(graft_session_get_info(session, &info.now, &error));
    CHECK(info.now.vocab_size > 0 && info.later == 0);
    graft_session_free(session);
    session = NULL;
    later.later = 1;
    FAILS(GRAFT_ERROR_UNSUPPORTED, graft_session_new(model, &later.now, &session, &error));
    graft_session_options_init(&options, sizeof options);
    for (i = 0; i < sizeof(size_t); i++) {
        options.struct_size = i;
        FAILS(GRAFT_ERROR_USAGE, graft_session_new(model, &options, &session, &error));
    }
    info.now.struct_size = 0;
    session = new_session(model);
    FAILS(GRAFT_ERROR_USAGE, graft_session_get_info(session, &info.now, &error));
    graft_session_free(session);
    graft_session_options_init(NULL, sizeof options);
    memset(&options, 0xff, sizeof options);
    graft_session_options_init(&options, sizeof(size_t)); /* no further than it was told */
    CHECK(options.context == UINT64_MAX);
}

/* Opening is refused, and the error says what of and what would do. */
static void names(const char *item, const char *expected, const graft_model_options *options) {
    graft_model *model = NULL;
    graft_error *said = NULL;
    STATUS(GRAFT_ERROR_USAGE, graft_model_open(model_path, GRAFT_NUL, options, &model, &said));
    CHECK(!model && graft_error_item(said) && !strcmp(graft_error_item(said), item));
    CHECK(graft_error_expected(said) && !strcmp(graft_error_expected(said), expected) && graft_error_found(said));
    graft_error_free(said);
}

static void ranges(const graft_model *model) {
    graft_session_options session_options;
    graft_model_options model_options;
    graft_model_info model_info = {.struct_size = sizeof model_info};
    graft_sampler_options sampler_options;
    graft_generate_options generate_options;
    graft_session *session = NULL, *used = new_session(model);
    graft_model *opened = NULL;
    graft_sampler *sampler = NULL;

    graft_session_options_init(&session_options, sizeof session_options);
    session_options.precision = 7;
    FAILS(GRAFT_ERROR_USAGE, graft_session_new(model, &session_options, &session, &error));
    session_options.precision = GRAFT_PRECISION_EXACT;
    session_options.context = UINT64_MAX;
    CHECK(graft_session_new(model, &session_options, &session, NULL) != GRAFT_OK && !session);
    graft_session_options_init(&session_options, sizeof session_options);
    session_options.chunk = 0;
    FAILS(GRAFT_ERROR_USAGE, graft_session_new(model, &session_options, &session, &error));

    graft_model_options_init(&model_options, sizeof model_options);
    model_options.load_mode = 9;
    FAILS(GRAFT_ERROR_USAGE, graft_model_open(model_path, GRAFT_NUL, &model_options, &opened, &error));
    model_options.load_mode = GRAFT_LOAD_MAP;
    model_options.threads = 1000000;
    FAILS(GRAFT_ERROR_USAGE, graft_model_open(model_path, GRAFT_NUL, &model_options, &opened, &error));
    model_options.threads = 0;
    model_options.team = (const graft_team *)used;
    FAILS(GRAFT_ERROR_HANDLE, graft_model_open(model_path, GRAFT_NUL, &model_options, &opened, &error));

    model_options.team = NULL;
    model_options.device = 3;
    names("device", "0, 1, 2", &model_options);
    model_options.device = GRAFT_DEVICE_CUDA;
    model_options.device_index = -2;
    names("device_index", "0 or more, or -1", &model_options);
    model_options.device_index = -1;
    model_options.gpu_layers = INT32_MIN;
    names("gpu_layers", "0 or more, or -1", &model_options);
    /* A program of yesterday knows nothing of devices: what is behind its struct is not read, and not written. */
    model_options.struct_size = offsetof(graft_model_options, device);
    OK(graft_model_open(model_path, GRAFT_NUL, &model_options, &opened, &error));
    model_info.struct_size = offsetof(graft_model_info, device);
    model_info.gpu_layers = 77;
    OK(graft_model_get_info(opened, &model_info, &error));
    CHECK(model_info.n_layers > 0 && model_info.gpu_layers == 77);
    graft_model_free(opened);
    opened = NULL;

    graft_sampler_options_init(&sampler_options, sizeof sampler_options);
    sampler_options.temperature = NAN;
    FAILS(GRAFT_ERROR_USAGE, graft_sampler_new(used, &sampler_options, &sampler, &error));
    sampler_options.temperature = -1;
    FAILS(GRAFT_ERROR_USAGE, graft_sampler_new(used, &sampler_options, &sampler, &error));
    graft_sampler_options_init(&sampler_options, sizeof sampler_options);
    sampler_options.n_logit_bias = 1;
    FAILS(GRAFT_ERROR_USAGE, graft_sampler_new(used, &sampler_options, &sampler, &error));

    graft_generate_options_init(&generate_options, sizeof generate_options);
    generate_options.max_tokens = 1;
    generate_options.keep = -2;
    FAILS(GRAFT_ERROR_USAGE, graft_generate_text(used, PROMPT, GRAFT_NUL, &generate_options, NULL, NULL, NULL, &error));
    generate_options.keep = -1;
    generate_options.sampler = (graft_sampler *)used;
    FAILS(GRAFT_ERROR_HANDLE, graft_generate_text(used, PROMPT, GRAFT_NUL, &generate_options, NULL, NULL, NULL, &error));
    generate_options.sampler = NULL;
    generate_options.cancel = (const graft_cancel *)used;
    FAILS(GRAFT_ERROR_HANDLE, graft_generate_text(used, PROMPT, GRAFT_NUL, &generate_options, NULL, NULL, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_generate_messages(used, NULL, 2, NULL, NULL, NULL, NULL, NULL, &error));
    CHECK(!session && !opened && !sampler);
    graft_session_free(used);
}

void test_options(void) {
    graft_model *model = open_model();
    sizes(model);
    ranges(model);
    graft_model_free(model);
}
