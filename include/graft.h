/* Graft: an embedded runtime for quantized language models with PEFT adapters.
 *
 * Made from src/capi by `GRAFT_WRITE=1 cargo test --features capi --test header`: do not edit.
 *
 * What holds for every function:
 *
 * Handles     graft_model, graft_adapter, graft_session, ... are opaque. Who makes one frees it with its `_free`, which takes NULL, in any
 *             order: what still needs an object keeps it, but a generation, which stands still without its session. A handle that is NULL,
 *             was freed, or is of another kind is found out: GRAFT_ERROR_HANDLE, and where `_free` finds it a warning in the log, no more. (One that was freed stays known as such until
 *             some thousand others were freed. A pointer that never was a handle is not found out.)
 * Errors      A function that can fail returns a graft_status, and has a last parameter `error`, which may be NULL. `*error` is written by
 *             every call: NULL, or an error to be freed. On failure no other result is written, and what was there is as it was before, unless
 *             the function says otherwise. A crash or a panic never crosses: a defect is GRAFT_ERROR_INTERNAL, and a session, sampler,
 *             generation, batch or trainer that it left half done is GRAFT_ERROR_POISONED from then on. (In `check(graft_x(..., &error), error)` C may read
 *             the second argument before it makes the call in the first: hand on `&error`.)
 * Threads     Models, adapters, teams, cancel flags and errors may be used by any threads at the same time. A session, a sampler, a
 *             generation, a batch or a trainer by one at a time: a second one gets GRAFT_ERROR_BUSY at once. No function waits for another thread's call.
 * Callbacks   are called by the thread that made the call, unless they say otherwise, with the `user_data` that was given beside them.
 *             They may call every function; the handles of the call they come from are busy. They must not unwind (longjmp, exceptions).
 * Texts       are UTF-8, a pointer and a length in bytes; as the length GRAFT_NUL says that it ends with a NUL. Paths are UTF-8; on Unix any
 *             bytes. They are copied, unless the function says otherwise. A pointer may be NULL where its length is 0.
 * Options     A struct of options starts with its size: set it and the defaults with its `_init`. NULL stands for all defaults. New fields come
 *             only at the end; a library that does not know a field accepts it as long as it is 0, else GRAFT_ERROR_UNSUPPORTED. Of a struct
 *             of facts the caller sets the size alone, `graft_report report = {.struct_size = sizeof report};`, and a library leaves fields
 *             that it does not know as they are.
 * Results     of type char ** and uint32_t ** are to be freed with graft_free; const ones belong to the handle, for as long as is said.
 */

#ifndef GRAFT_H
#define GRAFT_H

#include <stddef.h>
#include <stdint.h>

/* As the length of a text: it ends at its first NUL byte. */
#define GRAFT_NUL ((size_t)-1)

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------
 * What a call says.
 */

// The version of this interface. A program that was compiled with a version runs with every library whose `graft_abi_version()`
// is the same: functions and struct fields are only added.
#define GRAFT_ABI_VERSION 1



// What a call says: `GRAFT_OK`, or one of `GRAFT_ERROR_...`. Later versions may add some.
typedef int32_t graft_status;

// It is done.
#define GRAFT_OK 0

// The system refused: a missing file, no permission, a full disk.
#define GRAFT_ERROR_IO 1

// The input breaks its own format: truncated, contradictory, out of range, a folder in place of a file.
#define GRAFT_ERROR_INVALID 2

// The input is well formed but asks for something that Graft does not do.
#define GRAFT_ERROR_UNSUPPORTED 3

// Two inputs do not belong together: an adapter and another model, if only one opened a second time.
#define GRAFT_ERROR_MISMATCH 4

// A documented limit was reached: the context is full, a prompt is longer, a size is over its cap.
#define GRAFT_ERROR_LIMIT 5

// The call is wrong: an argument is NULL, out of range, not UTF-8, no open descriptor, a struct of another size, JSON that is none.
#define GRAFT_ERROR_USAGE 6

// A defect in Graft itself.
#define GRAFT_ERROR_INTERNAL 7

// The caller asked for the work to end.
#define GRAFT_ERROR_CANCELLED 8

// The handle is in use: by another thread, or by the call whose callback this is.
#define GRAFT_ERROR_BUSY 9

// The handle is NULL, was freed, or is of another kind.
#define GRAFT_ERROR_HANDLE 10

// A defect ended an earlier call in the middle: the handle can only be freed.
#define GRAFT_ERROR_POISONED 11

// The name of a status, such as "mismatch"; "unknown" for a number that is none. Never NULL, never freed.
const char *graft_status_name(graft_status status);

/* ------------------------------------------------------------------------
 * Errors: what went wrong, and where.
 *
 * A function that can fail has a last parameter `graft_error **error`. It may be NULL. Otherwise `*error` is written by every call:
 * NULL where it succeeded, an error to be freed with `graft_error_free` where it did not.
 */

// What went wrong, and where. Any thread.
typedef struct graft_error graft_error;

// The status that the call returned; `GRAFT_ERROR_HANDLE` for NULL.
graft_status graft_error_status(const graft_error *error);

// Everything in one line: file, item, what is wrong, what was expected and what was found. Valid until the error is freed; NULL only for
// what is no error.
const char *graft_error_message(const graft_error *error);

// The file at fault, or NULL. Valid until the error is freed.
const char *graft_error_file(const graft_error *error);

// The tensor, key, field or argument at fault, or NULL. Valid until the error is freed.
const char *graft_error_item(const graft_error *error);

// What would have been right, or NULL. Valid until the error is freed.
const char *graft_error_expected(const graft_error *error);

// What was there instead, or NULL. Valid until the error is freed.
const char *graft_error_found(const graft_error *error);

// Frees an error. NULL is allowed.
void graft_error_free(graft_error *error);

/* ------------------------------------------------------------------------
 * The library itself.
 */

// The version of the interface that the library has: to be compared with `GRAFT_ABI_VERSION`, which the program was compiled with.
uint32_t graft_abi_version(void);

// The library's version, such as "0.1.0". Never freed.
const char *graft_version(void);

/* ------------------------------------------------------------------------
 * What a function gives out for good: texts, lists of tokens, bytes.
 */

// Frees a text, a list of tokens or bytes that a function gave out. NULL, and what is not (or no longer) given out, is passed over.
// Any thread.
void graft_free(void *memory);

/* ------------------------------------------------------------------------
 * Log: what the library has to say beside errors, a line at a time. Off until it is set.
 */

// How important a line is.
typedef int32_t graft_log_level;

// Is given a line, valid during the call and not NUL-terminated. Comes from whichever thread has something to say, also from several
// at a time.
typedef void (*graft_log_callback)(graft_log_level level,
                                   const char *message,
                                   size_t len,
                                   void *user_data);

// Nothing.
#define GRAFT_LOG_OFF 0

// A defect in Graft.
#define GRAFT_LOG_ERROR 1

// Something was used wrongly that a call could not say: a handle freed twice.
#define GRAFT_LOG_WARNING 2

// A model or an adapter was opened or made.
#define GRAFT_LOG_INFO 3

// Sends lines up to the level `most` to `callback`, for the whole process; NULL sends them nowhere. A line that another thread has begun
// may still come after the call has returned.
void graft_log_set(graft_log_callback callback,
                   void *user_data,
                   graft_log_level most);

/* ------------------------------------------------------------------------
 * Cancelling work from elsewhere. (`graft_session_cancel` is the short form for one session.)
 */

// A flag that ends work: handed to it in its options, set by any thread at any time. One may serve several pieces of work.
typedef struct graft_cancel graft_cancel;

// A flag that is not set.
graft_status graft_cancel_new(graft_cancel **cancel, graft_error **error);

// Asks the work that has this flag to end, now and later: until it is cleared. Any thread; also a signal handler, while nobody frees the
// flag.
graft_status graft_cancel_set(const graft_cancel *cancel);

// Takes it back. Any thread.
graft_status graft_cancel_clear(const graft_cancel *cancel);

// Frees a flag; work that has it goes on without. NULL is allowed.
void graft_cancel_free(graft_cancel *cancel);

