/* Cancel flags, sessions, generating. */
#include <stdlib.h>

#include "values.h"

NATIVE(jlong, cancelNew)(JNIEnv *env, jclass self) {
    (void)self;
    graft_cancel *cancel = NULL;
    graft_error *error = NULL;
    failed(env, graft_cancel_new(&cancel, &error), &error);
    return NUMBER(cancel);
}

NATIVE(void, cancelSet)(JNIEnv *env, jclass self, jlong cancel) {
    (void)self;
    failed(env, graft_cancel_set(HANDLE(graft_cancel, cancel)), NULL);
}

NATIVE(void, cancelClear)(JNIEnv *env, jclass self, jlong cancel) {
    (void)self;
    failed(env, graft_cancel_clear(HANDLE(graft_cancel, cancel)), NULL);
}

NATIVE(void, cancelFree)(JNIEnv *env, jclass self, jlong cancel) {
    (void)env, (void)self;
    graft_cancel_free(HANDLE(graft_cancel, cancel));
}

/* ------------------------------------------------------------------------ Sessions. */

NATIVE(jlong, sessionNew)(JNIEnv *env, jclass self, jlong model, jlong context, jint chunk, jboolean exact) {
    (void)self;
    graft_session_options options;
    graft_session_options_init(&options, sizeof options);
    options.context = (uint64_t)context;
    options.chunk = (uint32_t)chunk;
    options.precision = exact ? GRAFT_PRECISION_EXACT : GRAFT_PRECISION_FAST;
    graft_session *session = NULL;
    graft_error *error = NULL;
    failed(env, graft_session_new(HANDLE(graft_model, model), &options, &session, &error), &error);
    return NUMBER(session);
}

NATIVE(void, sessionFree)(JNIEnv *env, jclass self, jlong session) {
    (void)env, (void)self;
    graft_session_free(HANDLE(graft_session, session));
}

NATIVE(void, sessionCancel)(JNIEnv *env, jclass self, jlong session) {
    (void)self;
    failed(env, graft_session_cancel(HANDLE(graft_session, session)), NULL);
}

NATIVE(void, setAdapters)(JNIEnv *env, jclass self, jlong session, jlongArray adapters, jfloatArray weights) {
    (void)self;
    size_t n, n_weights;
    jlong *numbers = copy_in(env, adapters, 'J', &n);
    float *own_weights = copy_in(env, weights, 'F', &n_weights);
    const graft_adapter **handles = calloc(n + 1, sizeof *handles);
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        if (handles == NULL) {
            throw_new(env, "java/lang/OutOfMemoryError", "no memory for adapters");
        } else {
            for (size_t i = 0; i < n; i++) handles[i] = HANDLE(graft_adapter, numbers[i]);
            failed(env, graft_session_set_adapters(HANDLE(graft_session, session), handles, own_weights, n, &error), &error);
        }
    }
    free(handles);
    free(numbers);
    free(own_weights);
}

NATIVE(jfloatArray, eval)(JNIEnv *env, jclass self, jlong handle, jintArray tokens) {
    (void)self;
    graft_session *session = HANDLE(graft_session, handle);
    size_t n, n_logits = 0;
    uint32_t *own_tokens = copy_in(env, tokens, 'I', &n);
    const float *logits = NULL;
    jfloatArray array = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env) && !failed(env, graft_session_eval(session, own_tokens, n, &error), &error)
        && !failed(env, graft_session_logits(session, &logits, &n_logits, &error), &error)) {
        array = floats_out(env, logits, n_logits);
    }
    free(own_tokens);
    return array;
}

NATIVE(jintArray, sessionTokens)(JNIEnv *env, jclass self, jlong session) {
    (void)self;
    const uint32_t *tokens = NULL;
    size_t n = 0;
    graft_error *error = NULL;
    if (failed(env, graft_session_tokens(HANDLE(graft_session, session), &tokens, &n, &error), &error)) return NULL;
    return ints_out(env, tokens, n);
}

NATIVE(jlong, sessionContext)(JNIEnv *env, jclass self, jlong session) {
    (void)self;
    graft_session_info info = {0};
    info.struct_size = sizeof info;
    graft_error *error = NULL;
    failed(env, graft_session_get_info(HANDLE(graft_session, session), &info, &error), &error);
    return (jlong)info.context;
}

NATIVE(void, truncate)(JNIEnv *env, jclass self, jlong session, jlong n) {
    (void)self;
    graft_error *error = NULL;
    failed(env, graft_session_truncate(HANDLE(graft_session, session), (uint64_t)n, &error), &error);
}

