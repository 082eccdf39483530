/* Graft for C++17 and later: one header over graft.h, whose comments say all that is not said here.
 *
 * Objects     Model, Adapter, Team and Cancel are handles: copies are the same object, which goes with the last of them; moving copies.
 *             Session, Sampler, Generation, Batch and Trainer are moved, not copied. Whatever an object needs of another stays as long as it does: a model
 *             may go before its sessions. `get()` is the handle for functions of graft.h. A Session, Sampler, Generation, Batch or
 *             Trainer that was moved from answers every call with Status::handle.
 * Errors      A function that returns Result<T> returns a T, and throws graft::Error where it fails. With GRAFT_NO_EXCEPTIONS defined, or
 *             compiled without exceptions, it returns a graft::Result<T> that holds a T or an Error. Both kinds of code may be linked together.
 * Threads     Models, adapters, teams and cancel flags may be used by any threads at the same time; a session, sampler, generation,
 *             batch or trainer by one at a time: a second one gets Status::busy.
 * Callables   return true (or nothing) to go on, false to end the work. What they throw ends it too, and is thrown again by the call that
 *             they came from.
 * Texts       are UTF-8. Paths are UTF-8; on Unix any bytes. In options an empty one is none.
 */
#ifndef GRAFT_HPP
#define GRAFT_HPP

#include <atomic>
#include <initializer_list>
#include <iterator>

#include "graft_train.hpp"

