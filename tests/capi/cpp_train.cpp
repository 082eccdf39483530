// The part of tests/capi/cpp.cpp that trains, on a tiny model.
#include <graft.hpp>

#include <cmath>

#include "check.hpp"

using graft::Status, graft::Token;

void test_trainer(const graft::Model &tiny, const std::string &folder);

static void test_options(const graft::Model &tiny, const std::string &adapter, graft::TrainOptions options) {
    std::optional<graft::Error> error;
    // The plan of a new adapter and of one in a folder; what does not fit is refused, with what would.
    const graft::TrainPlan plan = tiny.plan_training(options), of_folder = tiny.plan_training(options, adapter);
    CHECK(plan.keeps_attention && plan.total == of_folder.total && plan.activations > 0 &&
          plan.total == plan.weights + plan.adapter + plan.gradients + plan.optimizer + plan.activations + plan.workspace);
    options.memory = plan.total - 1;
    const graft::TrainPlan least = tiny.plan_training(options);
    CHECK(!least.keeps_attention && least.activations < plan.activations && tiny.make_trainer(options).info().seq == 64);
    options.memory = least.total - 1;
    for (const std::string_view folder : {std::string_view(), std::string_view(adapter)})
        CHECK(thrown([&] { (void)tiny.plan_training(options, folder); }, &error) == Status::limit && error->item() == "memory" &&
              error->message().find(std::to_string(least.total)) != std::string::npos);
    CHECK(thrown([&] { (void)tiny.make_trainer(options); }) == Status::limit);
    options.memory = 0;

    // Options that only some methods read, by the numbers that are trained: none of the model's own sizes is known here.
    const auto parameters = [&](auto &&set) {
        graft::TrainOptions of;
        of.seq = 32;
        set(of);
        return tiny.make_trainer(of).info().parameters;
    };
    const auto tokens_of = [&](const std::vector<Token> &ids) {
        return parameters([&](auto &o) { o.method = "trainable_tokens", o.token_indices = ids; });
    };
    CHECK(tokens_of({5, 7, 9}) == 3 * tokens_of({5}));
    const auto prompt_of = [&](std::uint32_t n) {
        return parameters([&](auto &o) { o.method = "prompt_tuning", o.num_virtual_tokens = n, o.prompt_tuning_init_text = "the fox"; });
    };
    CHECK(prompt_of(3) == 3 * prompt_of(1) && prompt_of(0) == prompt_of(20));
    CHECK(parameters([](auto &o) { o.modules_to_save = "norm"; }) > parameters([](auto &) {}));
    const auto blocks_of = [&](std::uint32_t n) { return parameters([&](auto &o) { o.method = "boft", o.boft_block_size = n; }); };
    CHECK(blocks_of(8) > blocks_of(2) && blocks_of(0) == blocks_of(4));
    CHECK(parameters([](auto &o) { o.method = "oft", o.oft_block_size = 8; }) > parameters([](auto &o) { o.method = "oft", o.oft_block_size = 4; }));
    CHECK(parameters([](auto &o) { o.method = "road", o.group_size = 8; }) > 0);
    options.oft_block_size = 8; // not LoRA's
    CHECK(thrown([&] { (void)tiny.make_trainer(options); }, &error) == Status::usage && error->item() == "oft_block_size");
}

