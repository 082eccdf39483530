/* Loading the library; models, tokens, chat, adapters. */
#include <stdlib.h>

#include "values.h"

jmethodID pieces_piece;
static JavaVM *machine;
static jclass bytes_class;

static jclass find_class(JNIEnv *env, const char *name) {
    jclass local = (*env)->FindClass(env, name);
    return local == NULL ? NULL : (*env)->NewGlobalRef(env, local);
}

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved) {
    (void)reserved;
    void *found = NULL;
    if ((*vm)->GetEnv(vm, &found, JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
    JNIEnv *env = found;
    machine = vm;
    if (graft_abi_version() != GRAFT_ABI_VERSION) {
        throw_new(env, "java/lang/UnsatisfiedLinkError", "libgraft is of another version than libgraft_jni");
        return JNI_ERR;
    }
    bytes_class = find_class(env, "[B");
    if (bytes_class == NULL) return JNI_ERR;
    exception_class = find_class(env, "dev/graft/GraftException");
    if (exception_class == NULL) return JNI_ERR;
    exception_new = (*env)->GetMethodID(env, exception_class, "<init>", "(I[B[B[B[B[B)V");
    if (exception_new == NULL) return JNI_ERR;
    jclass pieces = find_class(env, "dev/graft/Pieces"); /* for good: a method's number is valid as long as its class is loaded */
    if (pieces == NULL) return JNI_ERR;
    pieces_piece = (*env)->GetMethodID(env, pieces, "piece", "([B)Z");
    return pieces_piece == NULL ? JNI_ERR : JNI_VERSION_1_6;
}

NATIVE(jbyteArray, version)(JNIEnv *env, jclass self) {
    (void)self;
    return text_out(env, graft_version());
}

/* ------------------------------------------------------------------------ Models. */

/* Where a model is: a path, or else memory, or else a file. */
struct source {
    jbyteArray path;
    const void *data;
    size_t data_len;
    jobject buffer;
    int32_t file;
    uint64_t offset, length;
};

/* Lets go of a buffer. Any thread may free the last of a model: also one that Java does not know. */
static void release_buffer(void *buffer) {
    void *env = NULL;
    int attached = 0;
    if ((*machine)->GetEnv(machine, &env, JNI_VERSION_1_6) != JNI_OK) {
        /* Its second parameter has another type on Android. */
        if ((*machine)->AttachCurrentThreadAsDaemon(machine, (void *)&env, NULL) != JNI_OK) return;
        attached = 1;
    }
    (*(JNIEnv *)env)->DeleteGlobalRef(env, buffer);
    if (attached) (*machine)->DetachCurrentThread(machine);
}

static jlong open_model(JNIEnv *env, struct source source, jintArray numbers, jboolean read, jbyteArray tokenizer) {
    graft_model_options options;
    graft_model_options_init(&options, sizeof options);
    size_t path_len, tokenizer_len;
    char *path = copy_in(env, source.path, 'B', &path_len);
    char *own_tokenizer = copy_in(env, tokenizer, 'B', &tokenizer_len);
    jint number[4] = {0, GRAFT_DEVICE_AUTO, -1, -1};
    (*env)->GetIntArrayRegion(env, numbers, 0, 4, number);
    options.threads = (uint32_t)number[0];
    options.device = number[1];
    options.device_index = number[2];
    options.gpu_layers = number[3];
    options.load_mode = read ? GRAFT_LOAD_READ : GRAFT_LOAD_MAP;
    options.tokenizer = own_tokenizer;
    options.tokenizer_len = tokenizer_len;
    jobject kept = NULL;
    if (source.buffer != NULL && !(*env)->ExceptionCheck(env)) {
        kept = (*env)->NewGlobalRef(env, source.buffer);
        if (kept == NULL) throw_new(env, "java/lang/OutOfMemoryError", "no memory for a reference");
    }
    graft_model *model = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        graft_status status;
        if (path != NULL) {
            status = graft_model_open(path, path_len, &options, &model, &error);
        } else if (kept != NULL) {
            status = graft_model_open_memory(source.data, source.data_len, release_buffer, kept, &options, &model, &error);
        } else {
            status = graft_model_open_fd(source.file, source.offset, source.length, &options, &model, &error);
        }
        failed(env, status, &error);
    }
    free(path);
    free(own_tokenizer);
    return NUMBER(model);
}

NATIVE(jlong, modelOpen)(JNIEnv *env, jclass self, jbyteArray path, jintArray numbers, jboolean read, jbyteArray tokenizer) {
    (void)self;
    struct source source = {0};
    source.path = path;
    return open_model(env, source, numbers, read, tokenizer);
}

NATIVE(jlong, modelOpenFile)(JNIEnv *env, jclass self, jint file, jlong offset, jlong length, jintArray numbers, jboolean read,
                             jbyteArray tokenizer) {
    (void)self;
    struct source source = {0};
    source.file = file;
    source.offset = (uint64_t)offset;
    source.length = (uint64_t)length;
    return open_model(env, source, numbers, read, tokenizer);
}

NATIVE(jlong, modelOpenBuffer)(JNIEnv *env, jclass self, jobject buffer, jintArray numbers, jbyteArray tokenizer) {
    (void)self;
    struct source source = {0};
    source.buffer = buffer;
    source.data = (*env)->GetDirectBufferAddress(env, buffer);
    source.data_len = (size_t)(*env)->GetDirectBufferCapacity(env, buffer);
    return open_model(env, source, numbers, JNI_FALSE, tokenizer);
}

NATIVE(void, modelFree)(JNIEnv *env, jclass self, jlong model) {
    (void)env, (void)self;
    graft_model_free(HANDLE(graft_model, model));
}

NATIVE(jobjectArray, modelInfo)(JNIEnv *env, jclass self, jlong model, jlongArray numbers) {
    (void)self;
    graft_model_info info = {0};
    info.struct_size = sizeof info;
    graft_error *error = NULL;
    if (failed(env, graft_model_get_info(HANDLE(graft_model, model), &info, &error), &error)) return NULL;
    const jlong all[] = {(jlong)info.parameters, (jlong)info.weight_bytes, info.vocab_size, info.context_length, info.n_layers,
                         info.hidden_size, info.threads, info.has_chat_template, info.bos, info.eos, info.gpu_layers};
    (*env)->SetLongArrayRegion(env, numbers, 0, sizeof all / sizeof *all, all);
    const char *texts[] = {info.architecture, info.name, info.isa, info.device};
    jobjectArray array = (*env)->ExceptionCheck(env) ? NULL : (*env)->NewObjectArray(env, 4, bytes_class, NULL);
    for (jsize i = 0; i < 4 && array != NULL; i++) {
        jbyteArray text = text_out(env, texts[i]);
        if ((*env)->ExceptionCheck(env)) return NULL;
        (*env)->SetObjectArrayElement(env, array, i, text);
    }
    return array;
}

NATIVE(jbyteArray, modelMetadata)(JNIEnv *env, jclass self, jlong model, jbyteArray key) {
    (void)self;
    size_t len, json_len = 0;
    char *own_key = copy_in(env, key, 'B', &len), *json = NULL;
    jbyteArray array = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)
        && !failed(env, graft_model_metadata(HANDLE(graft_model, model), own_key, len, &json, &json_len, &error), &error)) {
        array = bytes_out(env, json, json_len);
    }
    graft_free(json);
    free(own_key);
    return array;
}

