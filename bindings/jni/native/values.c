/* What crosses: the functions of values.h, where they are described. */
#include "values.h"

#include <stdlib.h>

jclass exception_class;
jmethodID exception_new;

void throw_new(JNIEnv *env, const char *class_name, const char *message) {
    jclass class = (*env)->FindClass(env, class_name);
    if (class != NULL) (*env)->ThrowNew(env, class, message);
}

void *copy_in(JNIEnv *env, jarray array, char type, size_t *len) {
    *len = 0;
    if ((*env)->ExceptionCheck(env) || array == NULL) return NULL;
    jsize n = (*env)->GetArrayLength(env, array);
    size_t size = type == 'B' ? 1 : type == 'J' ? 8 : 4;
    void *copy = malloc(n > 0 ? (size_t)n * size : 1);
    if (copy == NULL) {
        throw_new(env, "java/lang/OutOfMemoryError", "no memory for a copy of an array");
        return NULL;
    }
    switch (type) {
    case 'B': (*env)->GetByteArrayRegion(env, array, 0, n, copy); break;
    case 'I': (*env)->GetIntArrayRegion(env, array, 0, n, copy); break;
    case 'J': (*env)->GetLongArrayRegion(env, array, 0, n, copy); break;
    default: (*env)->GetFloatArrayRegion(env, array, 0, n, copy);
    }
    if ((*env)->ExceptionCheck(env)) {
        free(copy);
        return NULL;
    }
    *len = (size_t)n;
    return copy;
}

int fits(JNIEnv *env, size_t len) {
    if (len <= INT32_MAX - 8) return 1;
    throw_new(env, "java/lang/OutOfMemoryError", "more than a Java array holds");
    return 0;
}

jbyteArray bytes_out(JNIEnv *env, const void *bytes, size_t len) {
    if (bytes == NULL || (*env)->ExceptionCheck(env) || !fits(env, len)) return NULL;
    jbyteArray array = (*env)->NewByteArray(env, (jsize)len);
    if (array != NULL) (*env)->SetByteArrayRegion(env, array, 0, (jsize)len, bytes);
    return array;
}

jbyteArray text_out(JNIEnv *env, const char *text) {
    size_t len = 0;
    while (text != NULL && text[len] != 0) len++;
    return bytes_out(env, text, len);
}

jintArray ints_out(JNIEnv *env, const uint32_t *ints, size_t len) {
    if (!fits(env, len)) return NULL;
    jintArray array = (*env)->NewIntArray(env, (jsize)len);
    if (array != NULL) (*env)->SetIntArrayRegion(env, array, 0, (jsize)len, (const jint *)ints);
    return array;
}

jfloatArray floats_out(JNIEnv *env, const float *floats, size_t len) {
    if (!fits(env, len)) return NULL;
    jfloatArray array = (*env)->NewFloatArray(env, (jsize)len);
    if (array != NULL) (*env)->SetFloatArrayRegion(env, array, 0, (jsize)len, floats);
    return array;
}

int failed(JNIEnv *env, graft_status status, graft_error **place) {
    if (status == GRAFT_OK) return 0;
    graft_error *error = place != NULL ? *place : NULL;
    const char *message = error != NULL ? graft_error_message(error) : graft_status_name(status);
    jbyteArray text = text_out(env, message);
    jbyteArray file = text_out(env, graft_error_file(error));
    jbyteArray item = text_out(env, graft_error_item(error));
    jbyteArray expected = text_out(env, graft_error_expected(error));
    jbyteArray found = text_out(env, graft_error_found(error));
    if (!(*env)->ExceptionCheck(env)) {
        jthrowable thrown = (*env)->NewObject(env, exception_class, exception_new, (jint)status, text, file, item, expected, found);
        if (thrown != NULL) (*env)->Throw(env, thrown);
    }
    graft_error_free(error);
    return 1;
}

struct texts texts_in(JNIEnv *env, jbyteArray bytes, jintArray lengths) {
    struct texts texts = {0};
    size_t len;
    texts.bytes = copy_in(env, bytes, 'B', &len);
    texts.lengths = copy_in(env, lengths, 'I', &texts.count);
    texts.rest = texts.bytes;
    return texts;
}

graft_text next_text(struct texts *texts) {
    graft_text text = {NULL, 0};
    jint len = texts->lengths[texts->next++];
    if (len >= 0) {
        text.data = texts->rest;
        text.len = (size_t)len;
        texts->rest += len;
    }
    return text;
}

graft_message *next_messages(JNIEnv *env, struct texts *texts, size_t *n) {
    *n = (texts->count - texts->next) / 3;
    graft_message *messages = calloc(*n + 1, sizeof *messages);
    if (messages == NULL) {
        throw_new(env, "java/lang/OutOfMemoryError", "no memory for messages");
        return NULL;
    }
    for (size_t i = 0; i < *n; i++) {
        graft_text role = next_text(texts), content = next_text(texts), extra = next_text(texts);
        messages[i] = (graft_message){role.data, role.len, content.data, content.len, extra.data, extra.len};
    }
    return messages;
}

void free_texts(struct texts *texts) {
    free(texts->bytes);
    free(texts->lengths);
}

graft_chat_options chat_options(struct texts *texts, jboolean add_generation_prompt) {
    graft_chat_options options;
    graft_chat_options_init(&options, sizeof options);
    graft_text template = next_text(texts), tools = next_text(texts);
    options.template_source = template.data;
    options.template_source_len = template.len;
    options.tools = tools.data;
    options.tools_len = tools.len;
    options.add_generation_prompt = add_generation_prompt;
    return options;
}
