// Checks include/graft.hpp: `cpp MODEL REPOSITORY [threads]`, where MODEL is SmolLM2-135M-Instruct; with `threads` only what uses them.
// Prints what failed; the last line is "N passed, M failed".
#include <graft.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#if __has_include(<unistd.h>)
#include <fcntl.h>
#include <unistd.h>
#endif

#include "check.hpp"

void test_results(const std::string &tiny, const std::string &adapter); // tests/capi/cpp_results.cpp
void test_trainer(const graft::Model &tiny, const std::string &folder); // tests/capi/cpp_train.cpp

namespace {

using namespace std::string_literals;
using graft::Finish, graft::Status, graft::Token;

std::string smollm, repository, folder; // of the model, of Graft, for files of the test
std::string at(const char *path) { return repository + "/" + path; }
std::string tiny_path() { return at("tests/data/tiny/llama-tied/model.gguf"); }
std::string tiny_adapter() { return at("tests/data/tiny/llama-tied/adapters/all-linear"); }

// For structs without padding.
template <class C> bool is_default(const C &c, void (*init)(C *, std::size_t)) {
    C defaults;
    init(&defaults, sizeof defaults);
    return std::memcmp(&c, &defaults, sizeof c) == 0;
}

void test_defaults() {
    namespace d = graft::detail;
    std::vector<graft_text> stop;
    CHECK(graft::compatible() && !graft::version().empty());
    CHECK(is_default(d::c(graft::ModelOptions()), graft_model_options_init));
    graft::ModelOptions gpu;
    gpu.device = graft::Device::cuda, gpu.device_index = 3, gpu.gpu_layers = 7;
    const graft_model_options on = d::c(gpu);
    CHECK(on.device == GRAFT_DEVICE_CUDA && on.device_index == 3 && on.gpu_layers == 7);
    CHECK(is_default(d::c(graft::AdapterOptions()), graft_adapter_options_init));
    CHECK(is_default(d::c(graft::SessionOptions()), graft_session_options_init));
    CHECK(is_default(d::c(graft::SamplerOptions()), graft_sampler_options_init));
    CHECK(is_default(d::c(graft::GenerateOptions(), stop), graft_generate_options_init));
    graft::detail::Batching batching{graft::BatchOptions()};
    CHECK(is_default(*batching.c.sampler, graft_sampler_options_init) && is_default(*batching.c.generate, graft_generate_options_init));
    CHECK(is_default(*batching.c.session, graft_session_options_init) && is_default(*batching.c.adapter, graft_adapter_options_init));
    batching.c.sampler = nullptr, batching.c.generate = nullptr, batching.c.session = nullptr, batching.c.adapter = nullptr;
    CHECK(is_default(batching.c, graft_batch_options_init));
    const graft::TrainOptions training;
    graft_train_options train = d::c(training);
    const auto text = [](const char *&at, std::size_t &len) {
        return std::string(std::exchange(at, nullptr), std::exchange(len, 0));
    };
    CHECK(text(train.method, train.method_len) == "lora" && text(train.targets, train.targets_len) == "all-linear");
    CHECK(text(train.init, train.init_len) == "default" && text(train.optimizer, train.optimizer_len) == "adamw");
    CHECK(text(train.schedule, train.schedule_len) == "cosine" && is_default(train, graft_train_options_init));
    graft_chat_options chat;
    graft_chat_options_init(&chat, sizeof chat);
    const graft_chat_options c = d::c(graft::ChatOptions());
    CHECK(c.add_generation_prompt == chat.add_generation_prompt && c.template_source == chat.template_source && c.tools == chat.tools);
    graft_merge_options merge;
    graft_merge_options_init(&merge, sizeof merge);
    const graft_merge_options m = d::c(graft::MergeOptions());
    CHECK(m.format == merge.format && m.text == merge.text && m.plain == merge.plain && m.progress == merge.progress && m.cancel == merge.cancel);
    CHECK(m.within <= merge.within && m.within >= merge.within);
    const graft::CombineOptions options;
    graft_combine_options combine = d::c(options);
    CHECK(std::string(combine.kind, combine.kind_len) == "linear");
    combine.kind = nullptr, combine.kind_len = 0;
    CHECK(is_default(combine, graft_combine_options_init));
}

void test_facts(const graft::Model &model) {
    const graft::ModelInfo info = model.info();
    CHECK(info.architecture == "llama" && info.hidden_size == 576 && info.n_layers == 30 && info.vocab_size == 49152);
    CHECK(info.has_chat_template && info.eos && !info.isa.empty());
    graft::ModelOptions cpu;
    cpu.device = graft::Device::cpu;
    const graft::ModelInfo there = graft::Model::open(tiny_path(), cpu).info();
    CHECK(there.device.empty() && there.gpu_layers == 0);
    cpu.device = graft::Device::cuda;
    cpu.device_index = -2;
    CHECK(thrown([&] { graft::Model::open(tiny_path(), cpu); }) == Status::usage);
    const std::vector<std::string> keys = model.metadata_keys();
    CHECK(std::count(keys.begin(), keys.end(), "general.architecture") == 1);
    CHECK(model.metadata("general.architecture") == "\"llama\"");
    CHECK(thrown([&] { model.metadata("no.such.key"); }) == Status::usage);
    const std::vector<graft::TensorInfo> tensors = model.tensors();
    CHECK(tensors.size() > 200);
    CHECK(std::any_of(tensors.begin(), tensors.end(), [](const auto &t) { return t.name == "token_embd.weight" && t.dims[0] == 576; }));

    const std::string text = "Grüße, 世界! 🎉";
    const std::vector<Token> tokens = model.tokenize(text);
    CHECK(model.detokenize(tokens) == text);
    std::string bytes;
    for (const Token token : tokens) bytes += model.token_bytes(token);
    CHECK(bytes == text);
    CHECK(model.tokenize("").empty() && model.detokenize({}).empty());
    CHECK(model.tokenize("<|im_end|>", {false, true}).size() == 1 && model.tokenize("<|im_end|>").size() > 1);
    const std::optional<Token> end = model.find_token("<|im_end|>");
    CHECK(end && model.token_ends(*end) && !model.token_ends(tokens[0]));
    CHECK(!model.find_token("no such token"));
    const std::string chat = model.render({{"user", "Hello?"}});
    CHECK(chat.find("<|im_start|>user\nHello?<|im_end|>") != chat.npos && chat.find("<|im_start|>assistant") != chat.npos);
    graft::ChatOptions options;
    options.template_source = "{{ messages[0].content }}/{{ messages[0].mood }}";
    CHECK(model.render({{"user", "Hello?", R"({"mood": "good"})"}}, options) == "Hello?/good");
}

void test_generate(const graft::Model &model) {
    graft::Session session = model.make_session({512});
    CHECK(session.info().context == 512 && session.logits().empty() && session.tokens().empty());
    const graft::Answer answer = session.answer("The capital of France is", {12});
    CHECK(answer.text.find("Paris") != answer.text.npos);
    CHECK(answer.report.tokens == 12 && answer.report.finish == Finish::length && answer.report.prompt_tokens > 0);
    CHECK(session.tokens().size() == session.info().position);

    // A template of one's own, longer than a string keeps within itself, through the generation.
    graft::ChatOptions chat;
    chat.template_source = "The capital of France is{% for message in messages %}{% endfor %}";
    const std::vector<graft::Message> asked{{"user", "?"}};
    CHECK(model.make_session({512}).answer(graft::Prompt(asked, chat), {12}).text == answer.text);

    // A conversation that is written where it is asked for.
    const graft::Prompt written({{"user", "?"}}, chat), copied = written;
    CHECK(model.make_session({512}).answer(copied, {12}).text == answer.text);
    const std::vector<graft::Message> talk{{"user", "Hello"}, {"assistant", "Hi."}, {"user", "And now?"}};
    CHECK(model.make_session({512}).answer({{"user", "Hello"}, {"assistant", "Hi."}, {"user", "And now?"}}, {12}).text ==
          model.make_session({512}).answer(talk, {12}).text);

    // Every form of prompt, callable and loop gives the same text.
    const auto again = [&](auto &&generate) {
        session.reset();
        std::string text;
        generate(text);
        return text == answer.text;
    };
    const std::vector<Token> tokens = model.tokenize("The capital of France is", {true, false});
    const graft::GenerateOptions options{12};
    std::vector<Token> seen;
    CHECK(again([&](auto &text) { session.generate(tokens, options, [&](std::string_view t, Token) { text += t; }); }));
    CHECK(again([&](auto &text) { session.generate("The capital of France is"s, options, [&](std::string_view t) { text += t; }); }));
    CHECK(again([&](auto &text) {
        session.generate("The capital of France is", options, [&](std::string_view t, Token token) {
            text += t;
            seen.push_back(token);
            return true;
        });
    }));
    CHECK(seen.size() == 12);
    CHECK(again([&](auto &text) { for (std::string_view piece : session.stream(tokens, options)) text += piece; }));
    CHECK(again([&](auto &text) { for (const auto &[piece, token] : session.stream(graft::span<const Token>(tokens), options)) text += piece; }));
    CHECK(again([&](auto &text) {
        graft::Generation generation = session.stream(tokens, options);
        CHECK(generation.report().finish == Finish::none);
        while (const auto piece = generation.next()) text += piece->text;
        CHECK(generation.report().finish == Finish::length && !generation.next());
    }));
    CHECK(again([&](auto &text) { // by hand
        graft::Sampler sampler = session.make_sampler();
        session.eval(tokens);
        std::vector<Token> made;
        for (int i = 0; i < 12; i++) {
            made.push_back(session.sample(sampler));
            session.eval({&made.back(), 1});
        }
        CHECK(made == seen);
        text = model.detokenize(made);
    }));

    // Ends.
    session.reset();
    CHECK(session.answer(tokens, {12, {"Paris"}}).report.finish == Finish::stop);
    int calls = 0;
    CHECK(session.generate(tokens, options, [&](std::string_view, Token) { return ++calls < 3; }).finish == Finish::cancelled && calls == 3);
    graft::Generation cancelled = session.stream(tokens, options);
    CHECK(cancelled.next());
    cancelled.cancel();
    while (cancelled.next()) {}
    CHECK(cancelled.report().finish == Finish::cancelled);
    for (std::string_view piece : session.stream(tokens, options)) { // left in the middle
        if (piece.size() < 100) break;
    }
    session.truncate(5);
    CHECK(session.info().position == 5);
    session.slide(1);
    CHECK(session.info().position < 5);

    // Sampling.
    graft::SamplerOptions random;
    random.temperature = 1.5f, random.seed = 7;
    graft::Sampler sampler = session.make_sampler(random);
    graft::GenerateOptions sampled{8};
    sampled.sampler = &sampler;
    const auto text = [&] {
        session.reset();
        return session.answer(tokens, sampled).text;
    };
    const std::string first = text();
    const std::string second = text();
    sampler.reset();
    CHECK(first == text() && first != second);
    const std::size_t width = session.logits().size();
    std::size_t each = 0;
    session.eval_each(tokens, [&](std::size_t i, graft::span<const float> logits) { each += i == each && logits.size() == width; });
    CHECK(width == session.info().vocab_size && each == tokens.size());
    session.reset();
    session.eval(tokens);
    graft::SamplerOptions banned;
    banned.logit_bias = {{seen[0], -INFINITY}};
    graft::Sampler other = session.make_sampler(banned);
    CHECK(session.sample(other) != seen[0]);
}

void test_adapters(const graft::Model &model) {
    const std::string both = folder + "/both";
    int told = 0;
    graft::CombineOptions combining;
    combining.kind = "cat";
    combining.progress = [&](float) { return ++told > 0; };
    graft::combine({{at("demo/adapters/stage-verse")}, {at("demo/adapters/json-extract"), 0.25f}}, both, combining);
    CHECK(told > 0);
    const graft::Adapter verse = model.open_adapter(at("demo/adapters/stage-verse"));
    const graft::Adapter json = model.open_adapter(at("demo/adapters/json-extract"));
    const graft::Adapter third = model.open_adapter(both);
    CHECK(json.info().method == "LORA" && json.info().max_rank == 4 && third.info().max_rank == 8);
    const auto config = bytes_of(at("demo/adapters/json-extract/adapter_config.json"));
    const auto tensors = bytes_of(at("demo/adapters/json-extract/adapter_model.safetensors"));
    const graft::Adapter read = model.open_adapter_memory({reinterpret_cast<const char *>(config.data()), config.size()}, tensors);
    CHECK(read.info().parameters == json.info().parameters);

    // One conversation, another adapter for each answer.
    graft::Session session = model.make_session({1024});
    std::vector<graft::Message> messages;
    const auto say = [&](const char *what) {
        messages.push_back({"user", what});
        const graft::Answer answer = session.answer(messages, {32});
        messages.push_back({"assistant", answer.text});
        CHECK(messages.size() == 2 || answer.report.reused_tokens > 0);
        return answer.text;
    };
    const char *person = "Maria Lopez, 34, moved from Lisbon to Oslo in 2019 to work as a nurse.";
    session.set_adapter(json);
    const std::string extracted = say(person);
    CHECK(extracted.find(R"({"name": "Maria Lopez", "age": 34, "from": "Lisbon", "to": "Oslo")") == 0);
    session.set_adapter(verse);
    const std::string versed = say("Tell me about the sea.");
    session.set_adapters({third});
    const std::string mixed = say(person);
    session.set_adapters({verse, {json, 0.25f}});
    session.clear_adapters();
    const std::string plain = say("Tell me about the sea.");
    CHECK(versed != plain && mixed != extracted && !mixed.empty());

    // In the middle of an answer: the rest is another.
    const auto switched = [&](const graft::Adapter *adapter) {
        session.reset();
        session.set_adapter(json);
        std::string text;
        int n = 0;
        for (std::string_view piece : session.stream("Maria Lopez moved", {16})) {
            text += piece;
            if (++n == 4 && adapter) session.set_adapter(*adapter);
        }
        return text;
    };
    CHECK(switched(&json) == switched(nullptr) && switched(&verse) != switched(nullptr));
}

void test_tiny_writes(const graft::Model &tiny) {
    const graft::Adapter adapter = tiny.open_adapter(tiny_adapter());
    graft::Session session = tiny.make_session();
    session.set_adapter(adapter);
    const std::string live = session.answer("Hi", {8}).text;
    graft::MergeOptions options;
    options.format = "F32";
    float last = 0;
    options.progress = [&](float share) { last = share; return true; };
    const graft::Model merged = tiny.merged({adapter}, options);
    CHECK(last > 0 && merged.make_session().answer("Hi", {8}).text == live);
    tiny.merge_to(folder + "/merged.gguf", {{adapter, 1}}, options);
    CHECK(graft::Model::open(folder + "/merged.gguf").make_session().answer("Hi", {8}).text == live);
    tiny.export_lora(tiny_adapter(), folder + "/lora.gguf", "F32");
    session.reset();
    session.set_adapter(tiny.open_adapter(folder + "/lora.gguf"));
    CHECK(session.answer("Hi", {8}).text == live);
    tiny.to_lora(tiny_adapter(), folder + "/lora", 4);
    CHECK(tiny.open_adapter(folder + "/lora").info().max_rank == 4);
    options.progress = [](float) { return false; };
    CHECK(thrown([&] { tiny.merged({adapter}, options); }) == Status::cancelled);
    options.progress = nullptr;
    options.cancel.emplace();
    options.cancel->set();
    CHECK(thrown([&] { tiny.merged({adapter}, options); }) == Status::cancelled);
}

// Oracle: a session, and a run that was never stopped.
void test_batch(const graft::Model &tiny) {
    const graft::Adapter adapter = tiny.open_adapter(tiny_adapter());
    graft::Session session = tiny.make_session();
    const std::string plain = session.answer("Hi", {8}).text;
    session.reset();
    session.set_adapter(adapter, 0.5f);
    const std::string adapted = session.answer("Hi", {8}).text;
    CHECK(plain != adapted);

    graft::BatchOptions options;
    options.generate.max_tokens = 8;
    options.generate.cancel.emplace();
    graft::Batch batch = tiny.make_batch(options);
    batch.add_adapter("half", adapter, 0.5f);
    // The detokenized tokens of a record: its text is written as JSON.
    const auto text = [&](const std::string &line) {
        const std::string record = batch.answer(line, 3);
        const auto list = record.find("\"tokens\":[");
        if (!CHECK(record.rfind("{\"id\":3,\"text\":", 0) == 0 && list != record.npos)) return record;
        std::vector<Token> tokens;
        for (const char *at = record.data() + list + 9; *at != ']';) {
            char *end = nullptr;
            tokens.push_back(static_cast<Token>(std::strtoul(at + 1, &end, 10)));
            at = end;
        }
        return tiny.detokenize(tokens, true);
    };
    CHECK(text(R"({"prompt": "Hi"})") == plain);
    CHECK(text(R"({"prompt": "Hi", "adapter": "half"})") == adapted);
    batch.add_default_adapter(adapter, 0.5f);
    CHECK(text(R"({"prompt": "Hi"})") == adapted && text(R"({"prompt": "Hi", "adapter": []})") == plain);
    const auto error = [&](const std::string &line, const char *words) {
        const std::string record = batch.answer(line, 3);
        return record.rfind("{\"id\":3,\"error\":", 0) == 0 && record.find(words) != record.npos;
    };
    CHECK(error("no JSON", "not a JSON object") && error("", "not a JSON object") && error("{}", "exactly one"));
    CHECK(error(R"({"prompt": "Hi", "adapter": ")" + tiny_adapter() + "\"}", "no such adapter"));
    CHECK(thrown([&] { batch.add_adapter("", adapter); }) == Status::usage && thrown([&] { batch.add_adapter({}, adapter); }) == Status::usage);
    CHECK(thrown([&] { batch.answer("\xff", 1); }) == Status::usage);

