/* Opening models from everywhere, the facts about them, teams, the log; merging, combining, exporting. */
#define _POSIX_C_SOURCE 200809L
#include "outside.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 12 };

static void library(void) {
    int i, j;
    CHECK(graft_abi_version() == GRAFT_ABI_VERSION);
    CHECK(strchr(graft_version(), '.'));
    for (i = GRAFT_OK; i <= GRAFT_ERROR_POISONED; i++) {
        CHECK(strcmp(graft_status_name(i), "unknown"));
        for (j = GRAFT_OK; j < i; j++) CHECK(strcmp(graft_status_name(i), graft_status_name(j)));
    }
    CHECK(!strcmp(graft_status_name(GRAFT_ERROR_MISMATCH), "mismatch"));
    CHECK(!strcmp(graft_status_name(1000), "unknown"));
    CHECK(!strcmp(graft_status_name(-1), "unknown"));
    graft_free(NULL);
}

static void facts(void) {
    graft_model *model = open_model();
    graft_model_info info = {.struct_size = sizeof info};
    graft_tensor_info tensor = {.struct_size = sizeof tensor};
    uint64_t numbers = 0, bytes = 0;
    size_t i, n = 0, len;
    const char *key = NULL;
    char *json = NULL;

    OK(graft_model_get_info(model, &info, &error));
    CHECK(!strcmp(info.architecture, "llama"));
    CHECK(info.isa && *info.isa);
    CHECK(info.threads > 0 && info.context_length > 0 && info.vocab_size > 0);
    CHECK(info.has_chat_template == 1);
    CHECK(info.bos >= -1 && info.bos < info.vocab_size && info.eos >= 0 && info.eos < info.vocab_size);
    CHECK(info.n_heads % info.n_kv_heads == 0);

    OK(graft_model_tensor_count(model, &n, &error));
    for (i = 0; i < n; i++) {
        OK(graft_model_tensor(model, i, &tensor, &error));
        CHECK(tensor.name && *tensor.name && tensor.format && *tensor.format);
        numbers += tensor.dims[0] * tensor.dims[1] * tensor.dims[2] * tensor.dims[3];
        bytes += tensor.bytes;
    }
    CHECK(numbers == info.parameters);
    CHECK(bytes == info.weight_bytes);
    FAILS(GRAFT_ERROR_USAGE, graft_model_tensor(model, n, &tensor, &error));

    OK(graft_model_metadata_count(model, &n, &error));
    CHECK(n > 0);
    for (i = 0; i < n; i++) {
        OK(graft_model_metadata_key(model, i, &key, &error));
        OK(graft_model_metadata(model, key, GRAFT_NUL, &json, i % 2 ? &len : NULL, &error));
        if (i % 2) CHECK(strlen(json) == len && len > 0);
        graft_free(json);
    }
    FAILS(GRAFT_ERROR_USAGE, graft_model_metadata_key(model, n, &key, &error));
    OK(graft_model_metadata(model, "general.architecture", GRAFT_NUL, &json, &len, &error));
    CHECK(!strcmp(json, "\"llama\"") && len == 7);
    graft_free(json);
    json = NULL;
    FAILS(GRAFT_ERROR_USAGE, graft_model_metadata(model, "no.such.key", GRAFT_NUL, &json, NULL, &error));
    CHECK(!json);
    graft_model_free(model);
}

static void count_release(void *user_data) { ++*(int *)user_data; }

typedef struct {
    int calls, end_at;
    float last;
    int ordered;
    pthread_t thread;
} progress_state;

static int32_t progress(float share, void *user_data) {
    progress_state *state = user_data;
    state->ordered = state->ordered && share >= state->last && share <= 1 && pthread_equal(state->thread, pthread_self());
    state->last = share;
    return ++state->calls == state->end_at;
}

