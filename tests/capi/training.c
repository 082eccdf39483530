/* Trainers: rows of every form, runs that are stopped and gone on with, the adapter in use at once. On the tiny model, also beside a real one. */
#define _POSIX_C_SOURCE 200809L
#include "outside.h"
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 6 };

static const graft_message talk[] = {{"user", 4, "a", 1, NULL, 0}, {"assistant", 9, "dog", 3, NULL, 0}};
static const uint32_t by_heart[] = {7, 44, 81, 118, 155, 2, 39, 76, 113, 150, 187, 34};
enum { N = sizeof by_heart / sizeof *by_heart };

/* Rows of each form. */
static const graft_row rows[] = {
    {.text = "the fox and a dog ran", .text_len = 7},
    {.prompt = "my cat saw ", .prompt_len = GRAFT_NUL, .completion = "one bird", .completion_len = GRAFT_NUL},
    {.messages = talk, .n_messages = 2},
    {.tokens = by_heart, .n_tokens = N},
    {.line = "{\"text\": \"that fish\"}", .line_len = GRAFT_NUL},
};
enum { ROWS = sizeof rows / sizeof *rows };

static graft_train_options options(void) {
    graft_train_options o;
    graft_train_options_init(&o, sizeof o);
    o.r = 4;
    o.batch = 2;
    o.steps = STEPS;
    o.lr = 1e-2f;
    o.seq = 64;
    o.precision = GRAFT_PRECISION_EXACT;
    return o;
}

static graft_trainer *new_trainer(const graft_model *model, const graft_train_options *o) {
    graft_trainer *trainer = NULL;
    OK(graft_trainer_new(model, o, &trainer, &error));
    CHECK(trainer);
    return trainer;
}

static graft_trainer_info info_of(graft_trainer *trainer) {
    graft_trainer_info info = {.struct_size = sizeof info};
    OK(graft_trainer_get_info(trainer, &info, &error));
    return info;
}

/* The tensors of a trainer, as it writes them; to be freed with `free`. */
static char *tensors_of(graft_trainer *trainer, size_t *len) {
    char *bytes;
    OK(graft_trainer_save(trainer, "trained", GRAFT_NUL, &error));
    bytes = read_file("trained/adapter_model.safetensors", len);
    unlink("trained/adapter_model.safetensors");
    unlink("trained/adapter_config.json");
    rmdir("trained");
    return bytes;
}

static int same_tensors(graft_trainer *trainer, const char *tensors, size_t len) {
    size_t n;
    char *own = tensors_of(trainer, &n);
    const int same = n == len && !memcmp(own, tensors, len);
    free(own);
    return same;
}

static double loss_of(graft_trainer *trainer, const graft_row *of, size_t n) {
    double loss = -1;
    OK(graft_trainer_evaluate(trainer, of, n, &loss, &error));
    return loss;
}