/* ------------------------------------------------------------------------
 * Threads that several models share. A model that is given none has a team of its own.
 */

// Threads that share the work of models. Any thread; models keep what they were given.
typedef struct graft_team graft_team;

// A piece of work: to be called with `data` and a number.
typedef void (*graft_work)(void *data, size_t number);

// Calls `work(data, 0)`, ..., `work(data, n - 1)`, each exactly once, in any order, on any threads, and returns when all have returned.
// What they wrote must then be visible to the caller. (`dispatch_apply_f` on Apple's systems does this.) It is called from several
// threads at a time, and from inside `work`.
typedef void (*graft_run_callback)(size_t n, graft_work work, void *data, void *user_data);

// Is told that memory is no longer used.
typedef void (*graft_release_callback)(void *user_data);

// A team of `threads` threads, the calling one included (1 to 1024; 0 for one a physical core).
graft_status graft_team_new(uint32_t threads, graft_team **team, graft_error **error);

// The application's own threads: `run` shares work among about `threads` of them. `run` and `user_data` must be good until the team and
// all models that were given it are gone: then `release` is called (by any thread, once; not where this call fails). It may be NULL.
graft_status graft_team_of_callback(uint32_t threads,
                                    graft_run_callback run,
                                    void *user_data,
                                    graft_release_callback release,
                                    graft_team **team,
                                    graft_error **error);

// Frees a team; models that were given it keep its threads. NULL is allowed.
void graft_team_free(graft_team *team);

/* ------------------------------------------------------------------------
 * Models: a file, mapped and shared. Any thread may use a model, several at a time.
 */

// A loaded model. Sessions and adapters keep what they need of it: it may be freed before them.
typedef struct graft_model graft_model;

// How the bytes of a file come into memory.
typedef int32_t graft_load_mode;

// Is told the share of the work that is done, 0 to 1. Not 0 ends the work, at once or, where a step cannot be ended, behind it: the call
// then fails with `GRAFT_ERROR_CANCELLED`. It is called by the thread that made the call.
typedef int32_t (*graft_progress_callback)(float share, void *user_data);

// What runs a model.
typedef int32_t graft_device;

// How to open a model.
typedef struct {
  // `sizeof(graft_model_options)`.
  size_t struct_size;
  // Threads of the model's own team, the calling one included; 0 for one a physical core. Not looked at where there is a team.
  uint32_t threads;
  // `GRAFT_LOAD_MAP` or `GRAFT_LOAD_READ`.
  graft_load_mode load_mode;
  // Threads to use instead of an own team, or NULL.
  const graft_team *team;
  // The path of a `tokenizer.json` to use instead of the tokenizer in the model, read when the model is opened; or NULL.
  const char *tokenizer;
  // Its length.
  size_t tokenizer_len;
  // Called while loading, or NULL.
  graft_progress_callback progress;
  // Handed to `progress`.
  void *progress_user_data;
  // `GRAFT_DEVICE_AUTO`, `GRAFT_DEVICE_CPU` or `GRAFT_DEVICE_CUDA`.
  graft_device device;
  // With `GRAFT_DEVICE_CUDA`: which GPU; -1, the default, for that which has most memory free. Else not looked at.
  int32_t device_index;
  // Layers on the GPU: the last ones, and with them the head; more than there are: all; 0: none, all is on the CPU; -1, the default: as many
  // as fit into its free memory.
  int32_t gpu_layers;
  // 0.
  uint32_t reserved;
} graft_model_options;

// Mapped: nothing is copied, processes share the pages. The file must not be changed or shortened while it is in use.
#define GRAFT_LOAD_MAP 0

// Read: safe against a file that changes.
#define GRAFT_LOAD_READ 1

// An NVIDIA GPU where there is one that this library can use, else the CPU: `graft_model_info` says which, and why.
#define GRAFT_DEVICE_AUTO 0

// The CPU.
#define GRAFT_DEVICE_CPU 1

// An NVIDIA GPU: `GRAFT_ERROR_UNSUPPORTED` where there is none, or where the library was built without (`scripts/install --features cuda`).
#define GRAFT_DEVICE_CUDA 2

// Sets the defaults; `struct_size` is `sizeof(graft_model_options)`.
void graft_model_options_init(graft_model_options *options, size_t struct_size);

// Opens the GGUF file at a path (any part of a split one).
graft_status graft_model_open(const char *path,
                              size_t path_len,
                              const graft_model_options *options,
                              graft_model **model,
                              graft_error **error);

// Opens the GGUF file that is the `len` bytes of an opened file from `offset` on (`len` 0: all up to its end): apps have models in their
// bundles. `fd` stays the caller's, its position too, and may be closed when the call has returned. `GRAFT_ERROR_INVALID` for a range that does
// not lie in the file, `GRAFT_ERROR_UNSUPPORTED` on Windows.
graft_status graft_model_open_fd(int32_t fd,
                                 uint64_t offset,
                                 uint64_t len,
                                 const graft_model_options *options,
                                 graft_model **model,
                                 graft_error **error);

// Opens the GGUF file that lies in memory, `len` bytes at `data`, which are not copied: they must stay and not change until `release` is
// called (by any thread, once, also where this call fails), when the model and all that came of it are freed. `release` may be NULL.
graft_status graft_model_open_memory(const void *data,
                                     size_t len,
                                     graft_release_callback release,
                                     void *release_user_data,
                                     const graft_model_options *options,
                                     graft_model **model,
                                     graft_error **error);

// Frees a model. NULL is allowed.
void graft_model_free(graft_model *model);

/* ------------------------------------------------------------------------
 * Tokens: text to numbers and back. Any thread.
 */

// For `graft_tokenize`: add the begin and end tokens that the model's own rules ask for.
#define GRAFT_TOKENIZE_BOS_EOS 1

// For `graft_tokenize`: recognise control tokens written out in the text, such as `<|im_start|>`; without it they are plain text.
#define GRAFT_TOKENIZE_SPECIAL 2

// The tokens of a text. `*tokens` is to be freed with `graft_free`. `flags`: `GRAFT_TOKENIZE_...`, added up.
graft_status graft_tokenize(const graft_model *model,
                            const char *text,
                            size_t text_len,
                            uint32_t flags,
                            uint32_t **tokens,
                            size_t *n_tokens,
                            graft_error **error);

// The text of tokens; `skip_special` not 0 leaves control tokens out. `*text` is NUL-terminated and to be freed with `graft_free`;
// `text_len` may be NULL.
graft_status graft_detokenize(const graft_model *model,
                              const uint32_t *tokens,
                              size_t n_tokens,
                              int32_t skip_special,
                              char **text,
                              size_t *text_len,
                              graft_error **error);

// The bytes of one token: perhaps the middle of a character. `*bytes` is not NUL-terminated and valid until the model is freed.
graft_status graft_token_bytes(const graft_model *model,
                               uint32_t token,
                               const char **bytes,
                               size_t *n_bytes,
                               graft_error **error);

// The number of the token that is written so, control tokens too; `*token` is -1 where there is none.
graft_status graft_token_find(const graft_model *model,
                              const char *text,
                              size_t text_len,
                              int64_t *token,
                              graft_error **error);

// Whether the model says by this token that it is done: `*ends` is 1 or 0.
graft_status graft_token_ends(const graft_model *model,
                              uint32_t token,
                              int32_t *ends,
                              graft_error **error);

/* ------------------------------------------------------------------------
 * Chat: messages to the text that the model was trained on. Any thread.
 */

// How to write a conversation.
typedef struct {
  // `sizeof(graft_chat_options)`.
  size_t struct_size;
  // A Jinja template to use instead of the model's, or NULL.
  const char *template_source;
  // Its length.
  size_t template_source_len;
  // The tools that the model may call: a JSON list, or NULL.
  const char *tools;
  // Its length.
  size_t tools_len;
  // Not 0: the text ends where the assistant's answer begins. 1 by default.
  int32_t add_generation_prompt;
  // 0.
  uint32_t reserved;
} graft_chat_options;