namespace graft {
#ifdef GRAFT_NO_EXCEPTIONS
inline namespace results {
#endif

/// The library's version, such as "0.1.0".
inline std::string_view version() noexcept { return graft_version(); }
/// Whether the library at hand runs programs that were compiled with this header.
inline bool compatible() noexcept { return graft_abi_version() == GRAFT_ABI_VERSION; }

/// How important a line of the log is.
enum class LogLevel : graft_log_level { off = GRAFT_LOG_OFF, error = GRAFT_LOG_ERROR, warning = GRAFT_LOG_WARNING, info = GRAFT_LOG_INFO };
/// Is given a line, by whichever thread has something to say, also by several at a time.
using LogCallback = void (*)(LogLevel level, std::string_view line) noexcept;

namespace detail {
inline std::atomic<LogCallback> log_callback{nullptr};
} // namespace detail

/// Sends lines up to the level `most` to `callback`, for the whole process; nullptr sends them nowhere.
inline void set_log(LogLevel most, LogCallback callback) noexcept {
    detail::log_callback = callback;
    const graft_log_callback pass = [](graft_log_level level, const char *line, std::size_t len, void *) {
        if (const LogCallback to = detail::log_callback) to(static_cast<LogLevel>(level), {line, len});
    };
    graft_log_set(callback ? pass : nullptr, nullptr, static_cast<graft_log_level>(most));
}

/// What to go on from: a text or tokens, which are appended to what the session holds (no tokens: goes on from the logits that are there),
/// or a whole conversation, through the model's chat template, of which the session keeps what it has already. Only an argument: it does
/// not own what it is made from, but messages that are written where it is made: `session.answer({{"user", "Hello"}})`.
class Prompt {
public:
    Prompt(std::string_view text) : text_(text) {}
    Prompt(const std::string &text) : text_(text) {}
    Prompt(const char *text) : text_(text ? text : std::string_view()) {}
    Prompt(span<const Token> tokens) : kind_(Kind::tokens), tokens_(tokens.data()), n_tokens_(tokens.size()) {}
    Prompt(const std::vector<Token> &tokens) : Prompt(span<const Token>(tokens)) {}
    Prompt(const std::vector<Message> &messages) : kind_(Kind::messages), messages_(&messages) {}
    Prompt(const std::vector<Message> &messages, const ChatOptions &chat) : kind_(Kind::messages), messages_(&messages), chat_(&chat) {}
    Prompt(std::initializer_list<Message> messages) : kind_(Kind::messages), own_(messages) {}
    Prompt(std::initializer_list<Message> messages, const ChatOptions &chat) : kind_(Kind::messages), own_(messages), chat_(&chat) {}

private:
    friend class Session;
    enum class Kind { text, tokens, messages };

    /// Calls whichever of three functions of C takes it, with `rest`.
    template <class OfText, class OfTokens, class OfMessages, class... Rest>
    graft_status call(graft_session *session, OfText text, OfTokens tokens, OfMessages messages, Rest... rest) const {
        if (kind_ == Kind::text) return text(session, text_.data(), text_.size(), rest...);
        if (kind_ == Kind::tokens) return tokens(session, tokens_, n_tokens_, rest...);
        const std::vector<graft_message> list = detail::c(messages_ ? *messages_ : own_);
        const ChatOptions none; // not a temporary: C reads its texts
        const graft_chat_options chat = detail::c(chat_ ? *chat_ : none);
        return messages(session, list.data(), list.size(), &chat, rest...);
    }

    Kind kind_ = Kind::text;
    std::string_view text_;
    const Token *tokens_ = nullptr;
    std::size_t n_tokens_ = 0;
    const std::vector<Message> *messages_ = nullptr;
    std::vector<Message> own_; // where there are no others: a list in braces is gone before the prompt is
    const ChatOptions *chat_ = nullptr;
};

/// A piece of text, whole characters, often none, and the token that brought it.
struct Piece {
    std::string_view text;
    Token token;
    operator std::string_view() const noexcept { return text; }
};

/// A generation under way, a token at a time: a range of pieces. Its session and sampler must outlive it. It goes on from what the session holds when
/// the next piece is asked for: of two generations of one session, or one and what else is done with the session, each reads what the other has
/// written. For answers side by side make a session each.
class Generation : public detail::Owned<graft_generation, graft_generation_free> {
public:
    using Owned::Owned;

    /// The next piece, valid until the next call; nothing at the end.
    Result<std::optional<Piece>> next() {
        const char *text = nullptr;
        std::size_t len = 0;
        Token token = 0;
        std::int32_t more = 0;
        return detail::get([&](auto **e) { return graft_generation_next(get(), &text, &len, &token, &more, e); },
                           [&] { return more ? std::optional(Piece{{text, len}, token}) : std::nullopt; });
    }

    /// Ends it before its time; text that was held back still comes.
    Result<void> cancel() {
        return detail::run([&](auto **e) { return graft_generation_cancel(get(), e); });
    }

    /// What it has done so far.
    Result<Report> report() {
        return detail::facts<Report, graft_report>([&](auto *report, auto **e) { return graft_generation_report(get(), report, e); });
    }

    /// Reads the generation; all its iterators are at the same piece.
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Piece;
        using difference_type = std::ptrdiff_t;
        using pointer = const Piece *;
        using reference = const Piece &;

        Iterator() = default;
        reference operator*() const { return *piece_; }
        pointer operator->() const { return &*piece_; }
        Iterator &operator++() {
            piece_ = generation_->step();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const Iterator &a, const Iterator &b) { return a.piece_.has_value() == b.piece_.has_value(); }
        friend bool operator!=(const Iterator &a, const Iterator &b) { return !(a == b); }

    private:
        friend class Generation;
        explicit Iterator(Generation *generation) : generation_(generation), piece_(generation->step()) {}
        Generation *generation_ = nullptr;
        std::optional<Piece> piece_;
    };
    /// Makes the first piece.
    Iterator begin() { return Iterator(this); }
    Iterator end() { return Iterator(); }

#ifdef GRAFT_NO_EXCEPTIONS
    /// What ended the range before its time, if anything did.
    const std::optional<Error> &error() const { return error_; }

private:
    std::optional<Piece> step() {
        Result<std::optional<Piece>> piece = next();
        if (piece) return *piece;
        error_ = piece.error();
        return std::nullopt;
    }
    std::optional<Error> error_;
#else
private:
    std::optional<Piece> step() { return next(); }
#endif
};

/// An adapter and how much of it is applied: 1 as it was trained.
struct Weighted {
    Adapter adapter;
    float weight;
    Weighted(Adapter a, float w = 1) : adapter(std::move(a)), weight(w) {}
};

/// The folder of an adapter and how much of it is applied.
struct WeightedFolder {
    std::string folder;
    float weight = 1;
};

namespace detail {
/// Adapters for C.
struct Mix {
    std::vector<const graft_adapter *> adapters;
    std::vector<float> weights;
    explicit Mix(const std::vector<Weighted> &list) {
        for (const Weighted &one : list) {
            adapters.push_back(one.adapter.get());
            weights.push_back(one.weight);
        }
    }
};
} // namespace detail

/// A conversation with a model: tokens, cache, active adapters. Made by a model.
class Session : public detail::Owned<graft_session, graft_session_free> {
public:
    /// Takes over a handle of graft.h, of a model with this `hidden_size`.
    Session(graft_session *handle, std::uint32_t hidden_size) noexcept : Owned(handle), hidden_size_(hidden_size) {}