/* Each form is learnt as the tokens that it stands for. Oracle: the tokenizer and the chat template. */
static void forms(const graft_model *model) {
    const graft_train_options o = options();
    graft_trainer *trainer = new_trainer(model, &o);
    uint32_t *tokens = NULL, all[64];
    uint8_t learn[64];
    size_t n = 0, before = 0, i;
    graft_model_info info = {.struct_size = sizeof info};
    graft_row row = {.tokens = all};
    graft_message asked = talk[0];
    char *text = NULL;
    graft_chat_options chat;

    OK(graft_model_get_info(model, &info, &error));
    OK(graft_tokenize(model, "the fox", GRAFT_NUL, GRAFT_TOKENIZE_BOS_EOS, &tokens, &n, &error));
    memcpy(all, tokens, n * sizeof *all);
    if (info.eos >= 0 && all[n - 1] != (uint32_t)info.eos) all[n++] = (uint32_t)info.eos;
    graft_free(tokens);
    row.n_tokens = n;
    CHECK(loss_of(trainer, &rows[0], 1) == loss_of(trainer, &row, 1));

    graft_chat_options_init(&chat, sizeof chat);
    OK(graft_chat_render(model, &asked, 1, &chat, &text, NULL, &error));
    OK(graft_tokenize(model, text, GRAFT_NUL, GRAFT_TOKENIZE_SPECIAL, &tokens, &before, &error));
    graft_free(tokens);
    graft_free(text);
    chat.add_generation_prompt = 0;
    OK(graft_chat_render(model, talk, 2, &chat, &text, NULL, &error));
    OK(graft_tokenize(model, text, GRAFT_NUL, GRAFT_TOKENIZE_SPECIAL, &tokens, &n, &error));
    graft_free(text);
    CHECK(before < n && n <= 64);
    for (i = 0; i < n; i++) {
        int32_t ends = 0;
        if (i > before) OK(graft_token_ends(model, tokens[i - 1], &ends, &error));
        if (ends) break;
        all[i] = tokens[i];
        learn[i] = i >= before;
    }
    graft_free(tokens);
    row.n_tokens = i;
    row.learn = learn;
    CHECK(loss_of(trainer, &rows[2], 1) == loss_of(trainer, &row, 1));
    {
        const graft_row line = {.line = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"dog\"}]}",
                                .line_len = GRAFT_NUL};
        const graft_row completion = {.line = "{\"prompt\": \"my cat saw \", \"completion\": \"one bird\"}", .line_len = GRAFT_NUL};
        CHECK(loss_of(trainer, &rows[2], 1) == loss_of(trainer, &line, 1));
        CHECK(loss_of(trainer, &rows[1], 1) == loss_of(trainer, &completion, 1));
        CHECK(loss_of(trainer, &rows[1], 1) != loss_of(trainer, &rows[2], 1));
    }
    /* What is evaluated is not learnt, and what was added is what is evaluated by default. */
    OK(graft_trainer_add(trainer, rows, ROWS, &error));
    CHECK(loss_of(trainer, NULL, 0) == loss_of(trainer, rows, ROWS));
    CHECK(info_of(trainer).steps == 0 && info_of(trainer).rows == ROWS);
    graft_trainer_free(trainer);
}

static void refused(graft_trainer *trainer, const graft_row *row, graft_status status, const char *words) {
    graft_error *e = NULL;
    const graft_row two[] = {rows[0], *row};
    const graft_trainer_info before = info_of(trainer);
    check(graft_trainer_add(trainer, two, 2, &e) == status, __FILE__, __LINE__, words);
    check(e && strstr(graft_error_message(e), words) && strstr(graft_error_message(e), "rows[1]"), __FILE__, __LINE__, words);
    if (e && !strstr(graft_error_message(e), words)) printf("    %s\n", graft_error_message(e));
    graft_error_free(e);
    CHECK(info_of(trainer).rows == before.rows);
}