NATIVE(jobjectArray, modelMetadataKeys)(JNIEnv *env, jclass self, jlong handle) {
    (void)self;
    const graft_model *model = HANDLE(graft_model, handle);
    size_t n = 0;
    graft_error *error = NULL;
    if (failed(env, graft_model_metadata_count(model, &n, &error), &error) || !fits(env, n)) return NULL;
    jobjectArray array = (*env)->NewObjectArray(env, (jsize)n, bytes_class, NULL);
    for (size_t i = 0; i < n && array != NULL; i++) {
        const char *key = NULL;
        if (failed(env, graft_model_metadata_key(model, i, &key, &error), &error)) return NULL;
        jbyteArray text = text_out(env, key);
        if ((*env)->ExceptionCheck(env)) return NULL;
        (*env)->SetObjectArrayElement(env, array, (jsize)i, text);
        (*env)->DeleteLocalRef(env, text);
    }
    return array;
}

/* ------------------------------------------------------------------------ Tokens and chat. */

NATIVE(jintArray, tokenize)(JNIEnv *env, jclass self, jlong model, jbyteArray text, jboolean ends, jboolean special) {
    (void)self;
    size_t len, n = 0;
    char *own_text = copy_in(env, text, 'B', &len);
    uint32_t *tokens = NULL, flags = (ends ? GRAFT_TOKENIZE_BOS_EOS : 0) | (special ? GRAFT_TOKENIZE_SPECIAL : 0);
    jintArray array = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)
        && !failed(env, graft_tokenize(HANDLE(graft_model, model), own_text, len, flags, &tokens, &n, &error), &error)) {
        array = ints_out(env, tokens, n);
    }
    graft_free(tokens);
    free(own_text);
    return array;
}