    /// Makes this adapter the active one from the next token on. The cache of earlier tokens is kept.
    Result<void> set_adapter(const Adapter &adapter, float weight = 1) {
        const graft_adapter *one = adapter.get();
        return detail::run([&](auto **e) { return graft_session_set_adapters(get(), &one, &weight, 1, e); });
    }
    /// Makes these adapters the active ones: `session.set_adapters({verse, {json, 0.5f}})`. On failure those from before stay.
    Result<void> set_adapters(const std::vector<Weighted> &adapters) {
        const detail::Mix mix(adapters);
        return detail::run([&](auto **e) {
            return graft_session_set_adapters(get(), mix.adapters.data(), mix.weights.data(), mix.adapters.size(), e);
        });
    }
    /// The model alone, from the next token on.
    Result<void> clear_adapters() { return set_adapters({}); }

    /// Generates from a prompt. `on_text(std::string_view text, Token token)`, or `on_text(text)`, is given each piece as soon as it is
    /// certain. Being cancelled is no error: the report's `finish` says it.
    template <class F> Result<Report> generate(const Prompt &prompt, const GenerateOptions &options, F &&on_text) {
        return generated(prompt, options, on_text, [](const Report &report) { return report; });
    }

    /// Generates from a prompt, to the end, and gives the whole text.
    Result<Answer> answer(const Prompt &prompt, const GenerateOptions &options = {}) {
        std::string text;
        const auto add = [&](std::string_view piece, Token) { text += piece; };
        return generated(prompt, options, add, [&](const Report &report) { return Answer{std::move(text), report}; });
    }

    /// Generates from a prompt a piece at a time: `for (std::string_view piece : session.stream("Once"))`. Nothing is evaluated yet. One at a time: the
    /// next is begun when this one is at its end or given up.
    Result<Generation> stream(const Prompt &prompt, const GenerateOptions &options = {}) {
        std::vector<graft_text> stop;
        const graft_generate_options o = detail::c(options, stop);
        return detail::make<Generation>([&](graft_generation **generation, graft_error **e) {
            if (gone(options.sampler)) return graft_sampler_reset(nullptr, e);
            return prompt.call(get(), graft_generation_of_text, graft_generation_of_tokens, graft_generation_of_messages, &o, generation, e);
        });
    }

    /// Ends the generation that is under way in this session. Any thread; also a signal handler.
    void cancel() const noexcept { graft_session_cancel(get()); }