/* Rows and options that cannot be learnt are named, and change nothing. */
static void wrong(const graft_model *model) {
    graft_train_options o = options();
    graft_trainer *trainer = new_trainer(model, &o), *none = NULL;
    const graft_row nothing = {.text = NULL}, empty = {.text = "", .text_len = 0};
    const graft_row two = {.text = "a", .text_len = 1, .line = "{}", .line_len = 2};
    const graft_row stray = {.text = "a", .text_len = 1, .prompt = "b", .prompt_len = 1};
    const graft_row alone = {.prompt = "b", .prompt_len = 1};
    const graft_row json = {.line = "{\"txt\": 1}", .line_len = GRAFT_NUL};
    const graft_row choices = {.line = "{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 0}", .line_len = GRAFT_NUL};
    const graft_row bytes = {.text = "\xff", .text_len = 1};
    const graft_row silent = {.messages = talk, .n_messages = 1};
    const uint32_t outside[] = {1, 1u << 30};
    const graft_row token = {.tokens = outside, .n_tokens = 2}, one = {.tokens = outside, .n_tokens = 1};
    const uint8_t learn[] = {1, 0};
    const graft_row unlearnt = {.tokens = by_heart, .n_tokens = 2, .learn = learn};
    char said[4096];
    graft_row longest = {.text = said, .text_len = sizeof said};
    graft_trainer_info info;
    double loss = 7;
    size_t i;

    refused(trainer, &nothing, GRAFT_ERROR_USAGE, "one form");
    refused(trainer, &two, GRAFT_ERROR_USAGE, "text, line");
    refused(trainer, &stray, GRAFT_ERROR_USAGE, "text, prompt");
    refused(trainer, &alone, GRAFT_ERROR_USAGE, "one form");
    refused(trainer, &empty, GRAFT_ERROR_INVALID, "empty");
    refused(trainer, &json, GRAFT_ERROR_INVALID, "txt");
    refused(trainer, &choices, GRAFT_ERROR_INVALID, "choices");
    refused(trainer, &bytes, GRAFT_ERROR_USAGE, "UTF-8");
    refused(trainer, &silent, GRAFT_ERROR_INVALID, "assistant");
    refused(trainer, &token, GRAFT_ERROR_USAGE, "vocabulary");
    refused(trainer, &one, GRAFT_ERROR_INVALID, "nothing to learn");
    refused(trainer, &unlearnt, GRAFT_ERROR_INVALID, "nothing to learn");
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_add(trainer, NULL, 1, &error));
    OK(graft_trainer_add(trainer, NULL, 0, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_run(trainer, 1, NULL, NULL, NULL, &error)); /* no rows */
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_step(trainer, NULL, 0, NULL, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_evaluate(trainer, NULL, 0, &loss, &error));
    CHECK(loss == 7);
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_pull(trainer, NULL, NULL, NULL, &error));

    /* What is too long is cut, and that is counted. */
    for (i = 0; i < sizeof said; i++) said[i] = "the fox ran "[i % 12];
    OK(graft_trainer_add(trainer, &longest, 1, &error));
    info = info_of(trainer);
    CHECK(info.rows == 1 && info.rows_cut == 1 && info.seq == 64 && info.parameters > 0 && info.steps_left == STEPS);
    OK(graft_trainer_clear(trainer, &error));
    info = info_of(trainer);
    CHECK(info.rows == 0 && info.rows_cut == 0 && info.epochs == 0);
    graft_trainer_free(trainer);
    FAILS(GRAFT_ERROR_HANDLE, graft_trainer_clear(trainer, &error));

#define REFUSED(field, value, status)                                             \
    do {                                                                          \
        o = options();                                                            \
        o.field = (value);                                                        \
        FAILS(status, graft_trainer_new(model, &o, &none, &error)); \
    } while (0)
    REFUSED(method, "lorra", GRAFT_ERROR_USAGE); /* its length is 0: an empty name */
    REFUSED(targets, "q_prj", GRAFT_ERROR_USAGE);
    REFUSED(dropout, 1.5, GRAFT_ERROR_USAGE);
    REFUSED(r, 1u << 30, GRAFT_ERROR_USAGE);
    REFUSED(batch, 0, GRAFT_ERROR_USAGE);
    REFUSED(steps, 0, GRAFT_ERROR_USAGE);
    REFUSED(warmup, -2, GRAFT_ERROR_USAGE);
    REFUSED(lr, -1, GRAFT_ERROR_USAGE);
    REFUSED(clip, -1, GRAFT_ERROR_USAGE);
    REFUSED(seq, 1, GRAFT_ERROR_USAGE);
    REFUSED(seq, 1u << 30, GRAFT_ERROR_USAGE);
    REFUSED(precision, 9, GRAFT_ERROR_USAGE);
    REFUSED(memory, 1, GRAFT_ERROR_LIMIT);
    REFUSED(modules_to_save, "norm", GRAFT_ERROR_USAGE); /* an empty name */
    /* What only other methods have. */
    REFUSED(prompt_tuning_init_text, "the fox", GRAFT_ERROR_USAGE);
    REFUSED(num_virtual_tokens, 3, GRAFT_ERROR_USAGE);
    REFUSED(oft_block_size, 8, GRAFT_ERROR_USAGE);
    REFUSED(boft_block_size, 8, GRAFT_ERROR_USAGE);
    REFUSED(group_size, 8, GRAFT_ERROR_USAGE);
    REFUSED(n_token_indices, 1, GRAFT_ERROR_USAGE); /* of none */
    o = options();
    o.token_indices = by_heart;
    o.n_token_indices = N;
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_new(model, &o, &none, &error));
    o.method = "trainable_tokens";
    o.method_len = GRAFT_NUL;
    OK(graft_trainer_new(model, &o, &trainer, &error));
    CHECK(info_of(trainer).parameters % N == 0);
    graft_trainer_free(trainer);
    o = options();
    o.method = "adamw";
    o.method_len = GRAFT_NUL;
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_new(model, &o, &none, &error));
    FAILS(GRAFT_ERROR_IO, graft_trainer_open(model, "no such folder", GRAFT_NUL, NULL, &none, &error));
    FAILS(GRAFT_ERROR_IO, graft_trainer_resume(model, "no such file", GRAFT_NUL, NULL, &none, &error));
    FAILS(GRAFT_ERROR_INVALID, graft_trainer_resume(model, tiny_file("llama-tied/model.gguf"), GRAFT_NUL, NULL, &none, &error));
    CHECK(!none);
}

