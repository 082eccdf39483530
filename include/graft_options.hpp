/* Options of and facts about what graft.hpp has: plain structs with the defaults of graft.h. Programs include graft.hpp.
 */
#ifndef GRAFT_OPTIONS_HPP
#define GRAFT_OPTIONS_HPP

#include <array>
#include <vector>

#include "graft_result.hpp"

namespace graft {
#ifdef GRAFT_NO_EXCEPTIONS
inline namespace results {
#endif

/// A flag that ends the work that has it, until it is cleared. Any thread may set it; also a signal handler.
class Cancel : public detail::Shared<graft_cancel, graft_cancel_free> {
public:
    using Shared::Shared;
    /// A flag that is not set.
    Cancel() : Shared(made()) {}
    void set() const noexcept { graft_cancel_set(get()); }
    void clear() const noexcept { graft_cancel_clear(get()); }

private:
    static graft_cancel *made() {
        graft_cancel *cancel = nullptr;
        graft_cancel_new(&cancel, nullptr); // fails by a defect only: the flag then does nothing
        return cancel;
    }
};

/// Threads that models share.
class Team : public detail::Shared<graft_team, graft_team_free> {
public:
    using Shared::Shared;
    /// `threads`, the calling one included; 0 for one a physical core.
    static Result<Team> make(std::uint32_t threads = 0) {
        return detail::make<Team>([&](auto **team, auto **e) { return graft_team_new(threads, team, e); });
    }
    /// The application's own threads, see `graft_team_of_callback`: `run` and `user_data` outlive the team and all models that were given it;
    /// `release`, where there is one, is then called.
    static Result<Team> of_callback(std::uint32_t threads, graft_run_callback run, void *user_data, graft_release_callback release = nullptr) {
        return detail::make<Team>([&](auto **team, auto **e) { return graft_team_of_callback(threads, run, user_data, release, team, e); });
    }
};

/// How the bytes of a model file come into memory: mapped (the file must not change), or read.
enum class LoadMode : graft_load_mode { map = GRAFT_LOAD_MAP, read = GRAFT_LOAD_READ };

/// What runs a model: an NVIDIA GPU where there is one that the library can use, else the CPU; the CPU; an NVIDIA GPU, or an error.
enum class Device : graft_device { automatic = GRAFT_DEVICE_AUTO, cpu = GRAFT_DEVICE_CPU, cuda = GRAFT_DEVICE_CUDA };

/// How to open a model.
struct ModelOptions {
    std::uint32_t threads = 0; ///< of its own team, the calling one included; 0 for one a physical core
    LoadMode load_mode = LoadMode::map;
    std::optional<Team> team = {};            ///< instead of an own one
    std::string tokenizer = {};               ///< path of a `tokenizer.json` to use instead of the tokenizer in the model
    std::function<bool(float)> progress = {}; ///< is told the share that is done
    Device device = Device::automatic;
    std::int32_t device_index = -1; ///< with `Device::cuda`: which GPU; -1 for that which has most memory free
    std::int32_t gpu_layers = -1;   ///< layers on the GPU, the last ones, and with them the head; -1 for as many as fit into its free memory
};

/// Facts about a model.
struct ModelInfo {
    std::string architecture; ///< such as "llama"
    std::string name;         ///< what the file calls it, or nothing
    std::string isa;          ///< the instruction set level that runs it
    std::uint64_t parameters;
    std::uint64_t weight_bytes;
    std::uint32_t vocab_size;
    std::uint32_t context_length; ///< the most tokens that a session can hold
    std::uint32_t n_layers;
    std::uint32_t hidden_size;
    std::uint32_t n_heads;
    std::uint32_t n_kv_heads;
    std::uint32_t head_dim;
    std::uint32_t ffn_size;
    std::uint32_t threads;
    bool has_chat_template;
    std::optional<Token> bos; ///< begins a text
    std::optional<Token> eos; ///< ends a text
    std::string device;       ///< where it runs, or why `Device::automatic` took no GPU; nothing on the CPU alone
    std::uint32_t gpu_layers; ///< layers on a GPU

    explicit ModelInfo(const graft_model_info &c)
        : architecture(detail::string(c.architecture)), name(detail::string(c.name)), isa(detail::string(c.isa)), parameters(c.parameters),
          weight_bytes(c.weight_bytes), vocab_size(c.vocab_size), context_length(c.context_length), n_layers(c.n_layers),
          hidden_size(c.hidden_size), n_heads(c.n_heads), n_kv_heads(c.n_kv_heads), head_dim(c.head_dim), ffn_size(c.ffn_size),
          threads(c.threads), has_chat_template(c.has_chat_template != 0), bos(detail::token(c.bos)), eos(detail::token(c.eos)),
          device(detail::string(c.device)), gpu_layers(c.gpu_layers) {}
};

/// A tensor of a model's file.
struct TensorInfo {
    std::string name;
    std::string format;                ///< such as "Q4_K"
    std::array<std::uint64_t, 4> dims; ///< the fastest first; those that it has not are 1
    std::uint64_t bytes;

    explicit TensorInfo(const graft_tensor_info &c)
        : name(detail::string(c.name)), format(detail::string(c.format)), dims{c.dims[0], c.dims[1], c.dims[2], c.dims[3]}, bytes(c.bytes) {}
};

/// How to read a text.
struct TokenizeOptions {
    bool bos_eos = false; ///< add the begin and end tokens that the model's own rules ask for
    bool special = false; ///< recognise control tokens written out in the text
};

/// One message of a conversation.
struct Message {
    std::string role;       ///< "system", "user", "assistant", "tool", ...
    std::string content;    ///< what it says
    std::string extra = {}; ///< what else the template is to see: a JSON object
};

/// How to write a conversation.
struct ChatOptions {
    std::string template_source = {};  ///< a Jinja template to use instead of the model's
    std::string tools = {};            ///< the tools that the model may call: a JSON list
    bool add_generation_prompt = true; ///< end where the assistant's answer begins
};

/// How to open an adapter.
struct AdapterOptions {
    std::optional<std::uint32_t> task_id = {}; ///< which task's prompt to take (multitask prompt tuning)
};

/// Facts about an adapter.
struct AdapterInfo {
    std::string method;       ///< its `peft_type`, such as "LORA"
    std::uint64_t sites;      ///< modules that it changes
    std::uint64_t parameters; ///< trained numbers
    std::uint64_t bytes;      ///< of memory
    std::uint32_t min_rank;   ///< of its low-rank updates; 0 where there are none
    std::uint32_t max_rank;

    explicit AdapterInfo(const graft_adapter_info &c)
        : method(detail::string(c.method)), sites(c.sites), parameters(c.parameters), bytes(c.bytes), min_rank(c.min_rank),
          max_rank(c.max_rank) {}
};

/// An adapter on a model. Sessions keep what they need of it.
class Adapter : public detail::Shared<graft_adapter, graft_adapter_free> {
public:
    using Shared::Shared;
    /// Facts about it.
    Result<AdapterInfo> info() const {
        return detail::facts<AdapterInfo, graft_adapter_info>([&](auto *info, auto **e) { return graft_adapter_get_info(get(), info, e); });
    }
};

/// How exactly to compute: with 8-bit activations, or with f32 for comparisons.
enum class Precision : graft_precision { fast = GRAFT_PRECISION_FAST, exact = GRAFT_PRECISION_EXACT };
/// Which hidden states make the vector of a text.
enum class Pooling : graft_pooling { last = GRAFT_POOLING_LAST, mean = GRAFT_POOLING_MEAN, first = GRAFT_POOLING_FIRST };

/// What a session is made with.
struct SessionOptions {
    std::uint64_t context = 0; ///< the most tokens that it can hold; 0 for the model's own context length
    std::uint32_t chunk = 512; ///< tokens of a prompt that run through the layers together
    Precision precision = Precision::fast;
};

/// Facts about a session.
struct SessionInfo {
    std::uint64_t position; ///< tokens that it holds
    std::uint64_t context;  ///< tokens that it can hold
    std::uint32_t vocab_size;
    Precision precision;

    explicit SessionInfo(const graft_session_info &c)
        : position(c.position), context(c.context), vocab_size(c.vocab_size), precision(static_cast<Precision>(c.precision)) {}
};

/// Bytes that a model and a session will take. Adapters and the tokenizer come on top.
struct MemoryPlan {
    std::uint64_t weights;     ///< the tensors in the file: mapped, they are shared by processes, and the system may drop and read them again
    std::uint64_t vectors;     ///< norms and biases, of which the model has a copy
    std::uint64_t kv;          ///< the cache of the session, when its context is full
    std::uint64_t activations; ///< what the session needs for its largest chunk of a prompt
    std::uint64_t per_thread;  ///< what each thread of the model needs

    explicit MemoryPlan(const graft_memory_plan &c)
        : weights(c.weights), vectors(c.vectors), kv(c.kv), activations(c.activations), per_thread(c.per_thread) {}
};

/// Is added to the logit of a token; -INFINITY bans it.
using LogitBias = graft_logit_bias;

/// How to choose the next token: by default the most likely one, always.
struct SamplerOptions {
    float temperature = 0;            ///< 0 takes the most likely token; 1 is the model's own distribution
    float top_p = 1;                  ///< keep the most likely tokens whose mass reaches this
    float min_p = 0;                  ///< keep tokens at least this times as likely as the most likely one
    std::uint32_t top_k = 0;          ///< keep so many of the most likely tokens; 0 keeps all
    float repeat_penalty = 1;         ///< makes tokens seen before less likely; 1 is off
    std::uint32_t repeat_last_n = 64; ///< how many of the last tokens count as seen
    float frequency_penalty = 0;      ///< subtracted from a seen token's logit once per occurrence
    float presence_penalty = 0;       ///< subtracted from a seen token's logit once
    std::uint64_t seed = 0;           ///< the same seed gives the same tokens
    std::vector<LogitBias> logit_bias = {};
};

/// Chooses tokens; has the random numbers. Made by a session.
class Sampler : public detail::Owned<graft_sampler, graft_sampler_free> {
public:
    using Owned::Owned;
    /// Starts the random numbers again from the seed.
    Result<void> reset() {
        return detail::run([&](auto **e) { return graft_sampler_reset(get(), e); });
    }
};

/// When to end, and how to choose tokens.
struct GenerateOptions {
    std::uint64_t max_tokens = 0;       ///< the most tokens to generate; 0 goes on until the model or the context ends
    std::vector<std::string> stop = {}; ///< generation ends before the first of them to appear
    Sampler *sampler = nullptr;         ///< how to choose tokens, during the whole generation; nullptr for the most likely ones
    std::optional<Cancel> cancel = {};  ///< ends the work when it is set
    std::optional<std::uint32_t> keep = {}; ///< when the context is full, drop half of the tokens after the first so many, and go on
    bool ignore_eos = false;                ///< go on after the model's end tokens
    bool show_special = false;              ///< show the text of control tokens
};

/// Why a generation ended.
enum class Finish : graft_finish {
    none = GRAFT_FINISH_NONE, ///< it has not
    eos = GRAFT_FINISH_EOS,
    stop = GRAFT_FINISH_STOP,
    length = GRAFT_FINISH_LENGTH,
    cancelled = GRAFT_FINISH_CANCELLED,
    context = GRAFT_FINISH_CONTEXT,
};

/// What a generation did.
struct Report {
    std::uint64_t prompt_tokens; ///< of the prompt that were evaluated
    std::uint64_t reused_tokens; ///< of the prompt that the session had already (of messages only)
    std::uint64_t tokens;        ///< new ones
    double prompt_seconds;
    double generation_seconds;
    Finish finish;

    explicit Report(const graft_report &c)
        : prompt_tokens(c.prompt_tokens), reused_tokens(c.reused_tokens), tokens(c.tokens), prompt_seconds(c.prompt_seconds),
          generation_seconds(c.generation_seconds), finish(static_cast<Finish>(c.finish)) {}
};

/// A text and how it came about.
struct Answer {
    std::string text;
    Report report;
};

/// What the lines of a batch are answered with that do not say it themselves.
struct BatchOptions {
    SamplerOptions sampling = {};  ///< to the seed the line's number is added
    GenerateOptions generate = {}; ///< without a `sampler`: each line has its own
    SessionOptions session = {};   ///< with `context` 0 there is as much room as each line needs
    AdapterOptions adapter = {};   ///< for the folders that lines name
    bool folders = false;          ///< a line may name an adapter's folder; not for lines that somebody else wrote
};

/// What a run of a batch did.
struct BatchReport {
    std::uint64_t before;   ///< lines that had a record already
    std::uint64_t answered; ///< lines that it wrote a record for
    std::uint64_t failed;   ///< how many of these records say what is wrong with their line

    explicit BatchReport(const graft_batch_report &c) : before(c.before), answered(c.answered), failed(c.failed) {}
};

/// How to merge adapters into a model.
struct MergeOptions {
    std::string format = {}; ///< the block format of what is merged, such as "Q8_0"; an empty one keeps each tensor's own
    double within = 0;       ///< above 0: larger formats where needed, until predictions are within this mean divergence (nats)
    std::string text = {};   ///< like those that the model will read, on which packing is tuned
    bool plain = false;      ///< pack without regard to what the model reads
    std::function<bool(float)> progress = {};
    std::optional<Cancel> cancel = {};
};

/// How to make one adapter of several.
struct CombineOptions {
    std::string kind = "linear"; ///< PEFT's `combination_type`
    double density = 0;          ///< the share of entries that pruning keeps
    double svd_clamp = 0;        ///< limits entries to this quantile, for types with svd
    std::uint32_t svd_rank = 0;  ///< of the result, for types with svd; 0 for the largest of the adapters'
    bool majority_by_count = false;
    std::uint64_t seed = 0; ///< for the dare types
    std::function<bool(float)> progress = {};
};

namespace detail {

// Options for C: they point into the ones they were made of.

inline graft_model_options c(const ModelOptions &options) {
    graft_model_options c;
    graft_model_options_init(&c, sizeof c);
    c.threads = options.threads;
    c.load_mode = static_cast<graft_load_mode>(options.load_mode);
    c.team = options.team ? options.team->get() : nullptr;
    c.tokenizer = none_if_empty(options.tokenizer);
    c.tokenizer_len = options.tokenizer.size();
    c.device = static_cast<graft_device>(options.device);
    c.device_index = options.device_index;
    c.gpu_layers = options.gpu_layers;
    return c;
}

inline graft_chat_options c(const ChatOptions &options) {
    graft_chat_options c;
    graft_chat_options_init(&c, sizeof c);
    c.template_source = none_if_empty(options.template_source);
    c.template_source_len = options.template_source.size();
    c.tools = none_if_empty(options.tools);
    c.tools_len = options.tools.size();
    c.add_generation_prompt = options.add_generation_prompt;
    return c;
}

inline std::vector<graft_message> c(const std::vector<Message> &messages) {
    std::vector<graft_message> c;
    c.reserve(messages.size());
    for (const Message &m : messages)
        c.push_back({m.role.data(), m.role.size(), m.content.data(), m.content.size(), none_if_empty(m.extra), m.extra.size()});
    return c;
}

inline graft_adapter_options c(const AdapterOptions &options) {
    graft_adapter_options c;
    graft_adapter_options_init(&c, sizeof c);
    if (options.task_id) c.task_id = *options.task_id;
    return c;
}

inline graft_session_options c(const SessionOptions &options) {
    graft_session_options c;
    graft_session_options_init(&c, sizeof c);
    c.context = options.context;
    c.chunk = options.chunk;
    c.precision = static_cast<graft_precision>(options.precision);
    return c;
}

inline graft_sampler_options c(const SamplerOptions &options) {
    graft_sampler_options c;
    graft_sampler_options_init(&c, sizeof c);
    c.temperature = options.temperature;
    c.top_p = options.top_p;
    c.min_p = options.min_p;
    c.top_k = options.top_k;
    c.repeat_penalty = options.repeat_penalty;
    c.repeat_last_n = options.repeat_last_n;
    c.frequency_penalty = options.frequency_penalty;
    c.presence_penalty = options.presence_penalty;
    c.seed = options.seed;
    c.logit_bias = options.logit_bias.data();
    c.n_logit_bias = options.logit_bias.size();
    return c;
}

/// `texts` is where the stop texts are kept.
inline graft_generate_options c(const GenerateOptions &options, std::vector<graft_text> &texts) {
    texts.reserve(options.stop.size());
    for (const std::string &stop : options.stop) texts.push_back({stop.data(), stop.size()});
    graft_generate_options c;
    graft_generate_options_init(&c, sizeof c);
    c.max_tokens = options.max_tokens;
    c.stop = texts.data();
    c.n_stop = texts.size();
    c.sampler = options.sampler ? options.sampler->get() : nullptr;
    c.cancel = options.cancel ? options.cancel->get() : nullptr;
    if (options.keep) c.keep = *options.keep;
    c.ignore_eos = options.ignore_eos;
    c.show_special = options.show_special;
    return c;
}

/// Options of a batch for C, and what they point to.
struct Batching {
    std::vector<graft_text> stop;
    graft_sampler_options sampler;
    graft_generate_options generate;
    graft_session_options session;
    graft_adapter_options adapter;
    graft_batch_options c;
    explicit Batching(const BatchOptions &options)
        : sampler(detail::c(options.sampling)), generate(detail::c(options.generate, stop)), session(detail::c(options.session)),
          adapter(detail::c(options.adapter)) {
        graft_batch_options_init(&c, sizeof c);
        c.sampler = &sampler;
        c.generate = &generate;
        c.session = &session;
        c.adapter = &adapter;
        c.folders = options.folders;
    }
    Batching(const Batching &) = delete;
    Batching &operator=(const Batching &) = delete;
};

inline graft_merge_options c(const MergeOptions &options) {
    graft_merge_options c;
    graft_merge_options_init(&c, sizeof c);
    c.format = none_if_empty(options.format);
    c.format_len = options.format.size();
    c.within = options.within;
    c.text = none_if_empty(options.text);
    c.text_len = options.text.size();
    c.plain = options.plain;
    c.cancel = options.cancel ? options.cancel->get() : nullptr;
    return c;
}

inline graft_combine_options c(const CombineOptions &options) {
    graft_combine_options c;
    graft_combine_options_init(&c, sizeof c);
    c.kind = options.kind.data();
    c.kind_len = options.kind.size();
    c.density = options.density;
    c.svd_clamp = options.svd_clamp;
    c.svd_rank = options.svd_rank;
    c.majority_by_count = options.majority_by_count;
    c.seed = options.seed;
    return c;
}

} // namespace detail

#ifdef GRAFT_NO_EXCEPTIONS
} // namespace results
#endif
} // namespace graft

#endif // GRAFT_OPTIONS_HPP