// One message of a conversation. This struct never changes.
typedef struct {
  // "system", "user", "assistant", "tool", ...
  const char *role;
  // Its length.
  size_t role_len;
  // What it says.
  const char *content;
  // Its length.
  size_t content_len;
  // What else the template is to see (`tool_calls`, `name`, ...): a JSON object, or NULL.
  const char *extra;
  // Its length.
  size_t extra_len;
} graft_message;

// Sets the defaults; `struct_size` is `sizeof(graft_chat_options)`.
void graft_chat_options_init(graft_chat_options *options, size_t struct_size);

// A conversation as the model's chat template writes it. `*text` is NUL-terminated and to be freed with `graft_free`; `text_len` may be
// NULL. `GRAFT_ERROR_UNSUPPORTED` where the model has no template, `GRAFT_ERROR_INVALID` for messages that it refuses.
graft_status graft_chat_render(const graft_model *model,
                               const graft_message *messages,
                               size_t n_messages,
                               const graft_chat_options *options,
                               char **text,
                               size_t *text_len,
                               graft_error **error);

/* ------------------------------------------------------------------------
 * Adapters: what PEFT's `save_pretrained` wrote, put on a model. Any thread.
 */

// An adapter on a model. Sessions keep what they need of it: it may be freed while they use it.
typedef struct graft_adapter graft_adapter;

// How to open an adapter.
typedef struct {
  // `sizeof(graft_adapter_options)`.
  size_t struct_size;
  // Which task's prompt to take from a folder that holds several (multitask prompt tuning); -1, the default, where there is one.
  int64_t task_id;
} graft_adapter_options;

// Facts about an adapter. Texts are valid until it is freed.
typedef struct {
  // `sizeof(graft_adapter_info)`, set by the caller.
  size_t struct_size;
  // Its `peft_type`, such as "LORA".
  const char *method;
  // Modules that it changes.
  uint64_t sites;
  // Trained numbers.
  uint64_t parameters;
  // Bytes of memory that it takes.
  uint64_t bytes;
  // The smallest and the largest rank of its low-rank updates; 0 where there are none.
  uint32_t min_rank;
  // See `min_rank`.
  uint32_t max_rank;
} graft_adapter_info;

// Sets the defaults; `struct_size` is `sizeof(graft_adapter_options)`.
void graft_adapter_options_init(graft_adapter_options *options, size_t struct_size);

// Opens the folder that PEFT's `save_pretrained` wrote (or a GGUF file of a LoRA) and puts it on `model`. Every tensor of it is applied,
// or the call fails: `GRAFT_ERROR_UNSUPPORTED` for a method or option that Graft does not do, `GRAFT_ERROR_MISMATCH` for a module or shape
// that the model does not have.
graft_status graft_adapter_open(const graft_model *model,
                                const char *path,
                                size_t path_len,
                                const graft_adapter_options *options,
                                graft_adapter **adapter,
                                graft_error **error);

// As `graft_adapter_open`, of files that lie in memory: the folder's `adapter_config.json` and `adapter_model.safetensors`. They are
// copied.
graft_status graft_adapter_open_memory(const graft_model *model,
                                       const void *config,
                                       size_t config_len,
                                       const void *tensors,
                                       size_t tensors_len,
                                       const graft_adapter_options *options,
                                       graft_adapter **adapter,
                                       graft_error **error);

// Frees an adapter; sessions that have it on go on with it. NULL is allowed.
void graft_adapter_free(graft_adapter *adapter);

// Writes the facts about an adapter to `*info`, whose `struct_size` is set.
graft_status graft_adapter_get_info(const graft_adapter *adapter,
                                    graft_adapter_info *info,
                                    graft_error **error);

/* ------------------------------------------------------------------------
 * Sessions: conversations with a model: tokens, cache, active adapters. One thread at a time may use a session: a second one gets
 * `GRAFT_ERROR_BUSY`. Sessions of one model run side by side.
 */

// A conversation with a model.
typedef struct graft_session graft_session;

// How exactly to compute.
typedef int32_t graft_precision;

// What a session is made with.
typedef struct {
  // `sizeof(graft_session_options)`.
  size_t struct_size;
  // The most tokens that it can hold; 0 for the model's own context length. The cache takes memory as it fills.
  uint64_t context;
  // Tokens of a prompt that run through the layers together; 512 by default. More need more memory.
  uint32_t chunk;
  // `GRAFT_PRECISION_FAST` or `GRAFT_PRECISION_EXACT`.
  graft_precision precision;
} graft_session_options;

// Is given the logits that follow the token number `index` of the call: `n_logits` of them, valid during the call. Not 0 ends the work: the
// call then fails with `GRAFT_ERROR_CANCELLED`, and the session holds the tokens up to the end of the chunk that was under way.
typedef int32_t (*graft_logits_callback)(size_t index,
                                         const float *logits,
                                         size_t n_logits,
                                         void *user_data);

// Facts about a session.
typedef struct {
  // `sizeof(graft_session_info)`, set by the caller.
  size_t struct_size;
  // Tokens that it holds.
  uint64_t position;
  // Tokens that it can hold.
  uint64_t context;
  // Entries of the vocabulary: the model's, or those of an adapter with an embedding and a head of its own.
  uint32_t vocab_size;
  // How exactly it computes.
  graft_precision precision;
  // Numbers in a hidden state: the length of the vectors of `graft_session_embed`.
  uint32_t hidden_size;
  // 0.
  uint32_t reserved;
} graft_session_info;

// With 8-bit activations: the default.
#define GRAFT_PRECISION_FAST 0

// With f32 activations: for comparisons.
#define GRAFT_PRECISION_EXACT 1

// Sets the defaults; `struct_size` is `sizeof(graft_session_options)`.
void graft_session_options_init(graft_session_options *options, size_t struct_size);

// Starts a conversation.
graft_status graft_session_new(const graft_model *model,
                               const graft_session_options *options,
                               graft_session **session,
                               graft_error **error);

// Ends a conversation and frees its memory. NULL is allowed. While a call on this session is under way, here from its callback or in another
// thread: when that call, which goes on, returns.
void graft_session_free(graft_session *session);

// Makes these `n` adapters, each with its weight (`weights` NULL: 1 each), the active ones from the next token on; none for the model
// alone. Takes well under a microsecond for one adapter at weight 1. The cache of earlier tokens is kept. On failure the adapters from
// before stay: `GRAFT_ERROR_MISMATCH` for one of another model, `GRAFT_ERROR_USAGE` for weights or adapters that cannot be used so.
graft_status graft_session_set_adapters(graft_session *session,
                                        const graft_adapter *const *adapters,
                                        const float *weights,
                                        size_t n,
                                        graft_error **error);

// Appends tokens, at least one, and computes the logits that follow the last of them. `GRAFT_ERROR_LIMIT` where the context has no room:
// nothing is then changed.
graft_status graft_session_eval(graft_session *session,
                                const uint32_t *tokens,
                                size_t n_tokens,
                                graft_error **error);

// As `graft_session_eval`; `callback` is given the logits behind each token.
graft_status graft_session_eval_each(graft_session *session,
                                     const uint32_t *tokens,
                                     size_t n_tokens,
                                     graft_logits_callback callback,
                                     void *user_data,
                                     graft_error **error);

// The logits that follow the last token, one an entry of the vocabulary; none (`*n_logits` 0) before the first evaluation. `*logits` is
// valid until the next call on the session.
graft_status graft_session_logits(graft_session *session,
                                  const float **logits,
                                  size_t *n_logits,
                                  graft_error **error);

// The tokens that the session holds. `*tokens` is valid until the next call on the session.
graft_status graft_session_tokens(graft_session *session,
                                  const uint32_t **tokens,
                                  size_t *n_tokens,
                                  graft_error **error);

// Writes the facts about a session to `*info`, whose `struct_size` is set.
graft_status graft_session_get_info(graft_session *session,
                                    graft_session_info *info,
                                    graft_error **error);

// Forgets all but the first `n` tokens; `GRAFT_ERROR_USAGE` where it holds less. Evaluate a token to have logits again.
graft_status graft_session_truncate(graft_session *session,
                                    uint64_t n,
                                    graft_error **error);