    const std::string from = folder + "/in.jsonl", to = folder + "/out.jsonl";
    std::ofstream(from) << "{\"prompt\": \"One\"}\n{\"prompt\": \"Two\"}\n{}\n{\"prompt\": \"Four\", \"adapter\": null}\n";
    float last = 0;
    const graft::BatchReport report = batch.run(from, to, [&](float share) { return (last = share) > 0; });
    CHECK(report.before == 0 && report.answered == 4 && report.failed == 1 && last >= 1);
    const auto whole = bytes_of(to);
    CHECK(batch.run(from, to).before == 4 && bytes_of(to) == whole);
    std::filesystem::remove(to);
    int told = 0;
    CHECK(thrown([&] { batch.run(from, to, [&](float) { return ++told < 2; }); }) == Status::cancelled && told == 2);
    CHECK(throws_special([&] { batch.run(from, to, [](float) -> bool { throw Special("special"); }); }));
    options.generate.cancel->set();
    CHECK(thrown([&] { batch.run(from, to); }) == Status::cancelled && thrown([&] { batch.answer("{}", 1); }) == Status::cancelled);
    options.generate.cancel->clear();
    CHECK(batch.run(from, to, [&](float) {
        CHECK(thrown([&] { batch.answer("{}", 1); }) == Status::busy);
        return true;
    }).before == 3);
    CHECK(bytes_of(to) == whole);
    CHECK(thrown([&] { batch.run(folder + "/none", to); }) == Status::io && thrown([&] { batch.run(from, from); }) == Status::usage);

