/* A model on the CPU and on a GPU, greedily and exactly: a line for each, with the layers on the GPU, where it is, and the tokens.
 *
 *   gpu MODEL.gguf
 */
#include <graft.h>
#include <stdio.h>

static graft_error *error;

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, graft_error_message(error));
    graft_error_free(error);
    return 1;
}

static int32_t on_text(const char *text, size_t len, uint32_t token, void *user_data) {
    (void)text, (void)len, (void)user_data;
    printf(" %u", (unsigned)token);
    return 0;
}

static int answer(const char *path, graft_device device, int32_t layers) {
    static const uint32_t prompt[] = {1, 5, 9, 33, 7, 40, 12, 3, 77, 21, 60, 8, 19, 2, 90, 11, 4, 35, 50, 28};
    graft_model_options options;
    graft_session_options session_options;
    graft_generate_options generate;
    graft_model_info info = {.struct_size = sizeof info};
    graft_model *model = NULL;
    graft_session *session = NULL;

    graft_model_options_init(&options, sizeof options);
    options.threads = 1;
    options.device = device;
    options.gpu_layers = layers;
    if (graft_model_open(path, GRAFT_NUL, &options, &model, &error)) return failed("open");
    if (graft_model_get_info(model, &info, &error)) return failed("info");
    printf("%u of %u layers, %s:", (unsigned)info.gpu_layers, (unsigned)info.n_layers, info.device ? info.device : "the CPU");
    graft_session_options_init(&session_options, sizeof session_options);
    session_options.precision = GRAFT_PRECISION_EXACT;
    if (graft_session_new(model, &session_options, &session, &error)) return failed("session");
    graft_model_free(model);
    graft_generate_options_init(&generate, sizeof generate);
    generate.max_tokens = 24;
    generate.ignore_eos = 1;
    if (graft_generate_tokens(session, prompt, sizeof prompt / sizeof *prompt, &generate, on_text, NULL, NULL, &error))
        return failed("generate");
    graft_session_free(session);
    printf("\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    return answer(argv[1], GRAFT_DEVICE_CPU, -1) || answer(argv[1], GRAFT_DEVICE_CUDA, -1) || answer(argv[1], GRAFT_DEVICE_CUDA, 1);
}
