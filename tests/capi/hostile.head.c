/*
 *   hostile FOLDER_OF_A_TINY_MODEL TEMPORARY_FOLDER
 *
 * FOLDER has model.gguf and adapters/qv (tests/data/tiny/llama-tied).
 */
#include <graft.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static char model_path[1024], adapter_path[1024], state_path[1024], folder[1024];
static const char *temporary;
static int model_fd;
static void *model_bytes, *config_bytes, *tensor_bytes;
static size_t model_len, config_len, tensors_len, state_len;
static uint8_t *state_bytes;

static graft_error *good_error, *freed_error, *error;
static graft_cancel *good_cancel, *freed_cancel;
static graft_team *good_team, *freed_team;
static graft_model *good_model, *freed_model;
static graft_adapter *good_adapter, *freed_adapter;
static graft_session *good_session, *freed_session;
static graft_sampler *good_sampler, *freed_sampler;
static graft_generation *good_generation, *freed_generation;

static const uint32_t some_tokens[] = {5, 6, 7};
static const graft_adapter *some_adapters[1];
static const float some_weights[] = {0.5f};
static graft_message some_messages[] = {{"user", 4, "Hello", 5, NULL, 0}};
static graft_text some_folders[1];
static float vector[65536];
static size_t hidden_size;
static void *results[8];
static double zero;
static char room[8192];
/* Looks like a pointer, and is not aligned for anything but bytes. */
static void *odd = room + 1;

static void on_release(void *user_data) { (void)user_data; }
static void on_log(graft_log_level level, const char *message, size_t len, void *user_data) {
    (void)level, (void)message, (void)len, (void)user_data;
}
static void on_run(size_t n, graft_work work, void *data, void *user_data) {
    size_t i;
    (void)user_data;
    for (i = 0; i < n; i++) work(data, i);
}
/* Calls back in: the session is busy, whatever is done with it; everything else goes on. */
static int32_t call_back_in(void) {
    uint32_t *tokens = NULL;
    size_t n = 0;
    graft_session_eval(good_session, some_tokens, 3, NULL);
    graft_session_reset(good_session, NULL);
    graft_session_set_adapters(good_session, some_adapters, NULL, 1, NULL);
    graft_generate_text(good_session, "x", 1, NULL, NULL, NULL, NULL, NULL);
    graft_session_free(freed_session);
    if (graft_tokenize(good_model, "x", 1, 0, &tokens, &n, NULL) != GRAFT_OK) failed++;
    graft_free(tokens);
    return 0;
}
static int32_t on_logits(size_t index, const float *logits, size_t n, void *user_data) {
    (void)index, (void)logits, (void)n, (void)user_data;
    return call_back_in();
}
static int32_t on_text(const char *text, size_t len, uint32_t token, void *user_data) {
    static int calls;
    (void)text, (void)len, (void)token, (void)user_data;
    return call_back_in() + (++calls % 4 == 0);
}

static void *sized(size_t size) {
    memset(room, 0, sizeof room);
    memcpy(room, &size, sizeof size);
    return room;
}
static void *longer(size_t size, int value) {
    sized(size + 16);
    room[size + 3] = (char)value;
    return room;
}
static const char *out_path(const char *name) {
    static char path[2048];
    snprintf(path, sizeof path, "%s/%s", temporary, name);
    return path;
}
static void must(graft_status status, graft_error **e) {
    if (status == GRAFT_OK) return;
    printf("cannot prepare: %s\n", graft_error_message(*e));
    exit(1);
}
static void *read_all(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    void *all;
    if (!f) { printf("cannot read %s\n", path); exit(1); }
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    all = malloc(*len);
    if (fread(all, 1, *len, f) != *len) exit(1);
    fclose(f);
    return all;
}

static graft_error *fresh_error(void) {
    graft_error *e = NULL;
    graft_model *m = NULL;
    graft_model_open("nowhere", GRAFT_NUL, NULL, &m, &e);
    return e;
}
static graft_cancel *fresh_cancel(void) { graft_cancel *c = NULL; must(graft_cancel_new(&c, &error), &error); return c; }
static graft_team *fresh_team(void) { graft_team *t = NULL; must(graft_team_new(1, &t, &error), &error); return t; }
static graft_model *fresh_model(void) { graft_model *m = NULL; must(graft_model_open(model_path, GRAFT_NUL, NULL, &m, &error), &error); return m; }
static graft_adapter *fresh_adapter(void) {
    graft_adapter *a = NULL;
    must(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, NULL, &a, &error), &error);
    return a;
}
static graft_session *fresh_session(void) { graft_session *s = NULL; must(graft_session_new(good_model, NULL, &s, &error), &error); return s; }
static graft_sampler *fresh_sampler(void) { graft_sampler *s = NULL; must(graft_sampler_new(good_session, NULL, &s, &error), &error); return s; }
static graft_generation *fresh_generation(void) {
    graft_generation *g = NULL;
    must(graft_generation_of_tokens(good_session, some_tokens, 3, NULL, &g, &error), &error);
    return g;
}