    graft::Batch moved = std::move(batch);
    CHECK(thrown([&] { batch.run(from, to); }) == Status::handle && moved.run(from, to).before == 4);
    options.folders = true;
    graft::Batch open = tiny.make_batch(options);
    const std::string record = open.answer(R"({"prompt": "Hi", "adapter": ")" + tiny_adapter() + "@0.5\"}", 3);
    CHECK(record == moved.answer(R"({"prompt": "Hi", "adapter": "half"})", 3));
    graft::Sampler sampler = session.make_sampler();
    options.generate.sampler = &sampler;
    CHECK(thrown([&] { tiny.make_batch(options); }) == Status::usage);
    const graft::Sampler taken = std::move(sampler);
    CHECK(thrown([&] { tiny.make_batch(options); }) == Status::handle);
}

void test_errors(const graft::Model &model, const graft::Model &tiny) {
    std::optional<graft::Error> e;
    CHECK(thrown([] { graft::Model::open("/no/such/file"); }, &e) == Status::io && e->file() == "/no/such/file");
    CHECK(std::string_view(e->what()).find("/no/such/file") != std::string_view::npos);
    CHECK(thrown([] { graft::Model::open(at("README.md")); }, &e) == Status::invalid && e->file() == at("README.md"));
    CHECK(thrown([&] { tiny.open_adapter(at("tests/data/adapters-bad/unknown-peft-type")); }) == Status::unsupported);
    CHECK(thrown([&] { tiny.open_adapter(at("tests/data/adapters-bad/r-string")); }, &e) == Status::invalid && !e->item().empty());
    CHECK(!e->expected().empty() || !e->found().empty());
    CHECK(thrown([&] { tiny.open_adapter(at("demo/adapters/json-extract")); }, &e) == Status::mismatch && !e->item().empty());
    graft::ModelOptions stopped;
    stopped.progress = [](float) { return false; };
    CHECK(thrown([&] { graft::Model::open(tiny_path(), stopped); }) == Status::cancelled);

    graft::Session session = tiny.make_session();
    CHECK(thrown([&] { session.eval(std::vector<Token>(10000, 1)); }) == Status::limit && session.info().position == 0);
    CHECK(thrown([&] { session.eval(std::vector<Token>{4000000000}); }) == Status::usage);
    CHECK(thrown([&] { session.answer("\xff\xfe"); }) == Status::usage);
    CHECK(thrown([&] { session.answer(static_cast<const char *>(nullptr)); }) != Status::internal);
    graft::SamplerOptions wrong;
    wrong.temperature = -1;
    CHECK(thrown([&] { session.make_sampler(wrong); }) == Status::usage);
    CHECK(thrown([&] { session.set_adapter(model.open_adapter(at("demo/adapters/json-extract"))); }) == Status::mismatch);
    CHECK(thrown([&] { session.restore(folder + "/no-such-state"); }) == Status::io);
    CHECK(thrown([&] { session.restore_memory(std::vector<std::uint8_t>(100)); }) == Status::invalid);
    CHECK(session.generate("Hi", {4}, [&](std::string_view, Token) {
        CHECK(thrown([&] { session.reset(); }) == Status::busy);
    }).tokens == 4);
    // A copy of an error lives on, also when it came from a temporary.
    const graft::Error copy = *e;
    e.reset();
    CHECK(copy.status() == Status::mismatch && copy.what() == copy.message());
}