// Makes room in a full context: keeps the first `keep` tokens and the later half of the others, and evaluates them again.
graft_status graft_session_slide(graft_session *session,
                                 uint64_t keep,
                                 graft_error **error);

// Forgets all tokens; adapters stay active.
graft_status graft_session_reset(graft_session *session, graft_error **error);

// Ends the generation that is under way in this session, within a token (in a prompt: within 512); where none is, nothing happens, also not to
// a later one. Other calls (`graft_session_eval`, ...) go on. Any thread at any time; also a signal handler, while nobody frees the session.
graft_status graft_session_cancel(const graft_session *session);

/* ------------------------------------------------------------------------
 * Facts about models: sizes, metadata, tensors. Any thread.
 */

// Facts about a model. Texts are valid until it is freed.
typedef struct {
  // `sizeof(graft_model_info)`, set by the caller.
  size_t struct_size;
  // Such as "llama".
  const char *architecture;
  // What the file calls it, or NULL.
  const char *name;
  // The instruction set level that runs it, such as "avx2" or "neon-i8mm".
  const char *isa;
  // Numbers in the file.
  uint64_t parameters;
  // Bytes of them.
  uint64_t weight_bytes;
  // Entries of the vocabulary.
  uint32_t vocab_size;
  // The most tokens that a session can hold.
  uint32_t context_length;
  // Layers.
  uint32_t n_layers;
  // Numbers in a hidden state.
  uint32_t hidden_size;
  // Heads of attention.
  uint32_t n_heads;
  // Heads of keys and values.
  uint32_t n_kv_heads;
  // Numbers in a head.
  uint32_t head_dim;
  // Width of the MLP.
  uint32_t ffn_size;
  // Threads that work for it, the calling one included.
  uint32_t threads;
  // Whether it has a chat template: 1 or 0.
  int32_t has_chat_template;
  // The token that begins a text, or -1.
  int64_t bos;
  // The token that ends a text, or -1.
  int64_t eos;
  // Where it runs, such as "24 of 24 layers on GPU 0, NVIDIA L4", or why `GRAFT_DEVICE_AUTO` took no GPU, such as "on the CPU: no NVIDIA driver
  // on this machine"; NULL on the CPU alone, because it was asked for or the library knows no other.
  const char *device;
  // Layers on the GPU; 0: none, all is on the CPU.
  uint32_t gpu_layers;
  // 0.
  uint32_t reserved;
} graft_model_info;

// A tensor of the file. Texts are valid until the model is freed.
typedef struct {
  // `sizeof(graft_tensor_info)`, set by the caller.
  size_t struct_size;
  // Its name in GGUF.
  const char *name;
  // Its block format, such as "Q4_K".
  const char *format;
  // Its dimensions, the fastest first; those that it has not are 1.
  uint64_t dims[4];
  // Its bytes.
  uint64_t bytes;
} graft_tensor_info;

// Bytes that a model and a session will take. Adapters and the tokenizer come on top.
typedef struct {
  // `sizeof(graft_memory_plan)`, set by the caller.
  size_t struct_size;
  // The tensors in the file: mapped, they are shared by processes, and the system may drop and read them again.
  uint64_t weights;
  // Norms and biases, of which the model has a copy.
  uint64_t vectors;
  // The cache of the session, when its context is full.
  uint64_t kv;
  // What the session needs for its largest chunk of a prompt.
  uint64_t activations;
  // What each thread of the model needs.
  uint64_t per_thread;
} graft_memory_plan;

// Writes the facts about a model to `*info`, whose `struct_size` is set.
graft_status graft_model_get_info(const graft_model *model,
                                  graft_model_info *info,
                                  graft_error **error);

// How many metadata keys the model's file has.
graft_status graft_model_metadata_count(const graft_model *model,
                                        size_t *count,
                                        graft_error **error);

// The key number `index`, in the file's order. `*key` is valid until the model is freed.
graft_status graft_model_metadata_key(const graft_model *model,
                                      size_t index,
                                      const char **key,
                                      graft_error **error);

// A key's value as JSON: a number, a text, `true`, a list. `*json` is NUL-terminated and to be freed with `graft_free`; `json_len` may be
// NULL. `GRAFT_ERROR_USAGE` where there is no such key.
graft_status graft_model_metadata(const graft_model *model,
                                  const char *key,
                                  size_t key_len,
                                  char **json,
                                  size_t *json_len,
                                  graft_error **error);

// How many tensors the model's file has.
graft_status graft_model_tensor_count(const graft_model *model, size_t *count, graft_error **error);

// Writes the facts about the tensor number `index`, in the file's order, to `*info`, whose `struct_size` is set.
graft_status graft_model_tensor(const graft_model *model,
                                size_t index,
                                graft_tensor_info *info,
                                graft_error **error);

// Writes to `*plan`, whose `struct_size` is set, what the model in the GGUF file at a path and a session with these options would take.
// Only the file's directory is read.
graft_status graft_plan_memory(const char *path,
                               size_t path_len,
                               const graft_session_options *session,
                               graft_memory_plan *plan,
                               graft_error **error);

/* ------------------------------------------------------------------------
 * What a session knows, saved and restored; a text as a vector.
 */

// Which hidden states make the vector of a text.
typedef int32_t graft_pooling;

// That of the last token.
#define GRAFT_POOLING_LAST 0

// The mean of all.
#define GRAFT_POOLING_MEAN 1

// That of the first token.
#define GRAFT_POOLING_FIRST 2

// Writes what the session holds (tokens, cache and the last logits, not adapters) to a file, whole or not at all, so that a conversation goes on
// after the app was ended, in any process and on any model opened from the same file. On Unix a new file can be read by its owner alone; one that is
// replaced hands on its permissions.
graft_status graft_session_save(graft_session *session,
                                const char *path,
                                size_t path_len,
                                graft_error **error);

// Makes the session hold what `graft_session_save` wrote, from any session of the same model, of any size that has room for it.
// `GRAFT_ERROR_MISMATCH` for a file of another model or precision, `GRAFT_ERROR_INVALID` for a broken one; the session is then as before.
// Adapters are not switched: those that were on when the state was made should be on.
graft_status graft_session_restore(graft_session *session,
                                   const char *path,
                                   size_t path_len,
                                   graft_error **error);

// As `graft_session_save`, to memory. `*bytes` is to be freed with `graft_free`.
graft_status graft_session_save_memory(graft_session *session,
                                       uint8_t **bytes,
                                       size_t *n_bytes,
                                       graft_error **error);

// As `graft_session_restore`, from memory.
graft_status graft_session_restore_memory(graft_session *session,
                                          const uint8_t *bytes,
                                          size_t n_bytes,
                                          graft_error **error);

// Evaluates tokens and writes their vector to `vector`: `n_vector` numbers, which must be the model's `hidden_size`. Hidden states are
// those behind the last norm, with the active adapters; they are not scaled to length 1. The tokens are read after what the session holds
// already, and added to it: reset it before, for a text of its own. There are no logits afterwards.
graft_status graft_session_embed(graft_session *session,
                                 const uint32_t *tokens,
                                 size_t n_tokens,
                                 graft_pooling pooling,
                                 float *vector,
                                 size_t n_vector,
                                 graft_error **error);

/* ------------------------------------------------------------------------
 * Sampling: how the next token is chosen. One thread at a time may use a sampler.
 */

// Chooses tokens; has the random numbers.
typedef struct graft_sampler graft_sampler;

// Is added to the logit of a token; `-INFINITY` bans it. This struct never changes.
typedef struct {
  // The token.
  uint32_t token;
  // What is added.
  float bias;
} graft_logit_bias;

