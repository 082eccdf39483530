/* Writes the greedy continuation of a text, 40 tokens of it: what other languages must get from the same library.
 *
 *     greedy MODEL.gguf ADAPTER_FOLDER|- TEXT
 */
#include <stdio.h>
#include <string.h>

#include "graft.h"

static int32_t show(const char *text, size_t len, uint32_t token, void *user_data) {
    (void)token, (void)user_data;
    return fwrite(text, 1, len, stdout) != len;
}

static int failed(graft_status status, graft_error **error) {
    if (status == GRAFT_OK) return 0;
    fprintf(stderr, "greedy: %s\n", graft_error_message(*error));
    graft_error_free(*error);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    graft_error *error;
    graft_model *model = NULL;
    graft_adapter *adapter = NULL;
    graft_session *session = NULL;
    graft_generate_options options;
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = 40;
    int bad = failed(graft_model_open(argv[1], GRAFT_NUL, NULL, &model, &error), &error)
              || (strcmp(argv[2], "-") != 0
                  && failed(graft_adapter_open(model, argv[2], GRAFT_NUL, NULL, &adapter, &error), &error))
              || failed(graft_session_new(model, NULL, &session, &error), &error)
              || failed(graft_session_set_adapters(session, (const graft_adapter *const *)&adapter, NULL, adapter != NULL, &error), &error)
              || failed(graft_generate_text(session, argv[3], GRAFT_NUL, &options, show, NULL, NULL, &error), &error);
    graft_session_free(session);
    graft_adapter_free(adapter);
    graft_model_free(model);
    return bad;
}