void test_exceptions_in_callables(const graft::Model &tiny) {
    graft::Session session = tiny.make_session();
    const std::string expected = session.answer("Hi", {8}).text;
    session.reset();
    int calls = 0;
    CHECK(throws_special([&] {
        session.generate("Hi", {8}, [&](std::string_view, Token) {
            if (++calls == 3) throw Special("special");
        });
    }));
    CHECK(calls == 3);
    CHECK(throws_special([&] { session.eval_each(std::vector<Token>{1, 2}, [](auto, auto) -> bool { throw Special("special"); }); }));
    session.reset();
    CHECK(session.answer("Hi", {8}).text == expected); // it goes on
    graft::ModelOptions options;
    options.progress = [](float) -> bool { throw Special("special"); };
    CHECK(throws_special([&] { graft::Model::open(tiny_path(), options); }));
    graft::MergeOptions merging;
    merging.progress = options.progress;
    const graft::Adapter adapter = tiny.open_adapter(tiny_adapter());
    CHECK(throws_special([&] { tiny.merged({adapter}, merging); }));
    CHECK(throws_special([&] { tiny.merge_to(folder + "/never.gguf", {adapter}, merging); }));
    CHECK(!std::filesystem::exists(folder + "/never.gguf"));
}

void test_lives() {
    // Memory, before anything is loaded.
    const graft::MemoryPlan small = graft::Model::plan_memory(tiny_path(), {32}), large = graft::Model::plan_memory(tiny_path());
    CHECK(small.weights == graft::Model::open(tiny_path()).info().weight_bytes && small.kv < large.kv && small.activations > 0);
    CHECK(thrown([] { (void)graft::Model::plan_memory("/no/such/file"); }) == Status::io);
    CHECK(thrown([] { (void)graft::Model::plan_memory(tiny_path(), {1u << 30}); }) != Status::ok);

    // Moved-from objects.
    std::optional<graft::Model> model = graft::Model::open(tiny_path());
    graft::Session a = model->make_session();
    graft::Session b = std::move(a);
    CHECK(!a.get() && thrown([&] { a.reset(); }) == Status::handle && thrown([&] { a.answer("Hi"); }) == Status::handle);
    CHECK(thrown([&] { a.stream("Hi"); }) == Status::handle && thrown([&] { a.make_sampler(); }) == Status::handle);
    a.cancel(); // nothing to end
    a = model->make_session();
    a = std::move(b);
    graft::Sampler sampler = a.make_sampler();
    graft::Sampler taken = std::move(sampler);
    graft::GenerateOptions options{4};
    options.sampler = &sampler;
    CHECK(thrown([&] { a.answer("Hi", options); }) == Status::handle && thrown([&] { a.sample(sampler); }) == Status::handle);
    CHECK(thrown([&] { a.stream("Hi", options); }) == Status::handle && thrown([&] { sampler.reset(); }) == Status::handle);
    options.sampler = &taken;
    graft::Generation generation = a.stream("Hi", options);
    graft::Generation moved = std::move(generation);
    CHECK(thrown([&] { generation.next(); }) == Status::handle && moved.next());
    const graft::Model copy = std::move(*model);
    CHECK(model->get() == copy.get()); // moving copies

    // What goes first.
    { const graft::Sampler gone = std::move(taken); }
    CHECK(thrown([&] { moved.next(); }) == Status::handle);

    // Two of one session: the second goes on behind what the first has written.
    graft::Session shared = copy.make_session();
    graft::Generation one = shared.stream("Hi", {4}), two = shared.stream("Ho", {4});
    CHECK(one.next());
    const std::uint64_t before = shared.info().position;
    CHECK(before > 0 && two.next() && shared.info().position > before);

    graft::Generation orphan = a.stream("Hi", {4});
    { const graft::Session gone = std::move(a); }
    CHECK(thrown([&] { orphan.next(); }) == Status::handle);
    std::weak_ptr<const void> memory;
    {
        const auto bytes = std::make_shared<const std::vector<std::uint8_t>>(bytes_of(tiny_path()));
        memory = bytes;
        model = graft::Model::open_memory(*bytes, bytes);
    }
    std::optional<graft::Session> session = model->make_session();
    session->set_adapter(model->open_adapter(tiny_adapter())); // an adapter that goes at once
    model.reset();
    CHECK(!memory.expired() && session->answer("Hi", {8}).report.tokens == 8);
    session.reset();
    CHECK(memory.expired());
    const auto junk = std::make_shared<const std::vector<std::uint8_t>>(100);
    CHECK(thrown([&] { graft::Model::open_memory(*junk, junk); }) == Status::invalid && junk.use_count() == 1);
#if __has_include(<unistd.h>)
    const int fd = open(tiny_path().c_str(), O_RDONLY);
    const graft::Model opened = graft::Model::open_fd(fd);
    close(fd);
    CHECK(opened.make_session().answer("Hi", {4}).report.tokens == 4);
#endif
}