    /// Appends tokens and computes the logits that follow the last of them. `Status::limit` where there is no room: nothing is then changed.
    Result<void> eval(span<const Token> tokens) {
        return detail::run([&](auto **e) { return graft_session_eval(get(), tokens.data(), tokens.size(), e); });
    }
    /// As `eval`; `on_logits(std::size_t index, graft::span<const float> logits)` is given the logits behind each token.
    template <class F> Result<void> eval_each(span<const Token> tokens, F &&on_logits) {
        struct Context : detail::Caught {
            std::remove_reference_t<F> &on_logits;
            explicit Context(std::remove_reference_t<F> &f) : on_logits(f) {}
        } context(on_logits);
        const graft_logits_callback pass = [](std::size_t index, const float *logits, std::size_t n, void *user) noexcept -> std::int32_t {
            auto &to = *static_cast<Context *>(user);
            return to.call(to.on_logits, index, span<const float>(logits, n));
        };
        return detail::run([&](auto **e) {
            return context.after(graft_session_eval_each(get(), tokens.data(), tokens.size(), pass, &context, e));
        });
    }
    /// The logits that follow the last token, valid until the next call; none before the first evaluation.
    Result<span<const float>> logits() {
        const float *start = nullptr;
        std::size_t n = 0;
        return detail::get([&](auto **e) { return graft_session_logits(get(), &start, &n, e); }, [&] { return span<const float>(start, n); });
    }
    /// The tokens that it holds, valid until the next call.
    Result<span<const Token>> tokens() {
        const Token *start = nullptr;
        std::size_t n = 0;
        return detail::get([&](auto **e) { return graft_session_tokens(get(), &start, &n, e); }, [&] { return span<const Token>(start, n); });
    }
    /// Chooses the next token from the logits; `eval` appends it.
    Result<Token> sample(Sampler &sampler) {
        Token token = 0;
        return detail::get([&](auto **e) { return graft_session_sample(get(), sampler.get(), &token, e); }, [&] { return token; });
    }
    /// A sampler for the vocabulary that the session has now.
    Result<Sampler> make_sampler(const SamplerOptions &options = {}) {
        const graft_sampler_options o = detail::c(options);
        return detail::make<Sampler>([&](auto **sampler, auto **e) { return graft_sampler_new(get(), &o, sampler, e); });
    }

    /// Facts about it.
    Result<SessionInfo> info() {
        return detail::facts<SessionInfo, graft_session_info>([&](auto *info, auto **e) { return graft_session_get_info(get(), info, e); });
    }
    /// Forgets all but the first `n` tokens.
    Result<void> truncate(std::uint64_t n) {
        return detail::run([&](auto **e) { return graft_session_truncate(get(), n, e); });
    }
    /// Makes room in a full context: keeps the first `keep` tokens and the later half of the others.
    Result<void> slide(std::uint64_t keep) {
        return detail::run([&](auto **e) { return graft_session_slide(get(), keep, e); });
    }
    /// Forgets all tokens; adapters stay active.
    Result<void> reset() {
        return detail::run([&](auto **e) { return graft_session_reset(get(), e); });
    }

    /// Writes tokens and cache to a file, whole or not at all.
    Result<void> save(std::string_view path) {
        return detail::run([&](auto **e) { return graft_session_save(get(), path.data(), path.size(), e); });
    }
    /// Makes the session hold what `save` wrote, from any session of the same model. Adapters are not switched.
    Result<void> restore(std::string_view path) {
        return detail::run([&](auto **e) { return graft_session_restore(get(), path.data(), path.size(), e); });
    }
    /// As `save`, to memory.
    Result<std::vector<std::uint8_t>> save_memory() {
        return detail::take<std::vector<std::uint8_t>>(
            [&](auto **bytes, auto *n, auto **e) { return graft_session_save_memory(get(), bytes, n, e); });
    }
    /// As `restore`, from memory.
    Result<void> restore_memory(span<const std::uint8_t> bytes) {
        return detail::run([&](auto **e) { return graft_session_restore_memory(get(), bytes.data(), bytes.size(), e); });
    }

