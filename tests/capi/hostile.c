/* Made from include/graft.h by tests/header/hostile.rs and hostile.head.inc: do not edit. */
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
static char model_path[1024], adapter_path[1024], state_path[1024], lines_path[1024], checkpoint_path[1024], folder[1024];
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
static graft_batch *good_batch, *freed_batch;
static graft_trainer *good_trainer, *freed_trainer;

static const uint32_t some_tokens[] = {5, 6, 7};
static const graft_adapter *some_adapters[1];
static const float some_weights[] = {0.5f};
static graft_message some_messages[] = {{"user", 4, "Hello", 5, NULL, 0}};
static graft_text some_folders[1];
static const graft_row some_rows[] = {{.text = "Once", .text_len = 4}, {.tokens = some_tokens, .n_tokens = 3}};
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
    char *record = NULL;
    size_t n = 0;
    graft_session_eval(good_session, some_tokens, 3, NULL);
    graft_session_reset(good_session, NULL);
    graft_session_set_adapters(good_session, some_adapters, NULL, 1, NULL);
    graft_generate_text(good_session, "x", 1, NULL, NULL, NULL, NULL, NULL);
    graft_session_free(freed_session);
    if (graft_tokenize(good_model, "x", 1, 0, &tokens, &n, NULL) != GRAFT_OK) failed++;
    graft_free(tokens);
    if (graft_batch_line(good_batch, "{\"tokens\": [5]}", GRAFT_NUL, 1, &record, &n, NULL) != GRAFT_OK) failed++;
    graft_free(record);
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
static const char *out_path(const char *name) {
    static char path[2048];
    snprintf(path, sizeof path, "%s/%s", temporary, name);
    return path;
}
/* Where nothing is yet. */
static const char *new_path(const char *name) {
    remove(out_path(name));
    return out_path(name);
}
/* The batch is busy, whatever is done with it; everything else goes on. */
static int32_t on_progress(float share, void *user_data) {
    char *record = NULL;
    (void)user_data;
    if (!(share >= 0 && share <= 1)) failed++;
    if (graft_batch_line(good_batch, "{}", 2, 1, &record, NULL, NULL) != GRAFT_ERROR_BUSY || record) failed++;
    if (graft_batch_adapter(good_batch, NULL, 0, good_adapter, 1, NULL) != GRAFT_ERROR_BUSY) failed++;
    if (graft_batch_run(good_batch, lines_path, GRAFT_NUL, out_path("none"), GRAFT_NUL, NULL, NULL, NULL, NULL) != GRAFT_ERROR_BUSY) failed++;
    graft_batch_free(freed_batch);
    if (graft_session_eval(good_session, some_tokens, 3, NULL) != GRAFT_OK) failed++;
    return 0;
}