// How to choose the next token. The default is greedy: always the most likely one.
typedef struct {
  // `sizeof(graft_sampler_options)`.
  size_t struct_size;
  // 0 takes the most likely token; 1 is the model's own distribution; above 1 flattens it.
  float temperature;
  // Keeps the most likely tokens whose mass reaches this; 1 keeps all.
  float top_p;
  // Keeps tokens at least this times as likely as the most likely one; 0 keeps all.
  float min_p;
  // Keeps so many of the most likely tokens; 0 keeps all.
  uint32_t top_k;
  // Divides positive and multiplies negative logits of tokens seen before; 1 is off.
  float repeat_penalty;
  // How many of the last tokens count as seen; 64 by default, `UINT32_MAX` for all.
  uint32_t repeat_last_n;
  // Subtracted from a seen token's logit once per occurrence.
  float frequency_penalty;
  // Subtracted from a seen token's logit once.
  float presence_penalty;
  // Starts the random numbers: the same seed, 0 by default, gives the same tokens.
  uint64_t seed;
  // `n_logit_bias` of them, or NULL.
  const graft_logit_bias *logit_bias;
  // How many.
  size_t n_logit_bias;
} graft_sampler_options;

// Sets the defaults; `struct_size` is `sizeof(graft_sampler_options)`.
void graft_sampler_options_init(graft_sampler_options *options, size_t struct_size);

// A sampler for the vocabulary that `session` has now. Sessions of the same vocabulary may use it too, one after the other.
graft_status graft_sampler_new(graft_session *session,
                               const graft_sampler_options *options,
                               graft_sampler **sampler,
                               graft_error **error);

// Starts the random numbers again from the seed.
graft_status graft_sampler_reset(graft_sampler *sampler, graft_error **error);

// Chooses the next token from the logits; the session is not changed: `graft_session_eval` appends it.
graft_status graft_session_sample(graft_session *session,
                                  graft_sampler *sampler,
                                  uint32_t *token,
                                  graft_error **error);

// Frees a sampler. NULL is allowed.
void graft_sampler_free(graft_sampler *sampler);

/* ------------------------------------------------------------------------
 * Generating: a prompt in, text out through a callback. The prompt is appended to what the session holds; afterwards it holds the prompt and
 * all new tokens but the last.
 */

// A text that stays the caller's. This struct never changes.
typedef struct {
  // Its bytes.
  const char *data;
  // How many, or `GRAFT_NUL`.
  size_t len;
} graft_text;

// When to end, and how to choose tokens.
typedef struct {
  // `sizeof(graft_generate_options)`.
  size_t struct_size;
  // The most tokens to generate; 0 goes on until the model or the context ends.
  uint64_t max_tokens;
  // `n_stop` texts: generation ends before the first of them to appear. Or NULL.
  const graft_text *stop;
  // How many.
  size_t n_stop;
  // How to choose tokens; NULL for the most likely ones.
  graft_sampler *sampler;
  // Ends the work when it is set, or NULL.
  const graft_cancel *cancel;
  // When the context is full: drop half of the tokens after the first `keep` and go on; -1, the default, ends there.
  int64_t keep;
  // Not 0: go on after the model's end tokens.
  int32_t ignore_eos;
  // Not 0: show the text of control tokens.
  int32_t show_special;
} graft_generate_options;

// Is given each piece of text as soon as it is certain, whole characters, often none, with the token that brought it: once a token. Text that
// was held back until the end (a character or stop text that did not become whole) comes in one more call, with the last token again. `text` is
// not NUL-terminated and valid during the call. Not 0 ends the generation. The session and the sampler are busy meanwhile; all other handles may
// be used.
typedef int32_t (*graft_text_callback)(const char *text, size_t len, uint32_t token, void *user_data);

// Why a generation ended.
typedef int32_t graft_finish;

// What a generation did.
typedef struct {
  // `sizeof(graft_report)`, set by the caller.
  size_t struct_size;
  // Tokens of the prompt that were evaluated.
  uint64_t prompt_tokens;
  // Tokens of the prompt that the session had already (of messages only).
  uint64_t reused_tokens;
  // New tokens.
  uint64_t tokens;
  // Time for the prompt.
  double prompt_seconds;
  // Time for the new tokens.
  double generation_seconds;
  // Why it ended: `GRAFT_FINISH_...`.
  graft_finish finish;
  // 0.
  uint32_t reserved;
} graft_report;

// It has not ended.
#define GRAFT_FINISH_NONE 0

// The model said so.
#define GRAFT_FINISH_EOS 1

// A stop text was reached.
#define GRAFT_FINISH_STOP 2

// `max_tokens` were generated.
#define GRAFT_FINISH_LENGTH 3

// The callback, a `graft_cancel` or `graft_session_cancel` said so.
#define GRAFT_FINISH_CANCELLED 4

// The context is full.
#define GRAFT_FINISH_CONTEXT 5

// Sets the defaults; `struct_size` is `sizeof(graft_generate_options)`.
void graft_generate_options_init(graft_generate_options *options, size_t struct_size);

// Appends a text and generates. Control tokens written out in the text, such as `<|im_end|>`, are read as such (`graft_tokenize` and
// `graft_generate_tokens` can do without). At the beginning of a session the model's begin token is put before it. `callback` and `report` may be
// NULL. Being cancelled is no error: `finish` says it.
graft_status graft_generate_text(graft_session *session,
                                 const char *text,
                                 size_t text_len,
                                 const graft_generate_options *options,
                                 graft_text_callback callback,
                                 void *user_data,
                                 graft_report *report,
                                 graft_error **error);

// Appends tokens (none: goes on from the logits that are there) and generates, as `graft_generate_text`.
graft_status graft_generate_tokens(graft_session *session,
                                   const uint32_t *tokens,
                                   size_t n_tokens,
                                   const graft_generate_options *options,
                                   graft_text_callback callback,
                                   void *user_data,
                                   graft_report *report,
                                   graft_error **error);

// Makes the session hold a whole conversation, written by the model's chat template, and generates the answer, as `graft_generate_text`.
// What the session holds already is kept as far as it is the beginning of the conversation, and not evaluated again; the rest of it is
// forgotten. `chat` may be NULL.
graft_status graft_generate_messages(graft_session *session,
                                     const graft_message *messages,
                                     size_t n_messages,
                                     const graft_chat_options *chat,
                                     const graft_generate_options *options,
                                     graft_text_callback callback,
                                     void *user_data,
                                     graft_report *report,
                                     graft_error **error);

/* ------------------------------------------------------------------------
 * Generating a token at a time, for callers that rather ask than be called.
 */

// A generation under way. One thread at a time; each call uses its session, which must not have been freed.
typedef struct graft_generation graft_generation;

// A generation that appends a text, as `graft_generate_text` does; nothing is evaluated yet. It goes on from what the session then holds: what is
// done with the session in between, a reset or another generation too, stands before its next token. Its session and sampler must outlive it:
// once one of them is freed, the next piece is `GRAFT_ERROR_HANDLE`.
graft_status graft_generation_of_text(graft_session *session,
                                      const char *text,
                                      size_t text_len,
                                      const graft_generate_options *options,
                                      graft_generation **generation,
                                      graft_error **error);

// A generation that appends tokens, as `graft_generate_tokens` does; nothing is evaluated yet.
graft_status graft_generation_of_tokens(graft_session *session,
                                        const uint32_t *tokens,
                                        size_t n_tokens,
                                        const graft_generate_options *options,
                                        graft_generation **generation,
                                        graft_error **error);

// A generation of the answer to a conversation, as `graft_generate_messages` does; nothing is evaluated yet.
graft_status graft_generation_of_messages(graft_session *session,
                                          const graft_message *messages,
                                          size_t n_messages,
                                          const graft_chat_options *chat,
                                          const graft_generate_options *options,
                                          graft_generation **generation,
                                          graft_error **error);

// The next piece of text, as a `graft_text_callback` is given it; `*more` is 0 where there is none any more, else 1. `*text` is
// NUL-terminated and valid until the next call; `text_len` and `token` may be NULL.
graft_status graft_generation_next(graft_generation *generation,
                                   const char **text,
                                   size_t *text_len,
                                   uint32_t *token,
                                   int32_t *more,
                                   graft_error **error);

// Ends it before its time; text that was held back still comes.
graft_status graft_generation_cancel(graft_generation *generation, graft_error **error);

// Writes what it has done so far to `*report`, whose `struct_size` is set.
graft_status graft_generation_report(graft_generation *generation,
                                     graft_report *report,
                                     graft_error **error);

// Frees a generation. NULL is allowed.
void graft_generation_free(graft_generation *generation);