    /// Evaluates tokens, after what the session holds already, and gives their vector: the model's `hidden_size` numbers.
    Result<std::vector<float>> embed(span<const Token> tokens, Pooling pooling = Pooling::last) {
        std::vector<float> vector(hidden_size_);
        return detail::get(
            [&](auto **e) {
                return graft_session_embed(get(), tokens.data(), tokens.size(), static_cast<graft_pooling>(pooling), vector.data(),
                                           vector.size(), e);
            },
            [&] { return std::move(vector); });
    }

private:
    /// Generates; then `value(report)` is the result.
    template <class F, class Value>
    auto generated(const Prompt &prompt, const GenerateOptions &options, F &on_text, Value &&value)
        -> Result<decltype(value(std::declval<Report>()))> {
        struct Context : detail::Caught {
            F &on_text;
            explicit Context(F &f) : on_text(f) {}
        } context(on_text);
        const graft_text_callback pass = [](const char *text, std::size_t len, Token token, void *user) noexcept -> std::int32_t {
            auto &to = *static_cast<Context *>(user);
            if constexpr (std::is_invocable_v<F &, std::string_view, Token>) return to.call(to.on_text, std::string_view(text, len), token);
            else return to.call(to.on_text, std::string_view(text, len));
        };
        std::vector<graft_text> stop;
        const graft_generate_options o = detail::c(options, stop);
        graft_report report{};
        report.struct_size = sizeof report;
        return detail::get(
            [&](graft_error **e) {
                if (gone(options.sampler)) return graft_sampler_reset(nullptr, e);
                return context.after(prompt.call(get(), graft_generate_text, graft_generate_tokens, graft_generate_messages, &o, pass,
                                                 static_cast<void *>(&context), &report, e));
            },
            [&] { return value(Report(report)); });
    }

    /// A sampler that was moved from: NULL, which would be none for C.
    static bool gone(const Sampler *sampler) { return sampler && !sampler->get(); }

    std::uint32_t hidden_size_;
};

/// A model that answers lines of JSON, each with a record of JSON: `graft.h` says what is in them. What is wrong with a line is in its record.
/// Made by a model.
class Batch : public detail::Owned<graft_batch, graft_batch_free> {
public:
    using Owned::Owned;

    /// From now on lines may have this adapter by its name. It takes the place of another one of that name.
    Result<void> add_adapter(std::string_view name, const Adapter &adapter, float weight = 1) {
        const char *start = name.data() ? name.data() : "";
        return detail::run([&](auto **e) { return graft_batch_adapter(get(), start, name.size(), adapter.get(), weight, e); });
    }
    /// From now on this adapter is on for lines that name none.
    Result<void> add_default_adapter(const Adapter &adapter, float weight = 1) {
        return detail::run([&](auto **e) { return graft_batch_adapter(get(), nullptr, 0, adapter.get(), weight, e); });
    }

    /// The record of one line. `number` is the line's id where it has none, and is added to the seed.
    Result<std::string> answer(std::string_view line, std::uint64_t number) {
        return detail::take<std::string>(
            [&](auto **record, auto *n, auto **e) { return graft_batch_line(get(), line.data(), line.size(), number, record, n, e); });
    }
    /// Answers the lines of a file that have no record in the file `output` yet. After a stop the same call goes on. `progress` is told after
    /// each line the share of the input that is read; false ends the work: `Status::cancelled`.
    Result<BatchReport> run(std::string_view input, std::string_view output, const std::function<bool(float)> &progress = {}) {
        struct {
            graft_progress_callback progress = nullptr;
            void *progress_user_data = nullptr;
        } c;
        detail::Progress told(progress, c);
        return detail::facts<BatchReport, graft_batch_report>([&](auto *report, auto **e) {
            return told.after(graft_batch_run(get(), input.data(), input.size(), output.data(), output.size(), c.progress,
                                              c.progress_user_data, report, e));
        });
    }
};

/// A loaded model. Any thread may use it. Sessions and adapters keep what they need of it.
class Model : public detail::Shared<graft_model, graft_model_free> {
public:
    using Shared::Shared;