NATIVE(jbyteArray, detokenize)(JNIEnv *env, jclass self, jlong model, jintArray tokens, jboolean skip_special) {
    (void)self;
    size_t n, len = 0;
    uint32_t *own_tokens = copy_in(env, tokens, 'I', &n);
    char *text = NULL;
    jbyteArray array = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)
        && !failed(env, graft_detokenize(HANDLE(graft_model, model), own_tokens, n, skip_special, &text, &len, &error), &error)) {
        array = bytes_out(env, text, len);
    }
    graft_free(text);
    free(own_tokens);
    return array;
}

NATIVE(jbyteArray, tokenBytes)(JNIEnv *env, jclass self, jlong model, jint token) {
    (void)self;
    const char *bytes = NULL;
    size_t n = 0;
    graft_error *error = NULL;
    if (failed(env, graft_token_bytes(HANDLE(graft_model, model), (uint32_t)token, &bytes, &n, &error), &error)) return NULL;
    return bytes_out(env, bytes, n);
}

NATIVE(jint, tokenFind)(JNIEnv *env, jclass self, jlong model, jbyteArray text) {
    (void)self;
    size_t len;
    char *own_text = copy_in(env, text, 'B', &len);
    int64_t token = -1;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        failed(env, graft_token_find(HANDLE(graft_model, model), own_text, len, &token, &error), &error);
    }
    free(own_text);
    return (jint)token;
}

NATIVE(jboolean, tokenEnds)(JNIEnv *env, jclass self, jlong model, jint token) {
    (void)self;
    int32_t ends = 0;
    graft_error *error = NULL;
    failed(env, graft_token_ends(HANDLE(graft_model, model), (uint32_t)token, &ends, &error), &error);
    return ends != 0;
}

NATIVE(jbyteArray, render)(JNIEnv *env, jclass self, jlong model, jbyteArray bytes, jintArray lengths, jboolean add_generation_prompt) {
    (void)self;
    struct texts texts = texts_in(env, bytes, lengths);
    char *text = NULL;
    size_t n, len = 0;
    jbyteArray array = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        graft_chat_options options = chat_options(&texts, add_generation_prompt);
        graft_message *messages = next_messages(env, &texts, &n);
        graft_error *error = NULL;
        if (messages != NULL
            && !failed(env, graft_chat_render(HANDLE(graft_model, model), messages, n, &options, &text, &len, &error), &error)) {
            array = bytes_out(env, text, len);
        }
        free(messages);
    }
    graft_free(text);
    free_texts(&texts);
    return array;
}

/* ------------------------------------------------------------------------ Adapters. */

static graft_adapter_options adapter_options(jlong task_id) {
    graft_adapter_options options;
    graft_adapter_options_init(&options, sizeof options);
    options.task_id = task_id;
    return options;
}

NATIVE(jlong, adapterOpen)(JNIEnv *env, jclass self, jlong model, jbyteArray path, jlong task_id) {
    (void)self;
    graft_adapter_options options = adapter_options(task_id);
    size_t len;
    char *own_path = copy_in(env, path, 'B', &len);
    graft_adapter *adapter = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        failed(env, graft_adapter_open(HANDLE(graft_model, model), own_path, len, &options, &adapter, &error), &error);
    }
    free(own_path);
    return NUMBER(adapter);
}

NATIVE(jlong, adapterOpenMemory)(JNIEnv *env, jclass self, jlong model, jbyteArray config, jbyteArray tensors, jlong task_id) {
    (void)self;
    graft_adapter_options options = adapter_options(task_id);
    size_t config_len, tensors_len;
    void *own_config = copy_in(env, config, 'B', &config_len);
    void *own_tensors = copy_in(env, tensors, 'B', &tensors_len);
    graft_adapter *adapter = NULL;
    graft_error *error = NULL;
    if (!(*env)->ExceptionCheck(env)) {
        failed(env,
               graft_adapter_open_memory(HANDLE(graft_model, model), own_config, config_len, own_tensors, tensors_len, &options, &adapter,
                                         &error),
               &error);
    }
    free(own_config);
    free(own_tensors);
    return NUMBER(adapter);
}

NATIVE(void, adapterFree)(JNIEnv *env, jclass self, jlong adapter) {
    (void)env, (void)self;
    graft_adapter_free(HANDLE(graft_adapter, adapter));
}

NATIVE(jbyteArray, adapterInfo)(JNIEnv *env, jclass self, jlong adapter, jlongArray numbers) {
    (void)self;
    graft_adapter_info info = {0};
    info.struct_size = sizeof info;
    graft_error *error = NULL;
    if (failed(env, graft_adapter_get_info(HANDLE(graft_adapter, adapter), &info, &error), &error)) return NULL;
    const jlong all[] = {(jlong)info.sites, (jlong)info.parameters, (jlong)info.bytes, info.min_rank, info.max_rank};
    (*env)->SetLongArrayRegion(env, numbers, 0, sizeof all / sizeof *all, all);
    return text_out(env, info.method);
}