/* The trainer is busy, whatever is done with it; everything else goes on. It ends some runs. */
static int32_t busy_trainer(void) {
    graft_adapter *adapter = NULL;
    if (graft_trainer_step(good_trainer, some_rows, 2, NULL, NULL) != GRAFT_ERROR_BUSY) failed++;
    if (graft_trainer_adapter(good_trainer, &adapter, NULL) != GRAFT_ERROR_BUSY || adapter) failed++;
    if (graft_trainer_clear(good_trainer, NULL) != GRAFT_ERROR_BUSY) failed++;
    graft_trainer_free(freed_trainer);
    if (graft_session_eval(good_session, some_tokens, 3, NULL) != GRAFT_OK) failed++;
    return 0;
}
static int32_t on_train(const graft_train_report *report, void *user_data) {
    (void)user_data;
    if (!report || !report->step) failed++;
    return busy_trainer() + (int32_t)(report->step % 3 == 0);
}
static int32_t on_row(graft_row *row, void *user_data) {
    static int calls;
    (void)user_data;
    if (++calls % 4 == 0) return 0;
    *row = some_rows[calls % 2];
    return busy_trainer() + 1;
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
static graft_batch *fresh_batch(void) {
    graft_batch_options o;
    graft_generate_options g;
    graft_batch *b = NULL;
    graft_batch_options_init(&o, sizeof o);
    graft_generate_options_init(&g, sizeof g);
    g.max_tokens = 3;
    o.generate = &g;
    must(graft_batch_new(good_model, &o, &b, &error), &error);
    return b;
}

static graft_trainer *fresh_trainer(void) {
    graft_train_options o;
    graft_trainer *t = NULL;
    graft_train_options_init(&o, sizeof o);
    o.r = 1, o.batch = 1, o.seq = 8;
    o.schedule = "constant", o.schedule_len = GRAFT_NUL;
    must(graft_trainer_new(good_model, &o, &t, &error), &error);
    must(graft_trainer_add(t, some_rows, 2, &error), &error);
    return t;
}

#define GOOD(type) static type *good_##type(void) { static type o; type##_init(&o, sizeof o); return &o; }
GOOD(graft_model_options)
GOOD(graft_chat_options)
GOOD(graft_adapter_options)
GOOD(graft_session_options)
GOOD(graft_sampler_options)
GOOD(graft_combine_options)
GOOD(graft_batch_options)
static graft_generate_options *good_graft_generate_options(void) {
    static graft_generate_options o;
    graft_generate_options_init(&o, sizeof o);
    o.max_tokens = 3;
    return &o;
}
static graft_train_options *good_graft_train_options(void) {
    static graft_train_options o;
    graft_train_options_init(&o, sizeof o);
    o.seq = 8;
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
FACTS(graft_batch_report)
FACTS(graft_train_report)
FACTS(graft_trainer_info)
FACTS(graft_train_plan)

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
    FILE *lines;
    if (argc < 3) {
        printf("usage: hostile MODEL_FOLDER TEMPORARY_FOLDER\n");
        exit(2);
    }
    temporary = argv[2];
    snprintf(folder, sizeof folder, "%s", argv[1]);
    snprintf(model_path, sizeof model_path, "%s/model.gguf", argv[1]);
    snprintf(adapter_path, sizeof adapter_path, "%s/adapters/qv", argv[1]);
    snprintf(state_path, sizeof state_path, "%s/state", temporary);
    snprintf(lines_path, sizeof lines_path, "%s/lines", temporary);
    lines = fopen(lines_path, "wb");
    if (!lines || fputs("{\"prompt\": \"Once\"}\n\n{}\n{\"tokens\": [5]}", lines) < 0 || fclose(lines)) exit(1);
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
    good_sampler = fresh_sampler(), good_generation = fresh_generation(), good_batch = fresh_batch();
    good_trainer = fresh_trainer();
    freed_error = fresh_error(), freed_cancel = fresh_cancel(), freed_team = fresh_team(), freed_model = fresh_model();
    freed_adapter = fresh_adapter(), freed_session = fresh_session(), freed_sampler = fresh_sampler(), freed_generation = fresh_generation();
    freed_batch = fresh_batch(), freed_trainer = fresh_trainer();
    graft_error_free(freed_error), graft_cancel_free(freed_cancel), graft_team_free(freed_team), graft_model_free(freed_model);
    graft_adapter_free(freed_adapter), graft_session_free(freed_session), graft_sampler_free(freed_sampler);
    graft_generation_free(freed_generation), graft_batch_free(freed_batch), graft_trainer_free(freed_trainer);
    snprintf(checkpoint_path, sizeof checkpoint_path, "%s/checkpoint", temporary);
    {
        graft_trainer *started = NULL;
        must(graft_trainer_new(good_model, good_graft_train_options(), &started, &error), &error);
        must(graft_trainer_checkpoint(started, checkpoint_path, GRAFT_NUL, &error), &error);
        graft_trainer_free(started);
    }
    must(graft_session_save(good_session, state_path, GRAFT_NUL, &error), &error);
    must(graft_session_save_memory(good_session, &state_bytes, &state_len, &error), &error);
    info.struct_size = sizeof info;
    must(graft_model_get_info(good_model, &info, &error), &error);
    hidden_size = info.hidden_size;
}

static int finish(void) {
    graft_error_free(good_error), graft_cancel_free(good_cancel), graft_team_free(good_team), graft_generation_free(good_generation);
    graft_batch_free(good_batch), graft_trainer_free(good_trainer);
    graft_sampler_free(good_sampler), graft_session_free(good_session), graft_adapter_free(good_adapter), graft_model_free(good_model);
    graft_free(state_bytes);
    free(model_bytes), free(config_bytes), free(tensor_bytes);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

static void test_graft_status_name(void) {
    begin();
    (void)graft_status_name(0);
    survived("graft_status_name as it should be");
    begin();
    (void)graft_status_name(-1);
    survived("graft_status_name status = -1");
    begin();
    (void)graft_status_name(77);
    survived("graft_status_name status = 77");
    begin();
    (void)graft_status_name(2147483647);
    survived("graft_status_name status = 2147483647");
}

static void test_graft_error_status(void) {
    begin();
    (void)graft_error_status(fresh_error());
    survived("graft_error_status as it should be");
    begin();
    (void)graft_error_status(NULL);
    survived("graft_error_status error = NULL");
    begin();
    (void)graft_error_status(odd);
    survived("graft_error_status error = odd");
    begin();
    (void)graft_error_status(freed_error);
    survived("graft_error_status error = freed_error");
    begin();
    (void)graft_error_status((void *)good_cancel);
    survived("graft_error_status error = (void *)good_cancel");
    begin();
    (void)graft_error_status((void *)good_team);
    survived("graft_error_status error = (void *)good_team");
    begin();
    (void)graft_error_status((void *)good_model);
    survived("graft_error_status error = (void *)good_model");
    begin();
    (void)graft_error_status((void *)good_adapter);
    survived("graft_error_status error = (void *)good_adapter");
    begin();
    (void)graft_error_status((void *)good_session);
    survived("graft_error_status error = (void *)good_session");
    begin();
    (void)graft_error_status((void *)good_sampler);
    survived("graft_error_status error = (void *)good_sampler");
    begin();
    (void)graft_error_status((void *)good_generation);
    survived("graft_error_status error = (void *)good_generation");
    begin();
    (void)graft_error_status((void *)good_batch);
    survived("graft_error_status error = (void *)good_batch");
    begin();
    (void)graft_error_status((void *)good_trainer);
    survived("graft_error_status error = (void *)good_trainer");
}

static void test_graft_error_message(void) {
    begin();
    (void)graft_error_message(fresh_error());
    survived("graft_error_message as it should be");
    begin();
    (void)graft_error_message(NULL);
    survived("graft_error_message error = NULL");
    begin();
    (void)graft_error_message(odd);
    survived("graft_error_message error = odd");
    begin();
    (void)graft_error_message(freed_error);
    survived("graft_error_message error = freed_error");
    begin();
    (void)graft_error_message((void *)good_cancel);
    survived("graft_error_message error = (void *)good_cancel");
    begin();
    (void)graft_error_message((void *)good_team);
    survived("graft_error_message error = (void *)good_team");
    begin();
    (void)graft_error_message((void *)good_model);
    survived("graft_error_message error = (void *)good_model");
    begin();
    (void)graft_error_message((void *)good_adapter);
    survived("graft_error_message error = (void *)good_adapter");
    begin();
    (void)graft_error_message((void *)good_session);
    survived("graft_error_message error = (void *)good_session");
    begin();
    (void)graft_error_message((void *)good_sampler);
    survived("graft_error_message error = (void *)good_sampler");
    begin();
    (void)graft_error_message((void *)good_generation);
    survived("graft_error_message error = (void *)good_generation");
    begin();
    (void)graft_error_message((void *)good_batch);
    survived("graft_error_message error = (void *)good_batch");
    begin();
    (void)graft_error_message((void *)good_trainer);
    survived("graft_error_message error = (void *)good_trainer");
}

static void test_graft_error_file(void) {
    begin();
    (void)graft_error_file(fresh_error());
    survived("graft_error_file as it should be");
    begin();
    (void)graft_error_file(NULL);
    survived("graft_error_file error = NULL");
    begin();
    (void)graft_error_file(odd);
    survived("graft_error_file error = odd");
    begin();
    (void)graft_error_file(freed_error);
    survived("graft_error_file error = freed_error");
    begin();
    (void)graft_error_file((void *)good_cancel);
    survived("graft_error_file error = (void *)good_cancel");
    begin();
    (void)graft_error_file((void *)good_team);
    survived("graft_error_file error = (void *)good_team");
    begin();
    (void)graft_error_file((void *)good_model);
    survived("graft_error_file error = (void *)good_model");
    begin();
    (void)graft_error_file((void *)good_adapter);
    survived("graft_error_file error = (void *)good_adapter");
    begin();
    (void)graft_error_file((void *)good_session);
    survived("graft_error_file error = (void *)good_session");
    begin();
    (void)graft_error_file((void *)good_sampler);
    survived("graft_error_file error = (void *)good_sampler");
    begin();
    (void)graft_error_file((void *)good_generation);
    survived("graft_error_file error = (void *)good_generation");
    begin();
    (void)graft_error_file((void *)good_batch);
    survived("graft_error_file error = (void *)good_batch");
    begin();
    (void)graft_error_file((void *)good_trainer);
    survived("graft_error_file error = (void *)good_trainer");
}

static void test_graft_error_item(void) {
    begin();
    (void)graft_error_item(fresh_error());
    survived("graft_error_item as it should be");
    begin();
    (void)graft_error_item(NULL);
    survived("graft_error_item error = NULL");
    begin();
    (void)graft_error_item(odd);
    survived("graft_error_item error = odd");
    begin();
    (void)graft_error_item(freed_error);
    survived("graft_error_item error = freed_error");
    begin();
    (void)graft_error_item((void *)good_cancel);
    survived("graft_error_item error = (void *)good_cancel");
    begin();
    (void)graft_error_item((void *)good_team);
    survived("graft_error_item error = (void *)good_team");
    begin();
    (void)graft_error_item((void *)good_model);
    survived("graft_error_item error = (void *)good_model");
    begin();
    (void)graft_error_item((void *)good_adapter);
    survived("graft_error_item error = (void *)good_adapter");
    begin();
    (void)graft_error_item((void *)good_session);
    survived("graft_error_item error = (void *)good_session");
    begin();
    (void)graft_error_item((void *)good_sampler);
    survived("graft_error_item error = (void *)good_sampler");
    begin();
    (void)graft_error_item((void *)good_generation);
    survived("graft_error_item error = (void *)good_generation");
    begin();
    (void)graft_error_item((void *)good_batch);
    survived("graft_error_item error = (void *)good_batch");
    begin();
    (void)graft_error_item((void *)good_trainer);
    survived("graft_error_item error = (void *)good_trainer");
}

static void test_graft_error_expected(void) {
    begin();
    (void)graft_error_expected(fresh_error());
    survived("graft_error_expected as it should be");
    begin();
    (void)graft_error_expected(NULL);
    survived("graft_error_expected error = NULL");
    begin();
    (void)graft_error_expected(odd);
    survived("graft_error_expected error = odd");
    begin();
    (void)graft_error_expected(freed_error);
    survived("graft_error_expected error = freed_error");
    begin();
    (void)graft_error_expected((void *)good_cancel);
    survived("graft_error_expected error = (void *)good_cancel");
    begin();
    (void)graft_error_expected((void *)good_team);
    survived("graft_error_expected error = (void *)good_team");
    begin();
    (void)graft_error_expected((void *)good_model);
    survived("graft_error_expected error = (void *)good_model");
    begin();
    (void)graft_error_expected((void *)good_adapter);
    survived("graft_error_expected error = (void *)good_adapter");
    begin();
    (void)graft_error_expected((void *)good_session);
    survived("graft_error_expected error = (void *)good_session");
    begin();
    (void)graft_error_expected((void *)good_sampler);
    survived("graft_error_expected error = (void *)good_sampler");
    begin();
    (void)graft_error_expected((void *)good_generation);
    survived("graft_error_expected error = (void *)good_generation");
    begin();
    (void)graft_error_expected((void *)good_batch);
    survived("graft_error_expected error = (void *)good_batch");
    begin();
    (void)graft_error_expected((void *)good_trainer);
    survived("graft_error_expected error = (void *)good_trainer");
}

static void test_graft_error_found(void) {
    begin();
    (void)graft_error_found(fresh_error());
    survived("graft_error_found as it should be");
    begin();
    (void)graft_error_found(NULL);
    survived("graft_error_found error = NULL");
    begin();
    (void)graft_error_found(odd);
    survived("graft_error_found error = odd");
    begin();
    (void)graft_error_found(freed_error);
    survived("graft_error_found error = freed_error");
    begin();
    (void)graft_error_found((void *)good_cancel);
    survived("graft_error_found error = (void *)good_cancel");
    begin();
    (void)graft_error_found((void *)good_team);
    survived("graft_error_found error = (void *)good_team");
    begin();
    (void)graft_error_found((void *)good_model);
    survived("graft_error_found error = (void *)good_model");
    begin();
    (void)graft_error_found((void *)good_adapter);
    survived("graft_error_found error = (void *)good_adapter");
    begin();
    (void)graft_error_found((void *)good_session);
    survived("graft_error_found error = (void *)good_session");
    begin();
    (void)graft_error_found((void *)good_sampler);
    survived("graft_error_found error = (void *)good_sampler");
    begin();
    (void)graft_error_found((void *)good_generation);
    survived("graft_error_found error = (void *)good_generation");
    begin();
    (void)graft_error_found((void *)good_batch);
    survived("graft_error_found error = (void *)good_batch");
    begin();
    (void)graft_error_found((void *)good_trainer);
    survived("graft_error_found error = (void *)good_trainer");
}

static void test_graft_error_free(void) {
    begin();
    graft_error_free(fresh_error());
    survived("graft_error_free as it should be");
    begin();
    graft_error_free(NULL);
    survived("graft_error_free error = NULL");
    begin();
    graft_error_free(odd);
    survived("graft_error_free error = odd");
    begin();
    graft_error_free(freed_error);
    survived("graft_error_free error = freed_error");
    begin();
    graft_error_free((void *)good_cancel);
    survived("graft_error_free error = (void *)good_cancel");
    begin();
    graft_error_free((void *)good_team);
    survived("graft_error_free error = (void *)good_team");
    begin();
    graft_error_free((void *)good_model);
    survived("graft_error_free error = (void *)good_model");
    begin();
    graft_error_free((void *)good_adapter);
    survived("graft_error_free error = (void *)good_adapter");
    begin();
    graft_error_free((void *)good_session);
    survived("graft_error_free error = (void *)good_session");
    begin();
    graft_error_free((void *)good_sampler);
    survived("graft_error_free error = (void *)good_sampler");
    begin();
    graft_error_free((void *)good_generation);
    survived("graft_error_free error = (void *)good_generation");
    begin();
    graft_error_free((void *)good_batch);
    survived("graft_error_free error = (void *)good_batch");
    begin();
    graft_error_free((void *)good_trainer);
    survived("graft_error_free error = (void *)good_trainer");
}

static void test_graft_abi_version(void) {
    begin();
    (void)graft_abi_version();
    survived("graft_abi_version as it should be");
}

static void test_graft_version(void) {
    begin();
    (void)graft_version();
    survived("graft_version as it should be");
}

static void test_graft_free(void) {
    begin();
    graft_free(NULL);
    survived("graft_free as it should be");
}

static void test_graft_log_set(void) {
    begin();
    graft_log_set(on_log, NULL, 0);
    survived("graft_log_set as it should be");
    begin();
    graft_log_set(NULL, NULL, 0);
    survived("graft_log_set callback = NULL");
    begin();
    graft_log_set(on_log, NULL, -1);
    survived("graft_log_set most = -1");
    begin();
    graft_log_set(on_log, NULL, 77);
    survived("graft_log_set most = 77");
    begin();
    graft_log_set(on_log, NULL, 2147483647);
    survived("graft_log_set most = 2147483647");
}

static void test_graft_cancel_new(void) {
    check(graft_cancel_new((void *)&results[0], &error), "graft_cancel_new as it should be", 0, 1);
    check(graft_cancel_new(NULL, &error), "graft_cancel_new cancel = NULL", 1, 1);
    check(graft_cancel_new(odd, &error), "graft_cancel_new cancel = odd", 1, 1);
    check(graft_cancel_new((void *)&results[0], NULL), "graft_cancel_new error = NULL", 0, 0);
}

static void test_graft_cancel_set(void) {
    check(graft_cancel_set(good_cancel), "graft_cancel_set as it should be", 0, 0);
    check(graft_cancel_set(NULL), "graft_cancel_set cancel = NULL", 1, 0);
    check(graft_cancel_set(odd), "graft_cancel_set cancel = odd", 1, 0);
    check(graft_cancel_set(freed_cancel), "graft_cancel_set cancel = freed_cancel", 1, 0);
    check(graft_cancel_set((void *)good_error), "graft_cancel_set cancel = (void *)good_error", 1, 0);
    check(graft_cancel_set((void *)good_team), "graft_cancel_set cancel = (void *)good_team", 1, 0);
    check(graft_cancel_set((void *)good_model), "graft_cancel_set cancel = (void *)good_model", 1, 0);
    check(graft_cancel_set((void *)good_adapter), "graft_cancel_set cancel = (void *)good_adapter", 1, 0);
    check(graft_cancel_set((void *)good_session), "graft_cancel_set cancel = (void *)good_session", 1, 0);
    check(graft_cancel_set((void *)good_sampler), "graft_cancel_set cancel = (void *)good_sampler", 1, 0);
    check(graft_cancel_set((void *)good_generation), "graft_cancel_set cancel = (void *)good_generation", 1, 0);
    check(graft_cancel_set((void *)good_batch), "graft_cancel_set cancel = (void *)good_batch", 1, 0);
    check(graft_cancel_set((void *)good_trainer), "graft_cancel_set cancel = (void *)good_trainer", 1, 0);
}

static void test_graft_cancel_clear(void) {
    check(graft_cancel_clear(good_cancel), "graft_cancel_clear as it should be", 0, 0);
    check(graft_cancel_clear(NULL), "graft_cancel_clear cancel = NULL", 1, 0);
    check(graft_cancel_clear(odd), "graft_cancel_clear cancel = odd", 1, 0);
    check(graft_cancel_clear(freed_cancel), "graft_cancel_clear cancel = freed_cancel", 1, 0);
    check(graft_cancel_clear((void *)good_error), "graft_cancel_clear cancel = (void *)good_error", 1, 0);
    check(graft_cancel_clear((void *)good_team), "graft_cancel_clear cancel = (void *)good_team", 1, 0);
    check(graft_cancel_clear((void *)good_model), "graft_cancel_clear cancel = (void *)good_model", 1, 0);
    check(graft_cancel_clear((void *)good_adapter), "graft_cancel_clear cancel = (void *)good_adapter", 1, 0);
    check(graft_cancel_clear((void *)good_session), "graft_cancel_clear cancel = (void *)good_session", 1, 0);
    check(graft_cancel_clear((void *)good_sampler), "graft_cancel_clear cancel = (void *)good_sampler", 1, 0);
    check(graft_cancel_clear((void *)good_generation), "graft_cancel_clear cancel = (void *)good_generation", 1, 0);
    check(graft_cancel_clear((void *)good_batch), "graft_cancel_clear cancel = (void *)good_batch", 1, 0);
    check(graft_cancel_clear((void *)good_trainer), "graft_cancel_clear cancel = (void *)good_trainer", 1, 0);
}

static void test_graft_cancel_free(void) {
    begin();
    graft_cancel_free(fresh_cancel());
    survived("graft_cancel_free as it should be");
    begin();
    graft_cancel_free(NULL);
    survived("graft_cancel_free cancel = NULL");
    begin();
    graft_cancel_free(odd);
    survived("graft_cancel_free cancel = odd");
    begin();
    graft_cancel_free(freed_cancel);
    survived("graft_cancel_free cancel = freed_cancel");
    begin();
    graft_cancel_free((void *)good_error);
    survived("graft_cancel_free cancel = (void *)good_error");
    begin();
    graft_cancel_free((void *)good_team);
    survived("graft_cancel_free cancel = (void *)good_team");
    begin();
    graft_cancel_free((void *)good_model);
    survived("graft_cancel_free cancel = (void *)good_model");
    begin();
    graft_cancel_free((void *)good_adapter);
    survived("graft_cancel_free cancel = (void *)good_adapter");
    begin();
    graft_cancel_free((void *)good_session);
    survived("graft_cancel_free cancel = (void *)good_session");
    begin();
    graft_cancel_free((void *)good_sampler);
    survived("graft_cancel_free cancel = (void *)good_sampler");
    begin();
    graft_cancel_free((void *)good_generation);
    survived("graft_cancel_free cancel = (void *)good_generation");
    begin();
    graft_cancel_free((void *)good_batch);
    survived("graft_cancel_free cancel = (void *)good_batch");
    begin();
    graft_cancel_free((void *)good_trainer);
    survived("graft_cancel_free cancel = (void *)good_trainer");
}

static void test_graft_team_new(void) {
    check(graft_team_new(1, (void *)&results[0], &error), "graft_team_new as it should be", 0, 1);
    check(graft_team_new(-1, (void *)&results[0], &error), "graft_team_new threads = -1", 0, 1);
    check(graft_team_new(77, (void *)&results[0], &error), "graft_team_new threads = 77", 0, 1);
    check(graft_team_new(2147483647, (void *)&results[0], &error), "graft_team_new threads = 2147483647", 0, 1);
    check(graft_team_new(1, NULL, &error), "graft_team_new team = NULL", 1, 1);
    check(graft_team_new(1, odd, &error), "graft_team_new team = odd", 1, 1);
    check(graft_team_new(1, (void *)&results[0], NULL), "graft_team_new error = NULL", 0, 0);
}

static void test_graft_team_of_callback(void) {
    check(graft_team_of_callback(1, on_run, NULL, on_release, (void *)&results[0], &error), "graft_team_of_callback as it should be", 0, 1);
    check(graft_team_of_callback(-1, on_run, NULL, on_release, (void *)&results[0], &error), "graft_team_of_callback threads = -1", 0, 1);
    check(graft_team_of_callback(77, on_run, NULL, on_release, (void *)&results[0], &error), "graft_team_of_callback threads = 77", 0, 1);
    check(graft_team_of_callback(2147483647, on_run, NULL, on_release, (void *)&results[0], &error), "graft_team_of_callback threads = 2147483647", 0, 1);
    check(graft_team_of_callback(1, NULL, NULL, on_release, (void *)&results[0], &error), "graft_team_of_callback run = NULL", 0, 1);
    check(graft_team_of_callback(1, on_run, NULL, NULL, (void *)&results[0], &error), "graft_team_of_callback release = NULL", 0, 1);
    check(graft_team_of_callback(1, on_run, NULL, on_release, NULL, &error), "graft_team_of_callback team = NULL", 1, 1);
    check(graft_team_of_callback(1, on_run, NULL, on_release, odd, &error), "graft_team_of_callback team = odd", 1, 1);
    check(graft_team_of_callback(1, on_run, NULL, on_release, (void *)&results[0], NULL), "graft_team_of_callback error = NULL", 0, 0);
}

static void test_graft_team_free(void) {
    begin();
    graft_team_free(fresh_team());
    survived("graft_team_free as it should be");
    begin();
    graft_team_free(NULL);
    survived("graft_team_free team = NULL");
    begin();
    graft_team_free(odd);
    survived("graft_team_free team = odd");
    begin();
    graft_team_free(freed_team);
    survived("graft_team_free team = freed_team");
    begin();
    graft_team_free((void *)good_error);
    survived("graft_team_free team = (void *)good_error");
    begin();
    graft_team_free((void *)good_cancel);
    survived("graft_team_free team = (void *)good_cancel");
    begin();
    graft_team_free((void *)good_model);
    survived("graft_team_free team = (void *)good_model");
    begin();
    graft_team_free((void *)good_adapter);
    survived("graft_team_free team = (void *)good_adapter");
    begin();
    graft_team_free((void *)good_session);
    survived("graft_team_free team = (void *)good_session");
    begin();
    graft_team_free((void *)good_sampler);
    survived("graft_team_free team = (void *)good_sampler");
    begin();
    graft_team_free((void *)good_generation);
    survived("graft_team_free team = (void *)good_generation");
    begin();
    graft_team_free((void *)good_batch);
    survived("graft_team_free team = (void *)good_batch");
    begin();
    graft_team_free((void *)good_trainer);
    survived("graft_team_free team = (void *)good_trainer");
}

static void test_graft_model_options_init(void) {
    begin();
    graft_model_options_init(good_graft_model_options(), sizeof(graft_model_options));
    survived("graft_model_options_init as it should be");
    begin();
    graft_model_options_init(sized(0), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized(0)");
    begin();
    graft_model_options_init(sized(1), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized(1)");
    begin();
    graft_model_options_init(sized(7), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized(7)");
    begin();
    graft_model_options_init(sized(sizeof(graft_model_options) - 4), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized(sizeof(graft_model_options) - 4)");
    begin();
    graft_model_options_init(sized(sizeof(graft_model_options) + 3), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized(sizeof(graft_model_options) + 3)");
    begin();
    graft_model_options_init(sized(100000), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized(100000)");
    begin();
    graft_model_options_init(sized((size_t)-1), sizeof(graft_model_options));
    survived("graft_model_options_init options = sized((size_t)-1)");
    begin();
    graft_model_options_init(longer(sizeof(graft_model_options), 0), sizeof(graft_model_options));
    survived("graft_model_options_init options = longer(sizeof(graft_model_options), 0)");
    begin();
    graft_model_options_init(longer(sizeof(graft_model_options), 1), sizeof(graft_model_options));
    survived("graft_model_options_init options = longer(sizeof(graft_model_options), 1)");
    begin();
    graft_model_options_init(NULL, sizeof(graft_model_options));
    survived("graft_model_options_init options = NULL");
    begin();
    graft_model_options_init(odd, sizeof(graft_model_options));
    survived("graft_model_options_init options = odd");
    begin();
    graft_model_options_init(good_graft_model_options(), 0);
    survived("graft_model_options_init struct_size = 0");
    begin();
    graft_model_options_init(good_graft_model_options(), 7);
    survived("graft_model_options_init struct_size = 7");
    begin();
    graft_model_options_init(good_graft_model_options(), 8);
    survived("graft_model_options_init struct_size = 8");
}

static void test_graft_model_open(void) {
    check(graft_model_open(model_path, GRAFT_NUL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open as it should be", 0, 1);
    check(graft_model_open(NULL, GRAFT_NUL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open path = NULL", 1, 1);
    check(graft_model_open("\xff\xfe", GRAFT_NUL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open path = \"\\xff\\xfe\"", 0, 1);
    check(graft_model_open("", GRAFT_NUL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open path = \"\"", 0, 1);
    check(graft_model_open(model_path, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open path_len = 0", 0, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized(0), (void *)&results[0], &error), "graft_model_open options = sized(0)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized(1), (void *)&results[0], &error), "graft_model_open options = sized(1)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized(7), (void *)&results[0], &error), "graft_model_open options = sized(7)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized(sizeof(graft_model_options) - 4), (void *)&results[0], &error), "graft_model_open options = sized(sizeof(graft_model_options) - 4)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized(sizeof(graft_model_options) + 3), (void *)&results[0], &error), "graft_model_open options = sized(sizeof(graft_model_options) + 3)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized(100000), (void *)&results[0], &error), "graft_model_open options = sized(100000)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, sized((size_t)-1), (void *)&results[0], &error), "graft_model_open options = sized((size_t)-1)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, longer(sizeof(graft_model_options), 0), (void *)&results[0], &error), "graft_model_open options = longer(sizeof(graft_model_options), 0)", 0, 1);
    check(graft_model_open(model_path, GRAFT_NUL, longer(sizeof(graft_model_options), 1), (void *)&results[0], &error), "graft_model_open options = longer(sizeof(graft_model_options), 1)", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, NULL, (void *)&results[0], &error), "graft_model_open options = NULL", 0, 1);
    check(graft_model_open(model_path, GRAFT_NUL, odd, (void *)&results[0], &error), "graft_model_open options = odd", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, good_graft_model_options(), NULL, &error), "graft_model_open model = NULL", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, good_graft_model_options(), odd, &error), "graft_model_open model = odd", 1, 1);
    check(graft_model_open(model_path, GRAFT_NUL, good_graft_model_options(), (void *)&results[0], NULL), "graft_model_open error = NULL", 0, 0);
}

static void test_graft_model_open_fd(void) {
    check(graft_model_open_fd(model_fd, 0, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd as it should be", 0, 1);
    check(graft_model_open_fd(-1, 0, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd fd = -1", 0, 1);
    check(graft_model_open_fd(77, 0, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd fd = 77", 0, 1);
    check(graft_model_open_fd(2147483647, 0, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd fd = 2147483647", 0, 1);
    check(graft_model_open_fd(model_fd, 1, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd offset = 1", 0, 1);
    check(graft_model_open_fd(model_fd, 1000000, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd offset = 1000000", 0, 1);
    check(graft_model_open_fd(model_fd, 18446744073709551615u, 0, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd offset = 18446744073709551615u", 0, 1);
    check(graft_model_open_fd(model_fd, 0, 1, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd len = 1", 0, 1);
    check(graft_model_open_fd(model_fd, 0, 1000000, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd len = 1000000", 0, 1);
    check(graft_model_open_fd(model_fd, 0, 18446744073709551615u, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_fd len = 18446744073709551615u", 0, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized(0), (void *)&results[0], &error), "graft_model_open_fd options = sized(0)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized(1), (void *)&results[0], &error), "graft_model_open_fd options = sized(1)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized(7), (void *)&results[0], &error), "graft_model_open_fd options = sized(7)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized(sizeof(graft_model_options) - 4), (void *)&results[0], &error), "graft_model_open_fd options = sized(sizeof(graft_model_options) - 4)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized(sizeof(graft_model_options) + 3), (void *)&results[0], &error), "graft_model_open_fd options = sized(sizeof(graft_model_options) + 3)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized(100000), (void *)&results[0], &error), "graft_model_open_fd options = sized(100000)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, sized((size_t)-1), (void *)&results[0], &error), "graft_model_open_fd options = sized((size_t)-1)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, longer(sizeof(graft_model_options), 0), (void *)&results[0], &error), "graft_model_open_fd options = longer(sizeof(graft_model_options), 0)", 0, 1);
    check(graft_model_open_fd(model_fd, 0, 0, longer(sizeof(graft_model_options), 1), (void *)&results[0], &error), "graft_model_open_fd options = longer(sizeof(graft_model_options), 1)", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, NULL, (void *)&results[0], &error), "graft_model_open_fd options = NULL", 0, 1);
    check(graft_model_open_fd(model_fd, 0, 0, odd, (void *)&results[0], &error), "graft_model_open_fd options = odd", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, good_graft_model_options(), NULL, &error), "graft_model_open_fd model = NULL", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, good_graft_model_options(), odd, &error), "graft_model_open_fd model = odd", 1, 1);
    check(graft_model_open_fd(model_fd, 0, 0, good_graft_model_options(), (void *)&results[0], NULL), "graft_model_open_fd error = NULL", 0, 0);
}

static void test_graft_model_open_memory(void) {
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_memory as it should be", 0, 1);
    check(graft_model_open_memory(NULL, model_len, on_release, NULL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_memory data = NULL", 1, 1);
    check(graft_model_open_memory(model_bytes, 0, on_release, NULL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_memory len = 0", 0, 1);
    check(graft_model_open_memory(model_bytes, model_len, NULL, NULL, good_graft_model_options(), (void *)&results[0], &error), "graft_model_open_memory release = NULL", 0, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized(0), (void *)&results[0], &error), "graft_model_open_memory options = sized(0)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized(1), (void *)&results[0], &error), "graft_model_open_memory options = sized(1)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized(7), (void *)&results[0], &error), "graft_model_open_memory options = sized(7)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized(sizeof(graft_model_options) - 4), (void *)&results[0], &error), "graft_model_open_memory options = sized(sizeof(graft_model_options) - 4)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized(sizeof(graft_model_options) + 3), (void *)&results[0], &error), "graft_model_open_memory options = sized(sizeof(graft_model_options) + 3)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized(100000), (void *)&results[0], &error), "graft_model_open_memory options = sized(100000)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, sized((size_t)-1), (void *)&results[0], &error), "graft_model_open_memory options = sized((size_t)-1)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, longer(sizeof(graft_model_options), 0), (void *)&results[0], &error), "graft_model_open_memory options = longer(sizeof(graft_model_options), 0)", 0, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, longer(sizeof(graft_model_options), 1), (void *)&results[0], &error), "graft_model_open_memory options = longer(sizeof(graft_model_options), 1)", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, NULL, (void *)&results[0], &error), "graft_model_open_memory options = NULL", 0, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, odd, (void *)&results[0], &error), "graft_model_open_memory options = odd", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, good_graft_model_options(), NULL, &error), "graft_model_open_memory model = NULL", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, good_graft_model_options(), odd, &error), "graft_model_open_memory model = odd", 1, 1);
    check(graft_model_open_memory(model_bytes, model_len, on_release, NULL, good_graft_model_options(), (void *)&results[0], NULL), "graft_model_open_memory error = NULL", 0, 0);
}

static void test_graft_model_free(void) {
    begin();
    graft_model_free(fresh_model());
    survived("graft_model_free as it should be");
    begin();
    graft_model_free(NULL);
    survived("graft_model_free model = NULL");
    begin();
    graft_model_free(odd);
    survived("graft_model_free model = odd");
    begin();
    graft_model_free(freed_model);
    survived("graft_model_free model = freed_model");
    begin();
    graft_model_free((void *)good_error);
    survived("graft_model_free model = (void *)good_error");
    begin();
    graft_model_free((void *)good_cancel);
    survived("graft_model_free model = (void *)good_cancel");
    begin();
    graft_model_free((void *)good_team);
    survived("graft_model_free model = (void *)good_team");
    begin();
    graft_model_free((void *)good_adapter);
    survived("graft_model_free model = (void *)good_adapter");
    begin();
    graft_model_free((void *)good_session);
    survived("graft_model_free model = (void *)good_session");
    begin();
    graft_model_free((void *)good_sampler);
    survived("graft_model_free model = (void *)good_sampler");
    begin();
    graft_model_free((void *)good_generation);
    survived("graft_model_free model = (void *)good_generation");
    begin();
    graft_model_free((void *)good_batch);
    survived("graft_model_free model = (void *)good_batch");
    begin();
    graft_model_free((void *)good_trainer);
    survived("graft_model_free model = (void *)good_trainer");
}

static void test_graft_tokenize(void) {
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize as it should be", 0, 1);
    check(graft_tokenize(NULL, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = NULL", 1, 1);
    check(graft_tokenize(odd, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = odd", 1, 1);
    check(graft_tokenize(freed_model, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = freed_model", 1, 1);
    check(graft_tokenize((void *)good_error, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_error", 1, 1);
    check(graft_tokenize((void *)good_cancel, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_cancel", 1, 1);
    check(graft_tokenize((void *)good_team, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_team", 1, 1);
    check(graft_tokenize((void *)good_adapter, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_adapter", 1, 1);
    check(graft_tokenize((void *)good_session, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_session", 1, 1);
    check(graft_tokenize((void *)good_sampler, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_sampler", 1, 1);
    check(graft_tokenize((void *)good_generation, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_generation", 1, 1);
    check(graft_tokenize((void *)good_batch, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_batch", 1, 1);
    check(graft_tokenize((void *)good_trainer, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize model = (void *)good_trainer", 1, 1);
    check(graft_tokenize(good_model, NULL, GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize text = NULL", 1, 1);
    check(graft_tokenize(good_model, "\xff\xfe", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize text = \"\\xff\\xfe\"", 0, 1);
    check(graft_tokenize(good_model, "", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize text = \"\"", 0, 1);
    check(graft_tokenize(good_model, "Once upon a time", 0, 0, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize text_len = 0", 0, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, -1, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize flags = -1", 0, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 77, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize flags = 77", 0, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 2147483647, (void *)&results[0], (void *)&results[2], &error), "graft_tokenize flags = 2147483647", 0, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 0, NULL, (void *)&results[2], &error), "graft_tokenize tokens = NULL", 1, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 0, odd, (void *)&results[2], &error), "graft_tokenize tokens = odd", 1, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], NULL, &error), "graft_tokenize n_tokens = NULL", 1, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], odd, &error), "graft_tokenize n_tokens = odd", 1, 1);
    check(graft_tokenize(good_model, "Once upon a time", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], NULL), "graft_tokenize error = NULL", 0, 0);
}

static void test_graft_detokenize(void) {
    check(graft_detokenize(good_model, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize as it should be", 0, 1);
    check(graft_detokenize(NULL, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = NULL", 1, 1);
    check(graft_detokenize(odd, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = odd", 1, 1);
    check(graft_detokenize(freed_model, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = freed_model", 1, 1);
    check(graft_detokenize((void *)good_error, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_error", 1, 1);
    check(graft_detokenize((void *)good_cancel, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_cancel", 1, 1);
    check(graft_detokenize((void *)good_team, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_team", 1, 1);
    check(graft_detokenize((void *)good_adapter, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_adapter", 1, 1);
    check(graft_detokenize((void *)good_session, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_session", 1, 1);
    check(graft_detokenize((void *)good_sampler, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_sampler", 1, 1);
    check(graft_detokenize((void *)good_generation, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_generation", 1, 1);
    check(graft_detokenize((void *)good_batch, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_batch", 1, 1);
    check(graft_detokenize((void *)good_trainer, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize model = (void *)good_trainer", 1, 1);
    check(graft_detokenize(good_model, NULL, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize tokens = NULL", 1, 1);
    check(graft_detokenize(good_model, odd, 3, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize tokens = odd", 1, 1);
    check(graft_detokenize(good_model, some_tokens, 0, 0, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize n_tokens = 0", 0, 1);
    check(graft_detokenize(good_model, some_tokens, 3, -1, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize skip_special = -1", 0, 1);
    check(graft_detokenize(good_model, some_tokens, 3, 77, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize skip_special = 77", 0, 1);
    check(graft_detokenize(good_model, some_tokens, 3, 2147483647, (void *)&results[0], (void *)&results[2], &error), "graft_detokenize skip_special = 2147483647", 0, 1);
    check(graft_detokenize(good_model, some_tokens, 3, 0, NULL, (void *)&results[2], &error), "graft_detokenize text = NULL", 1, 1);
    check(graft_detokenize(good_model, some_tokens, 3, 0, (void *)&results[0], NULL, &error), "graft_detokenize text_len = NULL", 0, 1);
    check(graft_detokenize(good_model, some_tokens, 3, 0, (void *)&results[0], odd, &error), "graft_detokenize text_len = odd", 1, 1);
    check(graft_detokenize(good_model, some_tokens, 3, 0, (void *)&results[0], (void *)&results[2], NULL), "graft_detokenize error = NULL", 0, 0);
}

static void test_graft_token_bytes(void) {
    check(graft_token_bytes(good_model, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes as it should be", 0, 1);
    check(graft_token_bytes(NULL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = NULL", 1, 1);
    check(graft_token_bytes(odd, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = odd", 1, 1);
    check(graft_token_bytes(freed_model, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = freed_model", 1, 1);
    check(graft_token_bytes((void *)good_error, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_error", 1, 1);
    check(graft_token_bytes((void *)good_cancel, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_cancel", 1, 1);
    check(graft_token_bytes((void *)good_team, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_team", 1, 1);
    check(graft_token_bytes((void *)good_adapter, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_adapter", 1, 1);
    check(graft_token_bytes((void *)good_session, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_session", 1, 1);
    check(graft_token_bytes((void *)good_sampler, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_sampler", 1, 1);
    check(graft_token_bytes((void *)good_generation, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_generation", 1, 1);
    check(graft_token_bytes((void *)good_batch, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_batch", 1, 1);
    check(graft_token_bytes((void *)good_trainer, 0, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes model = (void *)good_trainer", 1, 1);
    check(graft_token_bytes(good_model, -1, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes token = -1", 0, 1);
    check(graft_token_bytes(good_model, 77, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes token = 77", 0, 1);
    check(graft_token_bytes(good_model, 2147483647, (void *)&results[0], (void *)&results[2], &error), "graft_token_bytes token = 2147483647", 0, 1);
    check(graft_token_bytes(good_model, 0, NULL, (void *)&results[2], &error), "graft_token_bytes bytes = NULL", 1, 1);
    check(graft_token_bytes(good_model, 0, odd, (void *)&results[2], &error), "graft_token_bytes bytes = odd", 1, 1);
    check(graft_token_bytes(good_model, 0, (void *)&results[0], NULL, &error), "graft_token_bytes n_bytes = NULL", 1, 1);
    check(graft_token_bytes(good_model, 0, (void *)&results[0], odd, &error), "graft_token_bytes n_bytes = odd", 1, 1);
    check(graft_token_bytes(good_model, 0, (void *)&results[0], (void *)&results[2], NULL), "graft_token_bytes error = NULL", 0, 0);
}

static void test_graft_token_find(void) {
    check(graft_token_find(good_model, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find as it should be", 0, 1);
    check(graft_token_find(NULL, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = NULL", 1, 1);
    check(graft_token_find(odd, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = odd", 1, 1);
    check(graft_token_find(freed_model, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = freed_model", 1, 1);
    check(graft_token_find((void *)good_error, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_error", 1, 1);
    check(graft_token_find((void *)good_cancel, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_cancel", 1, 1);
    check(graft_token_find((void *)good_team, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_team", 1, 1);
    check(graft_token_find((void *)good_adapter, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_adapter", 1, 1);
    check(graft_token_find((void *)good_session, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_session", 1, 1);
    check(graft_token_find((void *)good_sampler, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_sampler", 1, 1);
    check(graft_token_find((void *)good_generation, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_generation", 1, 1);
    check(graft_token_find((void *)good_batch, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_batch", 1, 1);
    check(graft_token_find((void *)good_trainer, "Once upon a time", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find model = (void *)good_trainer", 1, 1);
    check(graft_token_find(good_model, NULL, GRAFT_NUL, (void *)&results[1], &error), "graft_token_find text = NULL", 1, 1);
    check(graft_token_find(good_model, "\xff\xfe", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find text = \"\\xff\\xfe\"", 0, 1);
    check(graft_token_find(good_model, "", GRAFT_NUL, (void *)&results[1], &error), "graft_token_find text = \"\"", 0, 1);
    check(graft_token_find(good_model, "Once upon a time", 0, (void *)&results[1], &error), "graft_token_find text_len = 0", 0, 1);
    check(graft_token_find(good_model, "Once upon a time", GRAFT_NUL, NULL, &error), "graft_token_find token = NULL", 0, 1);
    check(graft_token_find(good_model, "Once upon a time", GRAFT_NUL, odd, &error), "graft_token_find token = odd", 1, 1);
    check(graft_token_find(good_model, "Once upon a time", GRAFT_NUL, (void *)&results[1], NULL), "graft_token_find error = NULL", 0, 0);
}

static void test_graft_token_ends(void) {
    check(graft_token_ends(good_model, 0, (void *)&results[1], &error), "graft_token_ends as it should be", 0, 1);
    check(graft_token_ends(NULL, 0, (void *)&results[1], &error), "graft_token_ends model = NULL", 1, 1);
    check(graft_token_ends(odd, 0, (void *)&results[1], &error), "graft_token_ends model = odd", 1, 1);
    check(graft_token_ends(freed_model, 0, (void *)&results[1], &error), "graft_token_ends model = freed_model", 1, 1);
    check(graft_token_ends((void *)good_error, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_error", 1, 1);
    check(graft_token_ends((void *)good_cancel, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_cancel", 1, 1);
    check(graft_token_ends((void *)good_team, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_team", 1, 1);
    check(graft_token_ends((void *)good_adapter, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_adapter", 1, 1);
    check(graft_token_ends((void *)good_session, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_session", 1, 1);
    check(graft_token_ends((void *)good_sampler, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_sampler", 1, 1);
    check(graft_token_ends((void *)good_generation, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_generation", 1, 1);
    check(graft_token_ends((void *)good_batch, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_batch", 1, 1);
    check(graft_token_ends((void *)good_trainer, 0, (void *)&results[1], &error), "graft_token_ends model = (void *)good_trainer", 1, 1);
    check(graft_token_ends(good_model, -1, (void *)&results[1], &error), "graft_token_ends token = -1", 0, 1);
    check(graft_token_ends(good_model, 77, (void *)&results[1], &error), "graft_token_ends token = 77", 0, 1);
    check(graft_token_ends(good_model, 2147483647, (void *)&results[1], &error), "graft_token_ends token = 2147483647", 0, 1);
    check(graft_token_ends(good_model, 0, NULL, &error), "graft_token_ends ends = NULL", 1, 1);
    check(graft_token_ends(good_model, 0, odd, &error), "graft_token_ends ends = odd", 1, 1);
    check(graft_token_ends(good_model, 0, (void *)&results[1], NULL), "graft_token_ends error = NULL", 0, 0);
}

static void test_graft_chat_options_init(void) {
    begin();
    graft_chat_options_init(good_graft_chat_options(), sizeof(graft_chat_options));
    survived("graft_chat_options_init as it should be");
    begin();
    graft_chat_options_init(sized(0), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized(0)");
    begin();
    graft_chat_options_init(sized(1), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized(1)");
    begin();
    graft_chat_options_init(sized(7), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized(7)");
    begin();
    graft_chat_options_init(sized(sizeof(graft_chat_options) - 4), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized(sizeof(graft_chat_options) - 4)");
    begin();
    graft_chat_options_init(sized(sizeof(graft_chat_options) + 3), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized(sizeof(graft_chat_options) + 3)");
    begin();
    graft_chat_options_init(sized(100000), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized(100000)");
    begin();
    graft_chat_options_init(sized((size_t)-1), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = sized((size_t)-1)");
    begin();
    graft_chat_options_init(longer(sizeof(graft_chat_options), 0), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = longer(sizeof(graft_chat_options), 0)");
    begin();
    graft_chat_options_init(longer(sizeof(graft_chat_options), 1), sizeof(graft_chat_options));
    survived("graft_chat_options_init options = longer(sizeof(graft_chat_options), 1)");
    begin();
    graft_chat_options_init(NULL, sizeof(graft_chat_options));
    survived("graft_chat_options_init options = NULL");
    begin();
    graft_chat_options_init(odd, sizeof(graft_chat_options));
    survived("graft_chat_options_init options = odd");
    begin();
    graft_chat_options_init(good_graft_chat_options(), 0);
    survived("graft_chat_options_init struct_size = 0");
    begin();
    graft_chat_options_init(good_graft_chat_options(), 7);
    survived("graft_chat_options_init struct_size = 7");
    begin();
    graft_chat_options_init(good_graft_chat_options(), 8);
    survived("graft_chat_options_init struct_size = 8");
}

static void test_graft_chat_render(void) {
    check(graft_chat_render(good_model, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render as it should be", 0, 1);
    check(graft_chat_render(NULL, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = NULL", 1, 1);
    check(graft_chat_render(odd, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = odd", 1, 1);
    check(graft_chat_render(freed_model, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = freed_model", 1, 1);
    check(graft_chat_render((void *)good_error, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_error", 1, 1);
    check(graft_chat_render((void *)good_cancel, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_cancel", 1, 1);
    check(graft_chat_render((void *)good_team, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_team", 1, 1);
    check(graft_chat_render((void *)good_adapter, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_adapter", 1, 1);
    check(graft_chat_render((void *)good_session, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_session", 1, 1);
    check(graft_chat_render((void *)good_sampler, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_sampler", 1, 1);
    check(graft_chat_render((void *)good_generation, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_generation", 1, 1);
    check(graft_chat_render((void *)good_batch, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_batch", 1, 1);
    check(graft_chat_render((void *)good_trainer, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render model = (void *)good_trainer", 1, 1);
    check(graft_chat_render(good_model, NULL, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render messages = NULL", 1, 1);
    check(graft_chat_render(good_model, odd, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render messages = odd", 1, 1);
    check(graft_chat_render(good_model, some_messages, 0, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render n_messages = 0", 0, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized(0), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized(0)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized(1), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized(1)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized(7), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized(7)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized(sizeof(graft_chat_options) - 4), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized(sizeof(graft_chat_options) - 4)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized(sizeof(graft_chat_options) + 3), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized(sizeof(graft_chat_options) + 3)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized(100000), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized(100000)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, sized((size_t)-1), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = sized((size_t)-1)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, longer(sizeof(graft_chat_options), 0), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = longer(sizeof(graft_chat_options), 0)", 0, 1);
    check(graft_chat_render(good_model, some_messages, 1, longer(sizeof(graft_chat_options), 1), (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = longer(sizeof(graft_chat_options), 1)", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, NULL, (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = NULL", 0, 1);
    check(graft_chat_render(good_model, some_messages, 1, odd, (void *)&results[0], (void *)&results[2], &error), "graft_chat_render options = odd", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, good_graft_chat_options(), NULL, (void *)&results[2], &error), "graft_chat_render text = NULL", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, good_graft_chat_options(), (void *)&results[0], NULL, &error), "graft_chat_render text_len = NULL", 0, 1);
    check(graft_chat_render(good_model, some_messages, 1, good_graft_chat_options(), (void *)&results[0], odd, &error), "graft_chat_render text_len = odd", 1, 1);
    check(graft_chat_render(good_model, some_messages, 1, good_graft_chat_options(), (void *)&results[0], (void *)&results[2], NULL), "graft_chat_render error = NULL", 0, 0);
}

static void test_graft_adapter_options_init(void) {
    begin();
    graft_adapter_options_init(good_graft_adapter_options(), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init as it should be");
    begin();
    graft_adapter_options_init(sized(0), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized(0)");
    begin();
    graft_adapter_options_init(sized(1), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized(1)");
    begin();
    graft_adapter_options_init(sized(7), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized(7)");
    begin();
    graft_adapter_options_init(sized(sizeof(graft_adapter_options) - 4), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized(sizeof(graft_adapter_options) - 4)");
    begin();
    graft_adapter_options_init(sized(sizeof(graft_adapter_options) + 3), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized(sizeof(graft_adapter_options) + 3)");
    begin();
    graft_adapter_options_init(sized(100000), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized(100000)");
    begin();
    graft_adapter_options_init(sized((size_t)-1), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = sized((size_t)-1)");
    begin();
    graft_adapter_options_init(longer(sizeof(graft_adapter_options), 0), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = longer(sizeof(graft_adapter_options), 0)");
    begin();
    graft_adapter_options_init(longer(sizeof(graft_adapter_options), 1), sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = longer(sizeof(graft_adapter_options), 1)");
    begin();
    graft_adapter_options_init(NULL, sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = NULL");
    begin();
    graft_adapter_options_init(odd, sizeof(graft_adapter_options));
    survived("graft_adapter_options_init options = odd");
    begin();
    graft_adapter_options_init(good_graft_adapter_options(), 0);
    survived("graft_adapter_options_init struct_size = 0");
    begin();
    graft_adapter_options_init(good_graft_adapter_options(), 7);
    survived("graft_adapter_options_init struct_size = 7");
    begin();
    graft_adapter_options_init(good_graft_adapter_options(), 8);
    survived("graft_adapter_options_init struct_size = 8");
}

static void test_graft_adapter_open(void) {
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open as it should be", 0, 1);
    check(graft_adapter_open(NULL, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = NULL", 1, 1);
    check(graft_adapter_open(odd, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = odd", 1, 1);
    check(graft_adapter_open(freed_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = freed_model", 1, 1);
    check(graft_adapter_open((void *)good_error, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_error", 1, 1);
    check(graft_adapter_open((void *)good_cancel, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_cancel", 1, 1);
    check(graft_adapter_open((void *)good_team, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_team", 1, 1);
    check(graft_adapter_open((void *)good_adapter, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_adapter", 1, 1);
    check(graft_adapter_open((void *)good_session, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_session", 1, 1);
    check(graft_adapter_open((void *)good_sampler, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_sampler", 1, 1);
    check(graft_adapter_open((void *)good_generation, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_generation", 1, 1);
    check(graft_adapter_open((void *)good_batch, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_batch", 1, 1);
    check(graft_adapter_open((void *)good_trainer, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open model = (void *)good_trainer", 1, 1);
    check(graft_adapter_open(good_model, NULL, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open path = NULL", 1, 1);
    check(graft_adapter_open(good_model, "\xff\xfe", GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open path = \"\\xff\\xfe\"", 0, 1);
    check(graft_adapter_open(good_model, "", GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open path = \"\"", 0, 1);
    check(graft_adapter_open(good_model, adapter_path, 0, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open path_len = 0", 0, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized(0), (void *)&results[0], &error), "graft_adapter_open options = sized(0)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized(1), (void *)&results[0], &error), "graft_adapter_open options = sized(1)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized(7), (void *)&results[0], &error), "graft_adapter_open options = sized(7)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_adapter_options) - 4), (void *)&results[0], &error), "graft_adapter_open options = sized(sizeof(graft_adapter_options) - 4)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_adapter_options) + 3), (void *)&results[0], &error), "graft_adapter_open options = sized(sizeof(graft_adapter_options) + 3)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized(100000), (void *)&results[0], &error), "graft_adapter_open options = sized(100000)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, sized((size_t)-1), (void *)&results[0], &error), "graft_adapter_open options = sized((size_t)-1)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_adapter_options), 0), (void *)&results[0], &error), "graft_adapter_open options = longer(sizeof(graft_adapter_options), 0)", 0, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_adapter_options), 1), (void *)&results[0], &error), "graft_adapter_open options = longer(sizeof(graft_adapter_options), 1)", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, NULL, (void *)&results[0], &error), "graft_adapter_open options = NULL", 0, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, odd, (void *)&results[0], &error), "graft_adapter_open options = odd", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), NULL, &error), "graft_adapter_open adapter = NULL", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), odd, &error), "graft_adapter_open adapter = odd", 1, 1);
    check(graft_adapter_open(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), (void *)&results[0], NULL), "graft_adapter_open error = NULL", 0, 0);
}

static void test_graft_adapter_open_memory(void) {
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory as it should be", 0, 1);
    check(graft_adapter_open_memory(NULL, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = NULL", 1, 1);
    check(graft_adapter_open_memory(odd, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = odd", 1, 1);
    check(graft_adapter_open_memory(freed_model, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = freed_model", 1, 1);
    check(graft_adapter_open_memory((void *)good_error, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_error", 1, 1);
    check(graft_adapter_open_memory((void *)good_cancel, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_cancel", 1, 1);
    check(graft_adapter_open_memory((void *)good_team, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_team", 1, 1);
    check(graft_adapter_open_memory((void *)good_adapter, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_adapter", 1, 1);
    check(graft_adapter_open_memory((void *)good_session, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_session", 1, 1);
    check(graft_adapter_open_memory((void *)good_sampler, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_sampler", 1, 1);
    check(graft_adapter_open_memory((void *)good_generation, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_generation", 1, 1);
    check(graft_adapter_open_memory((void *)good_batch, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_batch", 1, 1);
    check(graft_adapter_open_memory((void *)good_trainer, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory model = (void *)good_trainer", 1, 1);
    check(graft_adapter_open_memory(good_model, NULL, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory config = NULL", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, 0, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory config_len = 0", 0, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, NULL, tensors_len, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory tensors = NULL", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, 0, good_graft_adapter_options(), (void *)&results[0], &error), "graft_adapter_open_memory tensors_len = 0", 0, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized(0), (void *)&results[0], &error), "graft_adapter_open_memory options = sized(0)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized(1), (void *)&results[0], &error), "graft_adapter_open_memory options = sized(1)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized(7), (void *)&results[0], &error), "graft_adapter_open_memory options = sized(7)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized(sizeof(graft_adapter_options) - 4), (void *)&results[0], &error), "graft_adapter_open_memory options = sized(sizeof(graft_adapter_options) - 4)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized(sizeof(graft_adapter_options) + 3), (void *)&results[0], &error), "graft_adapter_open_memory options = sized(sizeof(graft_adapter_options) + 3)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized(100000), (void *)&results[0], &error), "graft_adapter_open_memory options = sized(100000)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, sized((size_t)-1), (void *)&results[0], &error), "graft_adapter_open_memory options = sized((size_t)-1)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, longer(sizeof(graft_adapter_options), 0), (void *)&results[0], &error), "graft_adapter_open_memory options = longer(sizeof(graft_adapter_options), 0)", 0, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, longer(sizeof(graft_adapter_options), 1), (void *)&results[0], &error), "graft_adapter_open_memory options = longer(sizeof(graft_adapter_options), 1)", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, NULL, (void *)&results[0], &error), "graft_adapter_open_memory options = NULL", 0, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, odd, (void *)&results[0], &error), "graft_adapter_open_memory options = odd", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), NULL, &error), "graft_adapter_open_memory adapter = NULL", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), odd, &error), "graft_adapter_open_memory adapter = odd", 1, 1);
    check(graft_adapter_open_memory(good_model, config_bytes, config_len, tensor_bytes, tensors_len, good_graft_adapter_options(), (void *)&results[0], NULL), "graft_adapter_open_memory error = NULL", 0, 0);
}

static void test_graft_adapter_free(void) {
    begin();
    graft_adapter_free(fresh_adapter());
    survived("graft_adapter_free as it should be");
    begin();
    graft_adapter_free(NULL);
    survived("graft_adapter_free adapter = NULL");
    begin();
    graft_adapter_free(odd);
    survived("graft_adapter_free adapter = odd");
    begin();
    graft_adapter_free(freed_adapter);
    survived("graft_adapter_free adapter = freed_adapter");
    begin();
    graft_adapter_free((void *)good_error);
    survived("graft_adapter_free adapter = (void *)good_error");
    begin();
    graft_adapter_free((void *)good_cancel);
    survived("graft_adapter_free adapter = (void *)good_cancel");
    begin();
    graft_adapter_free((void *)good_team);
    survived("graft_adapter_free adapter = (void *)good_team");
    begin();
    graft_adapter_free((void *)good_model);
    survived("graft_adapter_free adapter = (void *)good_model");
    begin();
    graft_adapter_free((void *)good_session);
    survived("graft_adapter_free adapter = (void *)good_session");
    begin();
    graft_adapter_free((void *)good_sampler);
    survived("graft_adapter_free adapter = (void *)good_sampler");
    begin();
    graft_adapter_free((void *)good_generation);
    survived("graft_adapter_free adapter = (void *)good_generation");
    begin();
    graft_adapter_free((void *)good_batch);
    survived("graft_adapter_free adapter = (void *)good_batch");
    begin();
    graft_adapter_free((void *)good_trainer);
    survived("graft_adapter_free adapter = (void *)good_trainer");
}

static void test_graft_adapter_get_info(void) {
    check(graft_adapter_get_info(good_adapter, good_graft_adapter_info(), &error), "graft_adapter_get_info as it should be", 0, 1);
    check(graft_adapter_get_info(NULL, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = NULL", 1, 1);
    check(graft_adapter_get_info(odd, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = odd", 1, 1);
    check(graft_adapter_get_info(freed_adapter, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = freed_adapter", 1, 1);
    check(graft_adapter_get_info((void *)good_error, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_error", 1, 1);
    check(graft_adapter_get_info((void *)good_cancel, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_cancel", 1, 1);
    check(graft_adapter_get_info((void *)good_team, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_team", 1, 1);
    check(graft_adapter_get_info((void *)good_model, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_model", 1, 1);
    check(graft_adapter_get_info((void *)good_session, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_session", 1, 1);
    check(graft_adapter_get_info((void *)good_sampler, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_sampler", 1, 1);
    check(graft_adapter_get_info((void *)good_generation, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_generation", 1, 1);
    check(graft_adapter_get_info((void *)good_batch, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_batch", 1, 1);
    check(graft_adapter_get_info((void *)good_trainer, good_graft_adapter_info(), &error), "graft_adapter_get_info adapter = (void *)good_trainer", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized(0), &error), "graft_adapter_get_info info = sized(0)", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized(1), &error), "graft_adapter_get_info info = sized(1)", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized(7), &error), "graft_adapter_get_info info = sized(7)", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized(sizeof(graft_adapter_info) - 4), &error), "graft_adapter_get_info info = sized(sizeof(graft_adapter_info) - 4)", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized(sizeof(graft_adapter_info) + 3), &error), "graft_adapter_get_info info = sized(sizeof(graft_adapter_info) + 3)", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized(100000), &error), "graft_adapter_get_info info = sized(100000)", 1, 1);
    check(graft_adapter_get_info(good_adapter, sized((size_t)-1), &error), "graft_adapter_get_info info = sized((size_t)-1)", 1, 1);
    check(graft_adapter_get_info(good_adapter, longer(sizeof(graft_adapter_info), 0), &error), "graft_adapter_get_info info = longer(sizeof(graft_adapter_info), 0)", 0, 1);
    check(graft_adapter_get_info(good_adapter, longer(sizeof(graft_adapter_info), 1), &error), "graft_adapter_get_info info = longer(sizeof(graft_adapter_info), 1)", 0, 1);
    check(graft_adapter_get_info(good_adapter, NULL, &error), "graft_adapter_get_info info = NULL", 1, 1);
    check(graft_adapter_get_info(good_adapter, odd, &error), "graft_adapter_get_info info = odd", 1, 1);
    check(graft_adapter_get_info(good_adapter, good_graft_adapter_info(), NULL), "graft_adapter_get_info error = NULL", 0, 0);
}

static void test_graft_session_options_init(void) {
    begin();
    graft_session_options_init(good_graft_session_options(), sizeof(graft_session_options));
    survived("graft_session_options_init as it should be");
    begin();
    graft_session_options_init(sized(0), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized(0)");
    begin();
    graft_session_options_init(sized(1), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized(1)");
    begin();
    graft_session_options_init(sized(7), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized(7)");
    begin();
    graft_session_options_init(sized(sizeof(graft_session_options) - 4), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized(sizeof(graft_session_options) - 4)");
    begin();
    graft_session_options_init(sized(sizeof(graft_session_options) + 3), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized(sizeof(graft_session_options) + 3)");
    begin();
    graft_session_options_init(sized(100000), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized(100000)");
    begin();
    graft_session_options_init(sized((size_t)-1), sizeof(graft_session_options));
    survived("graft_session_options_init options = sized((size_t)-1)");
    begin();
    graft_session_options_init(longer(sizeof(graft_session_options), 0), sizeof(graft_session_options));
    survived("graft_session_options_init options = longer(sizeof(graft_session_options), 0)");
    begin();
    graft_session_options_init(longer(sizeof(graft_session_options), 1), sizeof(graft_session_options));
    survived("graft_session_options_init options = longer(sizeof(graft_session_options), 1)");
    begin();
    graft_session_options_init(NULL, sizeof(graft_session_options));
    survived("graft_session_options_init options = NULL");
    begin();
    graft_session_options_init(odd, sizeof(graft_session_options));
    survived("graft_session_options_init options = odd");
    begin();
    graft_session_options_init(good_graft_session_options(), 0);
    survived("graft_session_options_init struct_size = 0");
    begin();
    graft_session_options_init(good_graft_session_options(), 7);
    survived("graft_session_options_init struct_size = 7");
    begin();
    graft_session_options_init(good_graft_session_options(), 8);
    survived("graft_session_options_init struct_size = 8");
}

static void test_graft_session_new(void) {
    check(graft_session_new(good_model, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new as it should be", 0, 1);
    check(graft_session_new(NULL, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = NULL", 1, 1);
    check(graft_session_new(odd, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = odd", 1, 1);
    check(graft_session_new(freed_model, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = freed_model", 1, 1);
    check(graft_session_new((void *)good_error, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_error", 1, 1);
    check(graft_session_new((void *)good_cancel, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_cancel", 1, 1);
    check(graft_session_new((void *)good_team, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_team", 1, 1);
    check(graft_session_new((void *)good_adapter, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_adapter", 1, 1);
    check(graft_session_new((void *)good_session, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_session", 1, 1);
    check(graft_session_new((void *)good_sampler, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_sampler", 1, 1);
    check(graft_session_new((void *)good_generation, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_generation", 1, 1);
    check(graft_session_new((void *)good_batch, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_batch", 1, 1);
    check(graft_session_new((void *)good_trainer, good_graft_session_options(), (void *)&results[0], &error), "graft_session_new model = (void *)good_trainer", 1, 1);
    check(graft_session_new(good_model, sized(0), (void *)&results[0], &error), "graft_session_new options = sized(0)", 1, 1);
    check(graft_session_new(good_model, sized(1), (void *)&results[0], &error), "graft_session_new options = sized(1)", 1, 1);
    check(graft_session_new(good_model, sized(7), (void *)&results[0], &error), "graft_session_new options = sized(7)", 1, 1);
    check(graft_session_new(good_model, sized(sizeof(graft_session_options) - 4), (void *)&results[0], &error), "graft_session_new options = sized(sizeof(graft_session_options) - 4)", 1, 1);
    check(graft_session_new(good_model, sized(sizeof(graft_session_options) + 3), (void *)&results[0], &error), "graft_session_new options = sized(sizeof(graft_session_options) + 3)", 1, 1);
    check(graft_session_new(good_model, sized(100000), (void *)&results[0], &error), "graft_session_new options = sized(100000)", 1, 1);
    check(graft_session_new(good_model, sized((size_t)-1), (void *)&results[0], &error), "graft_session_new options = sized((size_t)-1)", 1, 1);
    check(graft_session_new(good_model, longer(sizeof(graft_session_options), 0), (void *)&results[0], &error), "graft_session_new options = longer(sizeof(graft_session_options), 0)", 0, 1);
    check(graft_session_new(good_model, longer(sizeof(graft_session_options), 1), (void *)&results[0], &error), "graft_session_new options = longer(sizeof(graft_session_options), 1)", 1, 1);
    check(graft_session_new(good_model, NULL, (void *)&results[0], &error), "graft_session_new options = NULL", 0, 1);
    check(graft_session_new(good_model, odd, (void *)&results[0], &error), "graft_session_new options = odd", 1, 1);
    check(graft_session_new(good_model, good_graft_session_options(), NULL, &error), "graft_session_new session = NULL", 1, 1);
    check(graft_session_new(good_model, good_graft_session_options(), odd, &error), "graft_session_new session = odd", 1, 1);
    check(graft_session_new(good_model, good_graft_session_options(), (void *)&results[0], NULL), "graft_session_new error = NULL", 0, 0);
}

static void test_graft_session_free(void) {
    begin();
    graft_session_free(fresh_session());
    survived("graft_session_free as it should be");
    begin();
    graft_session_free(NULL);
    survived("graft_session_free session = NULL");
    begin();
    graft_session_free(odd);
    survived("graft_session_free session = odd");
    begin();
    graft_session_free(freed_session);
    survived("graft_session_free session = freed_session");
    begin();
    graft_session_free((void *)good_error);
    survived("graft_session_free session = (void *)good_error");
    begin();
    graft_session_free((void *)good_cancel);
    survived("graft_session_free session = (void *)good_cancel");
    begin();
    graft_session_free((void *)good_team);
    survived("graft_session_free session = (void *)good_team");
    begin();
    graft_session_free((void *)good_model);
    survived("graft_session_free session = (void *)good_model");
    begin();
    graft_session_free((void *)good_adapter);
    survived("graft_session_free session = (void *)good_adapter");
    begin();
    graft_session_free((void *)good_sampler);
    survived("graft_session_free session = (void *)good_sampler");
    begin();
    graft_session_free((void *)good_generation);
    survived("graft_session_free session = (void *)good_generation");
    begin();
    graft_session_free((void *)good_batch);
    survived("graft_session_free session = (void *)good_batch");
    begin();
    graft_session_free((void *)good_trainer);
    survived("graft_session_free session = (void *)good_trainer");
}

static void test_graft_session_set_adapters(void) {
    check(graft_session_set_adapters(good_session, some_adapters, some_weights, 1, &error), "graft_session_set_adapters as it should be", 0, 1);
    check(graft_session_set_adapters(NULL, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = NULL", 1, 1);
    check(graft_session_set_adapters(odd, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = odd", 1, 1);
    check(graft_session_set_adapters(freed_session, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = freed_session", 1, 1);
    check(graft_session_set_adapters((void *)good_error, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_error", 1, 1);
    check(graft_session_set_adapters((void *)good_cancel, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_cancel", 1, 1);
    check(graft_session_set_adapters((void *)good_team, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_team", 1, 1);
    check(graft_session_set_adapters((void *)good_model, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_model", 1, 1);
    check(graft_session_set_adapters((void *)good_adapter, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_adapter", 1, 1);
    check(graft_session_set_adapters((void *)good_sampler, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_sampler", 1, 1);
    check(graft_session_set_adapters((void *)good_generation, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_generation", 1, 1);
    check(graft_session_set_adapters((void *)good_batch, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_batch", 1, 1);
    check(graft_session_set_adapters((void *)good_trainer, some_adapters, some_weights, 1, &error), "graft_session_set_adapters session = (void *)good_trainer", 1, 1);
    check(graft_session_set_adapters(good_session, NULL, some_weights, 1, &error), "graft_session_set_adapters adapters = NULL", 1, 1);
    check(graft_session_set_adapters(good_session, odd, some_weights, 1, &error), "graft_session_set_adapters adapters = odd", 1, 1);
    check(graft_session_set_adapters(good_session, some_adapters, NULL, 1, &error), "graft_session_set_adapters weights = NULL", 0, 1);
    check(graft_session_set_adapters(good_session, some_adapters, odd, 1, &error), "graft_session_set_adapters weights = odd", 1, 1);
    check(graft_session_set_adapters(good_session, some_adapters, some_weights, 0, &error), "graft_session_set_adapters n = 0", 0, 1);
    check(graft_session_set_adapters(good_session, some_adapters, some_weights, 1, NULL), "graft_session_set_adapters error = NULL", 0, 0);
}

static void test_graft_session_eval(void) {
    check(graft_session_eval(good_session, some_tokens, 3, &error), "graft_session_eval as it should be", 0, 1);
    check(graft_session_eval(NULL, some_tokens, 3, &error), "graft_session_eval session = NULL", 1, 1);
    check(graft_session_eval(odd, some_tokens, 3, &error), "graft_session_eval session = odd", 1, 1);
    check(graft_session_eval(freed_session, some_tokens, 3, &error), "graft_session_eval session = freed_session", 1, 1);
    check(graft_session_eval((void *)good_error, some_tokens, 3, &error), "graft_session_eval session = (void *)good_error", 1, 1);
    check(graft_session_eval((void *)good_cancel, some_tokens, 3, &error), "graft_session_eval session = (void *)good_cancel", 1, 1);
    check(graft_session_eval((void *)good_team, some_tokens, 3, &error), "graft_session_eval session = (void *)good_team", 1, 1);
    check(graft_session_eval((void *)good_model, some_tokens, 3, &error), "graft_session_eval session = (void *)good_model", 1, 1);
    check(graft_session_eval((void *)good_adapter, some_tokens, 3, &error), "graft_session_eval session = (void *)good_adapter", 1, 1);
    check(graft_session_eval((void *)good_sampler, some_tokens, 3, &error), "graft_session_eval session = (void *)good_sampler", 1, 1);
    check(graft_session_eval((void *)good_generation, some_tokens, 3, &error), "graft_session_eval session = (void *)good_generation", 1, 1);
    check(graft_session_eval((void *)good_batch, some_tokens, 3, &error), "graft_session_eval session = (void *)good_batch", 1, 1);
    check(graft_session_eval((void *)good_trainer, some_tokens, 3, &error), "graft_session_eval session = (void *)good_trainer", 1, 1);
    check(graft_session_eval(good_session, NULL, 3, &error), "graft_session_eval tokens = NULL", 1, 1);
    check(graft_session_eval(good_session, odd, 3, &error), "graft_session_eval tokens = odd", 1, 1);
    check(graft_session_eval(good_session, some_tokens, 0, &error), "graft_session_eval n_tokens = 0", 0, 1);
    check(graft_session_eval(good_session, some_tokens, 3, NULL), "graft_session_eval error = NULL", 0, 0);
}

static void test_graft_session_eval_each(void) {
    check(graft_session_eval_each(good_session, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each as it should be", 0, 1);
    check(graft_session_eval_each(NULL, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = NULL", 1, 1);
    check(graft_session_eval_each(odd, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = odd", 1, 1);
    check(graft_session_eval_each(freed_session, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = freed_session", 1, 1);
    check(graft_session_eval_each((void *)good_error, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_error", 1, 1);
    check(graft_session_eval_each((void *)good_cancel, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_cancel", 1, 1);
    check(graft_session_eval_each((void *)good_team, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_team", 1, 1);
    check(graft_session_eval_each((void *)good_model, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_model", 1, 1);
    check(graft_session_eval_each((void *)good_adapter, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_adapter", 1, 1);
    check(graft_session_eval_each((void *)good_sampler, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_sampler", 1, 1);
    check(graft_session_eval_each((void *)good_generation, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_generation", 1, 1);
    check(graft_session_eval_each((void *)good_batch, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_batch", 1, 1);
    check(graft_session_eval_each((void *)good_trainer, some_tokens, 3, on_logits, NULL, &error), "graft_session_eval_each session = (void *)good_trainer", 1, 1);
    check(graft_session_eval_each(good_session, NULL, 3, on_logits, NULL, &error), "graft_session_eval_each tokens = NULL", 1, 1);
    check(graft_session_eval_each(good_session, odd, 3, on_logits, NULL, &error), "graft_session_eval_each tokens = odd", 1, 1);
    check(graft_session_eval_each(good_session, some_tokens, 0, on_logits, NULL, &error), "graft_session_eval_each n_tokens = 0", 0, 1);
    check(graft_session_eval_each(good_session, some_tokens, 3, NULL, NULL, &error), "graft_session_eval_each callback = NULL", 0, 1);
    check(graft_session_eval_each(good_session, some_tokens, 3, on_logits, NULL, NULL), "graft_session_eval_each error = NULL", 0, 0);
}

static void test_graft_session_logits(void) {
    check(graft_session_logits(good_session, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits as it should be", 0, 1);
    check(graft_session_logits(NULL, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = NULL", 1, 1);
    check(graft_session_logits(odd, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = odd", 1, 1);
    check(graft_session_logits(freed_session, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = freed_session", 1, 1);
    check(graft_session_logits((void *)good_error, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_error", 1, 1);
    check(graft_session_logits((void *)good_cancel, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_cancel", 1, 1);
    check(graft_session_logits((void *)good_team, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_team", 1, 1);
    check(graft_session_logits((void *)good_model, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_model", 1, 1);
    check(graft_session_logits((void *)good_adapter, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_adapter", 1, 1);
    check(graft_session_logits((void *)good_sampler, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_sampler", 1, 1);
    check(graft_session_logits((void *)good_generation, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_generation", 1, 1);
    check(graft_session_logits((void *)good_batch, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_batch", 1, 1);
    check(graft_session_logits((void *)good_trainer, (void *)&results[0], (void *)&results[2], &error), "graft_session_logits session = (void *)good_trainer", 1, 1);
    check(graft_session_logits(good_session, NULL, (void *)&results[2], &error), "graft_session_logits logits = NULL", 1, 1);
    check(graft_session_logits(good_session, odd, (void *)&results[2], &error), "graft_session_logits logits = odd", 1, 1);
    check(graft_session_logits(good_session, (void *)&results[0], NULL, &error), "graft_session_logits n_logits = NULL", 1, 1);
    check(graft_session_logits(good_session, (void *)&results[0], odd, &error), "graft_session_logits n_logits = odd", 1, 1);
    check(graft_session_logits(good_session, (void *)&results[0], (void *)&results[2], NULL), "graft_session_logits error = NULL", 0, 0);
}

static void test_graft_session_tokens(void) {
    check(graft_session_tokens(good_session, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens as it should be", 0, 1);
    check(graft_session_tokens(NULL, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = NULL", 1, 1);
    check(graft_session_tokens(odd, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = odd", 1, 1);
    check(graft_session_tokens(freed_session, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = freed_session", 1, 1);
    check(graft_session_tokens((void *)good_error, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_error", 1, 1);
    check(graft_session_tokens((void *)good_cancel, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_cancel", 1, 1);
    check(graft_session_tokens((void *)good_team, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_team", 1, 1);
    check(graft_session_tokens((void *)good_model, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_model", 1, 1);
    check(graft_session_tokens((void *)good_adapter, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_adapter", 1, 1);
    check(graft_session_tokens((void *)good_sampler, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_sampler", 1, 1);
    check(graft_session_tokens((void *)good_generation, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_generation", 1, 1);
    check(graft_session_tokens((void *)good_batch, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_batch", 1, 1);
    check(graft_session_tokens((void *)good_trainer, (void *)&results[0], (void *)&results[2], &error), "graft_session_tokens session = (void *)good_trainer", 1, 1);
    check(graft_session_tokens(good_session, NULL, (void *)&results[2], &error), "graft_session_tokens tokens = NULL", 1, 1);
    check(graft_session_tokens(good_session, odd, (void *)&results[2], &error), "graft_session_tokens tokens = odd", 1, 1);
    check(graft_session_tokens(good_session, (void *)&results[0], NULL, &error), "graft_session_tokens n_tokens = NULL", 1, 1);
    check(graft_session_tokens(good_session, (void *)&results[0], odd, &error), "graft_session_tokens n_tokens = odd", 1, 1);
    check(graft_session_tokens(good_session, (void *)&results[0], (void *)&results[2], NULL), "graft_session_tokens error = NULL", 0, 0);
}

static void test_graft_session_get_info(void) {
    check(graft_session_get_info(good_session, good_graft_session_info(), &error), "graft_session_get_info as it should be", 0, 1);
    check(graft_session_get_info(NULL, good_graft_session_info(), &error), "graft_session_get_info session = NULL", 1, 1);
    check(graft_session_get_info(odd, good_graft_session_info(), &error), "graft_session_get_info session = odd", 1, 1);
    check(graft_session_get_info(freed_session, good_graft_session_info(), &error), "graft_session_get_info session = freed_session", 1, 1);
    check(graft_session_get_info((void *)good_error, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_error", 1, 1);
    check(graft_session_get_info((void *)good_cancel, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_cancel", 1, 1);
    check(graft_session_get_info((void *)good_team, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_team", 1, 1);
    check(graft_session_get_info((void *)good_model, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_model", 1, 1);
    check(graft_session_get_info((void *)good_adapter, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_adapter", 1, 1);
    check(graft_session_get_info((void *)good_sampler, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_sampler", 1, 1);
    check(graft_session_get_info((void *)good_generation, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_generation", 1, 1);
    check(graft_session_get_info((void *)good_batch, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_batch", 1, 1);
    check(graft_session_get_info((void *)good_trainer, good_graft_session_info(), &error), "graft_session_get_info session = (void *)good_trainer", 1, 1);
    check(graft_session_get_info(good_session, sized(0), &error), "graft_session_get_info info = sized(0)", 1, 1);
    check(graft_session_get_info(good_session, sized(1), &error), "graft_session_get_info info = sized(1)", 1, 1);
    check(graft_session_get_info(good_session, sized(7), &error), "graft_session_get_info info = sized(7)", 1, 1);
    check(graft_session_get_info(good_session, sized(sizeof(graft_session_info) - 4), &error), "graft_session_get_info info = sized(sizeof(graft_session_info) - 4)", 1, 1);
    check(graft_session_get_info(good_session, sized(sizeof(graft_session_info) + 3), &error), "graft_session_get_info info = sized(sizeof(graft_session_info) + 3)", 1, 1);
    check(graft_session_get_info(good_session, sized(100000), &error), "graft_session_get_info info = sized(100000)", 1, 1);
    check(graft_session_get_info(good_session, sized((size_t)-1), &error), "graft_session_get_info info = sized((size_t)-1)", 1, 1);
    check(graft_session_get_info(good_session, longer(sizeof(graft_session_info), 0), &error), "graft_session_get_info info = longer(sizeof(graft_session_info), 0)", 0, 1);
    check(graft_session_get_info(good_session, longer(sizeof(graft_session_info), 1), &error), "graft_session_get_info info = longer(sizeof(graft_session_info), 1)", 0, 1);
    check(graft_session_get_info(good_session, NULL, &error), "graft_session_get_info info = NULL", 1, 1);
    check(graft_session_get_info(good_session, odd, &error), "graft_session_get_info info = odd", 1, 1);
    check(graft_session_get_info(good_session, good_graft_session_info(), NULL), "graft_session_get_info error = NULL", 0, 0);
}

static void test_graft_session_truncate(void) {
    check(graft_session_truncate(good_session, 0, &error), "graft_session_truncate as it should be", 0, 1);
    check(graft_session_truncate(NULL, 0, &error), "graft_session_truncate session = NULL", 1, 1);
    check(graft_session_truncate(odd, 0, &error), "graft_session_truncate session = odd", 1, 1);
    check(graft_session_truncate(freed_session, 0, &error), "graft_session_truncate session = freed_session", 1, 1);
    check(graft_session_truncate((void *)good_error, 0, &error), "graft_session_truncate session = (void *)good_error", 1, 1);
    check(graft_session_truncate((void *)good_cancel, 0, &error), "graft_session_truncate session = (void *)good_cancel", 1, 1);
    check(graft_session_truncate((void *)good_team, 0, &error), "graft_session_truncate session = (void *)good_team", 1, 1);
    check(graft_session_truncate((void *)good_model, 0, &error), "graft_session_truncate session = (void *)good_model", 1, 1);
    check(graft_session_truncate((void *)good_adapter, 0, &error), "graft_session_truncate session = (void *)good_adapter", 1, 1);
    check(graft_session_truncate((void *)good_sampler, 0, &error), "graft_session_truncate session = (void *)good_sampler", 1, 1);
    check(graft_session_truncate((void *)good_generation, 0, &error), "graft_session_truncate session = (void *)good_generation", 1, 1);
    check(graft_session_truncate((void *)good_batch, 0, &error), "graft_session_truncate session = (void *)good_batch", 1, 1);
    check(graft_session_truncate((void *)good_trainer, 0, &error), "graft_session_truncate session = (void *)good_trainer", 1, 1);
    check(graft_session_truncate(good_session, 1, &error), "graft_session_truncate n = 1", 0, 1);
    check(graft_session_truncate(good_session, 1000000, &error), "graft_session_truncate n = 1000000", 0, 1);
    check(graft_session_truncate(good_session, 18446744073709551615u, &error), "graft_session_truncate n = 18446744073709551615u", 0, 1);
    check(graft_session_truncate(good_session, 0, NULL), "graft_session_truncate error = NULL", 0, 0);
}

static void test_graft_session_slide(void) {
    check(graft_session_slide(good_session, 0, &error), "graft_session_slide as it should be", 0, 1);
    check(graft_session_slide(NULL, 0, &error), "graft_session_slide session = NULL", 1, 1);
    check(graft_session_slide(odd, 0, &error), "graft_session_slide session = odd", 1, 1);
    check(graft_session_slide(freed_session, 0, &error), "graft_session_slide session = freed_session", 1, 1);
    check(graft_session_slide((void *)good_error, 0, &error), "graft_session_slide session = (void *)good_error", 1, 1);
    check(graft_session_slide((void *)good_cancel, 0, &error), "graft_session_slide session = (void *)good_cancel", 1, 1);
    check(graft_session_slide((void *)good_team, 0, &error), "graft_session_slide session = (void *)good_team", 1, 1);
    check(graft_session_slide((void *)good_model, 0, &error), "graft_session_slide session = (void *)good_model", 1, 1);
    check(graft_session_slide((void *)good_adapter, 0, &error), "graft_session_slide session = (void *)good_adapter", 1, 1);
    check(graft_session_slide((void *)good_sampler, 0, &error), "graft_session_slide session = (void *)good_sampler", 1, 1);
    check(graft_session_slide((void *)good_generation, 0, &error), "graft_session_slide session = (void *)good_generation", 1, 1);
    check(graft_session_slide((void *)good_batch, 0, &error), "graft_session_slide session = (void *)good_batch", 1, 1);
    check(graft_session_slide((void *)good_trainer, 0, &error), "graft_session_slide session = (void *)good_trainer", 1, 1);
    check(graft_session_slide(good_session, 1, &error), "graft_session_slide keep = 1", 0, 1);
    check(graft_session_slide(good_session, 1000000, &error), "graft_session_slide keep = 1000000", 0, 1);
    check(graft_session_slide(good_session, 18446744073709551615u, &error), "graft_session_slide keep = 18446744073709551615u", 0, 1);
    check(graft_session_slide(good_session, 0, NULL), "graft_session_slide error = NULL", 0, 0);
}

static void test_graft_session_reset(void) {
    check(graft_session_reset(good_session, &error), "graft_session_reset as it should be", 0, 1);
    check(graft_session_reset(NULL, &error), "graft_session_reset session = NULL", 1, 1);
    check(graft_session_reset(odd, &error), "graft_session_reset session = odd", 1, 1);
    check(graft_session_reset(freed_session, &error), "graft_session_reset session = freed_session", 1, 1);
    check(graft_session_reset((void *)good_error, &error), "graft_session_reset session = (void *)good_error", 1, 1);
    check(graft_session_reset((void *)good_cancel, &error), "graft_session_reset session = (void *)good_cancel", 1, 1);
    check(graft_session_reset((void *)good_team, &error), "graft_session_reset session = (void *)good_team", 1, 1);
    check(graft_session_reset((void *)good_model, &error), "graft_session_reset session = (void *)good_model", 1, 1);
    check(graft_session_reset((void *)good_adapter, &error), "graft_session_reset session = (void *)good_adapter", 1, 1);
    check(graft_session_reset((void *)good_sampler, &error), "graft_session_reset session = (void *)good_sampler", 1, 1);
    check(graft_session_reset((void *)good_generation, &error), "graft_session_reset session = (void *)good_generation", 1, 1);
    check(graft_session_reset((void *)good_batch, &error), "graft_session_reset session = (void *)good_batch", 1, 1);
    check(graft_session_reset((void *)good_trainer, &error), "graft_session_reset session = (void *)good_trainer", 1, 1);
    check(graft_session_reset(good_session, NULL), "graft_session_reset error = NULL", 0, 0);
}

static void test_graft_session_cancel(void) {
    check(graft_session_cancel(good_session), "graft_session_cancel as it should be", 0, 0);
    check(graft_session_cancel(NULL), "graft_session_cancel session = NULL", 1, 0);
    check(graft_session_cancel(odd), "graft_session_cancel session = odd", 1, 0);
    check(graft_session_cancel(freed_session), "graft_session_cancel session = freed_session", 1, 0);
    check(graft_session_cancel((void *)good_error), "graft_session_cancel session = (void *)good_error", 1, 0);
    check(graft_session_cancel((void *)good_cancel), "graft_session_cancel session = (void *)good_cancel", 1, 0);
    check(graft_session_cancel((void *)good_team), "graft_session_cancel session = (void *)good_team", 1, 0);
    check(graft_session_cancel((void *)good_model), "graft_session_cancel session = (void *)good_model", 1, 0);
    check(graft_session_cancel((void *)good_adapter), "graft_session_cancel session = (void *)good_adapter", 1, 0);
    check(graft_session_cancel((void *)good_sampler), "graft_session_cancel session = (void *)good_sampler", 1, 0);
    check(graft_session_cancel((void *)good_generation), "graft_session_cancel session = (void *)good_generation", 1, 0);
    check(graft_session_cancel((void *)good_batch), "graft_session_cancel session = (void *)good_batch", 1, 0);
    check(graft_session_cancel((void *)good_trainer), "graft_session_cancel session = (void *)good_trainer", 1, 0);
}

static void test_graft_model_get_info(void) {
    check(graft_model_get_info(good_model, good_graft_model_info(), &error), "graft_model_get_info as it should be", 0, 1);
    check(graft_model_get_info(NULL, good_graft_model_info(), &error), "graft_model_get_info model = NULL", 1, 1);
    check(graft_model_get_info(odd, good_graft_model_info(), &error), "graft_model_get_info model = odd", 1, 1);
    check(graft_model_get_info(freed_model, good_graft_model_info(), &error), "graft_model_get_info model = freed_model", 1, 1);
    check(graft_model_get_info((void *)good_error, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_error", 1, 1);
    check(graft_model_get_info((void *)good_cancel, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_cancel", 1, 1);
    check(graft_model_get_info((void *)good_team, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_team", 1, 1);
    check(graft_model_get_info((void *)good_adapter, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_adapter", 1, 1);
    check(graft_model_get_info((void *)good_session, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_session", 1, 1);
    check(graft_model_get_info((void *)good_sampler, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_sampler", 1, 1);
    check(graft_model_get_info((void *)good_generation, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_generation", 1, 1);
    check(graft_model_get_info((void *)good_batch, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_batch", 1, 1);
    check(graft_model_get_info((void *)good_trainer, good_graft_model_info(), &error), "graft_model_get_info model = (void *)good_trainer", 1, 1);
    check(graft_model_get_info(good_model, sized(0), &error), "graft_model_get_info info = sized(0)", 1, 1);
    check(graft_model_get_info(good_model, sized(1), &error), "graft_model_get_info info = sized(1)", 1, 1);
    check(graft_model_get_info(good_model, sized(7), &error), "graft_model_get_info info = sized(7)", 1, 1);
    check(graft_model_get_info(good_model, sized(sizeof(graft_model_info) - 4), &error), "graft_model_get_info info = sized(sizeof(graft_model_info) - 4)", 1, 1);
    check(graft_model_get_info(good_model, sized(sizeof(graft_model_info) + 3), &error), "graft_model_get_info info = sized(sizeof(graft_model_info) + 3)", 1, 1);
    check(graft_model_get_info(good_model, sized(100000), &error), "graft_model_get_info info = sized(100000)", 1, 1);
    check(graft_model_get_info(good_model, sized((size_t)-1), &error), "graft_model_get_info info = sized((size_t)-1)", 1, 1);
    check(graft_model_get_info(good_model, longer(sizeof(graft_model_info), 0), &error), "graft_model_get_info info = longer(sizeof(graft_model_info), 0)", 0, 1);
    check(graft_model_get_info(good_model, longer(sizeof(graft_model_info), 1), &error), "graft_model_get_info info = longer(sizeof(graft_model_info), 1)", 0, 1);
    check(graft_model_get_info(good_model, NULL, &error), "graft_model_get_info info = NULL", 1, 1);
    check(graft_model_get_info(good_model, odd, &error), "graft_model_get_info info = odd", 1, 1);
    check(graft_model_get_info(good_model, good_graft_model_info(), NULL), "graft_model_get_info error = NULL", 0, 0);
}

static void test_graft_model_metadata_count(void) {
    check(graft_model_metadata_count(good_model, (void *)&results[1], &error), "graft_model_metadata_count as it should be", 0, 1);
    check(graft_model_metadata_count(NULL, (void *)&results[1], &error), "graft_model_metadata_count model = NULL", 1, 1);
    check(graft_model_metadata_count(odd, (void *)&results[1], &error), "graft_model_metadata_count model = odd", 1, 1);
    check(graft_model_metadata_count(freed_model, (void *)&results[1], &error), "graft_model_metadata_count model = freed_model", 1, 1);
    check(graft_model_metadata_count((void *)good_error, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_error", 1, 1);
    check(graft_model_metadata_count((void *)good_cancel, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_cancel", 1, 1);
    check(graft_model_metadata_count((void *)good_team, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_team", 1, 1);
    check(graft_model_metadata_count((void *)good_adapter, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_adapter", 1, 1);
    check(graft_model_metadata_count((void *)good_session, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_session", 1, 1);
    check(graft_model_metadata_count((void *)good_sampler, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_sampler", 1, 1);
    check(graft_model_metadata_count((void *)good_generation, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_generation", 1, 1);
    check(graft_model_metadata_count((void *)good_batch, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_batch", 1, 1);
    check(graft_model_metadata_count((void *)good_trainer, (void *)&results[1], &error), "graft_model_metadata_count model = (void *)good_trainer", 1, 1);
    check(graft_model_metadata_count(good_model, NULL, &error), "graft_model_metadata_count count = NULL", 1, 1);
    check(graft_model_metadata_count(good_model, odd, &error), "graft_model_metadata_count count = odd", 1, 1);
    check(graft_model_metadata_count(good_model, (void *)&results[1], NULL), "graft_model_metadata_count error = NULL", 0, 0);
}

static void test_graft_model_metadata_key(void) {
    check(graft_model_metadata_key(good_model, 0, (void *)&results[0], &error), "graft_model_metadata_key as it should be", 0, 1);
    check(graft_model_metadata_key(NULL, 0, (void *)&results[0], &error), "graft_model_metadata_key model = NULL", 1, 1);
    check(graft_model_metadata_key(odd, 0, (void *)&results[0], &error), "graft_model_metadata_key model = odd", 1, 1);
    check(graft_model_metadata_key(freed_model, 0, (void *)&results[0], &error), "graft_model_metadata_key model = freed_model", 1, 1);
    check(graft_model_metadata_key((void *)good_error, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_error", 1, 1);
    check(graft_model_metadata_key((void *)good_cancel, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_cancel", 1, 1);
    check(graft_model_metadata_key((void *)good_team, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_team", 1, 1);
    check(graft_model_metadata_key((void *)good_adapter, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_adapter", 1, 1);
    check(graft_model_metadata_key((void *)good_session, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_session", 1, 1);
    check(graft_model_metadata_key((void *)good_sampler, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_sampler", 1, 1);
    check(graft_model_metadata_key((void *)good_generation, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_generation", 1, 1);
    check(graft_model_metadata_key((void *)good_batch, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_batch", 1, 1);
    check(graft_model_metadata_key((void *)good_trainer, 0, (void *)&results[0], &error), "graft_model_metadata_key model = (void *)good_trainer", 1, 1);
    check(graft_model_metadata_key(good_model, (size_t)-1, (void *)&results[0], &error), "graft_model_metadata_key index = (size_t)-1", 1, 1);
    check(graft_model_metadata_key(good_model, 0, NULL, &error), "graft_model_metadata_key key = NULL", 1, 1);
    check(graft_model_metadata_key(good_model, 0, odd, &error), "graft_model_metadata_key key = odd", 1, 1);
    check(graft_model_metadata_key(good_model, 0, (void *)&results[0], NULL), "graft_model_metadata_key error = NULL", 0, 0);
}

static void test_graft_model_metadata(void) {
    check(graft_model_metadata(good_model, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata as it should be", 0, 1);
    check(graft_model_metadata(NULL, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = NULL", 1, 1);
    check(graft_model_metadata(odd, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = odd", 1, 1);
    check(graft_model_metadata(freed_model, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = freed_model", 1, 1);
    check(graft_model_metadata((void *)good_error, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_error", 1, 1);
    check(graft_model_metadata((void *)good_cancel, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_cancel", 1, 1);
    check(graft_model_metadata((void *)good_team, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_team", 1, 1);
    check(graft_model_metadata((void *)good_adapter, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_adapter", 1, 1);
    check(graft_model_metadata((void *)good_session, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_session", 1, 1);
    check(graft_model_metadata((void *)good_sampler, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_sampler", 1, 1);
    check(graft_model_metadata((void *)good_generation, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_generation", 1, 1);
    check(graft_model_metadata((void *)good_batch, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_batch", 1, 1);
    check(graft_model_metadata((void *)good_trainer, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata model = (void *)good_trainer", 1, 1);
    check(graft_model_metadata(good_model, NULL, GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata key = NULL", 1, 1);
    check(graft_model_metadata(good_model, "\xff\xfe", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata key = \"\\xff\\xfe\"", 0, 1);
    check(graft_model_metadata(good_model, "", GRAFT_NUL, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata key = \"\"", 0, 1);
    check(graft_model_metadata(good_model, "general.architecture", 0, (void *)&results[0], (void *)&results[2], &error), "graft_model_metadata key_len = 0", 0, 1);
    check(graft_model_metadata(good_model, "general.architecture", GRAFT_NUL, NULL, (void *)&results[2], &error), "graft_model_metadata json = NULL", 1, 1);
    check(graft_model_metadata(good_model, "general.architecture", GRAFT_NUL, (void *)&results[0], NULL, &error), "graft_model_metadata json_len = NULL", 0, 1);
    check(graft_model_metadata(good_model, "general.architecture", GRAFT_NUL, (void *)&results[0], odd, &error), "graft_model_metadata json_len = odd", 1, 1);
    check(graft_model_metadata(good_model, "general.architecture", GRAFT_NUL, (void *)&results[0], (void *)&results[2], NULL), "graft_model_metadata error = NULL", 0, 0);
}

static void test_graft_model_tensor_count(void) {
    check(graft_model_tensor_count(good_model, (void *)&results[1], &error), "graft_model_tensor_count as it should be", 0, 1);
    check(graft_model_tensor_count(NULL, (void *)&results[1], &error), "graft_model_tensor_count model = NULL", 1, 1);
    check(graft_model_tensor_count(odd, (void *)&results[1], &error), "graft_model_tensor_count model = odd", 1, 1);
    check(graft_model_tensor_count(freed_model, (void *)&results[1], &error), "graft_model_tensor_count model = freed_model", 1, 1);
    check(graft_model_tensor_count((void *)good_error, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_error", 1, 1);
    check(graft_model_tensor_count((void *)good_cancel, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_cancel", 1, 1);
    check(graft_model_tensor_count((void *)good_team, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_team", 1, 1);
    check(graft_model_tensor_count((void *)good_adapter, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_adapter", 1, 1);
    check(graft_model_tensor_count((void *)good_session, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_session", 1, 1);
    check(graft_model_tensor_count((void *)good_sampler, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_sampler", 1, 1);
    check(graft_model_tensor_count((void *)good_generation, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_generation", 1, 1);
    check(graft_model_tensor_count((void *)good_batch, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_batch", 1, 1);
    check(graft_model_tensor_count((void *)good_trainer, (void *)&results[1], &error), "graft_model_tensor_count model = (void *)good_trainer", 1, 1);
    check(graft_model_tensor_count(good_model, NULL, &error), "graft_model_tensor_count count = NULL", 1, 1);
    check(graft_model_tensor_count(good_model, odd, &error), "graft_model_tensor_count count = odd", 1, 1);
    check(graft_model_tensor_count(good_model, (void *)&results[1], NULL), "graft_model_tensor_count error = NULL", 0, 0);
}

static void test_graft_model_tensor(void) {
    check(graft_model_tensor(good_model, 0, good_graft_tensor_info(), &error), "graft_model_tensor as it should be", 0, 1);
    check(graft_model_tensor(NULL, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = NULL", 1, 1);
    check(graft_model_tensor(odd, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = odd", 1, 1);
    check(graft_model_tensor(freed_model, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = freed_model", 1, 1);
    check(graft_model_tensor((void *)good_error, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_error", 1, 1);
    check(graft_model_tensor((void *)good_cancel, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_cancel", 1, 1);
    check(graft_model_tensor((void *)good_team, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_team", 1, 1);
    check(graft_model_tensor((void *)good_adapter, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_adapter", 1, 1);
    check(graft_model_tensor((void *)good_session, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_session", 1, 1);
    check(graft_model_tensor((void *)good_sampler, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_sampler", 1, 1);
    check(graft_model_tensor((void *)good_generation, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_generation", 1, 1);
    check(graft_model_tensor((void *)good_batch, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_batch", 1, 1);
    check(graft_model_tensor((void *)good_trainer, 0, good_graft_tensor_info(), &error), "graft_model_tensor model = (void *)good_trainer", 1, 1);
    check(graft_model_tensor(good_model, (size_t)-1, good_graft_tensor_info(), &error), "graft_model_tensor index = (size_t)-1", 1, 1);
    check(graft_model_tensor(good_model, 0, sized(0), &error), "graft_model_tensor info = sized(0)", 1, 1);
    check(graft_model_tensor(good_model, 0, sized(1), &error), "graft_model_tensor info = sized(1)", 1, 1);
    check(graft_model_tensor(good_model, 0, sized(7), &error), "graft_model_tensor info = sized(7)", 1, 1);
    check(graft_model_tensor(good_model, 0, sized(sizeof(graft_tensor_info) - 4), &error), "graft_model_tensor info = sized(sizeof(graft_tensor_info) - 4)", 1, 1);
    check(graft_model_tensor(good_model, 0, sized(sizeof(graft_tensor_info) + 3), &error), "graft_model_tensor info = sized(sizeof(graft_tensor_info) + 3)", 1, 1);
    check(graft_model_tensor(good_model, 0, sized(100000), &error), "graft_model_tensor info = sized(100000)", 1, 1);
    check(graft_model_tensor(good_model, 0, sized((size_t)-1), &error), "graft_model_tensor info = sized((size_t)-1)", 1, 1);
    check(graft_model_tensor(good_model, 0, longer(sizeof(graft_tensor_info), 0), &error), "graft_model_tensor info = longer(sizeof(graft_tensor_info), 0)", 0, 1);
    check(graft_model_tensor(good_model, 0, longer(sizeof(graft_tensor_info), 1), &error), "graft_model_tensor info = longer(sizeof(graft_tensor_info), 1)", 0, 1);
    check(graft_model_tensor(good_model, 0, NULL, &error), "graft_model_tensor info = NULL", 1, 1);
    check(graft_model_tensor(good_model, 0, odd, &error), "graft_model_tensor info = odd", 1, 1);
    check(graft_model_tensor(good_model, 0, good_graft_tensor_info(), NULL), "graft_model_tensor error = NULL", 0, 0);
}

static void test_graft_plan_memory(void) {
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), good_graft_memory_plan(), &error), "graft_plan_memory as it should be", 0, 1);
    check(graft_plan_memory(NULL, GRAFT_NUL, good_graft_session_options(), good_graft_memory_plan(), &error), "graft_plan_memory path = NULL", 1, 1);
    check(graft_plan_memory("\xff\xfe", GRAFT_NUL, good_graft_session_options(), good_graft_memory_plan(), &error), "graft_plan_memory path = \"\\xff\\xfe\"", 0, 1);
    check(graft_plan_memory("", GRAFT_NUL, good_graft_session_options(), good_graft_memory_plan(), &error), "graft_plan_memory path = \"\"", 0, 1);
    check(graft_plan_memory(model_path, 0, good_graft_session_options(), good_graft_memory_plan(), &error), "graft_plan_memory path_len = 0", 0, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized(0), good_graft_memory_plan(), &error), "graft_plan_memory session = sized(0)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized(1), good_graft_memory_plan(), &error), "graft_plan_memory session = sized(1)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized(7), good_graft_memory_plan(), &error), "graft_plan_memory session = sized(7)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized(sizeof(graft_session_options) - 4), good_graft_memory_plan(), &error), "graft_plan_memory session = sized(sizeof(graft_session_options) - 4)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized(sizeof(graft_session_options) + 3), good_graft_memory_plan(), &error), "graft_plan_memory session = sized(sizeof(graft_session_options) + 3)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized(100000), good_graft_memory_plan(), &error), "graft_plan_memory session = sized(100000)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, sized((size_t)-1), good_graft_memory_plan(), &error), "graft_plan_memory session = sized((size_t)-1)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, longer(sizeof(graft_session_options), 0), good_graft_memory_plan(), &error), "graft_plan_memory session = longer(sizeof(graft_session_options), 0)", 0, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, longer(sizeof(graft_session_options), 1), good_graft_memory_plan(), &error), "graft_plan_memory session = longer(sizeof(graft_session_options), 1)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, NULL, good_graft_memory_plan(), &error), "graft_plan_memory session = NULL", 0, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, odd, good_graft_memory_plan(), &error), "graft_plan_memory session = odd", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized(0), &error), "graft_plan_memory plan = sized(0)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized(1), &error), "graft_plan_memory plan = sized(1)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized(7), &error), "graft_plan_memory plan = sized(7)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized(sizeof(graft_memory_plan) - 4), &error), "graft_plan_memory plan = sized(sizeof(graft_memory_plan) - 4)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized(sizeof(graft_memory_plan) + 3), &error), "graft_plan_memory plan = sized(sizeof(graft_memory_plan) + 3)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized(100000), &error), "graft_plan_memory plan = sized(100000)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), sized((size_t)-1), &error), "graft_plan_memory plan = sized((size_t)-1)", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), longer(sizeof(graft_memory_plan), 0), &error), "graft_plan_memory plan = longer(sizeof(graft_memory_plan), 0)", 0, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), longer(sizeof(graft_memory_plan), 1), &error), "graft_plan_memory plan = longer(sizeof(graft_memory_plan), 1)", 0, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), NULL, &error), "graft_plan_memory plan = NULL", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), odd, &error), "graft_plan_memory plan = odd", 1, 1);
    check(graft_plan_memory(model_path, GRAFT_NUL, good_graft_session_options(), good_graft_memory_plan(), NULL), "graft_plan_memory error = NULL", 0, 0);
}

static void test_graft_session_save(void) {
    check(graft_session_save(good_session, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save as it should be", 0, 1);
    check(graft_session_save(NULL, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = NULL", 1, 1);
    check(graft_session_save(odd, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = odd", 1, 1);
    check(graft_session_save(freed_session, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = freed_session", 1, 1);
    check(graft_session_save((void *)good_error, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_error", 1, 1);
    check(graft_session_save((void *)good_cancel, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_cancel", 1, 1);
    check(graft_session_save((void *)good_team, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_team", 1, 1);
    check(graft_session_save((void *)good_model, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_model", 1, 1);
    check(graft_session_save((void *)good_adapter, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_adapter", 1, 1);
    check(graft_session_save((void *)good_sampler, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_sampler", 1, 1);
    check(graft_session_save((void *)good_generation, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_generation", 1, 1);
    check(graft_session_save((void *)good_batch, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_batch", 1, 1);
    check(graft_session_save((void *)good_trainer, out_path("graft_session_save"), GRAFT_NUL, &error), "graft_session_save session = (void *)good_trainer", 1, 1);
    check(graft_session_save(good_session, NULL, GRAFT_NUL, &error), "graft_session_save path = NULL", 1, 1);
    check(graft_session_save(good_session, "\xff\xfe", GRAFT_NUL, &error), "graft_session_save path = \"\\xff\\xfe\"", 0, 1);
    check(graft_session_save(good_session, "", GRAFT_NUL, &error), "graft_session_save path = \"\"", 0, 1);
    check(graft_session_save(good_session, out_path("graft_session_save"), 0, &error), "graft_session_save path_len = 0", 0, 1);
    check(graft_session_save(good_session, out_path("graft_session_save"), GRAFT_NUL, NULL), "graft_session_save error = NULL", 0, 0);
}

static void test_graft_session_restore(void) {
    check(graft_session_restore(good_session, state_path, GRAFT_NUL, &error), "graft_session_restore as it should be", 0, 1);
    check(graft_session_restore(NULL, state_path, GRAFT_NUL, &error), "graft_session_restore session = NULL", 1, 1);
    check(graft_session_restore(odd, state_path, GRAFT_NUL, &error), "graft_session_restore session = odd", 1, 1);
    check(graft_session_restore(freed_session, state_path, GRAFT_NUL, &error), "graft_session_restore session = freed_session", 1, 1);
    check(graft_session_restore((void *)good_error, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_error", 1, 1);
    check(graft_session_restore((void *)good_cancel, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_cancel", 1, 1);
    check(graft_session_restore((void *)good_team, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_team", 1, 1);
    check(graft_session_restore((void *)good_model, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_model", 1, 1);
    check(graft_session_restore((void *)good_adapter, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_adapter", 1, 1);
    check(graft_session_restore((void *)good_sampler, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_sampler", 1, 1);
    check(graft_session_restore((void *)good_generation, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_generation", 1, 1);
    check(graft_session_restore((void *)good_batch, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_batch", 1, 1);
    check(graft_session_restore((void *)good_trainer, state_path, GRAFT_NUL, &error), "graft_session_restore session = (void *)good_trainer", 1, 1);
    check(graft_session_restore(good_session, NULL, GRAFT_NUL, &error), "graft_session_restore path = NULL", 1, 1);
    check(graft_session_restore(good_session, "\xff\xfe", GRAFT_NUL, &error), "graft_session_restore path = \"\\xff\\xfe\"", 0, 1);
    check(graft_session_restore(good_session, "", GRAFT_NUL, &error), "graft_session_restore path = \"\"", 0, 1);
    check(graft_session_restore(good_session, state_path, 0, &error), "graft_session_restore path_len = 0", 0, 1);
    check(graft_session_restore(good_session, state_path, GRAFT_NUL, NULL), "graft_session_restore error = NULL", 0, 0);
}

static void test_graft_session_save_memory(void) {
    check(graft_session_save_memory(good_session, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory as it should be", 0, 1);
    check(graft_session_save_memory(NULL, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = NULL", 1, 1);
    check(graft_session_save_memory(odd, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = odd", 1, 1);
    check(graft_session_save_memory(freed_session, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = freed_session", 1, 1);
    check(graft_session_save_memory((void *)good_error, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_error", 1, 1);
    check(graft_session_save_memory((void *)good_cancel, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_cancel", 1, 1);
    check(graft_session_save_memory((void *)good_team, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_team", 1, 1);
    check(graft_session_save_memory((void *)good_model, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_model", 1, 1);
    check(graft_session_save_memory((void *)good_adapter, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_adapter", 1, 1);
    check(graft_session_save_memory((void *)good_sampler, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_sampler", 1, 1);
    check(graft_session_save_memory((void *)good_generation, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_generation", 1, 1);
    check(graft_session_save_memory((void *)good_batch, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_batch", 1, 1);
    check(graft_session_save_memory((void *)good_trainer, (void *)&results[0], (void *)&results[2], &error), "graft_session_save_memory session = (void *)good_trainer", 1, 1);
    check(graft_session_save_memory(good_session, NULL, (void *)&results[2], &error), "graft_session_save_memory bytes = NULL", 1, 1);
    check(graft_session_save_memory(good_session, odd, (void *)&results[2], &error), "graft_session_save_memory bytes = odd", 1, 1);
    check(graft_session_save_memory(good_session, (void *)&results[0], NULL, &error), "graft_session_save_memory n_bytes = NULL", 1, 1);
    check(graft_session_save_memory(good_session, (void *)&results[0], odd, &error), "graft_session_save_memory n_bytes = odd", 1, 1);
    check(graft_session_save_memory(good_session, (void *)&results[0], (void *)&results[2], NULL), "graft_session_save_memory error = NULL", 0, 0);
}

static void test_graft_session_restore_memory(void) {
    check(graft_session_restore_memory(good_session, state_bytes, state_len, &error), "graft_session_restore_memory as it should be", 0, 1);
    check(graft_session_restore_memory(NULL, state_bytes, state_len, &error), "graft_session_restore_memory session = NULL", 1, 1);
    check(graft_session_restore_memory(odd, state_bytes, state_len, &error), "graft_session_restore_memory session = odd", 1, 1);
    check(graft_session_restore_memory(freed_session, state_bytes, state_len, &error), "graft_session_restore_memory session = freed_session", 1, 1);
    check(graft_session_restore_memory((void *)good_error, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_error", 1, 1);
    check(graft_session_restore_memory((void *)good_cancel, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_cancel", 1, 1);
    check(graft_session_restore_memory((void *)good_team, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_team", 1, 1);
    check(graft_session_restore_memory((void *)good_model, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_model", 1, 1);
    check(graft_session_restore_memory((void *)good_adapter, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_adapter", 1, 1);
    check(graft_session_restore_memory((void *)good_sampler, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_sampler", 1, 1);
    check(graft_session_restore_memory((void *)good_generation, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_generation", 1, 1);
    check(graft_session_restore_memory((void *)good_batch, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_batch", 1, 1);
    check(graft_session_restore_memory((void *)good_trainer, state_bytes, state_len, &error), "graft_session_restore_memory session = (void *)good_trainer", 1, 1);
    check(graft_session_restore_memory(good_session, NULL, state_len, &error), "graft_session_restore_memory bytes = NULL", 1, 1);
    check(graft_session_restore_memory(good_session, state_bytes, 0, &error), "graft_session_restore_memory n_bytes = 0", 0, 1);
    check(graft_session_restore_memory(good_session, state_bytes, state_len, NULL), "graft_session_restore_memory error = NULL", 0, 0);
}

static void test_graft_session_embed(void) {
    check(graft_session_embed(good_session, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed as it should be", 0, 1);
    check(graft_session_embed(NULL, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = NULL", 1, 1);
    check(graft_session_embed(odd, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = odd", 1, 1);
    check(graft_session_embed(freed_session, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = freed_session", 1, 1);
    check(graft_session_embed((void *)good_error, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_error", 1, 1);
    check(graft_session_embed((void *)good_cancel, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_cancel", 1, 1);
    check(graft_session_embed((void *)good_team, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_team", 1, 1);
    check(graft_session_embed((void *)good_model, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_model", 1, 1);
    check(graft_session_embed((void *)good_adapter, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_adapter", 1, 1);
    check(graft_session_embed((void *)good_sampler, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_sampler", 1, 1);
    check(graft_session_embed((void *)good_generation, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_generation", 1, 1);
    check(graft_session_embed((void *)good_batch, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_batch", 1, 1);
    check(graft_session_embed((void *)good_trainer, some_tokens, 3, 0, vector, hidden_size, &error), "graft_session_embed session = (void *)good_trainer", 1, 1);
    check(graft_session_embed(good_session, NULL, 3, 0, vector, hidden_size, &error), "graft_session_embed tokens = NULL", 1, 1);
    check(graft_session_embed(good_session, odd, 3, 0, vector, hidden_size, &error), "graft_session_embed tokens = odd", 1, 1);
    check(graft_session_embed(good_session, some_tokens, 0, 0, vector, hidden_size, &error), "graft_session_embed n_tokens = 0", 0, 1);
    check(graft_session_embed(good_session, some_tokens, 3, -1, vector, hidden_size, &error), "graft_session_embed pooling = -1", 0, 1);
    check(graft_session_embed(good_session, some_tokens, 3, 77, vector, hidden_size, &error), "graft_session_embed pooling = 77", 0, 1);
    check(graft_session_embed(good_session, some_tokens, 3, 2147483647, vector, hidden_size, &error), "graft_session_embed pooling = 2147483647", 0, 1);
    check(graft_session_embed(good_session, some_tokens, 3, 0, NULL, hidden_size, &error), "graft_session_embed vector = NULL", 1, 1);
    check(graft_session_embed(good_session, some_tokens, 3, 0, odd, hidden_size, &error), "graft_session_embed vector = odd", 1, 1);
    check(graft_session_embed(good_session, some_tokens, 3, 0, vector, 0, &error), "graft_session_embed n_vector = 0", 0, 1);
    check(graft_session_embed(good_session, some_tokens, 3, 0, vector, hidden_size, NULL), "graft_session_embed error = NULL", 0, 0);
}

static void test_graft_sampler_options_init(void) {
    begin();
    graft_sampler_options_init(good_graft_sampler_options(), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init as it should be");
    begin();
    graft_sampler_options_init(sized(0), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized(0)");
    begin();
    graft_sampler_options_init(sized(1), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized(1)");
    begin();
    graft_sampler_options_init(sized(7), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized(7)");
    begin();
    graft_sampler_options_init(sized(sizeof(graft_sampler_options) - 4), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized(sizeof(graft_sampler_options) - 4)");
    begin();
    graft_sampler_options_init(sized(sizeof(graft_sampler_options) + 3), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized(sizeof(graft_sampler_options) + 3)");
    begin();
    graft_sampler_options_init(sized(100000), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized(100000)");
    begin();
    graft_sampler_options_init(sized((size_t)-1), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = sized((size_t)-1)");
    begin();
    graft_sampler_options_init(longer(sizeof(graft_sampler_options), 0), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = longer(sizeof(graft_sampler_options), 0)");
    begin();
    graft_sampler_options_init(longer(sizeof(graft_sampler_options), 1), sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = longer(sizeof(graft_sampler_options), 1)");
    begin();
    graft_sampler_options_init(NULL, sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = NULL");
    begin();
    graft_sampler_options_init(odd, sizeof(graft_sampler_options));
    survived("graft_sampler_options_init options = odd");
    begin();
    graft_sampler_options_init(good_graft_sampler_options(), 0);
    survived("graft_sampler_options_init struct_size = 0");
    begin();
    graft_sampler_options_init(good_graft_sampler_options(), 7);
    survived("graft_sampler_options_init struct_size = 7");
    begin();
    graft_sampler_options_init(good_graft_sampler_options(), 8);
    survived("graft_sampler_options_init struct_size = 8");
}

static void test_graft_sampler_new(void) {
    check(graft_sampler_new(good_session, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new as it should be", 0, 1);
    check(graft_sampler_new(NULL, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = NULL", 1, 1);
    check(graft_sampler_new(odd, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = odd", 1, 1);
    check(graft_sampler_new(freed_session, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = freed_session", 1, 1);
    check(graft_sampler_new((void *)good_error, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_error", 1, 1);
    check(graft_sampler_new((void *)good_cancel, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_cancel", 1, 1);
    check(graft_sampler_new((void *)good_team, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_team", 1, 1);
    check(graft_sampler_new((void *)good_model, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_model", 1, 1);
    check(graft_sampler_new((void *)good_adapter, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_adapter", 1, 1);
    check(graft_sampler_new((void *)good_sampler, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_sampler", 1, 1);
    check(graft_sampler_new((void *)good_generation, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_generation", 1, 1);
    check(graft_sampler_new((void *)good_batch, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_batch", 1, 1);
    check(graft_sampler_new((void *)good_trainer, good_graft_sampler_options(), (void *)&results[0], &error), "graft_sampler_new session = (void *)good_trainer", 1, 1);
    check(graft_sampler_new(good_session, sized(0), (void *)&results[0], &error), "graft_sampler_new options = sized(0)", 1, 1);
    check(graft_sampler_new(good_session, sized(1), (void *)&results[0], &error), "graft_sampler_new options = sized(1)", 1, 1);
    check(graft_sampler_new(good_session, sized(7), (void *)&results[0], &error), "graft_sampler_new options = sized(7)", 1, 1);
    check(graft_sampler_new(good_session, sized(sizeof(graft_sampler_options) - 4), (void *)&results[0], &error), "graft_sampler_new options = sized(sizeof(graft_sampler_options) - 4)", 1, 1);
    check(graft_sampler_new(good_session, sized(sizeof(graft_sampler_options) + 3), (void *)&results[0], &error), "graft_sampler_new options = sized(sizeof(graft_sampler_options) + 3)", 1, 1);
    check(graft_sampler_new(good_session, sized(100000), (void *)&results[0], &error), "graft_sampler_new options = sized(100000)", 1, 1);
    check(graft_sampler_new(good_session, sized((size_t)-1), (void *)&results[0], &error), "graft_sampler_new options = sized((size_t)-1)", 1, 1);
    check(graft_sampler_new(good_session, longer(sizeof(graft_sampler_options), 0), (void *)&results[0], &error), "graft_sampler_new options = longer(sizeof(graft_sampler_options), 0)", 0, 1);
    check(graft_sampler_new(good_session, longer(sizeof(graft_sampler_options), 1), (void *)&results[0], &error), "graft_sampler_new options = longer(sizeof(graft_sampler_options), 1)", 1, 1);
    check(graft_sampler_new(good_session, NULL, (void *)&results[0], &error), "graft_sampler_new options = NULL", 0, 1);
    check(graft_sampler_new(good_session, odd, (void *)&results[0], &error), "graft_sampler_new options = odd", 1, 1);
    check(graft_sampler_new(good_session, good_graft_sampler_options(), NULL, &error), "graft_sampler_new sampler = NULL", 1, 1);
    check(graft_sampler_new(good_session, good_graft_sampler_options(), odd, &error), "graft_sampler_new sampler = odd", 1, 1);
    check(graft_sampler_new(good_session, good_graft_sampler_options(), (void *)&results[0], NULL), "graft_sampler_new error = NULL", 0, 0);
}

static void test_graft_sampler_reset(void) {
    check(graft_sampler_reset(good_sampler, &error), "graft_sampler_reset as it should be", 0, 1);
    check(graft_sampler_reset(NULL, &error), "graft_sampler_reset sampler = NULL", 1, 1);
    check(graft_sampler_reset(odd, &error), "graft_sampler_reset sampler = odd", 1, 1);
    check(graft_sampler_reset(freed_sampler, &error), "graft_sampler_reset sampler = freed_sampler", 1, 1);
    check(graft_sampler_reset((void *)good_error, &error), "graft_sampler_reset sampler = (void *)good_error", 1, 1);
    check(graft_sampler_reset((void *)good_cancel, &error), "graft_sampler_reset sampler = (void *)good_cancel", 1, 1);
    check(graft_sampler_reset((void *)good_team, &error), "graft_sampler_reset sampler = (void *)good_team", 1, 1);
    check(graft_sampler_reset((void *)good_model, &error), "graft_sampler_reset sampler = (void *)good_model", 1, 1);
    check(graft_sampler_reset((void *)good_adapter, &error), "graft_sampler_reset sampler = (void *)good_adapter", 1, 1);
    check(graft_sampler_reset((void *)good_session, &error), "graft_sampler_reset sampler = (void *)good_session", 1, 1);
    check(graft_sampler_reset((void *)good_generation, &error), "graft_sampler_reset sampler = (void *)good_generation", 1, 1);
    check(graft_sampler_reset((void *)good_batch, &error), "graft_sampler_reset sampler = (void *)good_batch", 1, 1);
    check(graft_sampler_reset((void *)good_trainer, &error), "graft_sampler_reset sampler = (void *)good_trainer", 1, 1);
    check(graft_sampler_reset(good_sampler, NULL), "graft_sampler_reset error = NULL", 0, 0);
}

static void test_graft_session_sample(void) {
    check(graft_session_sample(good_session, good_sampler, (void *)&results[1], &error), "graft_session_sample as it should be", 0, 1);
    check(graft_session_sample(NULL, good_sampler, (void *)&results[1], &error), "graft_session_sample session = NULL", 1, 1);
    check(graft_session_sample(odd, good_sampler, (void *)&results[1], &error), "graft_session_sample session = odd", 1, 1);
    check(graft_session_sample(freed_session, good_sampler, (void *)&results[1], &error), "graft_session_sample session = freed_session", 1, 1);
    check(graft_session_sample((void *)good_error, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_error", 1, 1);
    check(graft_session_sample((void *)good_cancel, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_cancel", 1, 1);
    check(graft_session_sample((void *)good_team, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_team", 1, 1);
    check(graft_session_sample((void *)good_model, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_model", 1, 1);
    check(graft_session_sample((void *)good_adapter, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_adapter", 1, 1);
    check(graft_session_sample((void *)good_sampler, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_sampler", 1, 1);
    check(graft_session_sample((void *)good_generation, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_generation", 1, 1);
    check(graft_session_sample((void *)good_batch, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_batch", 1, 1);
    check(graft_session_sample((void *)good_trainer, good_sampler, (void *)&results[1], &error), "graft_session_sample session = (void *)good_trainer", 1, 1);
    check(graft_session_sample(good_session, NULL, (void *)&results[1], &error), "graft_session_sample sampler = NULL", 1, 1);
    check(graft_session_sample(good_session, odd, (void *)&results[1], &error), "graft_session_sample sampler = odd", 1, 1);
    check(graft_session_sample(good_session, freed_sampler, (void *)&results[1], &error), "graft_session_sample sampler = freed_sampler", 1, 1);
    check(graft_session_sample(good_session, (void *)good_error, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_error", 1, 1);
    check(graft_session_sample(good_session, (void *)good_cancel, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_cancel", 1, 1);
    check(graft_session_sample(good_session, (void *)good_team, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_team", 1, 1);
    check(graft_session_sample(good_session, (void *)good_model, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_model", 1, 1);
    check(graft_session_sample(good_session, (void *)good_adapter, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_adapter", 1, 1);
    check(graft_session_sample(good_session, (void *)good_session, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_session", 1, 1);
    check(graft_session_sample(good_session, (void *)good_generation, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_generation", 1, 1);
    check(graft_session_sample(good_session, (void *)good_batch, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_batch", 1, 1);
    check(graft_session_sample(good_session, (void *)good_trainer, (void *)&results[1], &error), "graft_session_sample sampler = (void *)good_trainer", 1, 1);
    check(graft_session_sample(good_session, good_sampler, NULL, &error), "graft_session_sample token = NULL", 0, 1);
    check(graft_session_sample(good_session, good_sampler, odd, &error), "graft_session_sample token = odd", 1, 1);
    check(graft_session_sample(good_session, good_sampler, (void *)&results[1], NULL), "graft_session_sample error = NULL", 0, 0);
}

static void test_graft_sampler_free(void) {
    begin();
    graft_sampler_free(fresh_sampler());
    survived("graft_sampler_free as it should be");
    begin();
    graft_sampler_free(NULL);
    survived("graft_sampler_free sampler = NULL");
    begin();
    graft_sampler_free(odd);
    survived("graft_sampler_free sampler = odd");
    begin();
    graft_sampler_free(freed_sampler);
    survived("graft_sampler_free sampler = freed_sampler");
    begin();
    graft_sampler_free((void *)good_error);
    survived("graft_sampler_free sampler = (void *)good_error");
    begin();
    graft_sampler_free((void *)good_cancel);
    survived("graft_sampler_free sampler = (void *)good_cancel");
    begin();
    graft_sampler_free((void *)good_team);
    survived("graft_sampler_free sampler = (void *)good_team");
    begin();
    graft_sampler_free((void *)good_model);
    survived("graft_sampler_free sampler = (void *)good_model");
    begin();
    graft_sampler_free((void *)good_adapter);
    survived("graft_sampler_free sampler = (void *)good_adapter");
    begin();
    graft_sampler_free((void *)good_session);
    survived("graft_sampler_free sampler = (void *)good_session");
    begin();
    graft_sampler_free((void *)good_generation);
    survived("graft_sampler_free sampler = (void *)good_generation");
    begin();
    graft_sampler_free((void *)good_batch);
    survived("graft_sampler_free sampler = (void *)good_batch");
    begin();
    graft_sampler_free((void *)good_trainer);
    survived("graft_sampler_free sampler = (void *)good_trainer");
}

static void test_graft_generate_options_init(void) {
    begin();
    graft_generate_options_init(good_graft_generate_options(), sizeof(graft_generate_options));
    survived("graft_generate_options_init as it should be");
    begin();
    graft_generate_options_init(sized(0), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized(0)");
    begin();
    graft_generate_options_init(sized(1), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized(1)");
    begin();
    graft_generate_options_init(sized(7), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized(7)");
    begin();
    graft_generate_options_init(sized(sizeof(graft_generate_options) - 4), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized(sizeof(graft_generate_options) - 4)");
    begin();
    graft_generate_options_init(sized(sizeof(graft_generate_options) + 3), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized(sizeof(graft_generate_options) + 3)");
    begin();
    graft_generate_options_init(sized(100000), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized(100000)");
    begin();
    graft_generate_options_init(sized((size_t)-1), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = sized((size_t)-1)");
    begin();
    graft_generate_options_init(longer(sizeof(graft_generate_options), 0), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = longer(sizeof(graft_generate_options), 0)");
    begin();
    graft_generate_options_init(longer(sizeof(graft_generate_options), 1), sizeof(graft_generate_options));
    survived("graft_generate_options_init options = longer(sizeof(graft_generate_options), 1)");
    begin();
    graft_generate_options_init(NULL, sizeof(graft_generate_options));
    survived("graft_generate_options_init options = NULL");
    begin();
    graft_generate_options_init(odd, sizeof(graft_generate_options));
    survived("graft_generate_options_init options = odd");
    begin();
    graft_generate_options_init(good_graft_generate_options(), 0);
    survived("graft_generate_options_init struct_size = 0");
    begin();
    graft_generate_options_init(good_graft_generate_options(), 7);
    survived("graft_generate_options_init struct_size = 7");
    begin();
    graft_generate_options_init(good_graft_generate_options(), 8);
    survived("graft_generate_options_init struct_size = 8");
}

static void test_graft_generate_text(void) {
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text as it should be", 0, 1);
    check(graft_generate_text(NULL, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = NULL", 1, 1);
    check(graft_generate_text(odd, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = odd", 1, 1);
    check(graft_generate_text(freed_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = freed_session", 1, 1);
    check(graft_generate_text((void *)good_error, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_error", 1, 1);
    check(graft_generate_text((void *)good_cancel, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_cancel", 1, 1);
    check(graft_generate_text((void *)good_team, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_team", 1, 1);
    check(graft_generate_text((void *)good_model, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_model", 1, 1);
    check(graft_generate_text((void *)good_adapter, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_adapter", 1, 1);
    check(graft_generate_text((void *)good_sampler, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_sampler", 1, 1);
    check(graft_generate_text((void *)good_generation, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_generation", 1, 1);
    check(graft_generate_text((void *)good_batch, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_batch", 1, 1);
    check(graft_generate_text((void *)good_trainer, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text session = (void *)good_trainer", 1, 1);
    check(graft_generate_text(good_session, NULL, GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text text = NULL", 1, 1);
    check(graft_generate_text(good_session, "\xff\xfe", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text text = \"\\xff\\xfe\"", 0, 1);
    check(graft_generate_text(good_session, "", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text text = \"\"", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", 0, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_text text_len = 0", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized(0), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized(0)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized(1), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized(1)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized(7), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized(7)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized(sizeof(graft_generate_options) - 4), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized(sizeof(graft_generate_options) - 4)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized(sizeof(graft_generate_options) + 3), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized(sizeof(graft_generate_options) + 3)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized(100000), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized(100000)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, sized((size_t)-1), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = sized((size_t)-1)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, longer(sizeof(graft_generate_options), 0), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = longer(sizeof(graft_generate_options), 0)", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, longer(sizeof(graft_generate_options), 1), on_text, NULL, good_graft_report(), &error), "graft_generate_text options = longer(sizeof(graft_generate_options), 1)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, NULL, on_text, NULL, good_graft_report(), &error), "graft_generate_text options = NULL", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, odd, on_text, NULL, good_graft_report(), &error), "graft_generate_text options = odd", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), NULL, NULL, good_graft_report(), &error), "graft_generate_text callback = NULL", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized(0), &error), "graft_generate_text report = sized(0)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized(1), &error), "graft_generate_text report = sized(1)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized(7), &error), "graft_generate_text report = sized(7)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized(sizeof(graft_report) - 4), &error), "graft_generate_text report = sized(sizeof(graft_report) - 4)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized(sizeof(graft_report) + 3), &error), "graft_generate_text report = sized(sizeof(graft_report) + 3)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized(100000), &error), "graft_generate_text report = sized(100000)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, sized((size_t)-1), &error), "graft_generate_text report = sized((size_t)-1)", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, longer(sizeof(graft_report), 0), &error), "graft_generate_text report = longer(sizeof(graft_report), 0)", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, longer(sizeof(graft_report), 1), &error), "graft_generate_text report = longer(sizeof(graft_report), 1)", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, NULL, &error), "graft_generate_text report = NULL", 0, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, odd, &error), "graft_generate_text report = odd", 1, 1);
    check(graft_generate_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), on_text, NULL, good_graft_report(), NULL), "graft_generate_text error = NULL", 0, 0);
}

static void test_graft_generate_tokens(void) {
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens as it should be", 0, 1);
    check(graft_generate_tokens(NULL, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = NULL", 1, 1);
    check(graft_generate_tokens(odd, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = odd", 1, 1);
    check(graft_generate_tokens(freed_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = freed_session", 1, 1);
    check(graft_generate_tokens((void *)good_error, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_error", 1, 1);
    check(graft_generate_tokens((void *)good_cancel, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_cancel", 1, 1);
    check(graft_generate_tokens((void *)good_team, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_team", 1, 1);
    check(graft_generate_tokens((void *)good_model, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_model", 1, 1);
    check(graft_generate_tokens((void *)good_adapter, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_adapter", 1, 1);
    check(graft_generate_tokens((void *)good_sampler, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_sampler", 1, 1);
    check(graft_generate_tokens((void *)good_generation, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_generation", 1, 1);
    check(graft_generate_tokens((void *)good_batch, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_batch", 1, 1);
    check(graft_generate_tokens((void *)good_trainer, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens session = (void *)good_trainer", 1, 1);
    check(graft_generate_tokens(good_session, NULL, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens tokens = NULL", 1, 1);
    check(graft_generate_tokens(good_session, odd, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens tokens = odd", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 0, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens n_tokens = 0", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized(0), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized(0)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized(1), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized(1)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized(7), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized(7)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized(sizeof(graft_generate_options) - 4), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized(sizeof(graft_generate_options) - 4)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized(sizeof(graft_generate_options) + 3), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized(sizeof(graft_generate_options) + 3)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized(100000), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized(100000)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, sized((size_t)-1), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = sized((size_t)-1)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, longer(sizeof(graft_generate_options), 0), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = longer(sizeof(graft_generate_options), 0)", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, longer(sizeof(graft_generate_options), 1), on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = longer(sizeof(graft_generate_options), 1)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, NULL, on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = NULL", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, odd, on_text, NULL, good_graft_report(), &error), "graft_generate_tokens options = odd", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), NULL, NULL, good_graft_report(), &error), "graft_generate_tokens callback = NULL", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized(0), &error), "graft_generate_tokens report = sized(0)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized(1), &error), "graft_generate_tokens report = sized(1)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized(7), &error), "graft_generate_tokens report = sized(7)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized(sizeof(graft_report) - 4), &error), "graft_generate_tokens report = sized(sizeof(graft_report) - 4)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized(sizeof(graft_report) + 3), &error), "graft_generate_tokens report = sized(sizeof(graft_report) + 3)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized(100000), &error), "graft_generate_tokens report = sized(100000)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, sized((size_t)-1), &error), "graft_generate_tokens report = sized((size_t)-1)", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, longer(sizeof(graft_report), 0), &error), "graft_generate_tokens report = longer(sizeof(graft_report), 0)", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, longer(sizeof(graft_report), 1), &error), "graft_generate_tokens report = longer(sizeof(graft_report), 1)", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, NULL, &error), "graft_generate_tokens report = NULL", 0, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, odd, &error), "graft_generate_tokens report = odd", 1, 1);
    check(graft_generate_tokens(good_session, some_tokens, 3, good_graft_generate_options(), on_text, NULL, good_graft_report(), NULL), "graft_generate_tokens error = NULL", 0, 0);
}

static void test_graft_generate_messages(void) {
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages as it should be", 0, 1);
    check(graft_generate_messages(NULL, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = NULL", 1, 1);
    check(graft_generate_messages(odd, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = odd", 1, 1);
    check(graft_generate_messages(freed_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = freed_session", 1, 1);
    check(graft_generate_messages((void *)good_error, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_error", 1, 1);
    check(graft_generate_messages((void *)good_cancel, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_cancel", 1, 1);
    check(graft_generate_messages((void *)good_team, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_team", 1, 1);
    check(graft_generate_messages((void *)good_model, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_model", 1, 1);
    check(graft_generate_messages((void *)good_adapter, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_adapter", 1, 1);
    check(graft_generate_messages((void *)good_sampler, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_sampler", 1, 1);
    check(graft_generate_messages((void *)good_generation, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_generation", 1, 1);
    check(graft_generate_messages((void *)good_batch, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_batch", 1, 1);
    check(graft_generate_messages((void *)good_trainer, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages session = (void *)good_trainer", 1, 1);
    check(graft_generate_messages(good_session, NULL, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages messages = NULL", 1, 1);
    check(graft_generate_messages(good_session, odd, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages messages = odd", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 0, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages n_messages = 0", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized(0), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized(0)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized(1), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized(1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized(7), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized(7)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized(sizeof(graft_chat_options) - 4), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized(sizeof(graft_chat_options) - 4)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized(sizeof(graft_chat_options) + 3), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized(sizeof(graft_chat_options) + 3)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized(100000), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized(100000)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, sized((size_t)-1), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = sized((size_t)-1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, longer(sizeof(graft_chat_options), 0), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = longer(sizeof(graft_chat_options), 0)", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, longer(sizeof(graft_chat_options), 1), good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = longer(sizeof(graft_chat_options), 1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, NULL, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = NULL", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, odd, good_graft_generate_options(), on_text, NULL, good_graft_report(), &error), "graft_generate_messages chat = odd", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(0), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized(0)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(1), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized(1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(7), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized(7)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(sizeof(graft_generate_options) - 4), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized(sizeof(graft_generate_options) - 4)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(sizeof(graft_generate_options) + 3), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized(sizeof(graft_generate_options) + 3)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(100000), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized(100000)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), sized((size_t)-1), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = sized((size_t)-1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), longer(sizeof(graft_generate_options), 0), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = longer(sizeof(graft_generate_options), 0)", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), longer(sizeof(graft_generate_options), 1), on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = longer(sizeof(graft_generate_options), 1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), NULL, on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = NULL", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), odd, on_text, NULL, good_graft_report(), &error), "graft_generate_messages options = odd", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), NULL, NULL, good_graft_report(), &error), "graft_generate_messages callback = NULL", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized(0), &error), "graft_generate_messages report = sized(0)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized(1), &error), "graft_generate_messages report = sized(1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized(7), &error), "graft_generate_messages report = sized(7)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized(sizeof(graft_report) - 4), &error), "graft_generate_messages report = sized(sizeof(graft_report) - 4)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized(sizeof(graft_report) + 3), &error), "graft_generate_messages report = sized(sizeof(graft_report) + 3)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized(100000), &error), "graft_generate_messages report = sized(100000)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, sized((size_t)-1), &error), "graft_generate_messages report = sized((size_t)-1)", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, longer(sizeof(graft_report), 0), &error), "graft_generate_messages report = longer(sizeof(graft_report), 0)", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, longer(sizeof(graft_report), 1), &error), "graft_generate_messages report = longer(sizeof(graft_report), 1)", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, NULL, &error), "graft_generate_messages report = NULL", 0, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, odd, &error), "graft_generate_messages report = odd", 1, 1);
    check(graft_generate_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), on_text, NULL, good_graft_report(), NULL), "graft_generate_messages error = NULL", 0, 0);
}

static void test_graft_generation_of_text(void) {
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text as it should be", 0, 1);
    check(graft_generation_of_text(NULL, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = NULL", 1, 1);
    check(graft_generation_of_text(odd, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = odd", 1, 1);
    check(graft_generation_of_text(freed_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = freed_session", 1, 1);
    check(graft_generation_of_text((void *)good_error, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_error", 1, 1);
    check(graft_generation_of_text((void *)good_cancel, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_cancel", 1, 1);
    check(graft_generation_of_text((void *)good_team, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_team", 1, 1);
    check(graft_generation_of_text((void *)good_model, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_model", 1, 1);
    check(graft_generation_of_text((void *)good_adapter, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_adapter", 1, 1);
    check(graft_generation_of_text((void *)good_sampler, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_sampler", 1, 1);
    check(graft_generation_of_text((void *)good_generation, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_generation", 1, 1);
    check(graft_generation_of_text((void *)good_batch, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_batch", 1, 1);
    check(graft_generation_of_text((void *)good_trainer, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text session = (void *)good_trainer", 1, 1);
    check(graft_generation_of_text(good_session, NULL, GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text text = NULL", 1, 1);
    check(graft_generation_of_text(good_session, "\xff\xfe", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text text = \"\\xff\\xfe\"", 0, 1);
    check(graft_generation_of_text(good_session, "", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text text = \"\"", 0, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", 0, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_text text_len = 0", 0, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized(0), (void *)&results[0], &error), "graft_generation_of_text options = sized(0)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized(1), (void *)&results[0], &error), "graft_generation_of_text options = sized(1)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized(7), (void *)&results[0], &error), "graft_generation_of_text options = sized(7)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized(sizeof(graft_generate_options) - 4), (void *)&results[0], &error), "graft_generation_of_text options = sized(sizeof(graft_generate_options) - 4)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized(sizeof(graft_generate_options) + 3), (void *)&results[0], &error), "graft_generation_of_text options = sized(sizeof(graft_generate_options) + 3)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized(100000), (void *)&results[0], &error), "graft_generation_of_text options = sized(100000)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, sized((size_t)-1), (void *)&results[0], &error), "graft_generation_of_text options = sized((size_t)-1)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, longer(sizeof(graft_generate_options), 0), (void *)&results[0], &error), "graft_generation_of_text options = longer(sizeof(graft_generate_options), 0)", 0, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, longer(sizeof(graft_generate_options), 1), (void *)&results[0], &error), "graft_generation_of_text options = longer(sizeof(graft_generate_options), 1)", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, NULL, (void *)&results[0], &error), "graft_generation_of_text options = NULL", 0, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, odd, (void *)&results[0], &error), "graft_generation_of_text options = odd", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), NULL, &error), "graft_generation_of_text generation = NULL", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), odd, &error), "graft_generation_of_text generation = odd", 1, 1);
    check(graft_generation_of_text(good_session, "Once upon a time", GRAFT_NUL, good_graft_generate_options(), (void *)&results[0], NULL), "graft_generation_of_text error = NULL", 0, 0);
}

static void test_graft_generation_of_tokens(void) {
    check(graft_generation_of_tokens(good_session, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens as it should be", 0, 1);
    check(graft_generation_of_tokens(NULL, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = NULL", 1, 1);
    check(graft_generation_of_tokens(odd, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = odd", 1, 1);
    check(graft_generation_of_tokens(freed_session, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = freed_session", 1, 1);
    check(graft_generation_of_tokens((void *)good_error, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_error", 1, 1);
    check(graft_generation_of_tokens((void *)good_cancel, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_cancel", 1, 1);
    check(graft_generation_of_tokens((void *)good_team, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_team", 1, 1);
    check(graft_generation_of_tokens((void *)good_model, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_model", 1, 1);
    check(graft_generation_of_tokens((void *)good_adapter, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_adapter", 1, 1);
    check(graft_generation_of_tokens((void *)good_sampler, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_sampler", 1, 1);
    check(graft_generation_of_tokens((void *)good_generation, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_generation", 1, 1);
    check(graft_generation_of_tokens((void *)good_batch, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_batch", 1, 1);
    check(graft_generation_of_tokens((void *)good_trainer, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens session = (void *)good_trainer", 1, 1);
    check(graft_generation_of_tokens(good_session, NULL, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens tokens = NULL", 1, 1);
    check(graft_generation_of_tokens(good_session, odd, 3, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens tokens = odd", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 0, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_tokens n_tokens = 0", 0, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized(0), (void *)&results[0], &error), "graft_generation_of_tokens options = sized(0)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized(1), (void *)&results[0], &error), "graft_generation_of_tokens options = sized(1)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized(7), (void *)&results[0], &error), "graft_generation_of_tokens options = sized(7)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized(sizeof(graft_generate_options) - 4), (void *)&results[0], &error), "graft_generation_of_tokens options = sized(sizeof(graft_generate_options) - 4)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized(sizeof(graft_generate_options) + 3), (void *)&results[0], &error), "graft_generation_of_tokens options = sized(sizeof(graft_generate_options) + 3)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized(100000), (void *)&results[0], &error), "graft_generation_of_tokens options = sized(100000)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, sized((size_t)-1), (void *)&results[0], &error), "graft_generation_of_tokens options = sized((size_t)-1)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, longer(sizeof(graft_generate_options), 0), (void *)&results[0], &error), "graft_generation_of_tokens options = longer(sizeof(graft_generate_options), 0)", 0, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, longer(sizeof(graft_generate_options), 1), (void *)&results[0], &error), "graft_generation_of_tokens options = longer(sizeof(graft_generate_options), 1)", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, NULL, (void *)&results[0], &error), "graft_generation_of_tokens options = NULL", 0, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, odd, (void *)&results[0], &error), "graft_generation_of_tokens options = odd", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, good_graft_generate_options(), NULL, &error), "graft_generation_of_tokens generation = NULL", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, good_graft_generate_options(), odd, &error), "graft_generation_of_tokens generation = odd", 1, 1);
    check(graft_generation_of_tokens(good_session, some_tokens, 3, good_graft_generate_options(), (void *)&results[0], NULL), "graft_generation_of_tokens error = NULL", 0, 0);
}

static void test_graft_generation_of_messages(void) {
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages as it should be", 0, 1);
    check(graft_generation_of_messages(NULL, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = NULL", 1, 1);
    check(graft_generation_of_messages(odd, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = odd", 1, 1);
    check(graft_generation_of_messages(freed_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = freed_session", 1, 1);
    check(graft_generation_of_messages((void *)good_error, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_error", 1, 1);
    check(graft_generation_of_messages((void *)good_cancel, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_cancel", 1, 1);
    check(graft_generation_of_messages((void *)good_team, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_team", 1, 1);
    check(graft_generation_of_messages((void *)good_model, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_model", 1, 1);
    check(graft_generation_of_messages((void *)good_adapter, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_adapter", 1, 1);
    check(graft_generation_of_messages((void *)good_sampler, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_sampler", 1, 1);
    check(graft_generation_of_messages((void *)good_generation, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_generation", 1, 1);
    check(graft_generation_of_messages((void *)good_batch, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_batch", 1, 1);
    check(graft_generation_of_messages((void *)good_trainer, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages session = (void *)good_trainer", 1, 1);
    check(graft_generation_of_messages(good_session, NULL, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages messages = NULL", 1, 1);
    check(graft_generation_of_messages(good_session, odd, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages messages = odd", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 0, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages n_messages = 0", 0, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized(0), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized(0)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized(1), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized(1)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized(7), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized(7)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized(sizeof(graft_chat_options) - 4), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized(sizeof(graft_chat_options) - 4)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized(sizeof(graft_chat_options) + 3), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized(sizeof(graft_chat_options) + 3)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized(100000), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized(100000)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, sized((size_t)-1), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = sized((size_t)-1)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, longer(sizeof(graft_chat_options), 0), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = longer(sizeof(graft_chat_options), 0)", 0, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, longer(sizeof(graft_chat_options), 1), good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = longer(sizeof(graft_chat_options), 1)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, NULL, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = NULL", 0, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, odd, good_graft_generate_options(), (void *)&results[0], &error), "graft_generation_of_messages chat = odd", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(0), (void *)&results[0], &error), "graft_generation_of_messages options = sized(0)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(1), (void *)&results[0], &error), "graft_generation_of_messages options = sized(1)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(7), (void *)&results[0], &error), "graft_generation_of_messages options = sized(7)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(sizeof(graft_generate_options) - 4), (void *)&results[0], &error), "graft_generation_of_messages options = sized(sizeof(graft_generate_options) - 4)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(sizeof(graft_generate_options) + 3), (void *)&results[0], &error), "graft_generation_of_messages options = sized(sizeof(graft_generate_options) + 3)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized(100000), (void *)&results[0], &error), "graft_generation_of_messages options = sized(100000)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), sized((size_t)-1), (void *)&results[0], &error), "graft_generation_of_messages options = sized((size_t)-1)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), longer(sizeof(graft_generate_options), 0), (void *)&results[0], &error), "graft_generation_of_messages options = longer(sizeof(graft_generate_options), 0)", 0, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), longer(sizeof(graft_generate_options), 1), (void *)&results[0], &error), "graft_generation_of_messages options = longer(sizeof(graft_generate_options), 1)", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), NULL, (void *)&results[0], &error), "graft_generation_of_messages options = NULL", 0, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), odd, (void *)&results[0], &error), "graft_generation_of_messages options = odd", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), NULL, &error), "graft_generation_of_messages generation = NULL", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), odd, &error), "graft_generation_of_messages generation = odd", 1, 1);
    check(graft_generation_of_messages(good_session, some_messages, 1, good_graft_chat_options(), good_graft_generate_options(), (void *)&results[0], NULL), "graft_generation_of_messages error = NULL", 0, 0);
}

static void test_graft_generation_next(void) {
    check(graft_generation_next(good_generation, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next as it should be", 0, 1);
    check(graft_generation_next(NULL, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = NULL", 1, 1);
    check(graft_generation_next(odd, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = odd", 1, 1);
    check(graft_generation_next(freed_generation, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = freed_generation", 1, 1);
    check(graft_generation_next((void *)good_error, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_error", 1, 1);
    check(graft_generation_next((void *)good_cancel, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_cancel", 1, 1);
    check(graft_generation_next((void *)good_team, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_team", 1, 1);
    check(graft_generation_next((void *)good_model, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_model", 1, 1);
    check(graft_generation_next((void *)good_adapter, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_adapter", 1, 1);
    check(graft_generation_next((void *)good_session, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_session", 1, 1);
    check(graft_generation_next((void *)good_sampler, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_sampler", 1, 1);
    check(graft_generation_next((void *)good_batch, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_batch", 1, 1);
    check(graft_generation_next((void *)good_trainer, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next generation = (void *)good_trainer", 1, 1);
    check(graft_generation_next(good_generation, NULL, (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next text = NULL", 1, 1);
    check(graft_generation_next(good_generation, odd, (void *)&results[2], (void *)&results[1], (void *)&results[1], &error), "graft_generation_next text = odd", 1, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], NULL, (void *)&results[1], (void *)&results[1], &error), "graft_generation_next text_len = NULL", 0, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], odd, (void *)&results[1], (void *)&results[1], &error), "graft_generation_next text_len = odd", 1, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], (void *)&results[2], NULL, (void *)&results[1], &error), "graft_generation_next token = NULL", 0, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], (void *)&results[2], odd, (void *)&results[1], &error), "graft_generation_next token = odd", 1, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], (void *)&results[2], (void *)&results[1], NULL, &error), "graft_generation_next more = NULL", 1, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], (void *)&results[2], (void *)&results[1], odd, &error), "graft_generation_next more = odd", 1, 1);
    check(graft_generation_next(good_generation, (void *)&results[0], (void *)&results[2], (void *)&results[1], (void *)&results[1], NULL), "graft_generation_next error = NULL", 0, 0);
}

static void test_graft_generation_cancel(void) {
    check(graft_generation_cancel(good_generation, &error), "graft_generation_cancel as it should be", 0, 1);
    check(graft_generation_cancel(NULL, &error), "graft_generation_cancel generation = NULL", 1, 1);
    check(graft_generation_cancel(odd, &error), "graft_generation_cancel generation = odd", 1, 1);
    check(graft_generation_cancel(freed_generation, &error), "graft_generation_cancel generation = freed_generation", 1, 1);
    check(graft_generation_cancel((void *)good_error, &error), "graft_generation_cancel generation = (void *)good_error", 1, 1);
    check(graft_generation_cancel((void *)good_cancel, &error), "graft_generation_cancel generation = (void *)good_cancel", 1, 1);
    check(graft_generation_cancel((void *)good_team, &error), "graft_generation_cancel generation = (void *)good_team", 1, 1);
    check(graft_generation_cancel((void *)good_model, &error), "graft_generation_cancel generation = (void *)good_model", 1, 1);
    check(graft_generation_cancel((void *)good_adapter, &error), "graft_generation_cancel generation = (void *)good_adapter", 1, 1);
    check(graft_generation_cancel((void *)good_session, &error), "graft_generation_cancel generation = (void *)good_session", 1, 1);
    check(graft_generation_cancel((void *)good_sampler, &error), "graft_generation_cancel generation = (void *)good_sampler", 1, 1);
    check(graft_generation_cancel((void *)good_batch, &error), "graft_generation_cancel generation = (void *)good_batch", 1, 1);
    check(graft_generation_cancel((void *)good_trainer, &error), "graft_generation_cancel generation = (void *)good_trainer", 1, 1);
    check(graft_generation_cancel(good_generation, NULL), "graft_generation_cancel error = NULL", 0, 0);
}

static void test_graft_generation_report(void) {
    check(graft_generation_report(good_generation, good_graft_report(), &error), "graft_generation_report as it should be", 0, 1);
    check(graft_generation_report(NULL, good_graft_report(), &error), "graft_generation_report generation = NULL", 1, 1);
    check(graft_generation_report(odd, good_graft_report(), &error), "graft_generation_report generation = odd", 1, 1);
    check(graft_generation_report(freed_generation, good_graft_report(), &error), "graft_generation_report generation = freed_generation", 1, 1);
    check(graft_generation_report((void *)good_error, good_graft_report(), &error), "graft_generation_report generation = (void *)good_error", 1, 1);
    check(graft_generation_report((void *)good_cancel, good_graft_report(), &error), "graft_generation_report generation = (void *)good_cancel", 1, 1);
    check(graft_generation_report((void *)good_team, good_graft_report(), &error), "graft_generation_report generation = (void *)good_team", 1, 1);
    check(graft_generation_report((void *)good_model, good_graft_report(), &error), "graft_generation_report generation = (void *)good_model", 1, 1);
    check(graft_generation_report((void *)good_adapter, good_graft_report(), &error), "graft_generation_report generation = (void *)good_adapter", 1, 1);
    check(graft_generation_report((void *)good_session, good_graft_report(), &error), "graft_generation_report generation = (void *)good_session", 1, 1);
    check(graft_generation_report((void *)good_sampler, good_graft_report(), &error), "graft_generation_report generation = (void *)good_sampler", 1, 1);
    check(graft_generation_report((void *)good_batch, good_graft_report(), &error), "graft_generation_report generation = (void *)good_batch", 1, 1);
    check(graft_generation_report((void *)good_trainer, good_graft_report(), &error), "graft_generation_report generation = (void *)good_trainer", 1, 1);
    check(graft_generation_report(good_generation, sized(0), &error), "graft_generation_report report = sized(0)", 1, 1);
    check(graft_generation_report(good_generation, sized(1), &error), "graft_generation_report report = sized(1)", 1, 1);
    check(graft_generation_report(good_generation, sized(7), &error), "graft_generation_report report = sized(7)", 1, 1);
    check(graft_generation_report(good_generation, sized(sizeof(graft_report) - 4), &error), "graft_generation_report report = sized(sizeof(graft_report) - 4)", 1, 1);
    check(graft_generation_report(good_generation, sized(sizeof(graft_report) + 3), &error), "graft_generation_report report = sized(sizeof(graft_report) + 3)", 1, 1);
    check(graft_generation_report(good_generation, sized(100000), &error), "graft_generation_report report = sized(100000)", 1, 1);
    check(graft_generation_report(good_generation, sized((size_t)-1), &error), "graft_generation_report report = sized((size_t)-1)", 1, 1);
    check(graft_generation_report(good_generation, longer(sizeof(graft_report), 0), &error), "graft_generation_report report = longer(sizeof(graft_report), 0)", 0, 1);
    check(graft_generation_report(good_generation, longer(sizeof(graft_report), 1), &error), "graft_generation_report report = longer(sizeof(graft_report), 1)", 0, 1);
    check(graft_generation_report(good_generation, NULL, &error), "graft_generation_report report = NULL", 0, 1);
    check(graft_generation_report(good_generation, odd, &error), "graft_generation_report report = odd", 1, 1);
    check(graft_generation_report(good_generation, good_graft_report(), NULL), "graft_generation_report error = NULL", 0, 0);
}

static void test_graft_generation_free(void) {
    begin();
    graft_generation_free(fresh_generation());
    survived("graft_generation_free as it should be");
    begin();
    graft_generation_free(NULL);
    survived("graft_generation_free generation = NULL");
    begin();
    graft_generation_free(odd);
    survived("graft_generation_free generation = odd");
    begin();
    graft_generation_free(freed_generation);
    survived("graft_generation_free generation = freed_generation");
    begin();
    graft_generation_free((void *)good_error);
    survived("graft_generation_free generation = (void *)good_error");
    begin();
    graft_generation_free((void *)good_cancel);
    survived("graft_generation_free generation = (void *)good_cancel");
    begin();
    graft_generation_free((void *)good_team);
    survived("graft_generation_free generation = (void *)good_team");
    begin();
    graft_generation_free((void *)good_model);
    survived("graft_generation_free generation = (void *)good_model");
    begin();
    graft_generation_free((void *)good_adapter);
    survived("graft_generation_free generation = (void *)good_adapter");
    begin();
    graft_generation_free((void *)good_session);
    survived("graft_generation_free generation = (void *)good_session");
    begin();
    graft_generation_free((void *)good_sampler);
    survived("graft_generation_free generation = (void *)good_sampler");
    begin();
    graft_generation_free((void *)good_batch);
    survived("graft_generation_free generation = (void *)good_batch");
    begin();
    graft_generation_free((void *)good_trainer);
    survived("graft_generation_free generation = (void *)good_trainer");
}

static void test_graft_batch_options_init(void) {
    begin();
    graft_batch_options_init(good_graft_batch_options(), sizeof(graft_batch_options));
    survived("graft_batch_options_init as it should be");
    begin();
    graft_batch_options_init(sized(0), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized(0)");
    begin();
    graft_batch_options_init(sized(1), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized(1)");
    begin();
    graft_batch_options_init(sized(7), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized(7)");
    begin();
    graft_batch_options_init(sized(sizeof(graft_batch_options) - 4), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized(sizeof(graft_batch_options) - 4)");
    begin();
    graft_batch_options_init(sized(sizeof(graft_batch_options) + 3), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized(sizeof(graft_batch_options) + 3)");
    begin();
    graft_batch_options_init(sized(100000), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized(100000)");
    begin();
    graft_batch_options_init(sized((size_t)-1), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = sized((size_t)-1)");
    begin();
    graft_batch_options_init(longer(sizeof(graft_batch_options), 0), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = longer(sizeof(graft_batch_options), 0)");
    begin();
    graft_batch_options_init(longer(sizeof(graft_batch_options), 1), sizeof(graft_batch_options));
    survived("graft_batch_options_init options = longer(sizeof(graft_batch_options), 1)");
    begin();
    graft_batch_options_init(NULL, sizeof(graft_batch_options));
    survived("graft_batch_options_init options = NULL");
    begin();
    graft_batch_options_init(odd, sizeof(graft_batch_options));
    survived("graft_batch_options_init options = odd");
    begin();
    graft_batch_options_init(good_graft_batch_options(), 0);
    survived("graft_batch_options_init struct_size = 0");
    begin();
    graft_batch_options_init(good_graft_batch_options(), 7);
    survived("graft_batch_options_init struct_size = 7");
    begin();
    graft_batch_options_init(good_graft_batch_options(), 8);
    survived("graft_batch_options_init struct_size = 8");
}

static void test_graft_batch_new(void) {
    check(graft_batch_new(good_model, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new as it should be", 0, 1);
    check(graft_batch_new(NULL, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = NULL", 1, 1);
    check(graft_batch_new(odd, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = odd", 1, 1);
    check(graft_batch_new(freed_model, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = freed_model", 1, 1);
    check(graft_batch_new((void *)good_error, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_error", 1, 1);
    check(graft_batch_new((void *)good_cancel, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_cancel", 1, 1);
    check(graft_batch_new((void *)good_team, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_team", 1, 1);
    check(graft_batch_new((void *)good_adapter, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_adapter", 1, 1);
    check(graft_batch_new((void *)good_session, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_session", 1, 1);
    check(graft_batch_new((void *)good_sampler, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_sampler", 1, 1);
    check(graft_batch_new((void *)good_generation, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_generation", 1, 1);
    check(graft_batch_new((void *)good_batch, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_batch", 1, 1);
    check(graft_batch_new((void *)good_trainer, good_graft_batch_options(), (void *)&results[0], &error), "graft_batch_new model = (void *)good_trainer", 1, 1);
    check(graft_batch_new(good_model, sized(0), (void *)&results[0], &error), "graft_batch_new options = sized(0)", 1, 1);
    check(graft_batch_new(good_model, sized(1), (void *)&results[0], &error), "graft_batch_new options = sized(1)", 1, 1);
    check(graft_batch_new(good_model, sized(7), (void *)&results[0], &error), "graft_batch_new options = sized(7)", 1, 1);
    check(graft_batch_new(good_model, sized(sizeof(graft_batch_options) - 4), (void *)&results[0], &error), "graft_batch_new options = sized(sizeof(graft_batch_options) - 4)", 1, 1);
    check(graft_batch_new(good_model, sized(sizeof(graft_batch_options) + 3), (void *)&results[0], &error), "graft_batch_new options = sized(sizeof(graft_batch_options) + 3)", 1, 1);
    check(graft_batch_new(good_model, sized(100000), (void *)&results[0], &error), "graft_batch_new options = sized(100000)", 1, 1);
    check(graft_batch_new(good_model, sized((size_t)-1), (void *)&results[0], &error), "graft_batch_new options = sized((size_t)-1)", 1, 1);
    check(graft_batch_new(good_model, longer(sizeof(graft_batch_options), 0), (void *)&results[0], &error), "graft_batch_new options = longer(sizeof(graft_batch_options), 0)", 0, 1);
    check(graft_batch_new(good_model, longer(sizeof(graft_batch_options), 1), (void *)&results[0], &error), "graft_batch_new options = longer(sizeof(graft_batch_options), 1)", 1, 1);
    check(graft_batch_new(good_model, NULL, (void *)&results[0], &error), "graft_batch_new options = NULL", 0, 1);
    check(graft_batch_new(good_model, odd, (void *)&results[0], &error), "graft_batch_new options = odd", 1, 1);
    check(graft_batch_new(good_model, good_graft_batch_options(), NULL, &error), "graft_batch_new batch = NULL", 1, 1);
    check(graft_batch_new(good_model, good_graft_batch_options(), odd, &error), "graft_batch_new batch = odd", 1, 1);
    check(graft_batch_new(good_model, good_graft_batch_options(), (void *)&results[0], NULL), "graft_batch_new error = NULL", 0, 0);
}

static void test_graft_batch_free(void) {
    begin();
    graft_batch_free(fresh_batch());
    survived("graft_batch_free as it should be");
    begin();
    graft_batch_free(NULL);
    survived("graft_batch_free batch = NULL");
    begin();
    graft_batch_free(odd);
    survived("graft_batch_free batch = odd");
    begin();
    graft_batch_free(freed_batch);
    survived("graft_batch_free batch = freed_batch");
    begin();
    graft_batch_free((void *)good_error);
    survived("graft_batch_free batch = (void *)good_error");
    begin();
    graft_batch_free((void *)good_cancel);
    survived("graft_batch_free batch = (void *)good_cancel");
    begin();
    graft_batch_free((void *)good_team);
    survived("graft_batch_free batch = (void *)good_team");
    begin();
    graft_batch_free((void *)good_model);
    survived("graft_batch_free batch = (void *)good_model");
    begin();
    graft_batch_free((void *)good_adapter);
    survived("graft_batch_free batch = (void *)good_adapter");
    begin();
    graft_batch_free((void *)good_session);
    survived("graft_batch_free batch = (void *)good_session");
    begin();
    graft_batch_free((void *)good_sampler);
    survived("graft_batch_free batch = (void *)good_sampler");
    begin();
    graft_batch_free((void *)good_generation);
    survived("graft_batch_free batch = (void *)good_generation");
    begin();
    graft_batch_free((void *)good_trainer);
    survived("graft_batch_free batch = (void *)good_trainer");
}

static void test_graft_batch_adapter(void) {
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter as it should be", 0, 1);
    check(graft_batch_adapter(NULL, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = NULL", 1, 1);
    check(graft_batch_adapter(odd, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = odd", 1, 1);
    check(graft_batch_adapter(freed_batch, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = freed_batch", 1, 1);
    check(graft_batch_adapter((void *)good_error, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_error", 1, 1);
    check(graft_batch_adapter((void *)good_cancel, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_cancel", 1, 1);
    check(graft_batch_adapter((void *)good_team, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_team", 1, 1);
    check(graft_batch_adapter((void *)good_model, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_model", 1, 1);
    check(graft_batch_adapter((void *)good_adapter, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_adapter", 1, 1);
    check(graft_batch_adapter((void *)good_session, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_session", 1, 1);
    check(graft_batch_adapter((void *)good_sampler, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_sampler", 1, 1);
    check(graft_batch_adapter((void *)good_generation, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_generation", 1, 1);
    check(graft_batch_adapter((void *)good_trainer, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter batch = (void *)good_trainer", 1, 1);
    check(graft_batch_adapter(good_batch, NULL, GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter name = NULL", 0, 1);
    check(graft_batch_adapter(good_batch, "\xff\xfe", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter name = \"\\xff\\xfe\"", 0, 1);
    check(graft_batch_adapter(good_batch, "", GRAFT_NUL, good_adapter, 0.5, &error), "graft_batch_adapter name = \"\"", 0, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", 0, good_adapter, 0.5, &error), "graft_batch_adapter name_len = 0", 0, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, NULL, 0.5, &error), "graft_batch_adapter adapter = NULL", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, odd, 0.5, &error), "graft_batch_adapter adapter = odd", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, freed_adapter, 0.5, &error), "graft_batch_adapter adapter = freed_adapter", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_error, 0.5, &error), "graft_batch_adapter adapter = (void *)good_error", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_cancel, 0.5, &error), "graft_batch_adapter adapter = (void *)good_cancel", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_team, 0.5, &error), "graft_batch_adapter adapter = (void *)good_team", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_model, 0.5, &error), "graft_batch_adapter adapter = (void *)good_model", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_session, 0.5, &error), "graft_batch_adapter adapter = (void *)good_session", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_sampler, 0.5, &error), "graft_batch_adapter adapter = (void *)good_sampler", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_generation, 0.5, &error), "graft_batch_adapter adapter = (void *)good_generation", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_batch, 0.5, &error), "graft_batch_adapter adapter = (void *)good_batch", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, (void *)good_trainer, 0.5, &error), "graft_batch_adapter adapter = (void *)good_trainer", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, good_adapter, 0, &error), "graft_batch_adapter weight = 0", 0, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, good_adapter, -1, &error), "graft_batch_adapter weight = -1", 0, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, good_adapter, (float)(0 / zero), &error), "graft_batch_adapter weight = (float)(0 / zero)", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, good_adapter, (float)(1 / zero), &error), "graft_batch_adapter weight = (float)(1 / zero)", 1, 1);
    check(graft_batch_adapter(good_batch, "Once upon a time", GRAFT_NUL, good_adapter, 0.5, NULL), "graft_batch_adapter error = NULL", 0, 0);
}

static void test_graft_batch_line(void) {
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line as it should be", 0, 1);
    check(graft_batch_line(NULL, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = NULL", 1, 1);
    check(graft_batch_line(odd, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = odd", 1, 1);
    check(graft_batch_line(freed_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = freed_batch", 1, 1);
    check(graft_batch_line((void *)good_error, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_error", 1, 1);
    check(graft_batch_line((void *)good_cancel, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_cancel", 1, 1);
    check(graft_batch_line((void *)good_team, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_team", 1, 1);
    check(graft_batch_line((void *)good_model, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_model", 1, 1);
    check(graft_batch_line((void *)good_adapter, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_adapter", 1, 1);
    check(graft_batch_line((void *)good_session, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_session", 1, 1);
    check(graft_batch_line((void *)good_sampler, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_sampler", 1, 1);
    check(graft_batch_line((void *)good_generation, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_generation", 1, 1);
    check(graft_batch_line((void *)good_trainer, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line batch = (void *)good_trainer", 1, 1);
    check(graft_batch_line(good_batch, NULL, GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line line = NULL", 1, 1);
    check(graft_batch_line(good_batch, "\xff\xfe", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line line = \"\\xff\\xfe\"", 0, 1);
    check(graft_batch_line(good_batch, "", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line line = \"\"", 0, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", 0, 0, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line line_len = 0", 0, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 1, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line number = 1", 0, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 1000000, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line number = 1000000", 0, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 18446744073709551615u, (void *)&results[0], (void *)&results[2], &error), "graft_batch_line number = 18446744073709551615u", 0, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, NULL, (void *)&results[2], &error), "graft_batch_line record = NULL", 1, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], NULL, &error), "graft_batch_line record_len = NULL", 0, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], odd, &error), "graft_batch_line record_len = odd", 1, 1);
    check(graft_batch_line(good_batch, "{\"prompt\": \"Once\", \"max_tokens\": 2}", GRAFT_NUL, 0, (void *)&results[0], (void *)&results[2], NULL), "graft_batch_line error = NULL", 0, 0);
}

static void test_graft_batch_run(void) {
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run as it should be", 0, 1);
    check(graft_batch_run(NULL, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = NULL", 1, 1);
    check(graft_batch_run(odd, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = odd", 1, 1);
    check(graft_batch_run(freed_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = freed_batch", 1, 1);
    check(graft_batch_run((void *)good_error, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_error", 1, 1);
    check(graft_batch_run((void *)good_cancel, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_cancel", 1, 1);
    check(graft_batch_run((void *)good_team, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_team", 1, 1);
    check(graft_batch_run((void *)good_model, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_model", 1, 1);
    check(graft_batch_run((void *)good_adapter, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_adapter", 1, 1);
    check(graft_batch_run((void *)good_session, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_session", 1, 1);
    check(graft_batch_run((void *)good_sampler, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_sampler", 1, 1);
    check(graft_batch_run((void *)good_generation, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_generation", 1, 1);
    check(graft_batch_run((void *)good_trainer, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run batch = (void *)good_trainer", 1, 1);
    check(graft_batch_run(good_batch, NULL, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run input = NULL", 1, 1);
    check(graft_batch_run(good_batch, "\xff\xfe", GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run input = \"\\xff\\xfe\"", 0, 1);
    check(graft_batch_run(good_batch, "", GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run input = \"\"", 0, 1);
    check(graft_batch_run(good_batch, lines_path, 0, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run input_len = 0", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, NULL, GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run output = NULL", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, "\xff\xfe", GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run output = \"\\xff\\xfe\"", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, "", GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run output = \"\"", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), 0, on_progress, NULL, good_graft_batch_report(), &error), "graft_batch_run output_len = 0", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, NULL, NULL, good_graft_batch_report(), &error), "graft_batch_run callback = NULL", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized(0), &error), "graft_batch_run report = sized(0)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized(1), &error), "graft_batch_run report = sized(1)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized(7), &error), "graft_batch_run report = sized(7)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized(sizeof(graft_batch_report) - 4), &error), "graft_batch_run report = sized(sizeof(graft_batch_report) - 4)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized(sizeof(graft_batch_report) + 3), &error), "graft_batch_run report = sized(sizeof(graft_batch_report) + 3)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized(100000), &error), "graft_batch_run report = sized(100000)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, sized((size_t)-1), &error), "graft_batch_run report = sized((size_t)-1)", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, longer(sizeof(graft_batch_report), 0), &error), "graft_batch_run report = longer(sizeof(graft_batch_report), 0)", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, longer(sizeof(graft_batch_report), 1), &error), "graft_batch_run report = longer(sizeof(graft_batch_report), 1)", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, NULL, &error), "graft_batch_run report = NULL", 0, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, odd, &error), "graft_batch_run report = odd", 1, 1);
    check(graft_batch_run(good_batch, lines_path, GRAFT_NUL, new_path("graft_batch_run"), GRAFT_NUL, on_progress, NULL, good_graft_batch_report(), NULL), "graft_batch_run error = NULL", 0, 0);
}

static void test_graft_train_options_init(void) {
    begin();
    graft_train_options_init(good_graft_train_options(), sizeof(graft_train_options));
    survived("graft_train_options_init as it should be");
    begin();
    graft_train_options_init(sized(0), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized(0)");
    begin();
    graft_train_options_init(sized(1), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized(1)");
    begin();
    graft_train_options_init(sized(7), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized(7)");
    begin();
    graft_train_options_init(sized(sizeof(graft_train_options) - 4), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized(sizeof(graft_train_options) - 4)");
    begin();
    graft_train_options_init(sized(sizeof(graft_train_options) + 3), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized(sizeof(graft_train_options) + 3)");
    begin();
    graft_train_options_init(sized(100000), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized(100000)");
    begin();
    graft_train_options_init(sized((size_t)-1), sizeof(graft_train_options));
    survived("graft_train_options_init options = sized((size_t)-1)");
    begin();
    graft_train_options_init(longer(sizeof(graft_train_options), 0), sizeof(graft_train_options));
    survived("graft_train_options_init options = longer(sizeof(graft_train_options), 0)");
    begin();
    graft_train_options_init(longer(sizeof(graft_train_options), 1), sizeof(graft_train_options));
    survived("graft_train_options_init options = longer(sizeof(graft_train_options), 1)");
    begin();
    graft_train_options_init(NULL, sizeof(graft_train_options));
    survived("graft_train_options_init options = NULL");
    begin();
    graft_train_options_init(odd, sizeof(graft_train_options));
    survived("graft_train_options_init options = odd");
    begin();
    graft_train_options_init(good_graft_train_options(), 0);
    survived("graft_train_options_init struct_size = 0");
    begin();
    graft_train_options_init(good_graft_train_options(), 7);
    survived("graft_train_options_init struct_size = 7");
    begin();
    graft_train_options_init(good_graft_train_options(), 8);
    survived("graft_train_options_init struct_size = 8");
}

static void test_graft_plan_training(void) {
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training as it should be", 0, 1);
    check(graft_plan_training(NULL, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = NULL", 1, 1);
    check(graft_plan_training(odd, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = odd", 1, 1);
    check(graft_plan_training(freed_model, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = freed_model", 1, 1);
    check(graft_plan_training((void *)good_error, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_error", 1, 1);
    check(graft_plan_training((void *)good_cancel, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_cancel", 1, 1);
    check(graft_plan_training((void *)good_team, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_team", 1, 1);
    check(graft_plan_training((void *)good_adapter, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_adapter", 1, 1);
    check(graft_plan_training((void *)good_session, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_session", 1, 1);
    check(graft_plan_training((void *)good_sampler, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_sampler", 1, 1);
    check(graft_plan_training((void *)good_generation, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_generation", 1, 1);
    check(graft_plan_training((void *)good_batch, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_batch", 1, 1);
    check(graft_plan_training((void *)good_trainer, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training model = (void *)good_trainer", 1, 1);
    check(graft_plan_training(good_model, NULL, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training folder = NULL", 0, 1);
    check(graft_plan_training(good_model, "\xff\xfe", GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training folder = \"\\xff\\xfe\"", 0, 1);
    check(graft_plan_training(good_model, "", GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training folder = \"\"", 0, 1);
    check(graft_plan_training(good_model, adapter_path, 0, good_graft_train_options(), good_graft_train_plan(), &error), "graft_plan_training folder_len = 0", 0, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized(0), good_graft_train_plan(), &error), "graft_plan_training options = sized(0)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized(1), good_graft_train_plan(), &error), "graft_plan_training options = sized(1)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized(7), good_graft_train_plan(), &error), "graft_plan_training options = sized(7)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_train_options) - 4), good_graft_train_plan(), &error), "graft_plan_training options = sized(sizeof(graft_train_options) - 4)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_train_options) + 3), good_graft_train_plan(), &error), "graft_plan_training options = sized(sizeof(graft_train_options) + 3)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized(100000), good_graft_train_plan(), &error), "graft_plan_training options = sized(100000)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, sized((size_t)-1), good_graft_train_plan(), &error), "graft_plan_training options = sized((size_t)-1)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_train_options), 0), good_graft_train_plan(), &error), "graft_plan_training options = longer(sizeof(graft_train_options), 0)", 0, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_train_options), 1), good_graft_train_plan(), &error), "graft_plan_training options = longer(sizeof(graft_train_options), 1)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, NULL, good_graft_train_plan(), &error), "graft_plan_training options = NULL", 0, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, odd, good_graft_train_plan(), &error), "graft_plan_training options = odd", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized(0), &error), "graft_plan_training plan = sized(0)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized(1), &error), "graft_plan_training plan = sized(1)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized(7), &error), "graft_plan_training plan = sized(7)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized(sizeof(graft_train_plan) - 4), &error), "graft_plan_training plan = sized(sizeof(graft_train_plan) - 4)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized(sizeof(graft_train_plan) + 3), &error), "graft_plan_training plan = sized(sizeof(graft_train_plan) + 3)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized(100000), &error), "graft_plan_training plan = sized(100000)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), sized((size_t)-1), &error), "graft_plan_training plan = sized((size_t)-1)", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), longer(sizeof(graft_train_plan), 0), &error), "graft_plan_training plan = longer(sizeof(graft_train_plan), 0)", 0, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), longer(sizeof(graft_train_plan), 1), &error), "graft_plan_training plan = longer(sizeof(graft_train_plan), 1)", 0, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), NULL, &error), "graft_plan_training plan = NULL", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), odd, &error), "graft_plan_training plan = odd", 1, 1);
    check(graft_plan_training(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), good_graft_train_plan(), NULL), "graft_plan_training error = NULL", 0, 0);
}

static void test_graft_trainer_new(void) {
    check(graft_trainer_new(good_model, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new as it should be", 0, 1);
    check(graft_trainer_new(NULL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = NULL", 1, 1);
    check(graft_trainer_new(odd, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = odd", 1, 1);
    check(graft_trainer_new(freed_model, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = freed_model", 1, 1);
    check(graft_trainer_new((void *)good_error, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_error", 1, 1);
    check(graft_trainer_new((void *)good_cancel, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_cancel", 1, 1);
    check(graft_trainer_new((void *)good_team, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_team", 1, 1);
    check(graft_trainer_new((void *)good_adapter, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_adapter", 1, 1);
    check(graft_trainer_new((void *)good_session, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_session", 1, 1);
    check(graft_trainer_new((void *)good_sampler, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_sampler", 1, 1);
    check(graft_trainer_new((void *)good_generation, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_generation", 1, 1);
    check(graft_trainer_new((void *)good_batch, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_batch", 1, 1);
    check(graft_trainer_new((void *)good_trainer, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_new model = (void *)good_trainer", 1, 1);
    check(graft_trainer_new(good_model, sized(0), (void *)&results[0], &error), "graft_trainer_new options = sized(0)", 1, 1);
    check(graft_trainer_new(good_model, sized(1), (void *)&results[0], &error), "graft_trainer_new options = sized(1)", 1, 1);
    check(graft_trainer_new(good_model, sized(7), (void *)&results[0], &error), "graft_trainer_new options = sized(7)", 1, 1);
    check(graft_trainer_new(good_model, sized(sizeof(graft_train_options) - 4), (void *)&results[0], &error), "graft_trainer_new options = sized(sizeof(graft_train_options) - 4)", 1, 1);
    check(graft_trainer_new(good_model, sized(sizeof(graft_train_options) + 3), (void *)&results[0], &error), "graft_trainer_new options = sized(sizeof(graft_train_options) + 3)", 1, 1);
    check(graft_trainer_new(good_model, sized(100000), (void *)&results[0], &error), "graft_trainer_new options = sized(100000)", 1, 1);
    check(graft_trainer_new(good_model, sized((size_t)-1), (void *)&results[0], &error), "graft_trainer_new options = sized((size_t)-1)", 1, 1);
    check(graft_trainer_new(good_model, longer(sizeof(graft_train_options), 0), (void *)&results[0], &error), "graft_trainer_new options = longer(sizeof(graft_train_options), 0)", 0, 1);
    check(graft_trainer_new(good_model, longer(sizeof(graft_train_options), 1), (void *)&results[0], &error), "graft_trainer_new options = longer(sizeof(graft_train_options), 1)", 1, 1);
    check(graft_trainer_new(good_model, NULL, (void *)&results[0], &error), "graft_trainer_new options = NULL", 0, 1);
    check(graft_trainer_new(good_model, odd, (void *)&results[0], &error), "graft_trainer_new options = odd", 1, 1);
    check(graft_trainer_new(good_model, good_graft_train_options(), NULL, &error), "graft_trainer_new trainer = NULL", 1, 1);
    check(graft_trainer_new(good_model, good_graft_train_options(), odd, &error), "graft_trainer_new trainer = odd", 1, 1);
    check(graft_trainer_new(good_model, good_graft_train_options(), (void *)&results[0], NULL), "graft_trainer_new error = NULL", 0, 0);
}

static void test_graft_trainer_open(void) {
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open as it should be", 0, 1);
    check(graft_trainer_open(NULL, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = NULL", 1, 1);
    check(graft_trainer_open(odd, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = odd", 1, 1);
    check(graft_trainer_open(freed_model, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = freed_model", 1, 1);
    check(graft_trainer_open((void *)good_error, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_error", 1, 1);
    check(graft_trainer_open((void *)good_cancel, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_cancel", 1, 1);
    check(graft_trainer_open((void *)good_team, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_team", 1, 1);
    check(graft_trainer_open((void *)good_adapter, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_adapter", 1, 1);
    check(graft_trainer_open((void *)good_session, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_session", 1, 1);
    check(graft_trainer_open((void *)good_sampler, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_sampler", 1, 1);
    check(graft_trainer_open((void *)good_generation, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_generation", 1, 1);
    check(graft_trainer_open((void *)good_batch, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_batch", 1, 1);
    check(graft_trainer_open((void *)good_trainer, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open model = (void *)good_trainer", 1, 1);
    check(graft_trainer_open(good_model, NULL, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open path = NULL", 1, 1);
    check(graft_trainer_open(good_model, "\xff\xfe", GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open path = \"\\xff\\xfe\"", 0, 1);
    check(graft_trainer_open(good_model, "", GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open path = \"\"", 0, 1);
    check(graft_trainer_open(good_model, adapter_path, 0, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_open path_len = 0", 0, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized(0), (void *)&results[0], &error), "graft_trainer_open options = sized(0)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized(1), (void *)&results[0], &error), "graft_trainer_open options = sized(1)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized(7), (void *)&results[0], &error), "graft_trainer_open options = sized(7)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_train_options) - 4), (void *)&results[0], &error), "graft_trainer_open options = sized(sizeof(graft_train_options) - 4)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_train_options) + 3), (void *)&results[0], &error), "graft_trainer_open options = sized(sizeof(graft_train_options) + 3)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized(100000), (void *)&results[0], &error), "graft_trainer_open options = sized(100000)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, sized((size_t)-1), (void *)&results[0], &error), "graft_trainer_open options = sized((size_t)-1)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_train_options), 0), (void *)&results[0], &error), "graft_trainer_open options = longer(sizeof(graft_train_options), 0)", 0, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_train_options), 1), (void *)&results[0], &error), "graft_trainer_open options = longer(sizeof(graft_train_options), 1)", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, NULL, (void *)&results[0], &error), "graft_trainer_open options = NULL", 0, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, odd, (void *)&results[0], &error), "graft_trainer_open options = odd", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), NULL, &error), "graft_trainer_open trainer = NULL", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), odd, &error), "graft_trainer_open trainer = odd", 1, 1);
    check(graft_trainer_open(good_model, adapter_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], NULL), "graft_trainer_open error = NULL", 0, 0);
}

static void test_graft_trainer_resume(void) {
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume as it should be", 0, 1);
    check(graft_trainer_resume(NULL, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = NULL", 1, 1);
    check(graft_trainer_resume(odd, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = odd", 1, 1);
    check(graft_trainer_resume(freed_model, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = freed_model", 1, 1);
    check(graft_trainer_resume((void *)good_error, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_error", 1, 1);
    check(graft_trainer_resume((void *)good_cancel, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_cancel", 1, 1);
    check(graft_trainer_resume((void *)good_team, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_team", 1, 1);
    check(graft_trainer_resume((void *)good_adapter, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_adapter", 1, 1);
    check(graft_trainer_resume((void *)good_session, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_session", 1, 1);
    check(graft_trainer_resume((void *)good_sampler, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_sampler", 1, 1);
    check(graft_trainer_resume((void *)good_generation, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_generation", 1, 1);
    check(graft_trainer_resume((void *)good_batch, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_batch", 1, 1);
    check(graft_trainer_resume((void *)good_trainer, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume model = (void *)good_trainer", 1, 1);
    check(graft_trainer_resume(good_model, NULL, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume path = NULL", 1, 1);
    check(graft_trainer_resume(good_model, "\xff\xfe", GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume path = \"\\xff\\xfe\"", 0, 1);
    check(graft_trainer_resume(good_model, "", GRAFT_NUL, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume path = \"\"", 0, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, 0, good_graft_train_options(), (void *)&results[0], &error), "graft_trainer_resume path_len = 0", 0, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized(0), (void *)&results[0], &error), "graft_trainer_resume options = sized(0)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized(1), (void *)&results[0], &error), "graft_trainer_resume options = sized(1)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized(7), (void *)&results[0], &error), "graft_trainer_resume options = sized(7)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized(sizeof(graft_train_options) - 4), (void *)&results[0], &error), "graft_trainer_resume options = sized(sizeof(graft_train_options) - 4)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized(sizeof(graft_train_options) + 3), (void *)&results[0], &error), "graft_trainer_resume options = sized(sizeof(graft_train_options) + 3)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized(100000), (void *)&results[0], &error), "graft_trainer_resume options = sized(100000)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, sized((size_t)-1), (void *)&results[0], &error), "graft_trainer_resume options = sized((size_t)-1)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, longer(sizeof(graft_train_options), 0), (void *)&results[0], &error), "graft_trainer_resume options = longer(sizeof(graft_train_options), 0)", 0, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, longer(sizeof(graft_train_options), 1), (void *)&results[0], &error), "graft_trainer_resume options = longer(sizeof(graft_train_options), 1)", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, NULL, (void *)&results[0], &error), "graft_trainer_resume options = NULL", 0, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, odd, (void *)&results[0], &error), "graft_trainer_resume options = odd", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, good_graft_train_options(), NULL, &error), "graft_trainer_resume trainer = NULL", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, good_graft_train_options(), odd, &error), "graft_trainer_resume trainer = odd", 1, 1);
    check(graft_trainer_resume(good_model, checkpoint_path, GRAFT_NUL, good_graft_train_options(), (void *)&results[0], NULL), "graft_trainer_resume error = NULL", 0, 0);
}

static void test_graft_trainer_free(void) {
    begin();
    graft_trainer_free(fresh_trainer());
    survived("graft_trainer_free as it should be");
    begin();
    graft_trainer_free(NULL);
    survived("graft_trainer_free trainer = NULL");
    begin();
    graft_trainer_free(odd);
    survived("graft_trainer_free trainer = odd");
    begin();
    graft_trainer_free(freed_trainer);
    survived("graft_trainer_free trainer = freed_trainer");
    begin();
    graft_trainer_free((void *)good_error);
    survived("graft_trainer_free trainer = (void *)good_error");
    begin();
    graft_trainer_free((void *)good_cancel);
    survived("graft_trainer_free trainer = (void *)good_cancel");
    begin();
    graft_trainer_free((void *)good_team);
    survived("graft_trainer_free trainer = (void *)good_team");
    begin();
    graft_trainer_free((void *)good_model);
    survived("graft_trainer_free trainer = (void *)good_model");
    begin();
    graft_trainer_free((void *)good_adapter);
    survived("graft_trainer_free trainer = (void *)good_adapter");
    begin();
    graft_trainer_free((void *)good_session);
    survived("graft_trainer_free trainer = (void *)good_session");
    begin();
    graft_trainer_free((void *)good_sampler);
    survived("graft_trainer_free trainer = (void *)good_sampler");
    begin();
    graft_trainer_free((void *)good_generation);
    survived("graft_trainer_free trainer = (void *)good_generation");
    begin();
    graft_trainer_free((void *)good_batch);
    survived("graft_trainer_free trainer = (void *)good_batch");
}

static void test_graft_trainer_add(void) {
    check(graft_trainer_add(good_trainer, some_rows, 2, &error), "graft_trainer_add as it should be", 0, 1);
    check(graft_trainer_add(NULL, some_rows, 2, &error), "graft_trainer_add trainer = NULL", 1, 1);
    check(graft_trainer_add(odd, some_rows, 2, &error), "graft_trainer_add trainer = odd", 1, 1);
    check(graft_trainer_add(freed_trainer, some_rows, 2, &error), "graft_trainer_add trainer = freed_trainer", 1, 1);
    check(graft_trainer_add((void *)good_error, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_error", 1, 1);
    check(graft_trainer_add((void *)good_cancel, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_add((void *)good_team, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_team", 1, 1);
    check(graft_trainer_add((void *)good_model, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_model", 1, 1);
    check(graft_trainer_add((void *)good_adapter, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_add((void *)good_session, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_session", 1, 1);
    check(graft_trainer_add((void *)good_sampler, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_add((void *)good_generation, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_add((void *)good_batch, some_rows, 2, &error), "graft_trainer_add trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_add(good_trainer, NULL, 2, &error), "graft_trainer_add rows = NULL", 1, 1);
    check(graft_trainer_add(good_trainer, odd, 2, &error), "graft_trainer_add rows = odd", 1, 1);
    check(graft_trainer_add(good_trainer, some_rows, 0, &error), "graft_trainer_add n_rows = 0", 0, 1);
    check(graft_trainer_add(good_trainer, some_rows, 2, NULL), "graft_trainer_add error = NULL", 0, 0);
}

static void test_graft_trainer_pull(void) {
    check(graft_trainer_pull(good_trainer, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull as it should be", 0, 1);
    check(graft_trainer_pull(NULL, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = NULL", 1, 1);
    check(graft_trainer_pull(odd, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = odd", 1, 1);
    check(graft_trainer_pull(freed_trainer, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = freed_trainer", 1, 1);
    check(graft_trainer_pull((void *)good_error, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_error", 1, 1);
    check(graft_trainer_pull((void *)good_cancel, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_pull((void *)good_team, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_team", 1, 1);
    check(graft_trainer_pull((void *)good_model, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_model", 1, 1);
    check(graft_trainer_pull((void *)good_adapter, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_pull((void *)good_session, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_session", 1, 1);
    check(graft_trainer_pull((void *)good_sampler, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_pull((void *)good_generation, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_pull((void *)good_batch, on_row, NULL, (void *)&results[2], &error), "graft_trainer_pull trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_pull(good_trainer, NULL, NULL, (void *)&results[2], &error), "graft_trainer_pull callback = NULL", 0, 1);
    check(graft_trainer_pull(good_trainer, on_row, NULL, NULL, &error), "graft_trainer_pull n_rows = NULL", 0, 1);
    check(graft_trainer_pull(good_trainer, on_row, NULL, odd, &error), "graft_trainer_pull n_rows = odd", 1, 1);
    check(graft_trainer_pull(good_trainer, on_row, NULL, (void *)&results[2], NULL), "graft_trainer_pull error = NULL", 0, 0);
}

static void test_graft_trainer_clear(void) {
    check(graft_trainer_clear(good_trainer, &error), "graft_trainer_clear as it should be", 0, 1);
    check(graft_trainer_clear(NULL, &error), "graft_trainer_clear trainer = NULL", 1, 1);
    check(graft_trainer_clear(odd, &error), "graft_trainer_clear trainer = odd", 1, 1);
    check(graft_trainer_clear(freed_trainer, &error), "graft_trainer_clear trainer = freed_trainer", 1, 1);
    check(graft_trainer_clear((void *)good_error, &error), "graft_trainer_clear trainer = (void *)good_error", 1, 1);
    check(graft_trainer_clear((void *)good_cancel, &error), "graft_trainer_clear trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_clear((void *)good_team, &error), "graft_trainer_clear trainer = (void *)good_team", 1, 1);
    check(graft_trainer_clear((void *)good_model, &error), "graft_trainer_clear trainer = (void *)good_model", 1, 1);
    check(graft_trainer_clear((void *)good_adapter, &error), "graft_trainer_clear trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_clear((void *)good_session, &error), "graft_trainer_clear trainer = (void *)good_session", 1, 1);
    check(graft_trainer_clear((void *)good_sampler, &error), "graft_trainer_clear trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_clear((void *)good_generation, &error), "graft_trainer_clear trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_clear((void *)good_batch, &error), "graft_trainer_clear trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_clear(good_trainer, NULL), "graft_trainer_clear error = NULL", 0, 0);
}

static void test_graft_trainer_step(void) {
    check(graft_trainer_step(good_trainer, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step as it should be", 0, 1);
    check(graft_trainer_step(NULL, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = NULL", 1, 1);
    check(graft_trainer_step(odd, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = odd", 1, 1);
    check(graft_trainer_step(freed_trainer, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = freed_trainer", 1, 1);
    check(graft_trainer_step((void *)good_error, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_error", 1, 1);
    check(graft_trainer_step((void *)good_cancel, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_step((void *)good_team, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_team", 1, 1);
    check(graft_trainer_step((void *)good_model, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_model", 1, 1);
    check(graft_trainer_step((void *)good_adapter, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_step((void *)good_session, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_session", 1, 1);
    check(graft_trainer_step((void *)good_sampler, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_step((void *)good_generation, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_step((void *)good_batch, some_rows, 2, good_graft_train_report(), &error), "graft_trainer_step trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_step(good_trainer, NULL, 2, good_graft_train_report(), &error), "graft_trainer_step rows = NULL", 1, 1);
    check(graft_trainer_step(good_trainer, odd, 2, good_graft_train_report(), &error), "graft_trainer_step rows = odd", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 0, good_graft_train_report(), &error), "graft_trainer_step n_rows = 0", 0, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized(0), &error), "graft_trainer_step report = sized(0)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized(1), &error), "graft_trainer_step report = sized(1)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized(7), &error), "graft_trainer_step report = sized(7)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized(sizeof(graft_train_report) - 4), &error), "graft_trainer_step report = sized(sizeof(graft_train_report) - 4)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized(sizeof(graft_train_report) + 3), &error), "graft_trainer_step report = sized(sizeof(graft_train_report) + 3)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized(100000), &error), "graft_trainer_step report = sized(100000)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, sized((size_t)-1), &error), "graft_trainer_step report = sized((size_t)-1)", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, longer(sizeof(graft_train_report), 0), &error), "graft_trainer_step report = longer(sizeof(graft_train_report), 0)", 0, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, longer(sizeof(graft_train_report), 1), &error), "graft_trainer_step report = longer(sizeof(graft_train_report), 1)", 0, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, NULL, &error), "graft_trainer_step report = NULL", 0, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, odd, &error), "graft_trainer_step report = odd", 1, 1);
    check(graft_trainer_step(good_trainer, some_rows, 2, good_graft_train_report(), NULL), "graft_trainer_step error = NULL", 0, 0);
}

static void test_graft_trainer_run(void) {
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run as it should be", 0, 1);
    check(graft_trainer_run(NULL, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = NULL", 1, 1);
    check(graft_trainer_run(odd, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = odd", 1, 1);
    check(graft_trainer_run(freed_trainer, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = freed_trainer", 1, 1);
    check(graft_trainer_run((void *)good_error, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_error", 1, 1);
    check(graft_trainer_run((void *)good_cancel, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_run((void *)good_team, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_team", 1, 1);
    check(graft_trainer_run((void *)good_model, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_model", 1, 1);
    check(graft_trainer_run((void *)good_adapter, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_run((void *)good_session, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_session", 1, 1);
    check(graft_trainer_run((void *)good_sampler, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_run((void *)good_generation, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_run((void *)good_batch, 0, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_run(good_trainer, 1, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run steps = 1", 0, 1);
    check(graft_trainer_run(good_trainer, 1000000, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run steps = 1000000", 0, 1);
    check(graft_trainer_run(good_trainer, 18446744073709551615u, on_train, NULL, good_graft_train_report(), &error), "graft_trainer_run steps = 18446744073709551615u", 0, 1);
    check(graft_trainer_run(good_trainer, 0, NULL, NULL, good_graft_train_report(), &error), "graft_trainer_run callback = NULL", 0, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized(0), &error), "graft_trainer_run report = sized(0)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized(1), &error), "graft_trainer_run report = sized(1)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized(7), &error), "graft_trainer_run report = sized(7)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized(sizeof(graft_train_report) - 4), &error), "graft_trainer_run report = sized(sizeof(graft_train_report) - 4)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized(sizeof(graft_train_report) + 3), &error), "graft_trainer_run report = sized(sizeof(graft_train_report) + 3)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized(100000), &error), "graft_trainer_run report = sized(100000)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, sized((size_t)-1), &error), "graft_trainer_run report = sized((size_t)-1)", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, longer(sizeof(graft_train_report), 0), &error), "graft_trainer_run report = longer(sizeof(graft_train_report), 0)", 0, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, longer(sizeof(graft_train_report), 1), &error), "graft_trainer_run report = longer(sizeof(graft_train_report), 1)", 0, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, NULL, &error), "graft_trainer_run report = NULL", 0, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, odd, &error), "graft_trainer_run report = odd", 1, 1);
    check(graft_trainer_run(good_trainer, 0, on_train, NULL, good_graft_train_report(), NULL), "graft_trainer_run error = NULL", 0, 0);
}

static void test_graft_trainer_evaluate(void) {
    check(graft_trainer_evaluate(good_trainer, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate as it should be", 0, 1);
    check(graft_trainer_evaluate(NULL, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = NULL", 1, 1);
    check(graft_trainer_evaluate(odd, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = odd", 1, 1);
    check(graft_trainer_evaluate(freed_trainer, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = freed_trainer", 1, 1);
    check(graft_trainer_evaluate((void *)good_error, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_error", 1, 1);
    check(graft_trainer_evaluate((void *)good_cancel, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_evaluate((void *)good_team, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_team", 1, 1);
    check(graft_trainer_evaluate((void *)good_model, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_model", 1, 1);
    check(graft_trainer_evaluate((void *)good_adapter, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_evaluate((void *)good_session, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_session", 1, 1);
    check(graft_trainer_evaluate((void *)good_sampler, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_evaluate((void *)good_generation, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_evaluate((void *)good_batch, some_rows, 2, (void *)&results[1], &error), "graft_trainer_evaluate trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_evaluate(good_trainer, NULL, 2, (void *)&results[1], &error), "graft_trainer_evaluate rows = NULL", 1, 1);
    check(graft_trainer_evaluate(good_trainer, odd, 2, (void *)&results[1], &error), "graft_trainer_evaluate rows = odd", 1, 1);
    check(graft_trainer_evaluate(good_trainer, some_rows, 0, (void *)&results[1], &error), "graft_trainer_evaluate n_rows = 0", 0, 1);
    check(graft_trainer_evaluate(good_trainer, some_rows, 2, NULL, &error), "graft_trainer_evaluate loss = NULL", 1, 1);
    check(graft_trainer_evaluate(good_trainer, some_rows, 2, odd, &error), "graft_trainer_evaluate loss = odd", 1, 1);
    check(graft_trainer_evaluate(good_trainer, some_rows, 2, (void *)&results[1], NULL), "graft_trainer_evaluate error = NULL", 0, 0);
}

static void test_graft_trainer_adapter(void) {
    check(graft_trainer_adapter(good_trainer, (void *)&results[0], &error), "graft_trainer_adapter as it should be", 0, 1);
    check(graft_trainer_adapter(NULL, (void *)&results[0], &error), "graft_trainer_adapter trainer = NULL", 1, 1);
    check(graft_trainer_adapter(odd, (void *)&results[0], &error), "graft_trainer_adapter trainer = odd", 1, 1);
    check(graft_trainer_adapter(freed_trainer, (void *)&results[0], &error), "graft_trainer_adapter trainer = freed_trainer", 1, 1);
    check(graft_trainer_adapter((void *)good_error, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_error", 1, 1);
    check(graft_trainer_adapter((void *)good_cancel, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_adapter((void *)good_team, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_team", 1, 1);
    check(graft_trainer_adapter((void *)good_model, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_model", 1, 1);
    check(graft_trainer_adapter((void *)good_adapter, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_adapter((void *)good_session, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_session", 1, 1);
    check(graft_trainer_adapter((void *)good_sampler, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_adapter((void *)good_generation, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_adapter((void *)good_batch, (void *)&results[0], &error), "graft_trainer_adapter trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_adapter(good_trainer, NULL, &error), "graft_trainer_adapter adapter = NULL", 1, 1);
    check(graft_trainer_adapter(good_trainer, odd, &error), "graft_trainer_adapter adapter = odd", 1, 1);
    check(graft_trainer_adapter(good_trainer, (void *)&results[0], NULL), "graft_trainer_adapter error = NULL", 0, 0);
}

static void test_graft_trainer_save(void) {
    check(graft_trainer_save(good_trainer, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save as it should be", 0, 1);
    check(graft_trainer_save(NULL, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = NULL", 1, 1);
    check(graft_trainer_save(odd, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = odd", 1, 1);
    check(graft_trainer_save(freed_trainer, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = freed_trainer", 1, 1);
    check(graft_trainer_save((void *)good_error, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_error", 1, 1);
    check(graft_trainer_save((void *)good_cancel, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_save((void *)good_team, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_team", 1, 1);
    check(graft_trainer_save((void *)good_model, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_model", 1, 1);
    check(graft_trainer_save((void *)good_adapter, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_save((void *)good_session, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_session", 1, 1);
    check(graft_trainer_save((void *)good_sampler, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_save((void *)good_generation, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_save((void *)good_batch, out_path("graft_trainer_save"), GRAFT_NUL, &error), "graft_trainer_save trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_save(good_trainer, NULL, GRAFT_NUL, &error), "graft_trainer_save path = NULL", 1, 1);
    check(graft_trainer_save(good_trainer, "\xff\xfe", GRAFT_NUL, &error), "graft_trainer_save path = \"\\xff\\xfe\"", 0, 1);
    check(graft_trainer_save(good_trainer, "", GRAFT_NUL, &error), "graft_trainer_save path = \"\"", 0, 1);
    check(graft_trainer_save(good_trainer, out_path("graft_trainer_save"), 0, &error), "graft_trainer_save path_len = 0", 0, 1);
    check(graft_trainer_save(good_trainer, out_path("graft_trainer_save"), GRAFT_NUL, NULL), "graft_trainer_save error = NULL", 0, 0);
}

static void test_graft_trainer_checkpoint(void) {
    check(graft_trainer_checkpoint(good_trainer, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint as it should be", 0, 1);
    check(graft_trainer_checkpoint(NULL, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = NULL", 1, 1);
    check(graft_trainer_checkpoint(odd, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = odd", 1, 1);
    check(graft_trainer_checkpoint(freed_trainer, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = freed_trainer", 1, 1);
    check(graft_trainer_checkpoint((void *)good_error, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_error", 1, 1);
    check(graft_trainer_checkpoint((void *)good_cancel, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_checkpoint((void *)good_team, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_team", 1, 1);
    check(graft_trainer_checkpoint((void *)good_model, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_model", 1, 1);
    check(graft_trainer_checkpoint((void *)good_adapter, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_checkpoint((void *)good_session, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_session", 1, 1);
    check(graft_trainer_checkpoint((void *)good_sampler, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_checkpoint((void *)good_generation, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_checkpoint((void *)good_batch, out_path("graft_trainer_checkpoint"), GRAFT_NUL, &error), "graft_trainer_checkpoint trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_checkpoint(good_trainer, NULL, GRAFT_NUL, &error), "graft_trainer_checkpoint path = NULL", 1, 1);
    check(graft_trainer_checkpoint(good_trainer, "\xff\xfe", GRAFT_NUL, &error), "graft_trainer_checkpoint path = \"\\xff\\xfe\"", 0, 1);
    check(graft_trainer_checkpoint(good_trainer, "", GRAFT_NUL, &error), "graft_trainer_checkpoint path = \"\"", 0, 1);
    check(graft_trainer_checkpoint(good_trainer, out_path("graft_trainer_checkpoint"), 0, &error), "graft_trainer_checkpoint path_len = 0", 0, 1);
    check(graft_trainer_checkpoint(good_trainer, out_path("graft_trainer_checkpoint"), GRAFT_NUL, NULL), "graft_trainer_checkpoint error = NULL", 0, 0);
}

static void test_graft_trainer_get_info(void) {
    check(graft_trainer_get_info(good_trainer, good_graft_trainer_info(), &error), "graft_trainer_get_info as it should be", 0, 1);
    check(graft_trainer_get_info(NULL, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = NULL", 1, 1);
    check(graft_trainer_get_info(odd, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = odd", 1, 1);
    check(graft_trainer_get_info(freed_trainer, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = freed_trainer", 1, 1);
    check(graft_trainer_get_info((void *)good_error, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_error", 1, 1);
    check(graft_trainer_get_info((void *)good_cancel, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_cancel", 1, 1);
    check(graft_trainer_get_info((void *)good_team, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_team", 1, 1);
    check(graft_trainer_get_info((void *)good_model, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_model", 1, 1);
    check(graft_trainer_get_info((void *)good_adapter, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_adapter", 1, 1);
    check(graft_trainer_get_info((void *)good_session, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_session", 1, 1);
    check(graft_trainer_get_info((void *)good_sampler, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_sampler", 1, 1);
    check(graft_trainer_get_info((void *)good_generation, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_generation", 1, 1);
    check(graft_trainer_get_info((void *)good_batch, good_graft_trainer_info(), &error), "graft_trainer_get_info trainer = (void *)good_batch", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized(0), &error), "graft_trainer_get_info info = sized(0)", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized(1), &error), "graft_trainer_get_info info = sized(1)", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized(7), &error), "graft_trainer_get_info info = sized(7)", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized(sizeof(graft_trainer_info) - 4), &error), "graft_trainer_get_info info = sized(sizeof(graft_trainer_info) - 4)", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized(sizeof(graft_trainer_info) + 3), &error), "graft_trainer_get_info info = sized(sizeof(graft_trainer_info) + 3)", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized(100000), &error), "graft_trainer_get_info info = sized(100000)", 1, 1);
    check(graft_trainer_get_info(good_trainer, sized((size_t)-1), &error), "graft_trainer_get_info info = sized((size_t)-1)", 1, 1);
    check(graft_trainer_get_info(good_trainer, longer(sizeof(graft_trainer_info), 0), &error), "graft_trainer_get_info info = longer(sizeof(graft_trainer_info), 0)", 0, 1);
    check(graft_trainer_get_info(good_trainer, longer(sizeof(graft_trainer_info), 1), &error), "graft_trainer_get_info info = longer(sizeof(graft_trainer_info), 1)", 0, 1);
    check(graft_trainer_get_info(good_trainer, NULL, &error), "graft_trainer_get_info info = NULL", 1, 1);
    check(graft_trainer_get_info(good_trainer, odd, &error), "graft_trainer_get_info info = odd", 1, 1);
    check(graft_trainer_get_info(good_trainer, good_graft_trainer_info(), NULL), "graft_trainer_get_info error = NULL", 0, 0);
}

static void test_graft_merge_options_init(void) {
    begin();
    graft_merge_options_init(good_graft_merge_options(), sizeof(graft_merge_options));
    survived("graft_merge_options_init as it should be");
    begin();
    graft_merge_options_init(sized(0), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized(0)");
    begin();
    graft_merge_options_init(sized(1), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized(1)");
    begin();
    graft_merge_options_init(sized(7), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized(7)");
    begin();
    graft_merge_options_init(sized(sizeof(graft_merge_options) - 4), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized(sizeof(graft_merge_options) - 4)");
    begin();
    graft_merge_options_init(sized(sizeof(graft_merge_options) + 3), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized(sizeof(graft_merge_options) + 3)");
    begin();
    graft_merge_options_init(sized(100000), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized(100000)");
    begin();
    graft_merge_options_init(sized((size_t)-1), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = sized((size_t)-1)");
    begin();
    graft_merge_options_init(longer(sizeof(graft_merge_options), 0), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = longer(sizeof(graft_merge_options), 0)");
    begin();
    graft_merge_options_init(longer(sizeof(graft_merge_options), 1), sizeof(graft_merge_options));
    survived("graft_merge_options_init options = longer(sizeof(graft_merge_options), 1)");
    begin();
    graft_merge_options_init(NULL, sizeof(graft_merge_options));
    survived("graft_merge_options_init options = NULL");
    begin();
    graft_merge_options_init(odd, sizeof(graft_merge_options));
    survived("graft_merge_options_init options = odd");
    begin();
    graft_merge_options_init(good_graft_merge_options(), 0);
    survived("graft_merge_options_init struct_size = 0");
    begin();
    graft_merge_options_init(good_graft_merge_options(), 7);
    survived("graft_merge_options_init struct_size = 7");
    begin();
    graft_merge_options_init(good_graft_merge_options(), 8);
    survived("graft_merge_options_init struct_size = 8");
}

static void test_graft_merge(void) {
    check(graft_merge(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge as it should be", 0, 1);
    check(graft_merge(NULL, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = NULL", 1, 1);
    check(graft_merge(odd, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = odd", 1, 1);
    check(graft_merge(freed_model, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = freed_model", 1, 1);
    check(graft_merge((void *)good_error, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_error", 1, 1);
    check(graft_merge((void *)good_cancel, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_cancel", 1, 1);
    check(graft_merge((void *)good_team, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_team", 1, 1);
    check(graft_merge((void *)good_adapter, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_adapter", 1, 1);
    check(graft_merge((void *)good_session, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_session", 1, 1);
    check(graft_merge((void *)good_sampler, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_sampler", 1, 1);
    check(graft_merge((void *)good_generation, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_generation", 1, 1);
    check(graft_merge((void *)good_batch, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_batch", 1, 1);
    check(graft_merge((void *)good_trainer, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge model = (void *)good_trainer", 1, 1);
    check(graft_merge(good_model, NULL, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge adapters = NULL", 1, 1);
    check(graft_merge(good_model, odd, some_weights, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge adapters = odd", 1, 1);
    check(graft_merge(good_model, some_adapters, NULL, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge weights = NULL", 0, 1);
    check(graft_merge(good_model, some_adapters, odd, 1, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge weights = odd", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 0, good_graft_merge_options(), (void *)&results[0], &error), "graft_merge n = 0", 0, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized(0), (void *)&results[0], &error), "graft_merge options = sized(0)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized(1), (void *)&results[0], &error), "graft_merge options = sized(1)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized(7), (void *)&results[0], &error), "graft_merge options = sized(7)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized(sizeof(graft_merge_options) - 4), (void *)&results[0], &error), "graft_merge options = sized(sizeof(graft_merge_options) - 4)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized(sizeof(graft_merge_options) + 3), (void *)&results[0], &error), "graft_merge options = sized(sizeof(graft_merge_options) + 3)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized(100000), (void *)&results[0], &error), "graft_merge options = sized(100000)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, sized((size_t)-1), (void *)&results[0], &error), "graft_merge options = sized((size_t)-1)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, longer(sizeof(graft_merge_options), 0), (void *)&results[0], &error), "graft_merge options = longer(sizeof(graft_merge_options), 0)", 0, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, longer(sizeof(graft_merge_options), 1), (void *)&results[0], &error), "graft_merge options = longer(sizeof(graft_merge_options), 1)", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, NULL, (void *)&results[0], &error), "graft_merge options = NULL", 0, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, odd, (void *)&results[0], &error), "graft_merge options = odd", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), NULL, &error), "graft_merge merged = NULL", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), odd, &error), "graft_merge merged = odd", 1, 1);
    check(graft_merge(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), (void *)&results[0], NULL), "graft_merge error = NULL", 0, 0);
}

static void test_graft_merge_to(void) {
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to as it should be", 0, 1);
    check(graft_merge_to(NULL, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = NULL", 1, 1);
    check(graft_merge_to(odd, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = odd", 1, 1);
    check(graft_merge_to(freed_model, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = freed_model", 1, 1);
    check(graft_merge_to((void *)good_error, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_error", 1, 1);
    check(graft_merge_to((void *)good_cancel, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_cancel", 1, 1);
    check(graft_merge_to((void *)good_team, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_team", 1, 1);
    check(graft_merge_to((void *)good_adapter, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_adapter", 1, 1);
    check(graft_merge_to((void *)good_session, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_session", 1, 1);
    check(graft_merge_to((void *)good_sampler, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_sampler", 1, 1);
    check(graft_merge_to((void *)good_generation, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_generation", 1, 1);
    check(graft_merge_to((void *)good_batch, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_batch", 1, 1);
    check(graft_merge_to((void *)good_trainer, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to model = (void *)good_trainer", 1, 1);
    check(graft_merge_to(good_model, NULL, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to adapters = NULL", 1, 1);
    check(graft_merge_to(good_model, odd, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to adapters = odd", 1, 1);
    check(graft_merge_to(good_model, some_adapters, NULL, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to weights = NULL", 0, 1);
    check(graft_merge_to(good_model, some_adapters, odd, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to weights = odd", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 0, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to n = 0", 0, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized(0), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized(0)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized(1), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized(1)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized(7), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized(7)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized(sizeof(graft_merge_options) - 4), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized(sizeof(graft_merge_options) - 4)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized(sizeof(graft_merge_options) + 3), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized(sizeof(graft_merge_options) + 3)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized(100000), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized(100000)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, sized((size_t)-1), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = sized((size_t)-1)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, longer(sizeof(graft_merge_options), 0), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = longer(sizeof(graft_merge_options), 0)", 0, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, longer(sizeof(graft_merge_options), 1), out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = longer(sizeof(graft_merge_options), 1)", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, NULL, out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = NULL", 0, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, odd, out_path("graft_merge_to"), GRAFT_NUL, &error), "graft_merge_to options = odd", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), NULL, GRAFT_NUL, &error), "graft_merge_to path = NULL", 1, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), "\xff\xfe", GRAFT_NUL, &error), "graft_merge_to path = \"\\xff\\xfe\"", 0, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), "", GRAFT_NUL, &error), "graft_merge_to path = \"\"", 0, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), 0, &error), "graft_merge_to path_len = 0", 0, 1);
    check(graft_merge_to(good_model, some_adapters, some_weights, 1, good_graft_merge_options(), out_path("graft_merge_to"), GRAFT_NUL, NULL), "graft_merge_to error = NULL", 0, 0);
}

static void test_graft_combine_options_init(void) {
    begin();
    graft_combine_options_init(good_graft_combine_options(), sizeof(graft_combine_options));
    survived("graft_combine_options_init as it should be");
    begin();
    graft_combine_options_init(sized(0), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized(0)");
    begin();
    graft_combine_options_init(sized(1), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized(1)");
    begin();
    graft_combine_options_init(sized(7), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized(7)");
    begin();
    graft_combine_options_init(sized(sizeof(graft_combine_options) - 4), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized(sizeof(graft_combine_options) - 4)");
    begin();
    graft_combine_options_init(sized(sizeof(graft_combine_options) + 3), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized(sizeof(graft_combine_options) + 3)");
    begin();
    graft_combine_options_init(sized(100000), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized(100000)");
    begin();
    graft_combine_options_init(sized((size_t)-1), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = sized((size_t)-1)");
    begin();
    graft_combine_options_init(longer(sizeof(graft_combine_options), 0), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = longer(sizeof(graft_combine_options), 0)");
    begin();
    graft_combine_options_init(longer(sizeof(graft_combine_options), 1), sizeof(graft_combine_options));
    survived("graft_combine_options_init options = longer(sizeof(graft_combine_options), 1)");
    begin();
    graft_combine_options_init(NULL, sizeof(graft_combine_options));
    survived("graft_combine_options_init options = NULL");
    begin();
    graft_combine_options_init(odd, sizeof(graft_combine_options));
    survived("graft_combine_options_init options = odd");
    begin();
    graft_combine_options_init(good_graft_combine_options(), 0);
    survived("graft_combine_options_init struct_size = 0");
    begin();
    graft_combine_options_init(good_graft_combine_options(), 7);
    survived("graft_combine_options_init struct_size = 7");
    begin();
    graft_combine_options_init(good_graft_combine_options(), 8);
    survived("graft_combine_options_init struct_size = 8");
}

static void test_graft_combine(void) {
    check(graft_combine(some_folders, some_weights, 1, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine as it should be", 0, 1);
    check(graft_combine(NULL, some_weights, 1, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine folders = NULL", 1, 1);
    check(graft_combine(odd, some_weights, 1, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine folders = odd", 1, 1);
    check(graft_combine(some_folders, NULL, 1, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine weights = NULL", 0, 1);
    check(graft_combine(some_folders, odd, 1, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine weights = odd", 1, 1);
    check(graft_combine(some_folders, some_weights, 0, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine n = 0", 0, 1);
    check(graft_combine(some_folders, some_weights, 1, sized(0), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized(0)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, sized(1), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized(1)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, sized(7), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized(7)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, sized(sizeof(graft_combine_options) - 4), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized(sizeof(graft_combine_options) - 4)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, sized(sizeof(graft_combine_options) + 3), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized(sizeof(graft_combine_options) + 3)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, sized(100000), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized(100000)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, sized((size_t)-1), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = sized((size_t)-1)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, longer(sizeof(graft_combine_options), 0), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = longer(sizeof(graft_combine_options), 0)", 0, 1);
    check(graft_combine(some_folders, some_weights, 1, longer(sizeof(graft_combine_options), 1), out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = longer(sizeof(graft_combine_options), 1)", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, NULL, out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = NULL", 0, 1);
    check(graft_combine(some_folders, some_weights, 1, odd, out_path("graft_combine"), GRAFT_NUL, &error), "graft_combine options = odd", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, good_graft_combine_options(), NULL, GRAFT_NUL, &error), "graft_combine path = NULL", 1, 1);
    check(graft_combine(some_folders, some_weights, 1, good_graft_combine_options(), "\xff\xfe", GRAFT_NUL, &error), "graft_combine path = \"\\xff\\xfe\"", 0, 1);
    check(graft_combine(some_folders, some_weights, 1, good_graft_combine_options(), "", GRAFT_NUL, &error), "graft_combine path = \"\"", 0, 1);
    check(graft_combine(some_folders, some_weights, 1, good_graft_combine_options(), out_path("graft_combine"), 0, &error), "graft_combine path_len = 0", 0, 1);
    check(graft_combine(some_folders, some_weights, 1, good_graft_combine_options(), out_path("graft_combine"), GRAFT_NUL, NULL), "graft_combine error = NULL", 0, 0);
}

static void test_graft_export_lora(void) {
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora as it should be", 0, 1);
    check(graft_export_lora(NULL, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = NULL", 1, 1);
    check(graft_export_lora(odd, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = odd", 1, 1);
    check(graft_export_lora(freed_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = freed_model", 1, 1);
    check(graft_export_lora((void *)good_error, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_error", 1, 1);
    check(graft_export_lora((void *)good_cancel, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_cancel", 1, 1);
    check(graft_export_lora((void *)good_team, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_team", 1, 1);
    check(graft_export_lora((void *)good_adapter, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_adapter", 1, 1);
    check(graft_export_lora((void *)good_session, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_session", 1, 1);
    check(graft_export_lora((void *)good_sampler, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_sampler", 1, 1);
    check(graft_export_lora((void *)good_generation, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_generation", 1, 1);
    check(graft_export_lora((void *)good_batch, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_batch", 1, 1);
    check(graft_export_lora((void *)good_trainer, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora model = (void *)good_trainer", 1, 1);
    check(graft_export_lora(good_model, NULL, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora adapter = NULL", 1, 1);
    check(graft_export_lora(good_model, "\xff\xfe", GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora adapter = \"\\xff\\xfe\"", 0, 1);
    check(graft_export_lora(good_model, "", GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora adapter = \"\"", 0, 1);
    check(graft_export_lora(good_model, adapter_path, 0, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora adapter_len = 0", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, NULL, GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora format = NULL", 1, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "\xff\xfe", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora format = \"\\xff\\xfe\"", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora format = \"\"", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", 0, out_path("graft_export_lora"), GRAFT_NUL, &error), "graft_export_lora format_len = 0", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, NULL, GRAFT_NUL, &error), "graft_export_lora path = NULL", 1, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, "\xff\xfe", GRAFT_NUL, &error), "graft_export_lora path = \"\\xff\\xfe\"", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, "", GRAFT_NUL, &error), "graft_export_lora path = \"\"", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), 0, &error), "graft_export_lora path_len = 0", 0, 1);
    check(graft_export_lora(good_model, adapter_path, GRAFT_NUL, "F16", GRAFT_NUL, out_path("graft_export_lora"), GRAFT_NUL, NULL), "graft_export_lora error = NULL", 0, 0);
}

static void test_graft_to_lora(void) {
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora as it should be", 0, 1);
    check(graft_to_lora(NULL, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = NULL", 1, 1);
    check(graft_to_lora(odd, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = odd", 1, 1);
    check(graft_to_lora(freed_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = freed_model", 1, 1);
    check(graft_to_lora((void *)good_error, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_error", 1, 1);
    check(graft_to_lora((void *)good_cancel, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_cancel", 1, 1);
    check(graft_to_lora((void *)good_team, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_team", 1, 1);
    check(graft_to_lora((void *)good_adapter, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_adapter", 1, 1);
    check(graft_to_lora((void *)good_session, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_session", 1, 1);
    check(graft_to_lora((void *)good_sampler, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_sampler", 1, 1);
    check(graft_to_lora((void *)good_generation, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_generation", 1, 1);
    check(graft_to_lora((void *)good_batch, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_batch", 1, 1);
    check(graft_to_lora((void *)good_trainer, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora model = (void *)good_trainer", 1, 1);
    check(graft_to_lora(good_model, NULL, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora adapter = NULL", 1, 1);
    check(graft_to_lora(good_model, "\xff\xfe", GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora adapter = \"\\xff\\xfe\"", 0, 1);
    check(graft_to_lora(good_model, "", GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora adapter = \"\"", 0, 1);
    check(graft_to_lora(good_model, adapter_path, 0, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora adapter_len = 0", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized(0), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized(0)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized(1), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized(1)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized(7), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized(7)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_adapter_options) - 4), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized(sizeof(graft_adapter_options) - 4)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized(sizeof(graft_adapter_options) + 3), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized(sizeof(graft_adapter_options) + 3)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized(100000), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized(100000)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, sized((size_t)-1), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = sized((size_t)-1)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_adapter_options), 0), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = longer(sizeof(graft_adapter_options), 0)", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, longer(sizeof(graft_adapter_options), 1), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = longer(sizeof(graft_adapter_options), 1)", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, NULL, 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = NULL", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, odd, 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora options = odd", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), -1, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora rank = -1", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 77, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora rank = 77", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 2147483647, 0.5, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora rank = 2147483647", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora energy = 0", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, -1, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora energy = -1", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.0 / zero, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora energy = 0.0 / zero", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 1e308, out_path("graft_to_lora"), GRAFT_NUL, &error), "graft_to_lora energy = 1e308", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, NULL, GRAFT_NUL, &error), "graft_to_lora path = NULL", 1, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, "\xff\xfe", GRAFT_NUL, &error), "graft_to_lora path = \"\\xff\\xfe\"", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, "", GRAFT_NUL, &error), "graft_to_lora path = \"\"", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), 0, &error), "graft_to_lora path_len = 0", 0, 1);
    check(graft_to_lora(good_model, adapter_path, GRAFT_NUL, good_graft_adapter_options(), 0, 0.5, out_path("graft_to_lora"), GRAFT_NUL, NULL), "graft_to_lora error = NULL", 0, 0);
}

int main(int argc, char **argv) {
    prepare(argc, argv);
    test_graft_status_name();
    test_graft_error_status();
    test_graft_error_message();
    test_graft_error_file();
    test_graft_error_item();
    test_graft_error_expected();
    test_graft_error_found();
    test_graft_error_free();
    test_graft_abi_version();
    test_graft_version();
    test_graft_free();
    test_graft_log_set();
    test_graft_cancel_new();
    test_graft_cancel_set();
    test_graft_cancel_clear();
    test_graft_cancel_free();
    test_graft_team_new();
    test_graft_team_of_callback();
    test_graft_team_free();
    test_graft_model_options_init();
    test_graft_model_open();
    test_graft_model_open_fd();
    test_graft_model_open_memory();
    test_graft_model_free();
    test_graft_tokenize();
    test_graft_detokenize();
    test_graft_token_bytes();
    test_graft_token_find();
    test_graft_token_ends();
    test_graft_chat_options_init();
    test_graft_chat_render();
    test_graft_adapter_options_init();
    test_graft_adapter_open();
    test_graft_adapter_open_memory();
    test_graft_adapter_free();
    test_graft_adapter_get_info();
    test_graft_session_options_init();
    test_graft_session_new();
    test_graft_session_free();
    test_graft_session_set_adapters();
    test_graft_session_eval();
    test_graft_session_eval_each();
    test_graft_session_logits();
    test_graft_session_tokens();
    test_graft_session_get_info();
    test_graft_session_truncate();
    test_graft_session_slide();
    test_graft_session_reset();
    test_graft_session_cancel();
    test_graft_model_get_info();
    test_graft_model_metadata_count();
    test_graft_model_metadata_key();
    test_graft_model_metadata();
    test_graft_model_tensor_count();
    test_graft_model_tensor();
    test_graft_plan_memory();
    test_graft_session_save();
    test_graft_session_restore();
    test_graft_session_save_memory();
    test_graft_session_restore_memory();
    test_graft_session_embed();
    test_graft_sampler_options_init();
    test_graft_sampler_new();
    test_graft_sampler_reset();
    test_graft_session_sample();
    test_graft_sampler_free();
    test_graft_generate_options_init();
    test_graft_generate_text();
    test_graft_generate_tokens();
    test_graft_generate_messages();
    test_graft_generation_of_text();
    test_graft_generation_of_tokens();
    test_graft_generation_of_messages();
    test_graft_generation_next();
    test_graft_generation_cancel();
    test_graft_generation_report();
    test_graft_generation_free();
    test_graft_batch_options_init();
    test_graft_batch_new();
    test_graft_batch_free();
    test_graft_batch_adapter();
    test_graft_batch_line();
    test_graft_batch_run();
    test_graft_train_options_init();
    test_graft_plan_training();
    test_graft_trainer_new();
    test_graft_trainer_open();
    test_graft_trainer_resume();
    test_graft_trainer_free();
    test_graft_trainer_add();
    test_graft_trainer_pull();
    test_graft_trainer_clear();
    test_graft_trainer_step();
    test_graft_trainer_run();
    test_graft_trainer_evaluate();
    test_graft_trainer_adapter();
    test_graft_trainer_save();
    test_graft_trainer_checkpoint();
    test_graft_trainer_get_info();
    test_graft_merge_options_init();
    test_graft_merge();
    test_graft_merge_to();
    test_graft_combine_options_init();
    test_graft_combine();
    test_graft_export_lora();
    test_graft_to_lora();
    return finish();
}
