/* What crosses between Java and C, for the native side of the package dev.graft, which hands everything on to graft.h. (Native.java says
 * what each function takes.)
 *
 * What holds for every function:
 *
 * Exceptions  While one is pending, few JNI functions may be called. `copy_in` and `bytes_out` then do nothing and give NULL: who calls
 *             several of them asks once, by ExceptionCheck, before it goes on.
 * Texts       cross as byte arrays in UTF-8: the strings of JNI are another encoding.
 * Arrays      are copied in, so that none is pinned while a model computes.
 * References  A function that is called from Java may leave its few to the return. Those made in a loop or a callback are deleted.
 */
#ifndef GRAFT_JNI_VALUES_H
#define GRAFT_JNI_VALUES_H

#include <jni.h>

#include "graft.h"

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_dev_graft_Native_##name
#define HANDLE(type, number) ((type *)(intptr_t)(number))
#define NUMBER(handle) ((jlong)(intptr_t)(handle))

/* Set when the library is loaded. */
extern jclass exception_class;
extern jmethodID exception_new, pieces_piece;

void throw_new(JNIEnv *env, const char *class_name, const char *message);

/* Throws what a call said, and frees it. Whether it was a failure. `error` is where the call wrote its error, or NULL for one that has
 * none: a place, so that `failed(env, graft_...(..., &error), &error)` does not read it before the call. */
int failed(JNIEnv *env, graft_status status, graft_error **error);

/* The elements of an array of bytes ('B'), ints ('I'), longs ('J') or floats ('F'), to be freed. NULL for a null array, and with an
 * exception pending. */
void *copy_in(JNIEnv *env, jarray array, char type, size_t *len);

/* Whether a Java array can have so many elements; throws where not. */
int fits(JNIEnv *env, size_t len);

/* NULL for NULL, and with an exception pending. */
jbyteArray bytes_out(JNIEnv *env, const void *bytes, size_t len);
jbyteArray text_out(JNIEnv *env, const char *text);
jintArray ints_out(JNIEnv *env, const uint32_t *ints, size_t len);
jfloatArray floats_out(JNIEnv *env, const float *floats, size_t len);

/* Texts as Texts.java packs them. */
struct texts {
    char *bytes;
    jint *lengths;
    size_t count, next;
    const char *rest;
};

/* To be freed; empty with an exception pending. */
struct texts texts_in(JNIEnv *env, jbyteArray bytes, jintArray lengths);
void free_texts(struct texts *texts);

/* The next one; its `data` is NULL for null. */
graft_text next_text(struct texts *texts);

/* The next two: template and tools. */
graft_chat_options chat_options(struct texts *texts, jboolean add_generation_prompt);

/* All that are left, three for each message; to be freed. NULL with an exception pending. */
graft_message *next_messages(JNIEnv *env, struct texts *texts, size_t *n);

#endif
