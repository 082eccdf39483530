/* Many threads, and callbacks that use the library. */
#define _POSIX_C_SOURCE 200809L
#include "outside.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 12, THREADS = 8 };

typedef struct {
    const graft_model *model;
    const graft_adapter *adapter;
    collected text;
} conversation;

static void *converse(void *user_data) {
    conversation *one = user_data;
    answer_alone(one->model, one->adapter, PROMPT, TOKENS, &one->text);
    return NULL;
}

static void side_by_side(graft_model *model) {
    static conversation all[THREADS];
    static collected plain, adapted;
    pthread_t threads[THREADS];
    graft_adapter *adapter = open_adapter(model, 1);
    int i;
    answer_alone(model, NULL, PROMPT, TOKENS, &plain);
    answer_alone(model, adapter, PROMPT, TOKENS, &adapted);
    for (i = 0; i < THREADS; i++) {
        all[i].model = model;
        all[i].adapter = i % 2 ? adapter : NULL;
        CHECK(!pthread_create(&threads[i], NULL, converse, &all[i]));
    }
    for (i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(same(&all[i].text, i % 2 ? &adapted : &plain));
    }
    graft_adapter_free(adapter);
}

/* Opens, uses and frees its own. */
static void *come_and_go(void *user_data) {
    collected text;
    int i;
    (void)user_data;
    for (i = 0; i < 5; i++) {
        graft_model *model = open_tiny("llama-tied");
        graft_session *session = new_session(model);
        graft_model_free(model);
        answer(session, PROMPT, 3, &text);
        graft_session_free(session);
        FAILS(GRAFT_ERROR_HANDLE, graft_session_reset(session, &error));
    }
    return NULL;
}

/* A call that waits in its callback until another thread has done something. */
typedef struct {
    graft_session *session;
    graft_cancel *cancel;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside, done;
    collected text;
    int32_t end;
} meeting;

static void say(meeting *m, int *what) {
    pthread_mutex_lock(&m->lock);
    *what = 1;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void wait_for(meeting *m, const int *what) {
    pthread_mutex_lock(&m->lock);
    while (!*what) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

static int32_t meet_at_third(const char *text, size_t len, uint32_t token, void *user_data) {
    meeting *m = user_data;
    collect(text, len, token, &m->text);
    if (m->text.n_tokens == 3) {
        say(m, &m->inside);
        wait_for(m, &m->done);
    }
    return 0;
}

static void *cancel_session(void *user_data) {
    meeting *m = user_data;
    wait_for(m, &m->inside);
    STATUS(GRAFT_OK, graft_session_cancel(m->session));
    say(m, &m->done);
    return NULL;
}

static void *cancel_flag(void *user_data) {
    meeting *m = user_data;
    wait_for(m, &m->inside);
    STATUS(GRAFT_OK, graft_cancel_set(m->cancel));
    say(m, &m->done);
    return NULL;
}

static void *use_busy(void *user_data) {
    meeting *m = user_data;
    const float *logits = NULL;
    size_t n = 77;
    wait_for(m, &m->inside);
    FAILS(GRAFT_ERROR_BUSY, graft_session_logits(m->session, &logits, &n, &error));
    CHECK(!logits && n == 77);
    FAILS(GRAFT_ERROR_BUSY, graft_session_reset(m->session, &error));
    FAILS(GRAFT_ERROR_BUSY, graft_session_set_adapters(m->session, NULL, NULL, 0, &error));
    FAILS(GRAFT_ERROR_BUSY, graft_generate_text(m->session, PROMPT, GRAFT_NUL, NULL, NULL, NULL, NULL, &error));
    say(m, &m->done);
    return NULL;
}

static void *free_busy(void *user_data) {
    meeting *m = user_data;
    wait_for(m, &m->inside);
    graft_session_free(m->session);
    say(m, &m->done);
    return NULL;
}

/* Generates while `other` meets the callback at the third token. */
static graft_finish meet(graft_session *session, graft_cancel *cancel, void *(*other)(void *), size_t *tokens) {
    static meeting m;
    graft_generate_options options;
    graft_report report = {.struct_size = sizeof report};
    pthread_t thread;
    memset(&m, 0, sizeof m);
    m.session = session;
    m.cancel = cancel;
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.changed, NULL);
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = TOKENS;
    options.ignore_eos = 1;
    options.cancel = cancel;
    CHECK(!pthread_create(&thread, NULL, other, &m));
    OK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, meet_at_third, &m, &report, &error));
    pthread_join(thread, NULL);
    *tokens = m.text.n_tokens;
    pthread_cond_destroy(&m.changed);
    pthread_mutex_destroy(&m.lock);
    return report.finish;
}

