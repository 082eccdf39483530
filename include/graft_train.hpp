/* Training for graft.hpp, which includes it.
 */
#ifndef GRAFT_TRAIN_HPP
#define GRAFT_TRAIN_HPP

#include "graft_options.hpp"

namespace graft {
#ifdef GRAFT_NO_EXCEPTIONS
inline namespace results {
#endif

/// What is trained, and how.
struct TrainOptions {
    std::string method = "lora";        ///< of a new adapter: graft_train_options in graft.h lists them
    std::string targets = "all-linear"; ///< which modules: also names separated by commas, or a regular expression of the whole path
    std::string init = "default";       ///< how updates begin: also "gaussian", "pissa", "olora"
    std::uint32_t r = 0;                ///< rank of the updates; 0: the method's own, of LoRA 8
    double alpha = 16;                  ///< their scale is alpha / r
    double dropout = 0;                 ///< share of the numbers that inputs of low-rank updates lose while they learn; open_trainer: 0 for what
                                        ///< the adapter has, -1 for 0
    std::uint32_t batch = 4;            ///< rows of a step
    std::uint64_t seed = 42;            ///< for all that is random
    std::uint64_t steps = 100;          ///< what the schedule runs over
    std::optional<std::uint32_t> warmup = {}; ///< steps that lead up to the learning rate; else 3 in 100
    std::string schedule = "cosine";          ///< also "linear", or "constant", which has no end
    std::string optimizer = "adamw";          ///< also "adamw8bit", "sgd", "lion"
    float lr = 2e-4f;                         ///< the learning rate
    float weight_decay = 0;                   ///< share of itself that a number loses in a step of learning rate 1
    float clip = 1;                           ///< the most that the norm of the gradients may be; 0: whatever it is
    float lora_plus = 0;                      ///< B of low-rank updates learns so many times faster; 0: as fast as A
    std::uint64_t seq = 512;                  ///< the most tokens of a row: what is longer is cut
    Precision precision = Precision::fast;
    bool shuffle = true;               ///< in every epoch the rows come in another order
    std::optional<Cancel> cancel = {}; ///< ends calls, now and later, until it is cleared
    std::uint64_t memory = 0;          ///< the most bytes, of those that `plan_training` counts: attention runs again where it must; 0: no limit
    std::string modules_to_save = {};  ///< norms and tables ("embed_tokens", "lm_head"), trained whole beside the adapter, separated by commas
    std::string prompt_tuning_init_text = {}; ///< of "prompt_tuning": it begins with the tokens of this text; else random ones
    std::vector<Token> token_indices = {};    ///< of "trainable_tokens": which
    std::uint32_t num_virtual_tokens = 0;     ///< of "prompt_tuning", "prefix_tuning": positions before the text; 0: 20
    std::uint32_t oft_block_size = 0;         ///< of "oft": inputs of a block; 0: 32
    std::uint32_t boft_block_size = 0;        ///< of "boft": inputs of a block; 0: 4
    std::uint32_t group_size = 0;             ///< of "road": outputs of a group; 0: 64
};

/// Bytes that a training takes at its most, by part. The tokenizer, the rows, and the app itself come on top.
struct TrainPlan {
    std::uint64_t weights;     ///< the tensors in the model's file, which are mapped without the training too
    std::uint64_t adapter;     ///< its numbers, and the adapter as it runs
    std::uint64_t gradients;   ///< of these numbers
    std::uint64_t optimizer;   ///< what it keeps of each number
    std::uint64_t activations; ///< what is kept of `seq` tokens in each layer for the way back
    std::uint64_t workspace;   ///< buffers of the layer that is under way, and of the head
    std::uint64_t total;       ///< all of it together
    bool keeps_attention;      ///< false: it runs again on the way back, for the sake of the options' `memory`

    explicit TrainPlan(const graft_train_plan &c)
        : weights(c.weights), adapter(c.adapter), gradients(c.gradients), optimizer(c.optimizer), activations(c.activations),
          workspace(c.workspace), total(c.total), keeps_attention(c.keeps_attention != 0) {}
};

/// What is learnt together: a text, a completion behind its prompt, what the assistant says in a conversation, or tokens. Only an argument: it
/// does not own what it is made from.
class Row {
public:
    /// All of it.
    static Row text(std::string_view text) {
        Row row;
        row.c_.text = start(text), row.c_.text_len = text.size();
        return row;
    }
    /// `completion` behind `prompt`, which is not learnt.
    static Row completion(std::string_view prompt, std::string_view completion) {
        Row row;
        row.c_.prompt = start(prompt), row.c_.prompt_len = prompt.size();
        row.c_.completion = start(completion), row.c_.completion_len = completion.size();
        return row;
    }
    /// What the assistant says. `tools`, if any: what the template is told of, a JSON list.
    static Row messages(const std::vector<Message> &messages, std::string_view tools = {}) {
        Row row;
        row.messages_ = &messages;
        if (!tools.empty()) row.c_.tools = tools.data(), row.c_.tools_len = tools.size();
        return row;
    }
    /// All tokens, or those whose `learn` is not 0.
    static Row tokens(span<const Token> tokens) {
        static constexpr Token none = 0;
        Row row;
        row.c_.tokens = tokens.size() > 0 ? tokens.data() : &none, row.c_.n_tokens = tokens.size();
        return row;
    }
    static Row tokens(span<const Token> tokens, const std::vector<std::uint8_t> &learn) {
        Row row = Row::tokens(tokens);
        row.learn_ = &learn;
        return row;
    }
    /// A line of a data file of `graft train`.
    static Row line(std::string_view line) {
        Row row;
        row.c_.line = start(line), row.c_.line_len = line.size();
        return row;
    }

private:
    friend class Trainer;
    static const char *start(std::string_view text) { return text.data() ? text.data() : ""; }

    /// For C; `list` is where the messages are kept.
    graft_row c(std::vector<graft_message> &list) const {
        graft_row c = c_;
        if (messages_) {
            static constexpr graft_message none{};
            list = detail::c(*messages_);
            c.messages = list.empty() ? &none : list.data(), c.n_messages = list.size();
        }
        // C takes as many as there are tokens: fewer would be read behind their end.
        if (learn_ && learn_->size() == c.n_tokens) c.learn = learn_->data();
        else if (learn_) c = graft_row{}; // no form, which C refuses
        return c;
    }

    graft_row c_{};
    const std::vector<Message> *messages_ = nullptr;
    const std::vector<std::uint8_t> *learn_ = nullptr;
};

/// What a step did.
struct TrainReport {
    std::uint64_t step;    ///< which, from 1
    double loss;           ///< of a learnt token, before the step (in nats)
    std::uint64_t targets; ///< tokens that were learnt
    std::uint64_t tokens;  ///< all of them
    double grad_norm;      ///< before it was cut
    double seconds;
    float lr;
    bool skipped; ///< loss or gradients were not finite, and nothing was changed

    explicit TrainReport(const graft_train_report &c)
        : step(c.step), loss(c.loss), targets(c.targets), tokens(c.tokens), grad_norm(c.grad_norm), seconds(c.seconds), lr(c.lr),
          skipped(c.skipped != 0) {}
};

/// Facts about a trainer.
struct TrainerInfo {
    std::uint64_t steps;                     ///< that were done
    std::optional<std::uint64_t> steps_left; ///< until the schedule ends, if it does
    std::uint64_t steps_skipped;
    std::uint64_t rows;     ///< that were added
    std::uint64_t rows_cut; ///< of them, because they are too long
    std::uint64_t epochs;
    std::uint64_t parameters; ///< numbers that are trained
    std::uint64_t seq;        ///< the most tokens of a row

    explicit TrainerInfo(const graft_trainer_info &c)
        : steps(c.steps), steps_left(c.steps_left < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(c.steps_left))),
          steps_skipped(c.steps_skipped), rows(c.rows), rows_cut(c.rows_cut), epochs(c.epochs), parameters(c.parameters), seq(c.seq) {}
};

namespace detail {

inline graft_train_options c(const TrainOptions &options) {
    graft_train_options c;
    graft_train_options_init(&c, sizeof c);
    c.method = options.method.data(), c.method_len = options.method.size();
    c.targets = options.targets.data(), c.targets_len = options.targets.size();
    c.init = options.init.data(), c.init_len = options.init.size();
    c.schedule = options.schedule.data(), c.schedule_len = options.schedule.size();
    c.optimizer = options.optimizer.data(), c.optimizer_len = options.optimizer.size();
    c.r = options.r;
    c.alpha = options.alpha, c.dropout = options.dropout;
    c.batch = options.batch;
    c.seed = options.seed;
    c.steps = options.steps;
    if (options.warmup) c.warmup = *options.warmup;
    c.lr = options.lr;
    c.weight_decay = options.weight_decay;
    c.clip = options.clip;
    c.lora_plus = options.lora_plus;
    c.seq = options.seq;
    c.precision = static_cast<graft_precision>(options.precision);
    c.shuffle = options.shuffle;
    c.cancel = options.cancel ? options.cancel->get() : nullptr;
    c.memory = options.memory;
    c.modules_to_save = none_if_empty(options.modules_to_save), c.modules_to_save_len = options.modules_to_save.size();
    c.prompt_tuning_init_text = none_if_empty(options.prompt_tuning_init_text);
    c.prompt_tuning_init_text_len = options.prompt_tuning_init_text.size();
    c.token_indices = options.token_indices.data(), c.n_token_indices = options.token_indices.size();
    c.num_virtual_tokens = options.num_virtual_tokens;
    c.oft_block_size = options.oft_block_size;
    c.boft_block_size = options.boft_block_size;
    c.group_size = options.group_size;
    return c;
}

} // namespace detail

/// An adapter that is being trained, and the rows that it learns from. Made by a model.
class Trainer : public detail::Owned<graft_trainer, graft_trainer_free> {
public:
    using Owned::Owned;

