/* Streams a model's answer to the terminal.
 *
 *   cc stream.c $(pkg-config --cflags --libs graft) -o stream
 *   ./stream MODEL.gguf "The capital of France is" [ADAPTER_FOLDER]
 */
#include <graft.h>
#include <stdio.h>

static int32_t on_text(const char *text, size_t len, uint32_t token, void *user_data) {
    (void)token, (void)user_data;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return 0; /* anything else would end the answer */
}

int main(int argc, char **argv) {
    graft_model *model = NULL;
    graft_adapter *adapter = NULL;
    graft_session *session = NULL;
    graft_error *error = NULL;
    graft_status status;

    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT [ADAPTER_FOLDER]\n", argv[0]);
        return 2;
    }
    status = graft_model_open(argv[1], GRAFT_NUL, NULL, &model, &error);
    if (status == GRAFT_OK) status = graft_session_new(model, NULL, &session, &error);
    if (status == GRAFT_OK && argc > 3) {
        status = graft_adapter_open(model, argv[3], GRAFT_NUL, NULL, &adapter, &error);
        if (status == GRAFT_OK)
            status = graft_session_set_adapters(session, (const graft_adapter *const *)&adapter, NULL, 1, &error);
    }
    if (status == GRAFT_OK) {
        graft_generate_options options;
        graft_generate_options_init(&options, sizeof options);
        options.max_tokens = 64;
        status = graft_generate_text(session, argv[2], GRAFT_NUL, &options, on_text, NULL, NULL, &error);
        puts("");
    }
    if (status != GRAFT_OK) fprintf(stderr, "error: %s\n", graft_error_message(error));
    graft_error_free(error);
    graft_session_free(session);
    graft_adapter_free(adapter);
    graft_model_free(model);
    return status == GRAFT_OK ? 0 : 1;
}