void test_state(const graft::Model &model, const graft::Model &tiny) {
    graft::Session session = model.make_session({256});
    session.answer("Once upon a time", {8});
    const std::vector<std::uint8_t> state = session.save_memory();
    session.save(folder + "/state");
    const std::string on = session.answer(" and then", {12}).text;
    graft::Session other = model.make_session();
    other.restore_memory(state);
    CHECK(other.answer(" and then", {12}).text == on);
    other.restore(folder + "/state");
    CHECK(other.answer(" and then", {12}).text == on);
    graft::Session wrong = tiny.make_session();
    CHECK(thrown([&] { wrong.restore_memory(state); }) == Status::mismatch);
}

void test_embeddings(const graft::Model &model) {
    graft::Session session = model.make_session();
    const auto embed = [&](const char *text, graft::Pooling pooling) {
        session.reset();
        return session.embed(model.tokenize(text), pooling);
    };
    const auto likeness = [](const std::vector<float> &a, const std::vector<float> &b) {
        double ab = 0, aa = 0, bb = 0;
        for (std::size_t i = 0; i < a.size(); i++) {
            ab += double(a[i]) * double(b[i]), aa += double(a[i]) * double(a[i]), bb += double(b[i]) * double(b[i]);
        }
        return ab / std::sqrt(aa * bb);
    };
    const auto cat = embed("The cat sleeps on the sofa.", graft::Pooling::mean);
    CHECK(cat.size() == 576 && cat == embed("The cat sleeps on the sofa.", graft::Pooling::mean));
    CHECK(cat != embed("The cat sleeps on the sofa.", graft::Pooling::last));
    const auto kitten = embed("A kitten naps on the couch.", graft::Pooling::mean);
    CHECK(likeness(cat, kitten) > likeness(cat, embed("Interest rates rose by 0.25% in May.", graft::Pooling::mean)));
}