    /// Adds a row to those that `run` learns from.
    Result<void> add(const Row &row) { return add(span<const Row>(&row, 1)); }
    /// Adds rows, all of them or, where one cannot be learnt, none.
    Result<void> add(const std::vector<Row> &rows) { return add(span<const Row>(rows)); }
    Result<void> add(span<const Row> rows) {
        const List list(rows);
        return detail::run([&](auto **e) { return graft_trainer_add(get(), list.c.data(), list.c.size(), e); });
    }
    /// Adds the rows that `next()` gives until it gives std::nullopt; how many. What a row is made from stays until `next` is called again.
    template <class F> Result<std::uint64_t> pull(F &&next) {
        struct Context : detail::Caught {
            F &next;
            std::vector<graft_message> messages = {};
            explicit Context(F &f) : next(f) {}
        } context(next);
        const graft_row_callback pass = [](graft_row *to, void *user) noexcept -> std::int32_t {
            auto &self = *static_cast<Context *>(user);
            bool there = false;
            auto give = [&] {
                const std::optional<Row> row = self.next();
                if (row) *to = row->c(self.messages);
                there = row.has_value();
            };
            return self.call(give) == 0 ? there : -1;
        };
        std::uint64_t n = 0;
        return detail::get([&](auto **e) { return context.after(graft_trainer_pull(get(), pass, &context, &n, e)); }, [&] { return n; });
    }
    /// Takes all rows out: the next run begins with those that are added then. What was learnt stays.
    Result<void> clear() {
        return detail::run([&](auto **e) { return graft_trainer_clear(get(), e); });
    }

