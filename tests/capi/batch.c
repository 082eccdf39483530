/* Batches: lines against a session of their own, files that are stopped and gone on with, adapters by name. */
#define _POSIX_C_SOURCE 200809L
#include "outside.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 4 };

/* Greedily, so many tokens a line, with adapters 0 ("first") and 1 ("second", at half its weight). */
static graft_batch *new_batch(const graft_model *model, graft_cancel *cancel) {
    graft_adapter *first = open_adapter(model, 0), *second = open_adapter(model, 1);
    graft_batch *batch = NULL;
    graft_batch_options options;
    graft_generate_options generate;
    graft_batch_options_init(&options, sizeof options);
    graft_generate_options_init(&generate, sizeof generate);
    CHECK(options.struct_size == sizeof options && options.folders == 0 && !options.sampler && !options.generate);
    generate.max_tokens = TOKENS;
    generate.ignore_eos = 1;
    generate.cancel = cancel;
    options.generate = &generate;
    OK(graft_batch_new(model, &options, &batch, &error));
    OK(graft_batch_adapter(batch, "first and more", 5, first, 1, &error));
    OK(graft_batch_adapter(batch, "second", GRAFT_NUL, second, 0.5f, &error));
    graft_adapter_free(first); /* the batch keeps what it needs */
    graft_adapter_free(second);
    return batch;
}

static char *record_of(graft_batch *batch, const char *line, uint64_t number) {
    char *record = NULL;
    size_t len = 0;
    OK(graft_batch_line(batch, line, GRAFT_NUL, number, &record, &len, &error));
    CHECK(record && strlen(record) == len && !strchr(record, '\n'));
    return record;
}

static void check_record(graft_batch *batch, const char *line, const char *begins, const char *holds) {
    char *record = record_of(batch, line, 7);
    if (!record) return;
    if (strncmp(record, begins, strlen(begins)) || !strstr(record, holds)) {
        printf("    %s\n    is answered by %s\n", line, record);
        CHECK(!"the record is as it should be");
    } else
        CHECK(1);
    graft_free(record);
}

/* `"tokens":[1,2,3]` of a session of its own. */
static const char *tokens_alone(const graft_model *model, const graft_adapter *adapter, float weight, const char *prompt) {
    static collected text;
    static char json[4096];
    size_t i, n = 0;
    graft_session *session = new_session(model);
    if (adapter) OK(graft_session_set_adapters(session, &adapter, &weight, 1, &error));
    answer(session, prompt, TOKENS, &text);
    graft_session_free(session);
    n += (size_t)snprintf(json + n, sizeof json - n, "\"tokens\":[");
    for (i = 0; i < text.n_tokens; i++) n += (size_t)snprintf(json + n, sizeof json - n, "%s%u", i ? "," : "", text.tokens[i]);
    snprintf(json + n, sizeof json - n, "],\"finish_reason\":\"length\"");
    return json;
}

