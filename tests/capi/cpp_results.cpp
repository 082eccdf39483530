// The part of tests/capi/cpp.cpp that is compiled without exceptions, and linked with the part that has them.
#ifndef GRAFT_NO_EXCEPTIONS
#define GRAFT_NO_EXCEPTIONS
#endif
#include <graft.hpp>

#include "check.hpp"

void test_results(const std::string &tiny, const std::string &adapter);

void test_results(const std::string &tiny, const std::string &adapter) {
    using graft::Status;

    const graft::Result<graft::Model> none = graft::Model::open("/no/such/file");
    CHECK(!none && !none.ok());
    CHECK(none.error().status() == Status::io);
    CHECK(none.error().file() == "/no/such/file" && !none.error().message().empty());

    auto model = graft::Model::open(tiny);
    if (!CHECK(model)) return;
    CHECK(model->info().value().vocab_size > 0);
    CHECK(*model->tokenize("Hi") == *model->tokenize("Hi"));
    CHECK(model->metadata("no.such.key").error().status() == Status::usage);

    graft::Session session = *model->make_session(); // a result that is not kept may be moved from
    CHECK(session.info()->position == 0);
    auto answer = session.answer("Hi", {8});
    CHECK(answer && answer->report.tokens == 8);

    CHECK(session.set_adapter(*model->open_adapter(adapter)));
    CHECK(session.clear_adapters().ok());
    CHECK(session.reset());
    std::string text;
    auto report = session.generate("Hi", {8}, [&](std::string_view piece) { text += piece; });
    CHECK(report && text == answer->text);
    report = session.generate("Hi", {8}, [](std::string_view, graft::Token) { return false; });
    CHECK(report && report->finish == graft::Finish::cancelled);

    CHECK(session.reset());
    text.clear();
    auto stream = session.stream("Hi", {8});
    if (!CHECK(stream)) return;
    for (std::string_view piece : *stream) text += piece;
    CHECK(text == answer->text && !stream->error());

    auto batch = model->make_batch();
    if (!CHECK(batch)) return;
    CHECK(batch->add_adapter("mine", *model->open_adapter(adapter)));
    CHECK(batch->answer(R"({"prompt": "Hi", "adapter": "mine", "max_tokens": 2})", 1)->rfind("{\"id\":1,\"text\"", 0) == 0);
    CHECK(batch->run("/no/such/file", "/no/such/folder/file").error().status() == Status::io);

    auto trainer = model->make_trainer();
    if (!CHECK(!trainer && trainer.error().item() == "seq")) return; // the tiny model has less room
    graft::TrainOptions small;
    small.seq = 32;
    CHECK(graft::Model::plan_memory(tiny)->kv > 0 && graft::Model::plan_memory("/no/such/file").error().status() == Status::io);
    CHECK(model->plan_training(small)->total > 0 && model->plan_training(small, "/no/such/folder").error().status() == Status::io);
    trainer = model->make_trainer(small);
    if (!CHECK(trainer)) return;
    CHECK(trainer->add(graft::Row::text("Hi")) && trainer->run(2)->step == 2 && trainer->adapter());
    CHECK(trainer->run(1, [](const graft::TrainReport &) { return false; }).error().status() == Status::cancelled);

    stream = session.stream("Hi", {8});
    graft::Session taken = std::move(session);
    CHECK(taken.info());
    CHECK(session.eval({}).error().status() == Status::handle);
    { const graft::Session gone = std::move(taken); }
    for (std::string_view piece : *stream) text += piece;
    CHECK(stream->error() && stream->error()->status() == Status::handle);
}
