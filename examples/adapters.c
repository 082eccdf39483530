/* Answers each line of stdin, with the adapter that the line names: "NAME: question", or just a question for the model alone.
 *
 *   cc adapters.c $(pkg-config --cflags --libs graft) -o adapters
 *   ./adapters MODEL.gguf verse=demo/adapters/stage-verse json=demo/adapters/json-extract
 *
 * All adapters are opened once; switching takes well under a microsecond.
 */
#include <graft.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 16 };

static int32_t on_text(const char *text, size_t len, uint32_t token, void *user_data) {
    (void)token, (void)user_data;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return 0;
}

/* Says what went wrong; 1 if something did. (The error by its address: C may read arguments before it makes the call among them.) */
static int failed(graft_status status, graft_error **error) {
    if (status != GRAFT_OK) fprintf(stderr, "error: %s\n", graft_error_message(*error));
    graft_error_free(*error);
    return status != GRAFT_OK;
}

int main(int argc, char **argv) {
    graft_model *model = NULL;
    graft_session *session = NULL;
    graft_adapter *adapters[MOST] = {NULL};
    const char *names[MOST];
    size_t lengths[MOST];
    graft_generate_options options;
    graft_error *error = NULL;
    char line[4096];
    int i, n = argc - 2, bad;

    if (argc < 2 || n > MOST) {
        fprintf(stderr, "usage: %s MODEL.gguf [NAME=ADAPTER_FOLDER]...\n", argv[0]);
        return 2;
    }
    bad = failed(graft_model_open(argv[1], GRAFT_NUL, NULL, &model, &error), &error);
    for (i = 0; i < n && !bad; i++) {
        const char *equals = strchr(argv[i + 2], '=');
        names[i] = argv[i + 2];
        lengths[i] = equals ? (size_t)(equals - names[i]) : strlen(names[i]);
        bad = failed(graft_adapter_open(model, equals ? equals + 1 : names[i], GRAFT_NUL, NULL, &adapters[i], &error), &error);
    }
    bad = bad || failed(graft_session_new(model, NULL, &session, &error), &error);
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = 100;

    while (!bad && fgets(line, sizeof line, stdin)) {
        graft_message message = {"user", 4, line, strcspn(line, "\r\n"), NULL, 0};
        const graft_adapter *on = NULL;
        const char *colon = strchr(line, ':');
        for (i = 0; i < n && colon; i++)
            if ((size_t)(colon - line) == lengths[i] && !strncmp(line, names[i], lengths[i])) on = adapters[i];
        if (on) {
            message.content = colon + 1 + strspn(colon + 1, " ");
            message.content_len = strcspn(message.content, "\r\n");
        }
        bad = failed(graft_session_set_adapters(session, &on, NULL, on ? 1 : 0, &error), &error);
        /* Each line is a conversation of its own: what was computed under another adapter must not be kept. */
        bad = bad || failed(graft_session_reset(session, &error), &error);
        bad = bad || failed(graft_generate_messages(session, &message, 1, NULL, &options, on_text, NULL, NULL, &error), &error);
        puts("");
    }
    graft_session_free(session);
    for (i = 0; i < n; i++) graft_adapter_free(adapters[i]);
    graft_model_free(model);
    return bad;
}