NATIVE(void, slide)(JNIEnv *env, jclass self, jlong session, jlong keep) {
    (void)self;
    graft_error *error = NULL;
    failed(env, graft_session_slide(HANDLE(graft_session, session), (uint64_t)keep, &error), &error);
}

NATIVE(void, save)(JNIEnv *env, jclass self, jlong session, jbyteArray path) {
    (void)self;
    size_t len;
    char *own_path = copy_in(env, path, 'B', &len);
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) failed(env, graft_session_save(HANDLE(graft_session, session), own_path, len, &error), &error);
    free(own_path);
}

NATIVE(void, restore)(JNIEnv *env, jclass self, jlong session, jbyteArray path) {
    (void)self;
    size_t len;
    char *own_path = copy_in(env, path, 'B', &len);
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) failed(env, graft_session_restore(HANDLE(graft_session, session), own_path, len, &error), &error);
    free(own_path);
}

NATIVE(jbyteArray, saveMemory)(JNIEnv *env, jclass self, jlong session) {
    (void)self;
    uint8_t *bytes = NULL;
    size_t n = 0;
    graft_error *error = NULL;
    if (failed(env, graft_session_save_memory(HANDLE(graft_session, session), &bytes, &n, &error), &error)) return NULL;
    jbyteArray array = bytes_out(env, bytes, n);
    graft_free(bytes);
    return array;
}

NATIVE(void, restoreMemory)(JNIEnv *env, jclass self, jlong session, jbyteArray state) {
    (void)self;
    size_t n;
    uint8_t *bytes = copy_in(env, state, 'B', &n);
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) failed(env, graft_session_restore_memory(HANDLE(graft_session, session), bytes, n, &error), &error);
    free(bytes);
}

NATIVE(jfloatArray, embed)(JNIEnv *env, jclass self, jlong session, jintArray tokens, jint pooling, jint size) {
    (void)self;
    size_t n, n_vector = (size_t)size;
    uint32_t *own_tokens = copy_in(env, tokens, 'I', &n);
    float *vector = calloc(n_vector + 1, sizeof *vector);
    jfloatArray array = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        if (vector == NULL) {
            throw_new(env, "java/lang/OutOfMemoryError", "no memory for a vector");
        } else if (!failed(env, graft_session_embed(HANDLE(graft_session, session), own_tokens, n, pooling, vector, n_vector, &error),
                           &error)) {
            array = floats_out(env, vector, n_vector);
        }
    }
    free(vector);
    free(own_tokens);
    return array;
}

/* ------------------------------------------------------------------------ Generating. */

/* Who is shown the text: the callback comes from the thread that called `generate`, so its environment is the right one. */
struct listener {
    JNIEnv *env;
    jobject pieces;
};

/* Hands a text to Pieces. Not 0, where it asks for the end or has thrown something, which stays pending until `generate` returns. */
static int32_t show(const char *text, size_t len, uint32_t token, void *user_data) {
    (void)token;
    const struct listener *listener = user_data;
    JNIEnv *env = listener->env;
    if (len == 0) return 0;
    jbyteArray bytes = bytes_out(env, text, len);
    if ((*env)->ExceptionCheck(env)) return 1;
    jboolean goes_on = (*env)->CallBooleanMethod(env, listener->pieces, pieces_piece, bytes);
    (*env)->DeleteLocalRef(env, bytes);
    return (*env)->ExceptionCheck(env) || !goes_on;
}

/* A sampler of the numbers that Sampling.java has. NULL for none (`numbers` NULL), and with an exception pending. */
static graft_sampler *make_sampler(JNIEnv *env, graft_session *session, const float *numbers, jint top_k, jint repeat_last_n, jlong seed,
                                   const jint *biased, const float *biases, size_t n_biased) {
    if (numbers == NULL) return NULL;
    graft_sampler_options options;
    graft_sampler_options_init(&options, sizeof options);
    options.temperature = numbers[0];
    options.top_p = numbers[1];
    options.min_p = numbers[2];
    options.repeat_penalty = numbers[3];
    options.frequency_penalty = numbers[4];
    options.presence_penalty = numbers[5];
    options.top_k = (uint32_t)top_k;
    options.repeat_last_n = (uint32_t)repeat_last_n;
    options.seed = (uint64_t)seed;
    graft_logit_bias *bias = calloc(n_biased + 1, sizeof *bias);
    if (bias == NULL) {
        throw_new(env, "java/lang/OutOfMemoryError", "no memory for biases");
        return NULL;
    }
    for (size_t i = 0; i < n_biased; i++) bias[i] = (graft_logit_bias){(uint32_t)biased[i], biases[i]};
    options.logit_bias = bias;
    options.n_logit_bias = n_biased;
    graft_sampler *sampler = NULL;
    graft_error *error = NULL;
    failed(env, graft_sampler_new(session, &options, &sampler, &error), &error);
    free(bias);
    return sampler;
}