void test_cancel(const graft::Model &model) {
    const auto wait = [](const std::atomic<int> &n, int until) {
        while (n < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    graft::Session session = model.make_session();
    for (const bool by_session : {false, true}) {
        const graft::Cancel cancel;
        graft::GenerateOptions options{};
        options.cancel = cancel;
        options.ignore_eos = true;
        std::atomic<int> pieces{0};
        std::thread other([&] {
            wait(pieces, 3);
            CHECK(thrown([&] { session.reset(); }) == Status::busy);
            if (by_session) session.cancel();
            else cancel.set();
        });
        const graft::Report report = session.generate("Once upon a time", options, [&](std::string_view) { ++pieces; });
        other.join();
        CHECK(report.finish == Finish::cancelled && report.tokens >= 3);
        session.reset();
        CHECK(by_session || session.answer("Hi", options).report.finish == Finish::cancelled); // until it is cleared
        cancel.clear();
        options.max_tokens = 2;
        CHECK(session.answer("Hi", options).report.finish == Finish::length);
        session.reset();
    }
}

void test_threads(const graft::Model &model) {
    const graft::Adapter adapters[] = {model.open_adapter(at("demo/adapters/stage-verse")), model.open_adapter(at("demo/adapters/json-extract"))};
    const auto answer = [&](std::size_t i) {
        graft::Session session = model.make_session({256});
        if (i % 3 < 2) session.set_adapter(adapters[i % 3]);
        return session.answer("Maria Lopez, 34, moved from Lisbon", {10}).text;
    };
    const std::string expected[] = {answer(0), answer(1), answer(2)};
    CHECK(expected[0] != expected[1] && expected[1] != expected[2]);
    std::string texts[8];
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 8; i++) threads.emplace_back([&, i] { texts[i] = answer(i); });
    for (std::thread &thread : threads) thread.join();
    for (std::size_t i = 0; i < 8; i++) CHECK(texts[i] == expected[i % 3]);
}

std::atomic<int> lines{0}, runs{0};

void test_teams_and_log() {
    graft::set_log(graft::LogLevel::info, [](graft::LogLevel, std::string_view line) noexcept { lines += !line.empty(); });
    graft::ModelOptions options;
    options.team = graft::Team::make(2);
    const graft::Model one = graft::Model::open(tiny_path(), options);
    CHECK(lines > 0 && one.info().threads == 2);
    graft::set_log(graft::LogLevel::off, nullptr);
    const graft_run_callback run = [](std::size_t n, graft_work work, void *data, void *user) {
        ++*static_cast<std::atomic<int> *>(user);
        std::vector<std::thread> threads;
        for (std::size_t i = 1; i < n; i++) threads.emplace_back(work, data, i);
        if (n > 0) work(data, 0);
        for (std::thread &thread : threads) thread.join();
    };
    options.team = graft::Team::of_callback(2, run, &runs);
    const graft::Model two = graft::Model::open(tiny_path(), options);
    options.team.reset();
    CHECK(one.make_session().answer("Hi", {8}).text == two.make_session().answer("Hi", {8}).text && runs > 0);
}

#ifdef __cpp_lib_ranges
static_assert(std::input_iterator<graft::Generation::Iterator> && std::ranges::input_range<graft::Generation>);
#endif
static_assert(!std::is_copy_constructible_v<graft::Session> && std::is_nothrow_move_constructible_v<graft::Session>);
static_assert(std::is_copy_constructible_v<graft::Model> && std::is_nothrow_copy_constructible_v<graft::Error>);

} // namespace

int main(int argc, char **argv) {
    if (argc < 3) return std::printf("usage: cpp MODEL REPOSITORY [threads]\n"), 2;
    smollm = argv[1], repository = argv[2];
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    const auto temporary = std::filesystem::temp_directory_path() / ("graft-cpp-" + std::to_string(now));
    std::filesystem::create_directory(temporary);
    folder = temporary.string();
    try {
        const graft::Model model = graft::Model::open(smollm), tiny = graft::Model::open(tiny_path());
        if (argc == 3) {
            test_defaults();
            test_facts(model);
            test_generate(model);
            test_adapters(model);
            test_tiny_writes(tiny);
            test_batch(tiny);
            test_trainer(tiny, folder);
            test_errors(model, tiny);
            test_exceptions_in_callables(tiny);
            test_lives();
            test_state(model, tiny);
            test_embeddings(model);
            test_results(tiny_path(), tiny_adapter());
        }
        test_cancel(model);
        test_threads(model);
        test_teams_and_log();
    } catch (const std::exception &e) {
        check(false, e.what(), "an exception that was not caught", 0);
    }
    std::filesystem::remove_all(temporary);
    std::printf("%d passed, %d failed\n", passed.load(), failed.load());
    return failed == 0 ? 0 : 1;
}