    /// Opens the GGUF file at a path (any part of a split one).
    static Result<Model> open(std::string_view path, const ModelOptions &options = {}) {
        return opened(options, [&](auto *o, auto **m, auto **e) { return graft_model_open(path.data(), path.size(), o, m, e); });
    }
    /// Opens the GGUF file that is the `len` bytes of an opened file from `offset` on (`len` 0: all up to its end). `fd` may be closed then.
    static Result<Model> open_fd(std::int32_t fd, std::uint64_t offset = 0, std::uint64_t len = 0, const ModelOptions &options = {}) {
        return opened(options, [&](auto *o, auto **m, auto **e) { return graft_model_open_fd(fd, offset, len, o, m, e); });
    }
    /// Opens the GGUF file that lies in memory, which is not copied. `owner` is kept as long as it is used; without one it must stay.
    static Result<Model> open_memory(span<const std::uint8_t> bytes, std::shared_ptr<const void> owner, const ModelOptions &options = {}) {
        auto *keep = new std::shared_ptr<const void>(std::move(owner)); // C calls `release` once, also where it fails
        const graft_release_callback release = [](void *kept) noexcept { delete static_cast<std::shared_ptr<const void> *>(kept); };
        return opened(options, [&](auto *o, auto **m, auto **e) {
            return graft_model_open_memory(bytes.data(), bytes.size(), release, keep, o, m, e);
        });
    }

    /// What the model in the GGUF file at a path and a session with these options would take of memory. Only the file's directory is read.
    static Result<MemoryPlan> plan_memory(std::string_view path, const SessionOptions &options = {}) {
        const graft_session_options o = detail::c(options);
        return detail::facts<MemoryPlan, graft_memory_plan>(
            [&](auto *plan, auto **e) { return graft_plan_memory(path.data(), path.size(), &o, plan, e); });
    }

    /// Facts about it.
    Result<ModelInfo> info() const {
        return detail::facts<ModelInfo, graft_model_info>([&](auto *info, auto **e) { return graft_model_get_info(get(), info, e); });
    }
    /// The metadata keys of its file, in the file's order.
    Result<std::vector<std::string>> metadata_keys() const {
        std::vector<std::string> keys;
        return detail::get(
            [&](auto **e) {
                std::size_t n = 0;
                graft_status status = graft_model_metadata_count(get(), &n, e);
                for (std::size_t i = 0; i < n && status == GRAFT_OK; i++) {
                    const char *key = nullptr;
                    status = graft_model_metadata_key(get(), i, &key, e);
                    keys.push_back(detail::string(key));
                }
                return status;
            },
            [&] { return std::move(keys); });
    }
    /// A key's value as JSON. `Status::usage` where there is no such key.
    Result<std::string> metadata(std::string_view key) const {
        return detail::take<std::string>(
            [&](auto **json, auto *n, auto **e) { return graft_model_metadata(get(), key.data(), key.size(), json, n, e); });
    }
    /// The tensors of its file, in the file's order.
    Result<std::vector<TensorInfo>> tensors() const {
        std::vector<TensorInfo> tensors;
        return detail::get(
            [&](auto **e) {
                std::size_t n = 0;
                graft_status status = graft_model_tensor_count(get(), &n, e);
                for (std::size_t i = 0; i < n && status == GRAFT_OK; i++) {
                    graft_tensor_info info{};
                    info.struct_size = sizeof info;
                    status = graft_model_tensor(get(), i, &info, e);
                    tensors.emplace_back(info);
                }
                return status;
            },
            [&] { return std::move(tensors); });
    }

    /// The tokens of a text.
    Result<std::vector<Token>> tokenize(std::string_view text, TokenizeOptions options = {}) const {
        const std::uint32_t flags = (options.bos_eos ? GRAFT_TOKENIZE_BOS_EOS : 0u) | (options.special ? GRAFT_TOKENIZE_SPECIAL : 0u);
        return detail::take<std::vector<Token>>(
            [&](auto **tokens, auto *n, auto **e) { return graft_tokenize(get(), text.data(), text.size(), flags, tokens, n, e); });
    }
    /// The text of tokens.
    Result<std::string> detokenize(span<const Token> tokens, bool skip_special = false) const {
        return detail::take<std::string>([&](auto **text, auto *n, auto **e) {
            return graft_detokenize(get(), tokens.data(), tokens.size(), skip_special, text, n, e);
        });
    }
    /// The bytes of one token: perhaps the middle of a character.
    Result<std::string> token_bytes(Token token) const {
        const char *bytes = nullptr;
        std::size_t n = 0;
        return detail::get([&](auto **e) { return graft_token_bytes(get(), token, &bytes, &n, e); }, [&] { return std::string(bytes, n); });
    }
    /// The token that is written so, control tokens too; nothing where there is none.
    Result<std::optional<Token>> find_token(std::string_view text) const {
        std::int64_t token = -1;
        return detail::get([&](auto **e) { return graft_token_find(get(), text.data(), text.size(), &token, e); },
                           [&] { return detail::token(token); });
    }
    /// Whether the model says by this token that it is done.
    Result<bool> token_ends(Token token) const {
        std::int32_t ends = 0;
        return detail::get([&](auto **e) { return graft_token_ends(get(), token, &ends, e); }, [&] { return ends != 0; });
    }
    /// A conversation as the model's chat template writes it.
    Result<std::string> render(const std::vector<Message> &messages, const ChatOptions &options = {}) const {
        const std::vector<graft_message> list = detail::c(messages);
        const graft_chat_options o = detail::c(options);
        return detail::take<std::string>(
            [&](auto **text, auto *n, auto **e) { return graft_chat_render(get(), list.data(), list.size(), &o, text, n, e); });
    }