/* Generates from tokens, or else a text, or else messages. Throws. */
static void generate_from(JNIEnv *env, graft_session *session, struct texts *texts, const uint32_t *tokens, size_t n_tokens, jint stops,
                          jboolean add_generation_prompt, graft_generate_options *options, jobject pieces, graft_report *report) {
    graft_chat_options chat = chat_options(texts, add_generation_prompt);
    graft_text prompt = next_text(texts);
    graft_text *stop = calloc((size_t)stops + 1, sizeof *stop);
    if (stop == NULL) {
        throw_new(env, "java/lang/OutOfMemoryError", "no memory for stop texts");
        return;
    }
    for (jint i = 0; i < stops; i++) stop[i] = next_text(texts);
    options->stop = stop;
    options->n_stop = (size_t)stops;
    size_t n_messages;
    graft_message *messages = next_messages(env, texts, &n_messages);
    if (messages != NULL) {
        struct listener listener = {env, pieces};
        graft_error *error = NULL;
        graft_status status;
        if (tokens != NULL) {
            status = graft_generate_tokens(session, tokens, n_tokens, options, show, &listener, report, &error);
        } else if (prompt.data != NULL) {
            status = graft_generate_text(session, prompt.data, prompt.len, options, show, &listener, report, &error);
        } else {
            status = graft_generate_messages(session, messages, n_messages, &chat, options, show, &listener, report, &error);
        }
        /* What the listener threw goes before what the call says. */
        if ((*env)->ExceptionCheck(env)) {
            graft_error_free(error);
        } else {
            failed(env, status, &error);
        }
    }
    free(messages);
    free(stop);
}

NATIVE(void, generate)(JNIEnv *env, jclass self, jlong handle, jbyteArray bytes, jintArray lengths, jint stops, jintArray tokens,
                       jboolean add_generation_prompt, jlong max_tokens, jlong keep, jboolean ignore_eos, jboolean show_special,
                       jlong cancel, jfloatArray sampling, jint top_k, jint repeat_last_n, jlong seed, jintArray biased,
                       jfloatArray biases, jobject pieces, jdoubleArray numbers) {
    (void)self;
    graft_session *session = HANDLE(graft_session, handle);
    struct texts texts = texts_in(env, bytes, lengths);
    size_t n_tokens, n_sampling, n_biased, n_biases;
    uint32_t *own_tokens = copy_in(env, tokens, 'I', &n_tokens);
    float *own_sampling = copy_in(env, sampling, 'F', &n_sampling);
    jint *own_biased = copy_in(env, biased, 'I', &n_biased);
    float *own_biases = copy_in(env, biases, 'F', &n_biases);
    graft_sampler *sampler = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        sampler = make_sampler(env, session, own_sampling, top_k, repeat_last_n, seed, own_biased, own_biases, n_biased);
    }
    if (!(*env)->ExceptionCheck(env)) {
        graft_generate_options options;
        graft_generate_options_init(&options, sizeof options);
        options.max_tokens = (uint64_t)max_tokens;
        options.sampler = sampler;
        options.cancel = HANDLE(graft_cancel, cancel);
        options.keep = keep;
        options.ignore_eos = ignore_eos;
        options.show_special = show_special;
        graft_report report = {0};
        report.struct_size = sizeof report;
        generate_from(env, session, &texts, own_tokens, n_tokens, stops, add_generation_prompt, &options, pieces, &report);
        if (!(*env)->ExceptionCheck(env)) {
            const double all[] = {(double)report.prompt_tokens, (double)report.reused_tokens, (double)report.tokens,
                                  report.prompt_seconds, report.generation_seconds, report.finish};
            (*env)->SetDoubleArrayRegion(env, numbers, 0, sizeof all / sizeof *all, all);
        }
    }
    graft_sampler_free(sampler);
    free(own_biases);
    free(own_biased);
    free(own_sampling);
    free(own_tokens);
    free_texts(&texts);
}