/* Oracle: a session that generates from the same prompt. */
static void lines(void) {
    graft_model *model = open_model();
    graft_adapter *first = open_adapter(model, 0), *second = open_adapter(model, 1);
    graft_batch *batch = new_batch(model, NULL);
    char *record, line[2048];

    check_record(batch, "{\"prompt\": \"" PROMPT "\"}", "{\"id\":7,\"text\":\"", tokens_alone(model, NULL, 1, PROMPT));
    check_record(batch, "{\"id\": \"a\", \"prompt\": \"" PROMPT "\", \"adapter\": \"first\"}", "{\"id\":\"a\",\"text\":\"",
                 tokens_alone(model, first, 1, PROMPT));
    check_record(batch, "{\"prompt\": \"" PROMPT "\", \"adapter\": \"second\"}", "{\"id\":7,", tokens_alone(model, second, 0.5f, PROMPT));
    check_record(batch, "{\"prompt\": \"" PROMPT "\", \"adapter\": \"second@2\"}", "{\"id\":7,", tokens_alone(model, second, 2, PROMPT));
    OK(graft_batch_adapter(batch, NULL, 0, first, 1, &error));
    check_record(batch, "{\"prompt\": \"" PROMPT "\"}", "{\"id\":7,", tokens_alone(model, first, 1, PROMPT));
    check_record(batch, "{\"prompt\": \"" PROMPT "\", \"adapter\": null}", "{\"id\":7,", tokens_alone(model, NULL, 1, PROMPT));
    OK(graft_batch_adapter(batch, "first", GRAFT_NUL, second, 2, &error));
    check_record(batch, "{\"prompt\": \"" PROMPT "\", \"adapter\": \"first\"}", "{\"id\":7,", tokens_alone(model, second, 2, PROMPT));

    /* What is wrong with a line is no failure. */
    check_record(batch, "{\"id\": 1, \"prompt\": \"x\", \"max_token\": 3}", "{\"id\":1,\"error\":\"", "max_token");
    check_record(batch, "{\"tokens\": [4294967295]}", "{\"id\":7,\"error\":\"", "4294967295");
    check_record(batch, "no JSON", "{\"id\":7,\"error\":\"", "not a JSON object");
    check_record(batch, "", "{\"id\":7,\"error\":\"", "not a JSON object");
    snprintf(line, sizeof line, "{\"prompt\": \"x\", \"adapter\": \"%s\"}", adapter_paths[0]);
    check_record(batch, line, "{\"id\":7,\"error\":\"", "no such adapter");
    record = record_of(batch, "{} and what is behind the end", 3);
    CHECK(record && strstr(record, "not a JSON object"));
    graft_free(record);
    record = NULL;
    OK(graft_batch_line(batch, "{} and what is behind the end", 2, 3, &record, NULL, &error));
    CHECK(record && strstr(record, "exactly one"));
    graft_free(record);
    record = NULL;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_line(batch, "\xff", 1, 3, &record, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_batch_line(batch, NULL, GRAFT_NUL, 3, &record, NULL, &error));
    CHECK(!record);
    graft_adapter_free(first);
    graft_adapter_free(second);
    graft_model_free(model);
    check_record(batch, "{\"prompt\": \"x\", \"adapter\": [\"first\", \"second\"]}", "{\"id\":7,\"text\":\"", "");
    graft_batch_free(batch);
    graft_batch_free(NULL);
    FAILS(GRAFT_ERROR_HANDLE, graft_batch_line(batch, "{}", 2, 1, &record, NULL, &error));
}

