/* What the parts of `outside` share: checks, the models to test with, and texts that callbacks collect. */
#ifndef OUTSIDE_H
#define OUTSIDE_H

#include <graft.h>

#define PROMPT "The capital of France is"

/* The files that the command line names. */
extern const char *model_path, *adapter_paths[3], *tiny_dir;

/* Counts a check, and prints it where it does not hold. Any thread. */
void check(int holds, const char *file, int line, const char *what);
/* What `error` must be for a call that returned `status` and should have returned `expected`; frees it. */
void check_status(graft_status expected, graft_status status, graft_error *error, const char *file, int line, const char *what);

#define CHECK(condition) check(!!(condition), __FILE__, __LINE__, #condition)
/* A call, written with `&error` as its last argument, that must succeed, or fail with a status. `error` starts as what is no error: every
 * call must write it. */
#define FAILS(expected, call)                                                                                                              \
    do {                                                                                                                                   \
        graft_error *error = (graft_error *)&model_path;                                                                                   \
        graft_status status_ = (call);                                                                                                     \
        check_status((expected), status_, error, __FILE__, __LINE__, #call);                                                               \
    } while (0)
#define OK(call) FAILS(GRAFT_OK, call)
/* A call without `error`. */
#define STATUS(expected, call) check((call) == (expected), __FILE__, __LINE__, #call " is " #expected)

/* What a `graft_text_callback` was given. */
typedef struct {
    char data[1 << 14];
    size_t len;
    uint32_t tokens[1024];
    size_t n_tokens;
} collected;

/* A `graft_text_callback` whose `user_data` is a `collected`. */
int32_t collect(const char *text, size_t len, uint32_t token, void *user_data);
/* Text that was held back comes at the end in a piece of its own, with the last token once more: forgets that token. */
void drop_last_piece(collected *text, const graft_report *report);
int same(const collected *a, const collected *b);

/* The model, an adapter on it, a session of it: NULL where that fails, which is then counted. */
graft_model *open_model(void);
graft_model *open_tiny(const char *name);
graft_adapter *open_adapter(const graft_model *model, int number);
graft_session *new_session(const graft_model *model);
/* Appends `prompt` and generates `tokens` greedily, whatever the model says. */
void answer(graft_session *session, const char *prompt, uint64_t tokens, collected *text);
/* `answer` in a session of its own, with one adapter or none. */
void answer_alone(const graft_model *model, const graft_adapter *adapter, const char *prompt, uint64_t tokens, collected *text);

/* A whole file, to be freed with `free`; and the other way round. */
char *read_file(const char *path, size_t *len);
void write_file(const char *path, const void *data, size_t len);
/* `TINY_DIR/name`, in memory that stays until the next four calls. One thread. */
const char *tiny_file(const char *name);

void test_models(void);
void test_mixes(void);
void test_texts(void);
void test_sessions(void);
void test_generation(void);
void test_batch(void);
void test_training(void);
void test_threads(void);
void test_callbacks(void);
void test_errors(void);
void test_options(void);
void test_odd(void);

#endif