void test_trainer(const graft::Model &tiny, const std::string &folder) {
    graft::TrainOptions options;
    options.r = 4, options.batch = 2, options.steps = 6, options.lr = 1e-2f, options.seq = 64;
    options.cancel.emplace();
    const std::vector<graft::Message> talk = {{"user", "a"}, {"assistant", "dog"}};
    const std::vector<Token> tokens = {7, 44, 81, 118, 155, 2};
    const std::vector<std::uint8_t> learn = {0, 0, 1, 1, 1, 1};
    const std::vector<graft::Row> rows = {
        graft::Row::text("the fox"), graft::Row::completion("my cat saw ", "one bird"), graft::Row::messages(talk),
        graft::Row::tokens(tokens, learn), graft::Row::line(R"({"text": "that fish"})")};

    // Oracle: a run that was never stopped.
    const std::string a = folder + "/a", b = folder + "/b", checkpoint = folder + "/checkpoint";
    const auto saved = [&](graft::Trainer &trainer, const std::string &to) {
        trainer.save(to);
        return bytes_of(to + "/adapter_model.safetensors");
    };
    graft::Trainer whole = tiny.make_trainer(options);
    whole.add(rows);
    const double before = whole.evaluate();
    CHECK(std::abs(before - whole.evaluate(rows)) <= 0);
    std::uint64_t steps = 0;
    const graft::TrainReport last = whole.run(0, [&](const graft::TrainReport &report) { CHECK(report.step == ++steps && report.loss > 0); });
    CHECK(last.step == 6 && steps == 6 && !last.skipped && whole.evaluate() < before);
    CHECK(whole.info().steps_left == 0 && whole.info().rows == 5 && whole.info().epochs == 2 && whole.info().parameters > 0);
    CHECK(thrown([&] { whole.run(1); }) == Status::limit);
    const auto bytes = saved(whole, a);

    graft::Trainer trainer = tiny.make_trainer(options);
    std::size_t next = 0;
    std::string line; // what a row is made from may go with the next
    const std::uint64_t n = trainer.pull([&]() -> std::optional<graft::Row> {
        if (next == rows.size()) return std::nullopt;
        if (++next < rows.size()) return rows[next - 1];
        line = R"({"text": "that fish"})";
        return graft::Row::line(line);
    });
    CHECK(n == 5 && trainer.info().rows == 5);
    CHECK(throws_special([&] { trainer.pull([]() -> std::optional<graft::Row> { throw Special("special"); }); }));
    CHECK(throws_special([&] { trainer.run(0, [](const graft::TrainReport &) { throw Special("special"); }); }) && trainer.info().steps == 1);
    CHECK(thrown([&] { trainer.run(0, [](const graft::TrainReport &report) { return report.step < 2; }); }) == Status::cancelled);
    options.cancel->set();
    CHECK(thrown([&] { trainer.run(1); }) == Status::cancelled && thrown([&] { trainer.evaluate(); }) == Status::cancelled);
    options.cancel->clear();
    trainer.checkpoint(checkpoint);
    CHECK(trainer.run(0, [&](const graft::TrainReport &) { CHECK(thrown([&] { trainer.clear(); }) == Status::busy); }).step == 6);
    CHECK(saved(trainer, b) == bytes);
    graft::Trainer resumed = tiny.resume_trainer(checkpoint, options);
    CHECK(resumed.info().steps == 2);
    for (const graft::Row &row : rows) resumed.add(row);
    resumed.run();
    CHECK(saved(resumed, b) == bytes);
    CHECK(thrown([&] { (void)tiny.resume_trainer(checkpoint, graft::TrainOptions()); }) == Status::mismatch);
    options.schedule = "constant", options.warmup = 0, options.lr = 2e-2f;
    graft::Trainer opened = tiny.open_trainer(a, options);
    opened.clear();
    CHECK(opened.step(rows).step == 1 && saved(opened, b) != bytes);
    CHECK(!opened.info().steps_left);

    // In use at once, and the same once it is opened.
    graft::Session session = tiny.make_session();
    const std::string plain = session.answer("the", {8}).text;
    const auto with = [&](const graft::Adapter &adapter) {
        session.reset();
        session.set_adapter(adapter);
        return session.answer("the", {8}).text;
    };
    opened.add(graft::Row::tokens(tokens));
    opened.run(40);
    graft::Trainer moved = std::move(opened);
    const std::string adapted = with(moved.adapter());
    moved.save(b);
    CHECK(adapted != plain && adapted == with(tiny.open_adapter(b)) && moved.adapter().info().method == "LORA");
    CHECK(thrown([&] { opened.run(1); }) == Status::handle);

    test_options(tiny, a, options);

    std::optional<graft::Error> error;
    const std::vector<std::uint8_t> few = {1};
    const std::vector<graft::Message> nobody;
    for (const graft::Row &bad : {graft::Row::text(""), graft::Row::text({}), graft::Row::tokens({}), graft::Row::tokens(tokens, few),
                                  graft::Row::messages(nobody), graft::Row::line("no JSON"), graft::Row::completion("", "")})
        CHECK(thrown([&] { moved.add({rows[0], bad}); }, &error) != Status::ok && error->item() == "rows[1]");
    CHECK(moved.info().rows == 1);
    options.method = "lorra";
    CHECK(thrown([&] { (void)tiny.make_trainer(options); }, &error) == Status::usage && error->item() == "method");
}