    /// Starts a conversation.
    Result<Session> make_session(const SessionOptions &options = {}) const {
        const graft_session_options o = detail::c(options);
        graft_session *made = nullptr;
        graft_model_info info{};
        info.struct_size = sizeof info;
        return detail::get(
            [&](auto **e) {
                const graft_status status = graft_model_get_info(get(), &info, e);
                return status != GRAFT_OK ? status : graft_session_new(get(), &o, &made, e);
            },
            [&] { return Session(made, info.hidden_size); });
    }
    /// A batch of this model's answers.
    Result<Batch> make_batch(const BatchOptions &options = {}) const {
        const detail::Batching batching(options);
        const Sampler *sampler = options.generate.sampler;
        return detail::make<Batch>([&](auto **batch, auto **e) {
            if (sampler && !sampler->get()) return graft_sampler_reset(nullptr, e); // moved from: NULL, which would be none for C
            return graft_batch_new(get(), &batching.c, batch, e);
        });
    }
    /// What a trainer with these options would take of memory: of a new adapter, or of the adapter in a folder. `Status::limit` where it does
    /// not fit into the options' `memory`.
    Result<TrainPlan> plan_training(const TrainOptions &options = {}, std::string_view folder = {}) const {
        const graft_train_options o = detail::c(options);
        const char *start = folder.empty() ? nullptr : folder.data();
        return detail::facts<TrainPlan, graft_train_plan>(
            [&](auto *plan, auto **e) { return graft_plan_training(get(), start, folder.size(), &o, plan, e); });
    }
    /// Begins a new adapter of this model.
    Result<Trainer> make_trainer(const TrainOptions &options = {}) const {
        const graft_train_options o = detail::c(options);
        return detail::make<Trainer>([&](auto **trainer, auto **e) { return graft_trainer_new(get(), &o, trainer, e); });
    }
    /// Goes on with the adapter in a folder, of any method whose gradients Graft knows; method, targets, init, r, alpha and what else only a beginning
    /// needs are its own.
    Result<Trainer> open_trainer(std::string_view path, const TrainOptions &options = {}) const {
        const graft_train_options o = detail::c(options);
        return detail::make<Trainer>(
            [&](auto **trainer, auto **e) { return graft_trainer_open(get(), path.data(), path.size(), &o, trainer, e); });
    }
    /// Goes on with what `Trainer::checkpoint` wrote, bit for bit, once the same rows are added. The options are those it was made with.
    Result<Trainer> resume_trainer(std::string_view path, const TrainOptions &options = {}) const {
        const graft_train_options o = detail::c(options);
        return detail::make<Trainer>(
            [&](auto **trainer, auto **e) { return graft_trainer_resume(get(), path.data(), path.size(), &o, trainer, e); });
    }
    /// Opens the folder that PEFT's `save_pretrained` wrote (or a GGUF file of a LoRA) and puts it on this model.
    Result<Adapter> open_adapter(std::string_view path, const AdapterOptions &options = {}) const {
        const graft_adapter_options o = detail::c(options);
        return detail::make<Adapter>([&](auto **a, auto **e) { return graft_adapter_open(get(), path.data(), path.size(), &o, a, e); });
    }
    /// As `open_adapter`, of an `adapter_config.json` and an `adapter_model.safetensors` that lie in memory. They are copied.
    Result<Adapter> open_adapter_memory(std::string_view config, span<const std::uint8_t> tensors, const AdapterOptions &options = {}) const {
        const graft_adapter_options o = detail::c(options);
        return detail::make<Adapter>([&](auto **a, auto **e) {
            return graft_adapter_open_memory(get(), config.data(), config.size(), tensors.data(), tensors.size(), &o, a, e);
        });
    }