/* ------------------------------------------------------------------------
 * Batches: many prompts, one after the other, each a line of JSON, to records, each a line of JSON; a file of them goes on where it was
 * stopped.
 *
 * A line is an object with exactly one of "prompt" (text as it is), "messages" ([{"role", "content"}], through the chat template) and
 * "tokens", and optionally: id, adapter (a name, a list of them, or null for none), max_tokens, temperature, top_k, top_p, min_p,
 * repeat_penalty, repeat_last_n, frequency_penalty, presence_penalty, seed, stop, logit_bias ({"42": -1}), ignore_eos. Another field is an
 * error. What a line leaves out is as the batch's options say.
 *
 * Its record is {"id", "text", "tokens", "finish_reason", "prompt_tokens"}, or {"id", "error"}: what is wrong with a line is no failure of the
 * call. A missing id is the line's number. A record depends on its line and number alone, not on the lines before.
 */

// A model that answers lines. One thread at a time. It keeps what it needs of its model and adapters: they may be freed before it.
typedef struct graft_batch graft_batch;

// What lines are answered with that do not say it themselves. All of it is read, and copied, when the batch is made.
typedef struct {
  // `sizeof(graft_batch_options)`.
  size_t struct_size;
  // How to choose tokens, or NULL for the defaults. To the seed the line's number is added.
  const graft_sampler_options *sampler;
  // When to end, or NULL for the defaults; its `sampler` is NULL. Its `cancel` ends calls, now and later, until it is cleared.
  const graft_generate_options *generate;
  // How to compute, or NULL for the defaults. Where `context` is 0 there is as much room as each line needs, up to the model's own context
  // length.
  const graft_session_options *session;
  // How to open the folders that lines name, or NULL for the defaults.
  const graft_adapter_options *adapter;
  // Not 0: a line may name an adapter's folder ("DIR" or "DIR@WEIGHT"), which is then opened, and kept for later lines. 0, the default, is for
  // lines that somebody else wrote: they have the adapters of `graft_batch_adapter` alone, and name no files.
  int32_t folders;
  // 0.
  uint32_t reserved;
} graft_batch_options;

// What a run did.
typedef struct {
  // `sizeof(graft_batch_report)`, set by the caller.
  size_t struct_size;
  // Lines that had a record already.
  uint64_t before;
  // Lines that it wrote a record for.
  uint64_t answered;
  // How many of these records say what is wrong with their line.
  uint64_t failed;
} graft_batch_report;

// Sets the defaults; `struct_size` is `sizeof(graft_batch_options)`.
void graft_batch_options_init(graft_batch_options *options, size_t struct_size);

// A batch of a model's answers. `GRAFT_ERROR_USAGE` for options that no line could be answered with.
graft_status graft_batch_new(const graft_model *model,
                             const graft_batch_options *options,
                             graft_batch **batch,
                             graft_error **error);

// Frees a batch. NULL is allowed. While a call on it is under way, here from its callback or in another thread: when that call, which goes
// on, returns.
void graft_batch_free(graft_batch *batch);

// From now on lines may have this adapter by its name: "NAME", or "NAME@WEIGHT" with a weight of their own. It takes the place of another one of
// that name. `name` NULL: it is on for lines that have no "adapter", with the others that were added so. `GRAFT_ERROR_MISMATCH` for an adapter of
// another model, `GRAFT_ERROR_USAGE` for an empty name or a weight that is not finite.
graft_status graft_batch_adapter(graft_batch *batch,
                                 const char *name,
                                 size_t name_len,
                                 const graft_adapter *adapter,
                                 float weight,
                                 graft_error **error);

// The record of one line. `number` is the line's id where it has none, and is added to the seed. `*record` has no line break, is NUL-terminated,
// and to be freed with `graft_free`; `record_len` may be NULL. `GRAFT_ERROR_CANCELLED` where the options' `cancel` is set before the answer is
// whole.
graft_status graft_batch_line(graft_batch *batch,
                              const char *line,
                              size_t line_len,
                              uint64_t number,
                              char **record,
                              size_t *record_len,
                              graft_error **error);

// Answers the lines of the file `input`, numbered from 1 (blank ones count, and have no record), and appends their records, in order, to the file
// `output`, which is made where there is none. Lines that have a record there already are passed over, and a record that was not written to its
// end is cut off: after a stop, of whatever kind, the same call goes on. `GRAFT_ERROR_MISMATCH` where `output` holds something else: it is then left
// as it was. `callback` is told after each line how much of the input is read, and may be NULL, as `report`. `GRAFT_ERROR_CANCELLED` where it or
// the options' `cancel` ends the work: between two lines, or within one, of which nothing is then written.
graft_status graft_batch_run(graft_batch *batch,
                             const char *input,
                             size_t input_len,
                             const char *output,
                             size_t output_len,
                             graft_progress_callback callback,
                             void *user_data,
                             graft_batch_report *report,
                             graft_error **error);

/* ------------------------------------------------------------------------
 * What a trainer trains, and how: options with the names and defaults of `graft train`. And what memory that will take, known before it begins.
 */

// What is trained, and how. A text that is NULL is its default.
typedef struct {
  // `sizeof(graft_train_options)`.
  size_t struct_size;
  // "lora", "rslora", "dora", "adalora", "loha", "lokr", "vera", "miss", "ia3", "oft", "boft", "hra", "road", "ln_tuning", "trainable_tokens",
  // "prompt_tuning" or "prefix_tuning"; NULL for "lora". An option that only other methods read must be left at its default.
  const char *method;
  // Its length.
  size_t method_len;
  // Which modules: "all-linear", names separated by commas, or a regular expression of the whole path; NULL for "all-linear".
  const char *targets;
  // Its length.
  size_t targets_len;
  // How updates of LoRA begin: "default", "gaussian", "pissa" or "olora"; NULL for "default".
  const char *init;
  // Its length.
  size_t init_len;
  // Rank of the updates; 0, the default, for the method's own: 8, of VeRA 256, of MiSS 64.
  uint32_t r;
  // Rows of a step; 4 by default. They run one after the other: more of them take longer, not more memory.
  uint32_t batch;
  // The updates' scale is alpha / r; 16 by default.
  double alpha;
  // Share of the numbers that inputs of low-rank updates lose while they learn; 0 by default. For an adapter that is opened, 0 is what it has, and
  // -1 is 0.
  double dropout;
  // For all that is random: what updates begin with, and the order of the rows; 42 by default.
  uint64_t seed;
  // Steps that the schedule runs over; 100 by default.
  uint64_t steps;
  // Steps that lead up to the learning rate; -1, the default, for 3 in 100.
  int64_t warmup;
  // How the learning rate goes: "cosine" or "linear" down to 0 in the last step, which then is the last, or "constant", which has no end; NULL
  // for "cosine".
  const char *schedule;
  // Its length.
  size_t schedule_len;
  // "adamw", "adamw8bit", "sgd" or "lion"; NULL for "adamw".
  const char *optimizer;
  // Its length.
  size_t optimizer_len;
  // The learning rate; 2e-4 by default.
  float lr;
  // Share of itself that a number loses in a step of learning rate 1; 0 by default.
  float weight_decay;
  // The most that the norm of the gradients may be, 1 by default; 0: whatever it is.
  float clip;
  // B of low-rank updates learns so many times faster (LoRA+; 16 is usual); 0, the default, for as fast as A.
  float lora_plus;
  // The most tokens of a row, 512 by default: what is longer is cut, and its beginning kept. Memory grows with it.
  uint64_t seq;
  // `GRAFT_PRECISION_FAST` or `GRAFT_PRECISION_EXACT`.
  graft_precision precision;
  // Not 0, the default: in every epoch the rows come in another order. 0: as they were added.
  int32_t shuffle;
  // Ends calls, now and later, until it is cleared; or NULL. It is looked at before each row of a step, which then changes nothing.
  const graft_cancel *cancel;
  // The most bytes that the training may take, of those that `graft_plan_training` counts; 0, the default: as many as it takes. Where that is
  // not enough, attention runs again on the way back instead of being kept, which takes a tenth longer; where that is not either,
  // `GRAFT_ERROR_LIMIT` says how many are.
  uint64_t memory;
  // Norms and tables ("embed_tokens", "lm_head") that are trained whole beside the adapter: names separated by commas; NULL for none.
  const char *modules_to_save;
  // Its length.
  size_t modules_to_save_len;
  // Of "prompt_tuning": it begins with the tokens of this text, over and over; NULL for random ones.
  const char *prompt_tuning_init_text;
  // Its length.
  size_t prompt_tuning_init_text_len;
  // Of "trainable_tokens": which.
  const uint32_t *token_indices;
  // How many.
  size_t n_token_indices;
  // Of "prompt_tuning" and "prefix_tuning": positions before the text; 0, the default, for 20.
  uint32_t num_virtual_tokens;
  // Of "oft": inputs of a block; 0, the default, for 32. Where that does not divide a module's inputs, the nearest size that does.
  uint32_t oft_block_size;
  // Of "boft": inputs of a block; 0, the default, for 4.
  uint32_t boft_block_size;
  // Of "road": outputs of a group; 0, the default, for 64.
  uint32_t group_size;
} graft_train_options;