#define GOOD(type) static type *good_##type(void) { static type o; type##_init(&o, sizeof o); return &o; }
GOOD(graft_model_options)
GOOD(graft_chat_options)
GOOD(graft_adapter_options)
GOOD(graft_session_options)
GOOD(graft_sampler_options)
GOOD(graft_combine_options)
static graft_generate_options *good_graft_generate_options(void) {
    static graft_generate_options o;
    graft_generate_options_init(&o, sizeof o);
    o.max_tokens = 3;
    return &o;
}
static graft_merge_options *good_graft_merge_options(void) {
    static graft_merge_options o;
    graft_merge_options_init(&o, sizeof o);
    o.plain = 1;
    return &o;
}
#define FACTS(type) static type *good_##type(void) { static type o; o.struct_size = sizeof o; return &o; }
FACTS(graft_model_info)
FACTS(graft_tensor_info)
FACTS(graft_adapter_info)
FACTS(graft_session_info)
FACTS(graft_memory_plan)
FACTS(graft_report)

/* Every test begins with a session that holds two tokens. */
static void begin(void) {
    static const uint32_t two[] = {1, 2};
    memset(results, 0, sizeof results);
    graft_session_reset(good_session, NULL);
    graft_session_eval(good_session, two, 2, NULL);
}
static void survived(const char *what) { (void)what; passed++; }
static void check(graft_status status, const char *what, int fails, int has_error) {
    int ok = status >= GRAFT_OK && status <= GRAFT_ERROR_POISONED && status != GRAFT_ERROR_INTERNAL;
    if (fails && status == GRAFT_OK) ok = 0;
    if (has_error && (error == NULL) != (status == GRAFT_OK)) ok = 0;
    if (has_error && error && graft_error_status(error) != status) ok = 0;
    if (ok) passed++;
    else {
        failed++;
        printf("FAILED %s: %s%s%s\n", what, graft_status_name(status), error ? ": " : "", error ? graft_error_message(error) : "");
    }
    graft_error_free(error);
    error = NULL;
    begin();
}

static void prepare(int argc, char **argv) {
    graft_model_info info;
    if (argc < 3) {
        printf("usage: hostile MODEL_FOLDER TEMPORARY_FOLDER\n");
        exit(2);
    }
    temporary = argv[2];
    snprintf(folder, sizeof folder, "%s", argv[1]);
    snprintf(model_path, sizeof model_path, "%s/model.gguf", argv[1]);
    snprintf(adapter_path, sizeof adapter_path, "%s/adapters/qv", argv[1]);
    snprintf(state_path, sizeof state_path, "%s/state", temporary);
    some_folders[0].data = adapter_path;
    some_folders[0].len = GRAFT_NUL;
    model_bytes = read_all(model_path, &model_len);
    config_bytes = read_all(strcat(strcpy(room, adapter_path), "/adapter_config.json"), &config_len);
    tensor_bytes = read_all(strcat(strcpy(room, adapter_path), "/adapter_model.safetensors"), &tensors_len);
    model_fd = open(model_path, O_RDONLY);
    good_model = fresh_model();
    good_session = fresh_session();
    begin();
    good_adapter = fresh_adapter();
    some_adapters[0] = good_adapter;
    good_error = fresh_error(), good_cancel = fresh_cancel(), good_team = fresh_team();
    good_sampler = fresh_sampler(), good_generation = fresh_generation();
    freed_error = fresh_error(), freed_cancel = fresh_cancel(), freed_team = fresh_team(), freed_model = fresh_model();
    freed_adapter = fresh_adapter(), freed_session = fresh_session(), freed_sampler = fresh_sampler(), freed_generation = fresh_generation();
    graft_error_free(freed_error), graft_cancel_free(freed_cancel), graft_team_free(freed_team), graft_model_free(freed_model);
    graft_adapter_free(freed_adapter), graft_session_free(freed_session), graft_sampler_free(freed_sampler);
    graft_generation_free(freed_generation);
    must(graft_session_save(good_session, state_path, GRAFT_NUL, &error), &error);
    must(graft_session_save_memory(good_session, &state_bytes, &state_len, &error), &error);
    info.struct_size = sizeof info;
    must(graft_model_get_info(good_model, &info, &error), &error);
    hidden_size = info.hidden_size;
}

static int finish(void) {
    graft_error_free(good_error), graft_cancel_free(good_cancel), graft_team_free(good_team), graft_generation_free(good_generation);
    graft_sampler_free(good_sampler), graft_session_free(good_session), graft_adapter_free(good_adapter), graft_model_free(good_model);
    graft_free(state_bytes);
    free(model_bytes), free(config_bytes), free(tensor_bytes);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