static void cancelled(const graft_model *model) {
    graft_session *session = new_session(model);
    graft_cancel *cancel = NULL;
    size_t n;
    STATUS(GRAFT_OK, graft_session_cancel(session)); /* nothing under way: nothing happens, now or later */
    OK(graft_cancel_new(&cancel, &error));
    CHECK(meet(session, NULL, cancel_session, &n) == GRAFT_FINISH_CANCELLED && n == 3);
    OK(graft_session_reset(session, &error));
    CHECK(meet(session, cancel, use_busy, &n) == GRAFT_FINISH_LENGTH && n == TOKENS);
    OK(graft_session_reset(session, &error));
    CHECK(meet(session, cancel, cancel_flag, &n) == GRAFT_FINISH_CANCELLED && n == 3);
    {
        graft_generate_options options;
        graft_report report = {.struct_size = sizeof report};
        graft_generate_options_init(&options, sizeof options);
        options.max_tokens = 4;
        options.ignore_eos = 1;
        options.cancel = cancel; /* still set */
        OK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, &report, &error));
        CHECK(report.finish == GRAFT_FINISH_CANCELLED && report.tokens == 0);
        STATUS(GRAFT_OK, graft_cancel_clear(cancel));
        OK(graft_session_reset(session, &error));
        OK(graft_generate_text(session, PROMPT, GRAFT_NUL, &options, NULL, NULL, &report, &error));
        CHECK(report.finish == GRAFT_FINISH_LENGTH);
    }
    graft_cancel_free(cancel);
    STATUS(GRAFT_ERROR_HANDLE, graft_cancel_set(cancel));
    CHECK(meet(session, NULL, free_busy, &n) == GRAFT_FINISH_LENGTH || n >= 3); /* freed under way: no harm */
    FAILS(GRAFT_ERROR_HANDLE, graft_session_reset(session, &error));
    STATUS(GRAFT_ERROR_HANDLE, graft_session_cancel(session));
}

/* Everything that any thread may do at any time, while another one generates. */
typedef struct {
    graft_model *model;
    graft_adapter *adapter;
    graft_session *session;
    graft_cancel *cancel;
    collected text;
} crowd;

static void ignore_log(graft_log_level level, const char *message, size_t len, void *user_data) {
    (void)level, (void)message, (void)len, (void)user_data;
}

static void *disturb(void *user_data) {
    crowd *c = user_data;
    graft_session_info session = {.struct_size = sizeof session};
    graft_model_info model = {.struct_size = sizeof model};
    graft_adapter_info adapter = {.struct_size = sizeof adapter};
    uint32_t *tokens = NULL;
    size_t n;
    int i;
    for (i = 0; i < 60; i++) {
        graft_session *own = new_session(c->model);
        graft_status status = graft_session_get_info(c->session, &session, NULL);
        CHECK(status == GRAFT_OK || status == GRAFT_ERROR_BUSY);
        OK(graft_session_set_adapters(own, (const graft_adapter *const *)&c->adapter, NULL, 1, &error));
        STATUS(GRAFT_OK, graft_session_cancel(c->session));
        STATUS(GRAFT_OK, i % 2 ? graft_cancel_set(c->cancel) : graft_cancel_clear(c->cancel));
        OK(graft_model_get_info(c->model, &model, &error));
        OK(graft_adapter_get_info(c->adapter, &adapter, &error));
        OK(graft_tokenize(c->model, PROMPT, GRAFT_NUL, 0, &tokens, &n, &error));
        graft_free(tokens);
        graft_log_set(i % 2 ? ignore_log : NULL, NULL, GRAFT_LOG_INFO);
        graft_session_free(own);
        graft_session_free(own); /* a warning to whoever listens now */
    }
    return NULL;
}

static void crowded(graft_model *model) {
    static crowd c;
    pthread_t threads[3];
    graft_generate_options options;
    int i;
    c.model = model;
    c.adapter = open_adapter(model, 0);
    c.session = new_session(model);
    OK(graft_cancel_new(&c.cancel, &error));
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = 4;
    options.cancel = c.cancel;
    for (i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, disturb, &c));
    for (i = 0; i < 20; i++) {
        graft_status status = graft_session_reset(c.session, NULL); /* busy where the others look at it just now */
        CHECK(status == GRAFT_OK || status == GRAFT_ERROR_BUSY);
        c.text.len = c.text.n_tokens = 0;
        status = graft_generate_text(c.session, " a", GRAFT_NUL, &options, collect, &c.text, NULL, NULL);
        CHECK(status == GRAFT_OK || status == GRAFT_ERROR_BUSY);
    }
    for (i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    graft_log_set(NULL, NULL, GRAFT_LOG_OFF);
    graft_session_free(c.session);
    graft_adapter_free(c.adapter);
    graft_cancel_free(c.cancel);
}