// Bytes that a training takes at its most, by part. What is not in it: the tokenizer, the rows, and the app itself.
typedef struct {
  // `sizeof(graft_train_plan)`, set by the caller.
  size_t struct_size;
  // The tensors in the model's file: mapped, they are there without the training too, and the system may drop and read them again.
  uint64_t weights;
  // The adapter's numbers, and the adapter as it runs.
  uint64_t adapter;
  // The gradients of these numbers.
  uint64_t gradients;
  // What the optimizer keeps of each number.
  uint64_t optimizer;
  // What is kept of `seq` tokens in each layer for the way back.
  uint64_t activations;
  // Buffers of the layer that is under way, and of the head.
  uint64_t workspace;
  // All of it together.
  uint64_t total;
  // 0: attention runs again on the way back instead of being kept, for the sake of the options' `memory`.
  int32_t keeps_attention;
  // 0.
  uint32_t reserved;
} graft_train_plan;

// Sets the defaults; `struct_size` is `sizeof(graft_train_options)`.
void graft_train_options_init(graft_train_options *options, size_t struct_size);

// Writes to `*plan`, whose `struct_size` is set, what a trainer with these options would take: of a new adapter (`graft_trainer_new`) where
// `folder` is NULL, else of the adapter in that folder (`graft_trainer_open`). The adapter is made for that and goes again; nothing is trained,
// and the model may be in use meanwhile. Fails as these two do: `GRAFT_ERROR_LIMIT` where it does not fit into the options' `memory`. Any thread.
graft_status graft_plan_training(const graft_model *model,
                                 const char *folder,
                                 size_t folder_len,
                                 const graft_train_options *options,
                                 graft_train_plan *plan,
                                 graft_error **error);

/* ------------------------------------------------------------------------
 * Trainers: a new adapter for a model, and the rows that it learns from. The model stays as it is, and may be used meanwhile.
 *
 * A trainer is made (`graft_trainer_new`), given rows (`graft_trainer_add`), and run (`graft_trainer_run`); what it has learnt is there at once, for
 * sessions of the same model (`graft_trainer_adapter`), and as the folder that PEFT loads (`graft_trainer_save`).
 */

// An adapter that is being trained. One thread at a time. It keeps what it needs of its model, which may be freed before it.
typedef struct graft_trainer graft_trainer;

// What is learnt together: one of `tokens`, `text`, `completion`, `messages` and `line`; all else is 0. This struct never changes.
typedef struct {
  // Tokens.
  const uint32_t *tokens;
  // How many.
  size_t n_tokens;
  // By token, 0 where it only stands before others; NULL where all are learnt. The first never is: nothing stands before it.
  const uint8_t *learn;
  // A text, all of which is learnt, and that it ends there.
  const char *text;
  // Its length.
  size_t text_len;
  // What stands before `completion`, and is not learnt.
  const char *prompt;
  // Its length.
  size_t prompt_len;
  // What is learnt, and that it ends there.
  const char *completion;
  // Its length.
  size_t completion_len;
  // A conversation: what the assistant says in it is learnt, through the model's chat template.
  const graft_message *messages;
  // How many.
  size_t n_messages;
  // The tools that the template is told of: a JSON list, or NULL.
  const char *tools;
  // Its length.
  size_t tools_len;
  // A line of a data file of `graft train`: {"text"}, {"prompt", "completion"} or {"messages", "tools"}.
  const char *line;
  // Its length.
  size_t line_len;
} graft_row;

// Sets a row, all of whose fields are 0, and returns 1; 0 where there are no more; anything else ends the call: `GRAFT_ERROR_CANCELLED`. What the row
// points to stays until the next call of the callback, or the end of that which calls it.
typedef int32_t (*graft_row_callback)(graft_row *row, void *user_data);

// Begins a new adapter of `model`. `GRAFT_ERROR_USAGE` for options that are out of range, that the method does not have, and targets that match
// nothing; `GRAFT_ERROR_LIMIT` where it does not fit into the options' `memory`.
graft_status graft_trainer_new(const graft_model *model,
                               const graft_train_options *options,
                               graft_trainer **trainer,
                               graft_error **error);

// Goes on with the adapter in a folder that PEFT or `graft_trainer_save` wrote, of any method whose gradients Graft knows: its numbers, and nothing
// of the training that made them. Method, targets, init, r, alpha and what else only a beginning needs are the adapter's; those of the options are
// not looked at. `GRAFT_ERROR_LIMIT` where it does not fit into the options' `memory`.
graft_status graft_trainer_open(const graft_model *model,
                                const char *path,
                                size_t path_len,
                                const graft_train_options *options,
                                graft_trainer **trainer,
                                graft_error **error);

// Goes on with a training that `graft_trainer_checkpoint` wrote, bit for bit as if it had not been stopped (on the same kind of machine), once the
// same rows are added in the same order; before other rows, `graft_trainer_clear` begins anew with them. The options are those it was made
// with: `GRAFT_ERROR_MISMATCH`, by name, for others and for another model; method, targets, init, r, alpha, dropout and what else only a beginning
// needs are the adapter's. Attention is kept or runs again as it did: `GRAFT_ERROR_LIMIT` where that does not fit into the options' `memory`.
// `GRAFT_ERROR_INVALID` for a damaged file.
graft_status graft_trainer_resume(const graft_model *model,
                                  const char *path,
                                  size_t path_len,
                                  const graft_train_options *options,
                                  graft_trainer **trainer,
                                  graft_error **error);

// Frees a trainer. NULL is allowed. While a call on it is under way, here from its callback or in another thread: when that call, which goes
// on, returns.
void graft_trainer_free(graft_trainer *trainer);

// Adds rows to those that `graft_trainer_run` learns from, all of them or, where one cannot be learnt, none: the error names it. They are copied.
// A run that was in the middle of the rows begins again with all of them.
graft_status graft_trainer_add(graft_trainer *trainer,
                               const graft_row *rows,
                               size_t n_rows,
                               graft_error **error);

// As `graft_trainer_add`, of rows that `callback` gives one at a time, until it has no more. `n_rows`, which may be NULL, is how many these were.
graft_status graft_trainer_pull(graft_trainer *trainer,
                                graft_row_callback callback,
                                void *user_data,
                                uint64_t *n_rows,
                                graft_error **error);

// Takes all rows out: the next run begins with those that are added then. What was learnt stays.
graft_status graft_trainer_clear(graft_trainer *trainer, graft_error **error);

/* ------------------------------------------------------------------------
 * What a trainer does: steps, measurements, and the adapter as it is then.
 */

// What a step did.
typedef struct {
  // `sizeof(graft_train_report)`, set by the caller.
  size_t struct_size;
  // Which step of the training, from 1.
  uint64_t step;
  // The mean loss of a learnt token, before the step changed anything (in nats).
  double loss;
  // Tokens that were learnt.
  uint64_t targets;
  // All tokens.
  uint64_t tokens;
  // Norm of the gradients, before it was cut.
  double grad_norm;
  // What it took.
  double seconds;
  // The learning rate.
  float lr;
  // Not 0: loss or gradients were not finite, and nothing was changed.
  int32_t skipped;
} graft_train_report;