typedef struct {
    graft_trainer *trainer;
    graft_cancel *cancel;
    int calls, end_at, cancel_at, free_at;
    uint64_t step;
} told;

static int32_t on_step(const graft_train_report *report, void *user_data) {
    told *t = user_data;
    t->calls++;
    CHECK(report->struct_size == sizeof *report && report->step == t->step + 1);
    CHECK(report->loss > 0 && report->targets > 0 && report->tokens > report->targets && report->lr >= 0 && !report->skipped);
    t->step = report->step;
    if (t->calls == t->cancel_at) STATUS(GRAFT_OK, graft_cancel_set(t->cancel));
    if (t->calls == t->free_at)
        graft_trainer_free(t->trainer);
    else if (!t->free_at) {
        graft_adapter *adapter = NULL;
        double loss = 7;
        FAILS(GRAFT_ERROR_BUSY, graft_trainer_step(t->trainer, rows, 1, NULL, &error));
        FAILS(GRAFT_ERROR_BUSY, graft_trainer_run(t->trainer, 1, NULL, NULL, NULL, &error));
        FAILS(GRAFT_ERROR_BUSY, graft_trainer_adapter(t->trainer, &adapter, &error));
        FAILS(GRAFT_ERROR_BUSY, graft_trainer_evaluate(t->trainer, rows, 1, &loss, &error));
        FAILS(GRAFT_ERROR_BUSY, graft_trainer_add(t->trainer, rows, 1, &error));
        FAILS(GRAFT_ERROR_BUSY, graft_trainer_save(t->trainer, "busy", GRAFT_NUL, &error));
        CHECK(!adapter && loss == 7);
    }
    return t->calls == t->end_at;
}

/* One row at a time. */
typedef struct {
    graft_trainer *trainer;
    int next, end;
} given;

static int32_t give_row(graft_row *row, void *user_data) {
    static const graft_row zero = {.text = NULL};
    given *g = user_data;
    CHECK(!memcmp(row, &zero, sizeof zero));
    FAILS(GRAFT_ERROR_BUSY, graft_trainer_clear(g->trainer, &error));
    if (g->next == g->end) return -1;
    if (g->next == ROWS) return 0;
    *row = rows[g->next++];
    return 1;
}

static void add_rows(graft_trainer *trainer) {
    uint64_t n = 0;
    given g = {NULL, 0, -1};
    g.trainer = trainer;
    OK(graft_trainer_pull(trainer, give_row, &g, &n, &error));
    CHECK(n == ROWS && info_of(trainer).rows == ROWS);
}