    /// A model with these adapters merged into its weights, which shares the tensors that did not change.
    Result<Model> merged(const std::vector<Weighted> &adapters, const MergeOptions &options = {}) const {
        const detail::Mix mix(adapters);
        graft_merge_options o = detail::c(options);
        detail::Progress progress(options.progress, o);
        return detail::make<Model>([&](auto **m, auto **e) {
            return progress.after(graft_merge(get(), mix.adapters.data(), mix.weights.data(), mix.adapters.size(), &o, m, e));
        });
    }
    /// As `merged`, to a GGUF file that other programs load too.
    Result<void> merge_to(std::string_view path, const std::vector<Weighted> &adapters, const MergeOptions &options = {}) const {
        const detail::Mix mix(adapters);
        graft_merge_options o = detail::c(options);
        detail::Progress progress(options.progress, o);
        return detail::run([&](auto **e) {
            return progress.after(graft_merge_to(get(), mix.adapters.data(), mix.weights.data(), mix.adapters.size(), &o, path.data(),
                                                 path.size(), e));
        });
    }
    /// Writes the LoRA in the folder `adapter` as the GGUF file `path` that llama.cpp loads; `format`: "F32", "F16" or "BF16".
    Result<void> export_lora(std::string_view adapter, std::string_view path, std::string_view format = "F16") const {
        return detail::run([&](auto **e) {
            return graft_export_lora(get(), adapter.data(), adapter.size(), format.data(), format.size(), path.data(), path.size(), e);
        });
    }
    /// Writes what the adapter at `adapter` adds to this model's weights as a plain LoRA, to the folder `path`. `rank` above 0: that rank; 0: the
    /// smallest that keeps the share `energy` of each module's squared singular values.
    Result<void> to_lora(std::string_view adapter, std::string_view path, std::uint32_t rank, double energy = 1,
                         const AdapterOptions &options = {}) const {
        const graft_adapter_options o = detail::c(options);
        return detail::run([&](auto **e) {
            return graft_to_lora(get(), adapter.data(), adapter.size(), &o, rank, energy, path.data(), path.size(), e);
        });
    }

private:
    template <class Call> static Result<Model> opened(const ModelOptions &options, Call &&call) {
        graft_model_options o = detail::c(options);
        detail::Progress progress(options.progress, o);
        return detail::make<Model>([&](auto **model, auto **e) { return progress.after(call(&o, model, e)); });
    }
};

/// Makes one adapter of those in `folders`, as PEFT's `add_weighted_adapter`, and writes it to the folder `path`, which PEFT loads too.
inline Result<void> combine(const std::vector<WeightedFolder> &folders, std::string_view path, const CombineOptions &options = {}) {
    std::vector<graft_text> texts;
    std::vector<float> weights;
    for (const WeightedFolder &one : folders) {
        texts.push_back({one.folder.data(), one.folder.size()});
        weights.push_back(one.weight);
    }
    graft_combine_options o = detail::c(options);
    detail::Progress progress(options.progress, o);
    return detail::run([&](auto **e) {
        return progress.after(graft_combine(texts.data(), weights.data(), texts.size(), &o, path.data(), path.size(), e));
    });
}

#ifdef GRAFT_NO_EXCEPTIONS
} // namespace results
#endif
} // namespace graft

#endif // GRAFT_HPP
