/* An app that learns from its user: it answers, is told what would have been right, keeps both, and trains on the last 50 of them.
 *
 *   cc learn.c $(pkg-config --cflags --libs graft) -o learn
 *   ./learn MODEL.gguf HISTORY.jsonl ADAPTER_FOLDER
 *
 * A line is a question; "= ..." is the answer that the last one should have had, which is added to HISTORY.jsonl; "/learn" trains on the last
 * 50 lines of that, uses what was learnt at once, and saves it to ADAPTER_FOLDER, where the next start finds it.
 */
#include <graft.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST = 50, LINE = 1024 };

static graft_model *model;
static graft_session *session;
static graft_error *error;

/* Says what went wrong, if anything did. */
static int ok(graft_status status) {
    if (status != GRAFT_OK) fprintf(stderr, "error: %s\n", graft_error_message(error));
    graft_error_free(error);
    error = NULL;
    return status == GRAFT_OK;
}

static int32_t on_text(const char *text, size_t len, uint32_t token, void *user_data) {
    (void)token, (void)user_data;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return 0;
}

static int answer(const char *question) {
    const graft_message asked = {"user", 4, question, strlen(question), NULL, 0};
    graft_generate_options options;
    graft_generate_options_init(&options, sizeof options);
    options.max_tokens = 64;
    const graft_status status = graft_generate_messages(session, &asked, 1, NULL, &options, on_text, NULL, NULL, &error);
    puts("");
    return ok(status);
}

/* Puts an adapter on; it stays there when its handle is gone. */
static int use(graft_adapter *adapter) {
    const graft_adapter *one = adapter;
    const int done = ok(graft_session_set_adapters(session, &one, NULL, 1, &error)) && ok(graft_session_reset(session, &error));
    graft_adapter_free(adapter);
    return done;
}

static void put_json(FILE *to, const char *text) {
    putc('"', to);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putc('\\', to);
        if ((unsigned char)*text < ' ')
            fprintf(to, "\\u%04x", *text);
        else
            putc(*text, to);
    }
    putc('"', to);
}

static int keep(const char *history, const char *question, const char *right) {
    FILE *file = fopen(history, "a");
    if (!file) return perror(history), 0;
    fputs("{\"messages\": [{\"role\": \"user\", \"content\": ", file);
    put_json(file, question);
    fputs("}, {\"role\": \"assistant\", \"content\": ", file);
    put_json(file, right);
    fputs("}]}\n", file);
    return fclose(file) == 0;
}

static int32_t on_step(const graft_train_report *report, void *user_data) {
    (void)user_data;
    fprintf(stderr, "step %d: loss %.3f\n", (int)report->step, report->loss);
    return 0; /* anything else would end the training */
}

static int learn(const char *history, const char *folder) {
    static char lines[LAST][13 * LINE]; /* the last ones, in a ring; a character takes up to six in JSON */
    graft_row rows[LAST];
    graft_train_options options;
    graft_trainer *trainer = NULL;
    graft_adapter *adapter = NULL;
    FILE *file = fopen(history, "r");
    size_t n = 0, i;
    if (!file) return perror(history), 0;
    while (fgets(lines[n % LAST], sizeof lines[0], file)) n++;
    fclose(file);
    if (n > LAST) n = LAST;
    memset(rows, 0, sizeof rows);
    for (i = 0; i < n; i++) {
        rows[i].line = lines[i];
        rows[i].line_len = GRAFT_NUL;
    }

    graft_train_options_init(&options, sizeof options);
    options.steps = 20;
    options.lr = 1e-3f;
    options.seq = 256;
    /* On with what was learnt before, or anew. */
    graft_status status = graft_trainer_open(model, folder, GRAFT_NUL, &options, &trainer, &error);
    if (status == GRAFT_ERROR_IO) {
        graft_error_free(error);
        status = graft_trainer_new(model, &options, &trainer, &error);
    }
    const int done = ok(status) && ok(graft_trainer_add(trainer, rows, n, &error)) &&
                     ok(graft_trainer_run(trainer, 0, on_step, NULL, NULL, &error)) &&
                     ok(graft_trainer_adapter(trainer, &adapter, &error)) && use(adapter) &&
                     ok(graft_trainer_save(trainer, folder, GRAFT_NUL, &error));
    graft_trainer_free(trainer);
    return done;
}

int main(int argc, char **argv) {
    char line[LINE], question[LINE] = "";
    graft_adapter *adapter = NULL;
    int going;
    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL.gguf HISTORY.jsonl ADAPTER_FOLDER\n", argv[0]);
        return 2;
    }
    going = ok(graft_model_open(argv[1], GRAFT_NUL, NULL, &model, &error)) && ok(graft_session_new(model, NULL, &session, &error));
    if (going && graft_adapter_open(model, argv[3], GRAFT_NUL, NULL, &adapter, NULL) == GRAFT_OK) going = use(adapter);
    while (going && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\r\n")] = '\0';
        if (!strcmp(line, "/learn"))
            going = learn(argv[2], argv[3]);
        else if (!strncmp(line, "= ", 2))
            going = keep(argv[2], question, line + 2);
        else
            going = answer(strcpy(question, line));
    }
    graft_session_free(session);
    graft_model_free(model);
    return going ? 0 : 1;
}