/* Oracle: a run that was never stopped. */
static void runs(const graft_model *model) {
    graft_train_options o = options();
    graft_train_report report = {.struct_size = sizeof report};
    graft_trainer *trainer = new_trainer(model, &o);
    graft_cancel *cancel = NULL;
    told t = {.calls = 0};
    given g = {NULL, 0, 2};
    char *whole, *file;
    size_t len, file_len;
    uint64_t n_rows = 7;
    int n;

    OK(graft_cancel_new(&cancel, &error));
    g.trainer = trainer;
    FAILS(GRAFT_ERROR_CANCELLED, graft_trainer_pull(trainer, give_row, &g, &n_rows, &error));
    CHECK(n_rows == 7 && info_of(trainer).rows == 0);
    add_rows(trainer);
    FAILS(GRAFT_ERROR_LIMIT, graft_trainer_run(trainer, STEPS + 1, NULL, NULL, &report, &error));
    t.trainer = trainer;
    OK(graft_trainer_run(trainer, 0, on_step, &t, &report, &error));
    CHECK(t.calls == STEPS && report.step == STEPS && report.lr >= 0 && report.seconds > 0);
    CHECK(info_of(trainer).steps == STEPS && info_of(trainer).steps_left == 0 && info_of(trainer).epochs == 2);
    FAILS(GRAFT_ERROR_LIMIT, graft_trainer_step(trainer, rows, 1, NULL, &error));
    OK(graft_trainer_run(trainer, 0, on_step, &t, &report, &error)); /* there is nothing left to do */
    CHECK(t.calls == STEPS && report.step == STEPS && report.tokens == 0);
    whole = tensors_of(trainer, &len);
    graft_trainer_free(trainer);

    /* Rows that are added in two calls, a step at a time; and steps over rows that are not added. */
    trainer = new_trainer(model, &o);
    OK(graft_trainer_add(trainer, rows, 2, &error));
    OK(graft_trainer_add(trainer, rows + 2, ROWS - 2, &error));
    for (n = 0; n < STEPS; n++) OK(graft_trainer_run(trainer, 1, NULL, NULL, NULL, &error));
    CHECK(same_tensors(trainer, whole, len));
    graft_trainer_free(trainer);
    trainer = new_trainer(model, &o);
    for (n = 0; n < STEPS; n++) OK(graft_trainer_step(trainer, rows, 2, &report, &error));
    CHECK(report.step == STEPS && info_of(trainer).rows == 0 && !same_tensors(trainer, whole, len));
    graft_trainer_free(trainer);

    /* Stopped by the callback or by a flag, then gone on with: at once, or from a checkpoint. */
    for (n = 1; n < STEPS; n++) {
        const int flag = n % 2;
        o.cancel = flag ? cancel : NULL;
        trainer = new_trainer(model, &o);
        add_rows(trainer);
        memset(&t, 0, sizeof t);
        t.trainer = trainer;
        t.cancel = cancel;
        *(flag ? &t.cancel_at : &t.end_at) = n;
        memset(&report, 0x55, sizeof report);
        report.struct_size = sizeof report;
        FAILS(GRAFT_ERROR_CANCELLED, graft_trainer_run(trainer, 0, on_step, &t, &report, &error));
        CHECK(t.calls == n && report.step == 0x5555555555555555u && info_of(trainer).steps == (uint64_t)n);
        if (flag) {
            double loss = 7;
            FAILS(GRAFT_ERROR_CANCELLED, graft_trainer_run(trainer, 1, NULL, NULL, NULL, &error));
            FAILS(GRAFT_ERROR_CANCELLED, graft_trainer_evaluate(trainer, rows, 1, &loss, &error));
            CHECK(loss == 7 && info_of(trainer).steps == (uint64_t)n);
            STATUS(GRAFT_OK, graft_cancel_clear(cancel));
        }
        OK(graft_trainer_checkpoint(trainer, "checkpoint", GRAFT_NUL, &error));
        OK(graft_trainer_run(trainer, 0, NULL, NULL, NULL, &error));
        CHECK(same_tensors(trainer, whole, len));
        graft_trainer_free(trainer);
        OK(graft_trainer_resume(model, "checkpoint", GRAFT_NUL, &o, &trainer, &error));
        CHECK(info_of(trainer).steps == (uint64_t)n && info_of(trainer).rows == 0);
        OK(graft_trainer_add(trainer, rows, ROWS - 1, &error));
        FAILS(GRAFT_ERROR_MISMATCH, graft_trainer_run(trainer, 1, NULL, NULL, NULL, &error)); /* not all of them */
        OK(graft_trainer_add(trainer, rows + ROWS - 1, 1, &error));
        OK(graft_trainer_run(trainer, 0, NULL, NULL, NULL, &error));
        CHECK(same_tensors(trainer, whole, len));
        graft_trainer_free(trainer);
    }

    /* Other rows, once it is said; other options are named; a damaged file is found out. */
    trainer = NULL;
    OK(graft_trainer_resume(model, "checkpoint", GRAFT_NUL, &o, &trainer, &error));
    OK(graft_trainer_clear(trainer, &error));
    OK(graft_trainer_add(trainer, rows, 1, &error));
    OK(graft_trainer_run(trainer, 1, NULL, NULL, NULL, &error));
    graft_trainer_free(trainer);
    trainer = NULL;
    o.lr = 1e-3f;
    FAILS(GRAFT_ERROR_MISMATCH, graft_trainer_resume(model, "checkpoint", GRAFT_NUL, &o, &trainer, &error));
    o.lr = 1e-2f;
    file = read_file("checkpoint", &file_len);
    file[file_len / 2] ^= 1;
    write_file("checkpoint", file, file_len);
    FAILS(GRAFT_ERROR_INVALID, graft_trainer_resume(model, "checkpoint", GRAFT_NUL, &o, &trainer, &error));
    CHECK(!trainer);
    free(file);
    unlink("checkpoint");

    /* Freed by its own callback, it goes when the call returns. */
    trainer = new_trainer(model, &o);
    OK(graft_trainer_add(trainer, rows, ROWS, &error));
    memset(&t, 0, sizeof t);
    t.trainer = trainer;
    t.free_at = 2;
    OK(graft_trainer_run(trainer, 0, on_step, &t, NULL, &error));
    CHECK(t.calls == STEPS);
    FAILS(GRAFT_ERROR_HANDLE, graft_trainer_run(trainer, 1, NULL, NULL, NULL, &error));
    graft_cancel_free(cancel);
    free(whole);
}

