// An app that learns from its user: it answers, is told what would have been right, keeps both, and trains on the last 50 of them.
//
//   c++ -std=c++17 examples/learn.cpp $(pkg-config --cflags --libs graft) -o learn
//   ./learn MODEL.gguf HISTORY.jsonl ADAPTER_FOLDER
//
// A line is a question; "= ..." is the answer that the last one should have had, which is added to HISTORY.jsonl; "/learn" trains on the last
// 50 lines of that, uses what was learnt at once, and saves it to ADAPTER_FOLDER, where the next start finds it.
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include <graft.hpp>

namespace {

std::string json(const std::string &text) {
    static const char *const hex = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c >= 0 && c < ' ') out.append("\\u00").append({hex[c / 16], hex[c % 16]});
        else out += c;
    }
    return out + '"';
}

graft::Trainer trainer_for(const graft::Model &model, const std::string &folder) {
    graft::TrainOptions options;
    options.steps = 20;
    options.lr = 1e-3f;
    options.seq = 256;
    // On with what was learnt before, or anew.
    return std::filesystem::exists(folder) ? model.open_trainer(folder, options) : model.make_trainer(options);
}

void learn(const graft::Model &model, graft::Session &session, const std::string &history, const std::string &folder) {
    std::deque<std::string> last;
    std::ifstream file(history);
    for (std::string line; std::getline(file, line);) {
        last.push_back(line);
        if (last.size() > 50) last.pop_front();
    }
    graft::Trainer trainer = trainer_for(model, folder);
    for (const std::string &line : last) trainer.add(graft::Row::line(line));
    trainer.run(0, [](const graft::TrainReport &report) { std::cerr << "step " << report.step << ": loss " << report.loss << '\n'; });
    session.set_adapter(trainer.adapter());
    session.reset();
    trainer.save(folder);
}

void talk(const std::string &model_path, const std::string &history, const std::string &folder) {
    const graft::Model model = graft::Model::open(model_path);
    graft::Session session = model.make_session();
    if (std::filesystem::exists(folder)) session.set_adapter(model.open_adapter(folder));
    std::string question;
    for (std::string line; std::getline(std::cin, line);) {
        if (line == "/learn") {
            learn(model, session, history, folder);
        } else if (line.rfind("= ", 0) == 0) {
            std::ofstream(history, std::ios::app) << R"({"messages": [{"role": "user", "content": )" << json(question)
                                                  << R"(}, {"role": "assistant", "content": )" << json(line.substr(2)) << "}]}\n";
        } else {
            question = line;
            const std::vector<graft::Message> asked = {{"user", question}};
            std::cout << session.answer(asked, {64}).text << std::endl;
        }
    }
}

} // namespace

int main(int argc, char **argv) try {
    if (argc < 4) throw std::invalid_argument("usage: learn MODEL.gguf HISTORY.jsonl ADAPTER_FOLDER");
    talk(argv[1], argv[2], argv[3]);
} catch (const std::exception &error) {
    std::cerr << "learn: " << error.what() << '\n';
    return 1;
}