/* A file in a bundle, in memory, read instead of mapped: each the same model as the plain file. */
static void sources(void) {
    static collected plain, other;
    graft_model *model = open_model(), *opened = NULL;
    graft_session *session;
    graft_model_options options;
    char *path, *file, *bundle;
    size_t len, path_len = strlen(model_path);
    int fd, released = 0;

    answer_alone(model, NULL, PROMPT, TOKENS, &plain);
    graft_model_free(model);

    path = malloc(path_len + 4); /* with a length, nothing behind it is read */
    if (!path) return;
    memcpy(path, model_path, path_len);
    memcpy(path + path_len, "more", 4);
    OK(graft_model_open(path, path_len, NULL, &opened, &error));
    graft_model_free(opened);
    free(path);

    graft_model_options_init(&options, sizeof options);
    CHECK(options.struct_size == sizeof options);
    options.load_mode = GRAFT_LOAD_READ;
    options.threads = 2;
    OK(graft_model_open(model_path, GRAFT_NUL, &options, &opened, &error));
    answer_alone(opened, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    graft_model_free(opened);

    file = read_file(model_path, &len);
    bundle = malloc(len + 12345 + 77);
    if (!bundle) return;
    memset(bundle, 'x', len + 12345 + 77);
    memcpy(bundle + 12345, file, len);
    write_file("bundle", bundle, len + 12345 + 77);
    write_file("padded", bundle, len + 12345);
    free(bundle);
    fd = open("bundle", O_RDONLY);
    OK(graft_model_open_fd(fd, 12345, len, NULL, &opened, &error));
    close(fd);
    answer_alone(opened, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    graft_model_free(opened);
    fd = open("padded", O_RDONLY);
    OK(graft_model_open_fd(fd, 12345, 0, &options, &opened, &error));
    answer_alone(opened, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    graft_model_free(opened);
    CHECK(lseek(fd, 0, SEEK_CUR) == 0);
    opened = NULL;
    FAILS(GRAFT_ERROR_INVALID, graft_model_open_fd(fd, 0, 0, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_model_open_fd(fd, 12345, len / 2, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_model_open_fd(fd, len + 99999, 0, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_model_open_fd(fd, 12345, len + 99999, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_model_open_fd(fd, UINT64_MAX, UINT64_MAX, NULL, &opened, &error));
    CHECK(!opened);
    close(fd);
    unlink("bundle");
    unlink("padded");
    FAILS(GRAFT_ERROR_USAGE, graft_model_open_fd(fd, 0, 0, NULL, &opened, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_model_open_fd(-1, 0, 0, NULL, &opened, &error));

    OK(graft_model_open_memory(file, len, count_release, &released, NULL, &opened, &error));
    answer_alone(opened, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    session = new_session(opened);
    graft_model_free(opened);
    CHECK(released == 0);
    answer(session, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    graft_session_free(session);
    CHECK(released == 1);
    FAILS(GRAFT_ERROR_INVALID, graft_model_open_memory(file, len / 2, count_release, &released, NULL, &opened, &error));
    CHECK(released == 2);
    FAILS(GRAFT_ERROR_USAGE, graft_model_open_memory(NULL, len, count_release, &released, NULL, &opened, &error));
    CHECK(released == 3);
    OK(graft_model_open_memory(file, len, NULL, NULL, NULL, &opened, &error));
    graft_model_free(opened);
    free(file);
}

/* What a library without GPUs, one with them, and one with them where there is none, all do. */
static void devices(void) {
    static collected plain, other;
    graft_model_options options;
    graft_model_info info = {.struct_size = sizeof info};
    graft_model *model = NULL;
    graft_error *said = NULL;
    graft_status status;

    graft_model_options_init(&options, sizeof options);
    CHECK(options.device == GRAFT_DEVICE_AUTO && options.device_index == -1 && options.gpu_layers == -1);
    options.device = GRAFT_DEVICE_CPU;
    options.device_index = 9; /* not looked at */
    OK(graft_model_open(model_path, GRAFT_NUL, &options, &model, &error));
    OK(graft_model_get_info(model, &info, &error));
    CHECK(!info.device && info.gpu_layers == 0);
    answer_alone(model, NULL, PROMPT, TOKENS, &plain);
    graft_model_free(model);
    options.device = GRAFT_DEVICE_AUTO;
    options.gpu_layers = 0;
    OK(graft_model_open(model_path, GRAFT_NUL, &options, &model, &error));
    OK(graft_model_get_info(model, &info, &error));
    CHECK(!info.device && info.gpu_layers == 0);
    answer_alone(model, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&plain, &other));
    graft_model_free(model);

    graft_model_options_init(&options, sizeof options);
    options.device = GRAFT_DEVICE_CUDA;
    status = graft_model_open(model_path, GRAFT_NUL, &options, &model, &said);
    if (status == GRAFT_OK) {
        OK(graft_model_get_info(model, &info, &error));
        CHECK(info.gpu_layers > 0 && info.device && strstr(info.device, "on GPU"));
        graft_model_free(model);
    } else {
        CHECK(status == GRAFT_ERROR_UNSUPPORTED);
        CHECK(graft_error_expected(said) && graft_error_found(said));
    }
    graft_error_free(said);
    model = NULL;
    options.device_index = 99;
    status = graft_model_open(model_path, GRAFT_NUL, &options, &model, NULL);
    CHECK(!model && (status == GRAFT_ERROR_UNSUPPORTED || status == GRAFT_ERROR_USAGE));
}

static void progress_and_cancel(void) {
    progress_state state = {0, -1, 0, 1, pthread_self()};
    graft_model_options options;
    graft_model *model = NULL;
    graft_model_options_init(&options, sizeof options);
    options.load_mode = GRAFT_LOAD_READ;
    options.progress = progress;
    options.progress_user_data = &state;
    OK(graft_model_open(model_path, GRAFT_NUL, &options, &model, &error));
    CHECK(state.calls > 0 && state.ordered && state.last == 1);
    graft_model_free(model);
    state.calls = 0;
    state.last = 0;
    state.end_at = 1;
    model = NULL;
    FAILS(GRAFT_ERROR_CANCELLED, graft_model_open(model_path, GRAFT_NUL, &options, &model, &error));
    CHECK(!model && state.calls == 1);
}

typedef struct {
    pthread_mutex_t lock;
    size_t calls, gone;
} runner_state;

typedef struct {
    size_t next, n;
    pthread_mutex_t lock;
    graft_work work;
    void *data;
} shared_work;

static void *work_along(void *user_data) {
    shared_work *all = user_data;
    for (;;) {
        size_t number;
        pthread_mutex_lock(&all->lock);
        number = all->next++;
        pthread_mutex_unlock(&all->lock);
        if (number >= all->n) return NULL;
        all->work(all->data, number);
    }
}

/* An application's threads, of the simplest kind: a second one for this piece of work. */
static void run_work(size_t n, graft_work work, void *data, void *user_data) {
    runner_state *state = user_data;
    shared_work all = {0, n, PTHREAD_MUTEX_INITIALIZER, work, data};
    pthread_t thread;
    int second = n > 1 && pthread_create(&thread, NULL, work_along, &all) == 0;
    pthread_mutex_lock(&state->lock);
    state->calls++;
    pthread_mutex_unlock(&state->lock);
    work_along(&all);
    if (second) pthread_join(thread, NULL);
}

static void on_team_gone(void *user_data) { ((runner_state *)user_data)->gone++; }

static void teams(void) {
    static collected plain, other;
    runner_state state = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
    graft_model_options options;
    graft_model_info info = {.struct_size = sizeof info};
    graft_model *model = open_model(), *a = NULL, *b = NULL;
    graft_team *team = NULL;
    int kind;

    answer_alone(model, NULL, PROMPT, TOKENS, &plain);
    graft_model_free(model);
    graft_model_options_init(&options, sizeof options);
    for (kind = 0; kind < 2; kind++) {
        if (kind == 0)
            OK(graft_team_new(3, &team, &error));
        else
            OK(graft_team_of_callback(3, run_work, &state, on_team_gone, &team, &error));
        options.team = team;
        options.threads = 99; /* not looked at */
        OK(graft_model_open(model_path, GRAFT_NUL, &options, &a, &error));
        OK(graft_model_open(tiny_file("qwen2/model.gguf"), GRAFT_NUL, &options, &b, &error));
        graft_team_free(team);
        OK(graft_model_get_info(b, &info, &error));
        CHECK(info.threads == 3);
        answer_alone(b, NULL, PROMPT, 3, &other);
        graft_model_free(b);
        answer_alone(a, NULL, PROMPT, TOKENS, &other);
        CHECK(same(&plain, &other));
        graft_model_free(a);
    }
    CHECK(state.calls > 0);
    CHECK(state.gone == 1); /* when the last model that had the team was freed, and not by the call that fails below */
    FAILS(GRAFT_ERROR_USAGE, graft_team_new(1025, &team, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_team_of_callback(2, NULL, &state, on_team_gone, &team, &error));
    CHECK(state.gone == 1);
}

typedef struct {
    pthread_mutex_t lock;
    int lines[4];
} log_state;

static void on_log(graft_log_level level, const char *message, size_t len, void *user_data) {
    log_state *state = user_data;
    CHECK(level >= GRAFT_LOG_ERROR && level <= GRAFT_LOG_INFO && message && len > 0);
    pthread_mutex_lock(&state->lock);
    if (level >= 0 && level < 4) state->lines[level]++;
    pthread_mutex_unlock(&state->lock);
}

static void logging(void) {
    log_state state = {PTHREAD_MUTEX_INITIALIZER, {0}};
    graft_model *model;
    graft_log_set(on_log, &state, GRAFT_LOG_INFO);
    model = open_tiny("llama-tied");
    CHECK(state.lines[GRAFT_LOG_INFO] > 0 && state.lines[GRAFT_LOG_WARNING] == 0);
    graft_model_free(model);
    graft_model_free(model);
    CHECK(state.lines[GRAFT_LOG_WARNING] == 1);
    graft_log_set(on_log, &state, GRAFT_LOG_ERROR);
    graft_model_free(model);
    CHECK(state.lines[GRAFT_LOG_WARNING] == 1);
    graft_log_set(NULL, NULL, GRAFT_LOG_INFO);
    graft_model_free(open_tiny("llama-tied"));
    CHECK(state.lines[GRAFT_LOG_ERROR] == 0);
}

void test_models(void) {
    library();
    facts();
    sources();
    devices();
    progress_and_cancel();
    teams();
    logging();
}

static void merges(void) {
    static collected live, other;
    graft_model *model = open_tiny("llama-tied"), *merged = NULL;
    graft_adapter *adapter = NULL;
    graft_merge_options options;
    graft_cancel *cancel = NULL;
    progress_state state = {0, -1, 0, 1, pthread_self()};

    OK(graft_adapter_open(model, tiny_file("llama-tied/adapters/all-linear"), GRAFT_NUL, NULL, &adapter, &error));
    answer_alone(model, adapter, PROMPT, TOKENS, &live);
    graft_merge_options_init(&options, sizeof options);
    options.progress = progress;
    options.progress_user_data = &state;
    OK(graft_merge(model, (const graft_adapter *const *)&adapter, NULL, 1, &options, &merged, &error));
    CHECK(state.calls > 0 && state.ordered && state.last == 1);
    answer_alone(merged, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&live, &other));
    graft_model_free(merged);
    merged = NULL;
    OK(graft_merge_to(model, (const graft_adapter *const *)&adapter, NULL, 1, NULL, "merged.gguf", GRAFT_NUL, &error));
    OK(graft_model_open("merged.gguf", GRAFT_NUL, NULL, &merged, &error));
    answer_alone(merged, NULL, PROMPT, TOKENS, &other);
    CHECK(same(&live, &other));
    graft_model_free(merged);
    unlink("merged.gguf");

    OK(graft_cancel_new(&cancel, &error));
    STATUS(GRAFT_OK, graft_cancel_set(cancel));
    options.cancel = cancel;
    merged = NULL;
    FAILS(GRAFT_ERROR_CANCELLED, graft_merge(model, (const graft_adapter *const *)&adapter, NULL, 1, &options, &merged, &error));
    CHECK(!merged);
    FAILS(GRAFT_ERROR_CANCELLED,
          graft_merge_to(model, (const graft_adapter *const *)&adapter, NULL, 1, &options, "cancelled.gguf", GRAFT_NUL, &error));
    CHECK(access("cancelled.gguf", F_OK));
    STATUS(GRAFT_OK, graft_cancel_clear(cancel));
    options.format = "Q8_0";
    options.format_len = GRAFT_NUL;
    options.plain = 1;
    OK(graft_merge(model, (const graft_adapter *const *)&adapter, NULL, 1, &options, &merged, &error));
    graft_model_free(merged);
    options.format = "Q9_9";
    FAILS(GRAFT_ERROR_USAGE, graft_merge(model, (const graft_adapter *const *)&adapter, NULL, 1, &options, &merged, &error));
    FAILS(GRAFT_ERROR_IO,
          graft_merge_to(model, (const graft_adapter *const *)&adapter, NULL, 1, NULL, "no/such/folder.gguf", GRAFT_NUL, &error));
    graft_cancel_free(cancel);
    graft_adapter_free(adapter);
    graft_model_free(model);
}

static void adapter_answers(const graft_model *model, const char *path, const collected *expected) {
    static collected other;
    graft_adapter *adapter = NULL;
    OK(graft_adapter_open(model, path, GRAFT_NUL, NULL, &adapter, &error));
    answer_alone(model, adapter, PROMPT, TOKENS, &other);
    CHECK(same(expected, &other));
    graft_adapter_free(adapter);
}

static void adapters_written(void) {
    static collected live;
    const float weights[2] = {0.7f, 0.4f};
    graft_model *model = open_model();
    graft_adapter *pair[2];
    const graft_adapter *on[2];
    graft_session *session = new_session(model);
    graft_text folders[2] = {{adapter_paths[0], GRAFT_NUL}, {adapter_paths[1], GRAFT_NUL}};
    graft_combine_options options;

    on[0] = pair[0] = open_adapter(model, 0);
    on[1] = pair[1] = open_adapter(model, 1);
    OK(graft_session_set_adapters(session, on, weights, 2, &error));
    answer(session, PROMPT, TOKENS, &live);
    graft_session_free(session);
    graft_combine_options_init(&options, sizeof options);
    options.kind = "cat";
    options.kind_len = 3;
    OK(graft_combine(folders, weights, 2, &options, "combined", GRAFT_NUL, &error));
    adapter_answers(model, "combined", &live);
    options.kind = "stir";
    options.kind_len = 4;
    FAILS(GRAFT_ERROR_USAGE, graft_combine(folders, weights, 2, &options, "stirred", GRAFT_NUL, &error));
    CHECK(access("stirred", F_OK));
    options.kind = "cat";
    options.kind_len = 3;
    FAILS(GRAFT_ERROR_USAGE, graft_combine(folders, weights, 0, &options, "none", GRAFT_NUL, &error));

    answer_alone(model, pair[0], PROMPT, TOKENS, &live);
    OK(graft_export_lora(model, adapter_paths[0], GRAFT_NUL, "F32", GRAFT_NUL, "exported.gguf", GRAFT_NUL, &error));
    adapter_answers(model, "exported.gguf", &live);
    FAILS(GRAFT_ERROR_USAGE, graft_export_lora(model, adapter_paths[0], GRAFT_NUL, "F33", 3, "none.gguf", GRAFT_NUL, &error));
    OK(graft_to_lora(model, adapter_paths[0], GRAFT_NUL, NULL, 2, 0, "lora", GRAFT_NUL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_to_lora(model, adapter_paths[0], GRAFT_NUL, NULL, 0, 2, "none", GRAFT_NUL, &error));
    unlink("exported.gguf");
    graft_adapter_free(pair[0]);
    graft_adapter_free(pair[1]);
    graft_model_free(model);
}

void test_mixes(void) {
    merges();
    adapters_written();
}