/* Learnt by heart, the model says it in a session of the same process, and in one that opens what was saved. */
static void in_use_at_once(graft_model *model) {
    graft_train_options o = options();
    graft_session_options so;
    graft_trainer *trainer, *again = NULL;
    graft_session *session = NULL;
    graft_adapter *adapter = NULL, *opened = NULL;
    graft_adapter_info info = {.struct_size = sizeof info};
    double before, after;
    int i, said[3] = {0, 0, 0}, round;

    o.steps = 1; /* without an end */
    o.schedule = "constant";
    o.schedule_len = GRAFT_NUL;
    o.lr = 2e-2f;
    o.warmup = 0;
    trainer = new_trainer(model, &o);
    CHECK(info_of(trainer).steps_left == -1);
    OK(graft_trainer_add(trainer, &rows[3], 1, &error));
    graft_session_options_init(&so, sizeof so);
    so.precision = GRAFT_PRECISION_EXACT;
    OK(graft_session_new(model, &so, &session, &error));
    before = loss_of(trainer, NULL, 0);
    OK(graft_trainer_adapter(trainer, &adapter, &error)); /* which changes nothing yet, and stays so */
    OK(graft_trainer_run(trainer, 60, NULL, NULL, NULL, &error));
    after = loss_of(trainer, NULL, 0);
    CHECK(after < 0.5 && after < 0.1 * before);
    OK(graft_trainer_save(trainer, "learnt", GRAFT_NUL, &error));
    for (round = 0; round < 3; round++) {
        const float *logits;
        size_t n, best, k;
        if (round == 1) {
            graft_adapter_free(adapter);
            adapter = NULL;
            OK(graft_trainer_adapter(trainer, &adapter, &error));
            OK(graft_adapter_get_info(adapter, &info, &error));
            CHECK(!strcmp(info.method, "LORA") && info.max_rank == 4 && info.parameters == info_of(trainer).parameters);
            graft_trainer_free(trainer); /* the adapter stays */
        }
        if (round == 2) {
            OK(graft_adapter_open(model, "learnt", GRAFT_NUL, NULL, &opened, &error));
        }
        OK(graft_session_reset(session, &error));
        OK(graft_session_set_adapters(session, (const graft_adapter *const *)(round == 2 ? &opened : &adapter), NULL, 1, &error));
        for (i = 1; i < N; i++) {
            OK(graft_session_eval(session, by_heart + i - 1, 1, &error));
            OK(graft_session_logits(session, &logits, &n, &error));
            for (best = k = 0; k < n; k++)
                if (logits[k] > logits[best]) best = k;
            said[round] += best == by_heart[i];
        }
    }
    CHECK(said[0] < N / 2 && said[1] >= N - 2 && said[2] == said[1]);
    /* What was saved is gone on with. */
    OK(graft_trainer_open(model, "learnt", GRAFT_NUL, &o, &again, &error));
    CHECK(loss_of(again, &rows[3], 1) == after);
    OK(graft_trainer_step(again, &rows[3], 1, NULL, &error));
    CHECK(loss_of(again, &rows[3], 1) != after);
    graft_trainer_free(again);
    graft_adapter_free(adapter);
    graft_adapter_free(opened);
    graft_session_free(session);
    unlink("learnt/adapter_model.safetensors");
    unlink("learnt/adapter_config.json");
    rmdir("learnt");
}