/* The seed and the line's number together choose the text; folders are opened where that is allowed. */
static void options(void) {
    graft_model *model = open_model(), *tiny = open_tiny("qwen2");
    graft_adapter *adapter = open_adapter(model, 0);
    graft_batch *batch = NULL;
    graft_batch_options options;
    graft_sampler_options sampling;
    graft_generate_options generate;
    graft_session_options session;
    graft_adapter_options folder;
    char *a, *b, line[2048];
    const uint64_t one = 1;

    graft_batch_options_init(&options, sizeof options);
    graft_sampler_options_init(&sampling, sizeof sampling);
    graft_generate_options_init(&generate, sizeof generate);
    graft_session_options_init(&session, sizeof session);
    graft_adapter_options_init(&folder, sizeof folder);
    options.sampler = &sampling;
    options.generate = &generate;
    options.session = &session;
    options.adapter = &folder;
    options.folders = 1;
    sampling.temperature = 1.5f;
    sampling.seed = 10;
    generate.max_tokens = TOKENS;
    session.precision = GRAFT_PRECISION_EXACT;
    OK(graft_batch_new(model, &options, &batch, &error));
    a = record_of(batch, "{\"id\": 0, \"prompt\": \"Once\"}", 5);
    b = record_of(batch, "{\"id\": 0, \"prompt\": \"Once\", \"seed\": 15}", 99);
    CHECK(a && b && !strcmp(a, b));
    graft_free(b);
    b = record_of(batch, "{\"id\": 0, \"prompt\": \"Once\"}", 6);
    CHECK(a && b && strcmp(a, b));
    graft_free(a);
    graft_free(b);
    /* Numbers wrap. */
    check_record(batch, "{\"prompt\": \"x\", \"seed\": 18446744073709551615}", "{\"id\":7,\"text\"", "");
    OK(graft_batch_adapter(batch, "mine", GRAFT_NUL, adapter, 1, &error));
    snprintf(line, sizeof line, "{\"id\": 0, \"prompt\": \"Once\", \"adapter\": \"%s@0.5\"}", adapter_paths[0]);
    a = record_of(batch, line, 1);
    b = record_of(batch, "{\"id\": 0, \"prompt\": \"Once\", \"adapter\": \"mine@0.5\"}", 1);
    CHECK(a && b && strstr(a, "\"text\"") && !strcmp(a, b));
    graft_free(a);
    graft_free(b);
    FAILS(GRAFT_ERROR_USAGE, graft_batch_adapter(batch, "", 0, adapter, 1, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_batch_adapter(batch, "\xff", 1, adapter, 1, &error));
    FAILS(GRAFT_ERROR_HANDLE, graft_batch_adapter(batch, "a", 1, NULL, 1, &error));
    graft_batch_free(batch);
    batch = NULL;

    OK(graft_batch_new(tiny, NULL, &batch, &error));
    FAILS(GRAFT_ERROR_MISMATCH, graft_batch_adapter(batch, "a", 1, adapter, 1, &error));
    graft_batch_free(batch);
    batch = NULL;

    session.context = (uint64_t)1 << 40;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    session.context = 0;
    session.chunk = 0;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    session.chunk = 512;
    sampling.temperature = -1;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    sampling.temperature = 0;
    folder.task_id = -2;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    folder.task_id = -1;
    generate.keep = -2;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    generate.keep = -1;
    generate.sampler = (graft_sampler *)&one;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    generate.sampler = NULL;
    generate.struct_size = 3;
    FAILS(GRAFT_ERROR_USAGE, graft_batch_new(model, &options, &batch, &error));
    generate.struct_size = sizeof generate;
    options.reserved = 0;
    CHECK(!batch);
    graft_adapter_free(adapter);
    graft_model_free(tiny);
    graft_model_free(model);
}

static const char five_lines[] = "{\"id\": \"a\", \"prompt\": \"One\"}\n"
                                 "{\"id\": \"b\", \"prompt\": \"Two\", \"adapter\": \"first\"}\n"
                                 "\n"
                                 "{\"id\": \"c\"}\n"
                                 "{\"prompt\": \"Four\", \"adapter\": \"second\", \"temperature\": 1}\n"
                                 "{\"id\": \"e\", \"prompt\": \"Five\"}";

typedef struct {
    int calls, end_at, cancel_at, free_at;
    float last;
    graft_batch *batch;
    graft_cancel *cancel;
} told;

static int32_t on_progress(float share, void *user_data) {
    told *t = user_data;
    char *record = NULL;
    CHECK(share > t->last && share <= 1);
    t->last = share;
    t->calls++;
    if (t->calls == t->cancel_at) STATUS(GRAFT_OK, graft_cancel_set(t->cancel));
    if (t->calls == t->free_at)
        graft_batch_free(t->batch);
    else if (!t->free_at)
        FAILS(GRAFT_ERROR_BUSY, graft_batch_line(t->batch, "{}", 2, 1, &record, NULL, &error));
    CHECK(!record);
    return t->calls == t->end_at;
}

static int is_file(const char *path, const char *text) {
    size_t len;
    char *there = read_file(path, &len);
    const int is = len == strlen(text) && !memcmp(there, text, len);
    free(there);
    return is;
}

/* So many lines of a text. */
static char *head(const char *text, int n) {
    char *copy = strdup(text), *end = copy;
    while (n-- > 0 && end) end = strchr(end, '\n') ? strchr(end, '\n') + 1 : NULL;
    if (end) *end = '\0';
    return copy;
}

/* Oracle: the file of a run that was never stopped. */
static void files(void) {
    graft_model *model = open_model();
    graft_cancel *cancel = NULL;
    graft_batch *batch;
    graft_batch_report report = {.struct_size = sizeof report};
    told t = {0, 0, 0, 0, 0, NULL, NULL};
    char *whole, *some;
    size_t len;
    int n;

    OK(graft_cancel_new(&cancel, &error));
    batch = new_batch(model, cancel);
    t.batch = batch;
    t.cancel = cancel;
    unlink("out.jsonl");
    write_file("in.jsonl", five_lines, sizeof five_lines - 1);
    OK(graft_batch_run(batch, "in.jsonl", GRAFT_NUL, "out.jsonl", GRAFT_NUL, on_progress, &t, &report, &error));
    CHECK(t.calls == 5 && t.last == 1);
    CHECK(report.before == 0 && report.answered == 5 && report.failed == 1);
    whole = read_file("out.jsonl", &len);
    whole[len] = '\0';
    CHECK(len > 0 && whole[len - 1] == '\n' && strstr(whole, "\n{\"id\":\"c\",\"error\":") && strstr(whole, "\n{\"id\":5,\"text\":"));
    OK(graft_batch_run(batch, "in.jsonl", GRAFT_NUL, "out.jsonl", GRAFT_NUL, NULL, NULL, &report, &error));
    CHECK(report.before == 5 && report.answered == 0 && report.failed == 0);
    CHECK(is_file("out.jsonl", whole));

    /* Cut off anywhere, as by a crash. */
    for (n = 0; n < 4; n++) {
        const size_t cut = n == 0 ? 1 : len * (size_t)n / 4;
        write_file("out.jsonl", whole, cut);
        OK(graft_batch_run(batch, "in.jsonl", GRAFT_NUL, "out.jsonl", GRAFT_NUL, NULL, NULL, NULL, &error));
        CHECK(is_file("out.jsonl", whole));
    }

    /* Stopped by the callback, or by a flag that is set while the next line waits. */
    for (n = 1; n < 5; n++) {
        const int flag = n % 2;
        memset(&report, 0x55, sizeof report);
        report.struct_size = sizeof report;
        t.calls = 0;
        t.last = 0;
        t.end_at = flag ? 0 : n;
        t.cancel_at = flag ? n : 0;
        unlink("out.jsonl");
        FAILS(GRAFT_ERROR_CANCELLED, graft_batch_run(batch, "in.jsonl", 8, "out.jsonl", 9, on_progress, &t, &report, &error));
        CHECK(t.calls == n && report.before == 0x5555555555555555u && report.failed == 0x5555555555555555u);
        some = head(whole, n);
        CHECK(is_file("out.jsonl", some));
        if (flag) {
            char *record = NULL;
            FAILS(GRAFT_ERROR_CANCELLED, graft_batch_line(batch, "{}", 2, 1, &record, NULL, &error));
            FAILS(GRAFT_ERROR_CANCELLED, graft_batch_run(batch, "in.jsonl", 8, "out.jsonl", 9, NULL, NULL, NULL, &error));
            CHECK(!record && is_file("out.jsonl", some));
            STATUS(GRAFT_OK, graft_cancel_clear(cancel));
        }
        free(some);
        OK(graft_batch_run(batch, "in.jsonl", 8, "out.jsonl", 9, NULL, NULL, &report, &error));
        CHECK(report.before == (uint64_t)n && report.answered == (uint64_t)(5 - n));
        CHECK(is_file("out.jsonl", whole));
    }

    /* What is not ours is left alone. */
    write_file("out.jsonl", "a diary\n", 8);
    FAILS(GRAFT_ERROR_MISMATCH, graft_batch_run(batch, "in.jsonl", 8, "out.jsonl", 9, NULL, NULL, &report, &error));
    CHECK(is_file("out.jsonl", "a diary\n"));
    FAILS(GRAFT_ERROR_USAGE, graft_batch_run(batch, "in.jsonl", 8, "in.jsonl", 8, NULL, NULL, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_batch_run(batch, "in.jsonl", 8, "", 0, NULL, NULL, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_batch_run(batch, NULL, GRAFT_NUL, "out.jsonl", 9, NULL, NULL, NULL, &error));
    FAILS(GRAFT_ERROR_IO, graft_batch_run(batch, "no such file", GRAFT_NUL, "out.jsonl", 9, NULL, NULL, NULL, &error));
    CHECK(is_file("in.jsonl", five_lines));

    /* Freed by its own callback, it goes when the call returns. */
    t.calls = t.end_at = t.cancel_at = 0;
    t.last = 0;
    t.free_at = 2;
    unlink("out.jsonl");
    graft_model_free(model);
    graft_cancel_free(cancel);
    OK(graft_batch_run(batch, "in.jsonl", 8, "out.jsonl", 9, on_progress, &t, NULL, &error));
    CHECK(t.calls == 5 && is_file("out.jsonl", whole));
    FAILS(GRAFT_ERROR_HANDLE, graft_batch_run(batch, "in.jsonl", 8, "out.jsonl", 9, NULL, NULL, NULL, &error));
    free(whole);
    unlink("in.jsonl");
    unlink("out.jsonl");
}

void test_batch(void) {
    lines();
    options();
    files();
}