// Is told what a step did. Not 0 ends the run behind it: the call fails with `GRAFT_ERROR_CANCELLED`, and what was learnt stays. The trainer is busy
// meanwhile.
typedef int32_t (*graft_train_callback)(const graft_train_report *report, void *user_data);

// Facts about a trainer.
typedef struct {
  // `sizeof(graft_trainer_info)`, set by the caller.
  size_t struct_size;
  // Steps that were done.
  uint64_t steps;
  // Steps until the schedule ends; -1 where it has no end.
  int64_t steps_left;
  // Steps whose loss or gradients were not finite.
  uint64_t steps_skipped;
  // Rows that were added.
  uint64_t rows;
  // How many of them were cut because they are too long.
  uint64_t rows_cut;
  // How often a run was through all of them.
  uint64_t epochs;
  // Numbers that are trained.
  uint64_t parameters;
  // The most tokens of a row: `seq`, or less where the adapter has positions of its own in the model's context.
  uint64_t seq;
} graft_trainer_info;

// One step over these rows, which need not be added. `report` may be NULL. `GRAFT_ERROR_LIMIT` behind the last step of a schedule, and after ten
// steps in a row whose loss was not finite; `GRAFT_ERROR_CANCELLED` where the options' `cancel` ends it: then nothing is changed.
graft_status graft_trainer_step(graft_trainer *trainer,
                                const graft_row *rows,
                                size_t n_rows,
                                graft_train_report *report,
                                graft_error **error);

// `steps` steps over the rows that were added, `batch` of them in each, all of them in every epoch; 0: the steps that are left of those in the
// options. It goes on where the last run ended. `callback` is told of every step, `report` of the last one; both may be NULL.
// `GRAFT_ERROR_LIMIT` where the schedule has fewer steps left, `GRAFT_ERROR_USAGE` where no rows were added, `GRAFT_ERROR_MISMATCH` where these
// are not those of the checkpoint, `GRAFT_ERROR_CANCELLED` where `callback` or the options' `cancel` ends it: steps that were done stay, and the next
// run goes on behind them.
graft_status graft_trainer_run(graft_trainer *trainer,
                               uint64_t steps,
                               graft_train_callback callback,
                               void *user_data,
                               graft_train_report *report,
                               graft_error **error);

// The mean loss of a learnt token of these rows, as the adapter is now; of those that were added where `n_rows` is 0. Nothing is learnt.
graft_status graft_trainer_evaluate(graft_trainer *trainer,
                                    const graft_row *rows,
                                    size_t n_rows,
                                    double *loss,
                                    graft_error **error);

// The adapter as it is now, for sessions of the same model; later steps do not change it.
graft_status graft_trainer_adapter(graft_trainer *trainer,
                                   graft_adapter **adapter,
                                   graft_error **error);

// Writes the adapter as it is now to a folder, which PEFT's `from_pretrained`, `graft_adapter_open` and `graft_trainer_open` load; an adapter that is
// there already is replaced.
graft_status graft_trainer_save(graft_trainer *trainer,
                                const char *path,
                                size_t path_len,
                                graft_error **error);

// Writes all that `graft_trainer_resume` needs to a file, whole or not at all: the adapter, what the optimizer keeps, the step, and which row is next;
// not the rows.
graft_status graft_trainer_checkpoint(graft_trainer *trainer,
                                      const char *path,
                                      size_t path_len,
                                      graft_error **error);

// Writes the facts about a trainer to `*info`, whose `struct_size` is set.
graft_status graft_trainer_get_info(graft_trainer *trainer,
                                    graft_trainer_info *info,
                                    graft_error **error);

/* ------------------------------------------------------------------------
 * Merging adapters into a model, making one adapter of several, and writing adapters for other programs. These read files, compute for
 * seconds, and write files that are whole or not there.
 */

// How to merge.
typedef struct {
  // `sizeof(graft_merge_options)`.
  size_t struct_size;
  // The block format of what is merged, such as "Q8_0"; NULL keeps each tensor's own.
  const char *format;
  // Its length.
  size_t format_len;
  // Above 0, and without a `format`: larger formats where they are needed, until the merged model's predictions are within this mean
  // divergence (in nats) of those of the adapters put on live.
  double within;
  // A text like those that the model will read, on which packing is tuned; NULL for short texts of the library's own.
  const char *text;
  // Its length.
  size_t text_len;
  // Not 0: pack without regard to what the model reads.
  int32_t plain;
  // 0.
  uint32_t reserved;
  // Called while merging, or NULL.
  graft_progress_callback progress;
  // Handed to `progress`.
  void *progress_user_data;
  // Ends the work when it is set, or NULL.
  const graft_cancel *cancel;
} graft_merge_options;

// How to make one adapter of several.
typedef struct {
  // `sizeof(graft_combine_options)`.
  size_t struct_size;
  // PEFT's `combination_type`: "linear" (the default), "svd", "cat", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd",
  // "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd".
  const char *kind;
  // Its length.
  size_t kind_len;
  // The share of entries that pruning keeps; types that prune need it. 0 where the type has no use for it.
  double density;
  // Limits the result's entries to this quantile, for types with svd; 0 does not.
  double svd_clamp;
  // The rank of the result, for types with svd; 0 for the largest of the adapters'.
  uint32_t svd_rank;
  // For types that elect a sign: 0 by the sum, 1 by the number of adapters.
  int32_t majority_by_count;
  // Of the random numbers, for the dare types.
  uint64_t seed;
  // Called while combining, or NULL.
  graft_progress_callback progress;
  // Handed to `progress`.
  void *progress_user_data;
} graft_combine_options;

// Sets the defaults; `struct_size` is `sizeof(graft_merge_options)`.
void graft_merge_options_init(graft_merge_options *options, size_t struct_size);

// A model with `n` adapters, each with its weight (`weights` NULL: 1 each), merged into its weights: a model of its own, which shares the
// tensors that did not change.
graft_status graft_merge(const graft_model *model,
                         const graft_adapter *const *adapters,
                         const float *weights,
                         size_t n,
                         const graft_merge_options *options,
                         graft_model **merged,
                         graft_error **error);

// As `graft_merge`, to a GGUF file that other programs load too. The file appears when it is complete.
graft_status graft_merge_to(const graft_model *model,
                            const graft_adapter *const *adapters,
                            const float *weights,
                            size_t n,
                            const graft_merge_options *options,
                            const char *path,
                            size_t path_len,
                            graft_error **error);

// Sets the defaults; `struct_size` is `sizeof(graft_combine_options)`.
void graft_combine_options_init(graft_combine_options *options, size_t struct_size);

// Makes one adapter of the `n` that lie in `folders`, each with its weight (`weights` NULL: 1 each), as PEFT's `add_weighted_adapter`, and
// writes it to the folder `path`, which PEFT loads too.
graft_status graft_combine(const graft_text *folders,
                           const float *weights,
                           size_t n,
                           const graft_combine_options *options,
                           const char *path,
                           size_t path_len,
                           graft_error **error);

// Writes the LoRA at `adapter`, a folder of PEFT's for this model, as the GGUF file `path` that llama.cpp loads, its factors in `format`:
// "F32", "F16" or "BF16".
graft_status graft_export_lora(const graft_model *model,
                               const char *adapter,
                               size_t adapter_len,
                               const char *format,
                               size_t format_len,
                               const char *path,
                               size_t path_len,
                               graft_error **error);

// Writes what the adapter at `adapter` adds to this model's weights as a plain LoRA, to the folder `path` that PEFT loads. `rank` above 0:
// that rank; 0: the smallest that keeps the share `energy` of each module's squared singular values, above 0 to 1.
graft_status graft_to_lora(const graft_model *model,
                           const char *adapter,
                           size_t adapter_len,
                           const graft_adapter_options *options,
                           uint32_t rank,
                           double energy,
                           const char *path,
                           size_t path_len,
                           graft_error **error);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* GRAFT_H */