static uint64_t planned(const graft_model *model, const char *folder, const graft_train_options *o, int keeps_attention) {
    graft_train_plan p = {.struct_size = sizeof p};
    OK(graft_plan_training(model, folder, GRAFT_NUL, o, &p, &error));
    CHECK(p.keeps_attention == keeps_attention && p.adapter && p.activations && p.workspace);
    CHECK(p.total == p.weights + p.adapter + p.gradients + p.optimizer + p.activations + p.workspace);
    return p.total;
}

static int saves_dropout(graft_trainer *trainer, const char *field) {
    char config[4096] = "";
    FILE *file;
    OK(graft_trainer_save(trainer, "planned", GRAFT_NUL, &error));
    file = fopen("planned/adapter_config.json", "r");
    if (!file) return 0;
    CHECK(fread(config, 1, sizeof config - 1, file) > 0);
    fclose(file);
    return strstr(config, field) != NULL;
}

/* What is planned is the least that is enough. Oracle: the plan's own total, one byte below it, and a training that has all that it wants. */
static void held_to_memory(const graft_model *model) {
    graft_train_options o = options();
    const uint64_t most = planned(model, NULL, &o, 1);
    uint64_t least;
    graft_train_plan plan = {.struct_size = sizeof plan};
    graft_trainer *trainer = new_trainer(model, &o), *other;
    double all, less;
    char *tensors;
    size_t len;

    OK(graft_trainer_step(trainer, rows, ROWS, NULL, &error));
    all = loss_of(trainer, rows, ROWS);
    OK(graft_trainer_save(trainer, "planned", GRAFT_NUL, &error));
    CHECK(planned(model, "planned", &o, 1) == most);
    graft_trainer_free(trainer);
    o.memory = most;
    CHECK(planned(model, NULL, &o, 1) == most);
    o.memory = most - 1;
    least = planned(model, NULL, &o, 0);
    CHECK(least < most);
    o.memory = least;
    CHECK(planned(model, "planned", &o, 0) == least);
    trainer = new_trainer(model, &o);
    OK(graft_trainer_step(trainer, rows, ROWS, NULL, &error));
    less = loss_of(trainer, rows, ROWS);
    CHECK(less - all < 1e-4 && all - less < 1e-4);
    OK(graft_trainer_checkpoint(trainer, "checkpoint", GRAFT_NUL, &error));
    OK(graft_trainer_step(trainer, rows, ROWS, NULL, &error));
    tensors = tensors_of(trainer, &len);
    graft_trainer_free(trainer);

    other = NULL;
    o.memory = least - 1;
    FAILS(GRAFT_ERROR_LIMIT, graft_plan_training(model, NULL, 0, &o, &plan, &error));
    FAILS(GRAFT_ERROR_LIMIT, graft_plan_training(model, "planned", GRAFT_NUL, &o, &plan, &error));
    FAILS(GRAFT_ERROR_LIMIT, graft_trainer_new(model, &o, &other, &error));
    FAILS(GRAFT_ERROR_LIMIT, graft_trainer_open(model, "planned", GRAFT_NUL, &o, &other, &error));
    FAILS(GRAFT_ERROR_LIMIT, graft_trainer_resume(model, "checkpoint", GRAFT_NUL, &o, &other, &error));
    FAILS(GRAFT_ERROR_IO, graft_plan_training(model, "no such folder", GRAFT_NUL, NULL, &plan, &error));
    FAILS(GRAFT_ERROR_USAGE, graft_plan_training(model, "", 0, NULL, &plan, &error));
    CHECK(!other && !plan.total);
    /* A resumed training keeps what it kept, whatever there is room for now. */
    o.memory = most;
    OK(graft_trainer_resume(model, "checkpoint", GRAFT_NUL, &o, &trainer, &error));
    OK(graft_trainer_step(trainer, rows, ROWS, NULL, &error));
    CHECK(same_tensors(trainer, tensors, len));
    graft_trainer_free(trainer);
    unlink("checkpoint");
    free(tensors);

    /* The dropout of an adapter that is opened: its own, another one, none. */
    o.dropout = 0.25;
    OK(graft_trainer_open(model, "planned", GRAFT_NUL, &o, &trainer, &error));
    CHECK(saves_dropout(trainer, "\"lora_dropout\": 0.25"));
    graft_trainer_free(trainer);
    o.dropout = 0;
    OK(graft_trainer_open(model, "planned", GRAFT_NUL, &o, &trainer, &error));
    CHECK(saves_dropout(trainer, "\"lora_dropout\": 0.25"));
    graft_trainer_free(trainer);
    o.dropout = -1;
    OK(graft_trainer_open(model, "planned", GRAFT_NUL, &o, &trainer, &error));
    CHECK(saves_dropout(trainer, "\"lora_dropout\": 0.0"));
    graft_trainer_free(trainer);
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_new(model, &o, &other, &error));
    unlink("planned/adapter_model.safetensors");
    unlink("planned/adapter_config.json");
    rmdir("planned");

    /* A program of before: what it does not know of is not read. */
    o = options();
    o.memory = 1;
    o.struct_size = offsetof(graft_train_options, memory);
    graft_trainer_free(new_trainer(model, &o));
    o.struct_size -= sizeof o.cancel;
    FAILS(GRAFT_ERROR_USAGE, graft_trainer_new(model, &o, &other, &error));
    CHECK(!other);
}