void test_threads(void) {
    pthread_t threads[4];
    graft_model *model = open_model();
    int i;
    side_by_side(model);
    cancelled(model);
    crowded(model);
    graft_model_free(model);
    for (i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, come_and_go, NULL));
    for (i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

/* A callback that does everything an application should not, and may. */
typedef struct {
    graft_model *model;
    graft_session *session, *other;
    graft_sampler *sampler;
    collected text, inner;
    int free_session;
} caller;

static int32_t call_back_in(const char *text, size_t len, uint32_t token, void *user_data) {
    caller *c = user_data;
    collect(text, len, token, &c->text);
    if (c->text.n_tokens != 2) return 0;
    FAILS(GRAFT_ERROR_BUSY, graft_session_reset(c->session, &error));
    if (c->sampler) FAILS(GRAFT_ERROR_BUSY, graft_sampler_reset(c->sampler, &error));
    answer(c->other, PROMPT, 3, &c->inner);
    CHECK(c->inner.n_tokens == 3);
    if (c->free_session) {
        graft_session_free(c->session);
        FAILS(GRAFT_ERROR_HANDLE, graft_session_reset(c->session, &error));
        graft_sampler_free(c->sampler);
        graft_model_free(c->model);
    }
    return 0;
}

static graft_session *volatile to_cancel;

static void on_signal(int number) {
    (void)number;
    graft_session_cancel(to_cancel);
}

static int32_t raise_at_third(const char *text, size_t len, uint32_t token, void *user_data) {
    collected *all = user_data;
    collect(text, len, token, user_data);
    if (all->n_tokens == 3) raise(SIGUSR1);
    return 0;
}

static int32_t free_model(float share, void *user_data) {
    (void)share;
    graft_model_free(user_data);
    return 0;
}

typedef struct {
    graft_session *session;
    size_t calls;
} each_caller;

static int32_t free_at_logits(size_t index, const float *logits, size_t n_logits, void *user_data) {
    each_caller *c = user_data;
    size_t i, numbers = 0;
    if (index == 0) graft_session_free(c->session);
    for (i = 0; i < n_logits; i++) numbers += logits[i] == logits[i]; /* still there */
    CHECK(numbers == n_logits);
    c->calls++;
    return 0;
}

static void log_back_in(graft_log_level level, const char *message, size_t len, void *user_data) {
    const char *const *name = user_data;
    (void)level, (void)message, (void)len;
    CHECK(graft_version() && *name);
    graft_log_set(NULL, NULL, GRAFT_LOG_OFF);
}

void test_callbacks(void) {
    static caller c;
    static collected plain, ended;
    each_caller each = {NULL, 0};
    graft_generate_options options;
    graft_sampler_options sampling;
    graft_model_options opening;
    graft_report report = {.struct_size = sizeof report};
    graft_model *model = open_model(), *second = NULL;
    struct sigaction action;
    uint32_t *tokens = NULL;
    size_t n;
    int i;

    answer_alone(model, NULL, PROMPT, TOKENS, &plain);
    c.model = model;
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = TOKENS;
    options.ignore_eos = 1;
    graft_sampler_options_init(&sampling, sizeof sampling);

    c.session = new_session(model); /* in a signal handler */
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, NULL);
    to_cancel = c.session;
    OK(graft_generate_text(c.session, PROMPT, GRAFT_NUL, &options, raise_at_third, &ended, &report, &error));
    CHECK(report.finish == GRAFT_FINISH_CANCELLED && report.tokens == 3);
    graft_session_free(c.session);

    each.session = new_session(model);
    OK(graft_tokenize(model, PROMPT, GRAFT_NUL, 0, &tokens, &n, &error));
    OK(graft_session_eval_each(each.session, tokens, n, free_at_logits, &each, &error));
    CHECK(each.calls == n);
    graft_free(tokens);
    FAILS(GRAFT_ERROR_HANDLE, graft_session_reset(each.session, &error));

    graft_model_options_init(&opening, sizeof opening);
    opening.progress = free_model;
    opening.progress_user_data = open_tiny("llama-tied");
    opening.load_mode = GRAFT_LOAD_READ;
    OK(graft_model_open(tiny_file("qwen2/model.gguf"), GRAFT_NUL, &opening, &second, &error));
    graft_log_set(log_back_in, &model_path, GRAFT_LOG_INFO);
    graft_model_free(open_tiny("llama-tied"));
    graft_log_set(NULL, NULL, GRAFT_LOG_OFF);

    c.other = new_session(second);
    graft_model_free(second);
    for (i = 0; i < 2; i++) { /* the second time frees what the call uses */
        c.session = new_session(model);
        c.free_session = i;
        OK(graft_sampler_new(c.session, &sampling, &c.sampler, &error));
        options.sampler = c.sampler;
        c.text.len = c.text.n_tokens = c.inner.len = c.inner.n_tokens = 0;
        OK(graft_generate_text(c.session, PROMPT, GRAFT_NUL, &options, call_back_in, &c, &report, &error));
        CHECK(same(&plain, &c.text) && report.finish == GRAFT_FINISH_LENGTH);
        if (i == 0) {
            graft_session_free(c.session);
            graft_sampler_free(c.sampler);
        }
    }
    FAILS(GRAFT_ERROR_HANDLE, graft_session_reset(c.session, &error));
    FAILS(GRAFT_ERROR_HANDLE, graft_sampler_reset(c.sampler, &error));
    graft_session_free(c.other);
}
