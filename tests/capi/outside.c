/* Uses the library as an application written in C would: with nothing but graft.h.
 *
 *   outside MODEL.gguf ADAPTER1 ADAPTER2 ADAPTER3 TINY_DIR
 *   outside --tiny TINY_DIR      the tiny models alone, for slow runs under checkers
 *
 * TINY_DIR is tests/data/tiny. Writes its files to the current folder. Prints what does not hold, and counts at the end.
 * `scripts/test-c` runs it against an installed library, `scripts/sanitize-c` under sanitizers.
 */
#define _POSIX_C_SOURCE 200809L
#include "outside.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *model_path, *adapter_paths[3], *tiny_dir;

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static unsigned passed, failed;

void check(int holds, const char *file, int line, const char *what) {
    pthread_mutex_lock(&counting);
    if (holds)
        passed++;
    else {
        failed++;
        printf("%s:%d: %s\n", file, line, what);
        fflush(stdout);
    }
    pthread_mutex_unlock(&counting);
}

void check_status(graft_status expected, graft_status status, graft_error *error, const char *file, int line, const char *what) {
    int holds = status == expected && error != (graft_error *)&model_path;
    const char *message = NULL;
    if (status == GRAFT_OK)
        holds = holds && error == NULL;
    else {
        message = graft_error_message(error);
        holds = holds && error && graft_error_status(error) == status && message && *message;
    }
    check(holds, file, line, what);
    if (!holds)
        printf("    %s, expected %s; error %p: %s\n", graft_status_name(status), graft_status_name(expected), (void *)error,
               message ? message : "(no message)");
    else if (message && getenv("OUTSIDE_SHOW"))
        printf("    %s: %s\n", graft_status_name(status), message);
    graft_error_free(error);
}

int32_t collect(const char *text, size_t len, uint32_t token, void *user_data) {
    collected *all = user_data;
    if (all->len + len > sizeof all->data || all->n_tokens == sizeof all->tokens / sizeof *all->tokens) return 1;
    memcpy(all->data + all->len, text, len);
    all->len += len;
    all->tokens[all->n_tokens++] = token;
    return 0;
}

void drop_last_piece(collected *text, const graft_report *report) {
    CHECK(text->n_tokens == report->tokens || text->n_tokens == report->tokens + 1);
    if (text->n_tokens > report->tokens) text->n_tokens = (size_t)report->tokens;
}

int same(const collected *a, const collected *b) {
    return a->len == b->len && !memcmp(a->data, b->data, a->len) && a->n_tokens == b->n_tokens &&
           !memcmp(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
}

static graft_model *open_path(const char *path) {
    graft_model *model = NULL;
    OK(graft_model_open(path, GRAFT_NUL, NULL, &model, &error));
    CHECK(model);
    return model;
}

graft_model *open_model(void) { return open_path(model_path); }

graft_model *open_tiny(const char *name) {
    char path[1024]; /* of our own: any thread */
    snprintf(path, sizeof path, "%s/%s/model.gguf", tiny_dir, name);
    return open_path(path);
}

graft_adapter *open_adapter(const graft_model *model, int number) {
    graft_adapter *adapter = NULL;
    OK(graft_adapter_open(model, adapter_paths[number], GRAFT_NUL, NULL, &adapter, &error));
    CHECK(adapter);
    return adapter;
}

graft_session *new_session(const graft_model *model) {
    graft_session *session = NULL;
    OK(graft_session_new(model, NULL, &session, &error));
    CHECK(session);
    return session;
}

void answer(graft_session *session, const char *prompt, uint64_t tokens, collected *text) {
    graft_generate_options options;
    graft_report report = {.struct_size = sizeof report};
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = tokens;
    options.ignore_eos = 1;
    text->len = text->n_tokens = 0;
    OK(graft_generate_text(session, prompt, GRAFT_NUL, &options, collect, text, &report, &error));
    drop_last_piece(text, &report);
}

void answer_alone(const graft_model *model, const graft_adapter *adapter, const char *prompt, uint64_t tokens, collected *text) {
    graft_session *session = new_session(model);
    if (adapter) OK(graft_session_set_adapters(session, &adapter, NULL, 1, &error));
    answer(session, prompt, tokens, text);
    graft_session_free(session);
}

char *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    long end;
    *len = 0;
    CHECK(file);
    if (!file) exit(2);
    fseek(file, 0, SEEK_END);
    end = ftell(file);
    rewind(file);
    data = malloc((size_t)end + 1);
    if (!data) exit(2);
    *len = fread(data, 1, (size_t)end, file);
    CHECK(*len == (size_t)end);
    fclose(file);
    return data;
}

void write_file(const char *path, const void *data, size_t len) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, len, file) == len);
    if (file) fclose(file);
}

const char *tiny_file(const char *name) {
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", tiny_dir, name);
    return path;
}

/* One part, with the time it took. */
static void run(const char *name, void (*test)(void)) {
    struct timespec a, b;
    const char *only = getenv("OUTSIDE_ONLY");
    if (only && !strstr(only, name)) return;
    clock_gettime(CLOCK_MONOTONIC, &a);
    test();
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%s: %.2f s\n", name, (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--tiny")) {
        static char paths[4][1024];
        static const char *const names[] = {"model.gguf", "adapters/qv", "adapters/all-linear", "adapters/rslora"};
        int i;
        tiny_dir = argv[2];
        for (i = 0; i < 4; i++) snprintf(paths[i], sizeof paths[i], "%s/llama-tied/%s", tiny_dir, names[i]);
        model_path = paths[0];
        for (i = 0; i < 3; i++) adapter_paths[i] = paths[i + 1];
    } else if (argc == 6) {
        model_path = argv[1];
        memcpy(adapter_paths, argv + 2, sizeof adapter_paths);
        tiny_dir = argv[5];
    } else {
        fprintf(stderr, "usage: %s MODEL.gguf ADAPTER1 ADAPTER2 ADAPTER3 TINY_DIR\n       %s --tiny TINY_DIR\n", argv[0], argv[0]);
        return 2;
    }
    run("models", test_models);
    run("mixes", test_mixes);
    run("texts", test_texts);
    run("sessions", test_sessions);
    run("generation", test_generation);
    run("batch", test_batch);
    run("training", test_training);
    run("threads", test_threads);
    run("callbacks", test_callbacks);
    run("errors", test_errors);
    run("options", test_options);
    run("odd", test_odd);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