typedef struct {
    graft_trainer *trainer;
    graft_cancel *cancel;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside, done;
} meeting;

static int32_t meet(const graft_train_report *report, void *user_data) {
    meeting *m = user_data;
    if (report->step == 2) {
        pthread_mutex_lock(&m->lock);
        m->inside = 1;
        pthread_cond_broadcast(&m->changed);
        while (!m->done) pthread_cond_wait(&m->changed, &m->lock);
        pthread_mutex_unlock(&m->lock);
    }
    return 0;
}

static void *disturb(void *user_data) {
    meeting *m = user_data;
    pthread_mutex_lock(&m->lock);
    while (!m->inside) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    FAILS(GRAFT_ERROR_BUSY, graft_trainer_step(m->trainer, rows, 1, NULL, &error));
    FAILS(GRAFT_ERROR_BUSY, graft_trainer_clear(m->trainer, &error));
    STATUS(GRAFT_OK, graft_cancel_set(m->cancel));
    pthread_mutex_lock(&m->lock);
    m->done = 1;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* A second thread finds it busy, and ends its run. */
static void two_threads(const graft_model *model) {
    meeting m = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    graft_train_options o = options();
    pthread_t other;
    OK(graft_cancel_new(&m.cancel, &error));
    o.cancel = m.cancel;
    m.trainer = new_trainer(model, &o);
    OK(graft_trainer_add(m.trainer, rows, ROWS, &error));
    CHECK(!pthread_create(&other, NULL, disturb, &m));
    FAILS(GRAFT_ERROR_CANCELLED, graft_trainer_run(m.trainer, 0, meet, &m, NULL, &error));
    pthread_join(other, NULL);
    CHECK(info_of(m.trainer).steps == 2);
    graft_cancel_free(m.cancel); /* the trainer goes on with it */
    FAILS(GRAFT_ERROR_CANCELLED, graft_trainer_step(m.trainer, rows, 1, NULL, &error));
    graft_trainer_free(m.trainer);
}

void test_training(void) {
    graft_model *model = open_tiny("llama-tied");
    forms(model);
    wrong(model);
    runs(model);
    in_use_at_once(model);
    held_to_memory(model);
    two_threads(model);
    graft_model_free(model);
}