    /// One step over these rows, which need not be added.
    Result<TrainReport> step(const std::vector<Row> &rows) {
        const List list{span<const Row>(rows)};
        return detail::facts<TrainReport, graft_train_report>(
            [&](auto *report, auto **e) { return graft_trainer_step(get(), list.c.data(), list.c.size(), report, e); });
    }
    /// `steps` steps over the rows that were added, from where the last run ended; 0: those that are left. What the last one did.
    Result<TrainReport> run(std::uint64_t steps = 0) {
        return run(steps, [](const TrainReport &) {});
    }
    /// As `run`; `on_step(const TrainReport &)` is told of every step, and may end the run behind it: `Status::cancelled`. Steps that were done stay.
    template <class F> Result<TrainReport> run(std::uint64_t steps, F &&on_step) {
        struct Context : detail::Caught {
            F &on_step;
            explicit Context(F &f) : on_step(f) {}
        } context(on_step);
        const graft_train_callback pass = [](const graft_train_report *report, void *user) noexcept -> std::int32_t {
            auto &to = *static_cast<Context *>(user);
            return to.call(to.on_step, TrainReport(*report));
        };
        return detail::facts<TrainReport, graft_train_report>([&](auto *report, auto **e) {
            return context.after(graft_trainer_run(get(), steps, pass, static_cast<void *>(&context), report, e));
        });
    }
    /// The mean loss of a learnt token of the rows that were added, or of these.
    Result<double> evaluate() { return evaluate({}); }
    Result<double> evaluate(const std::vector<Row> &rows) {
        const List list{span<const Row>(rows)};
        double loss = 0;
        return detail::get([&](auto **e) { return graft_trainer_evaluate(get(), list.c.data(), list.c.size(), &loss, e); },
                           [&] { return loss; });
    }

    /// The adapter as it is now, for sessions of the same model; later steps do not change it.
    Result<Adapter> adapter() {
        return detail::make<Adapter>([&](auto **a, auto **e) { return graft_trainer_adapter(get(), a, e); });
    }
    /// Writes it to a folder, which PEFT's `from_pretrained` and `Model::open_adapter` load.
    Result<void> save(std::string_view path) {
        return detail::run([&](auto **e) { return graft_trainer_save(get(), path.data(), path.size(), e); });
    }
    /// Writes what `Model::resume_trainer` needs to a file; not the rows.
    Result<void> checkpoint(std::string_view path) {
        return detail::run([&](auto **e) { return graft_trainer_checkpoint(get(), path.data(), path.size(), e); });
    }
    /// Facts about it.
    Result<TrainerInfo> info() {
        return detail::facts<TrainerInfo, graft_trainer_info>(
            [&](auto *info, auto **e) { return graft_trainer_get_info(get(), info, e); });
    }

private:
    /// Rows for C.
    struct List {
        std::vector<std::vector<graft_message>> messages;
        std::vector<graft_row> c;
        explicit List(span<const Row> rows) : messages(rows.size()) {
            for (std::size_t i = 0; i < rows.size(); i++) c.push_back(rows.data()[i].c(messages[i]));
        }
    };
};

#ifdef GRAFT_NO_EXCEPTIONS
} // namespace results
#endif
} // namespace graft

#endif // GRAFT_TRAIN_HPP
