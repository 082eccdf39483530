// A chat in a terminal, whose adapter may be switched between two answers.
//
//   c++ -std=c++17 examples/chat.cpp $(pkg-config --cflags --libs graft) -o chat
//   ./chat SmolLM2-135M-Instruct.Q4_1.gguf verse=demo/adapters/stage-verse json=demo/adapters/json-extract
//
// /adapter NAME puts an adapter on, /off takes it off, /reset forgets the conversation, /quit ends. Ctrl-C stops an answer.
#include <csignal>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include <graft.hpp>

namespace {

graft::Cancel stop;

void on_interrupt(int) { stop.set(); }

// Answers the last message, and keeps the answer.
void answer(graft::Session &session, std::vector<graft::Message> &messages) {
    graft::GenerateOptions options;
    options.max_tokens = 400;
    options.cancel = stop;
    std::string text;
    stop.clear();
    std::signal(SIGINT, on_interrupt); // only now: at the prompt Ctrl-C ends the program
    const graft::Report report = session.generate(messages, options, [&](std::string_view piece, graft::Token) {
        std::cout << piece << std::flush;
        text += piece;
    });
    std::signal(SIGINT, SIG_DFL);
    if (report.finish == graft::Finish::cancelled) std::cout << " [stopped]";
    if (report.finish == graft::Finish::context) std::cout << " [the context is full: /reset]";
    std::cout << '\n';
    messages.push_back({"assistant", std::move(text)});
}

void chat(int argc, char **argv) {
    const graft::Model model = graft::Model::open(argv[1]);
    std::map<std::string, graft::Adapter, std::less<>> adapters;
    for (int i = 2; i < argc; i++) {
        const std::string_view argument = argv[i];
        const std::size_t at = argument.find('=');
        if (at == argument.npos) throw std::invalid_argument("not NAME=FOLDER: " + std::string(argument));
        adapters.emplace(argument.substr(0, at), model.open_adapter(argument.substr(at + 1)));
    }
    graft::Session session = model.make_session();
    std::vector<graft::Message> messages;
    for (std::string line; std::cout << "> " << std::flush && std::getline(std::cin, line);) {
        if (line == "/quit") break;
        if (line == "/off") {
            session.clear_adapters();
        } else if (line == "/reset") {
            messages.clear();
            session.reset();
        } else if (line.rfind("/adapter ", 0) == 0) {
            const auto found = adapters.find(line.substr(9));
            if (found != adapters.end()) session.set_adapter(found->second);
            else std::cout << "no such adapter\n";
        } else if (!line.empty()) {
            messages.push_back({"user", line});
            answer(session, messages);
        }
    }
}

} // namespace

int main(int argc, char **argv) try {
    if (argc < 2) throw std::invalid_argument("usage: chat MODEL [NAME=ADAPTER_FOLDER...]");
    chat(argc, argv);
} catch (const std::exception &error) {
    std::cerr << "chat: " << error.what() << '\n';
    return 1;
}
