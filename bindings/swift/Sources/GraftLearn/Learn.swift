// An app that learns from its user: it answers, is told what would have been right, keeps both, and trains on the last 50 of them.
//
//     GraftLearn MODEL.gguf HISTORY.jsonl ADAPTER_FOLDER
//
// A line is a question; "= ..." is the answer that the last one should have had, which is added to HISTORY.jsonl; "/learn" trains on the last
// 50 lines of that, uses what was learnt at once, and saves it to ADAPTER_FOLDER, where the next start finds it.
import Foundation
import Graft

/// A line of the history, as `graft train` reads it too.
struct Line: Encodable {
    struct Message: Encodable {
        let role: String
        let content: String
    }
    let messages: [Message]
}

@main
struct Learn {
    static func main() async {
        do {
            let arguments = CommandLine.arguments
            guard arguments.count == 4 else { fail("usage: GraftLearn MODEL.gguf HISTORY.jsonl ADAPTER_FOLDER") }
            try await talk(arguments[1], arguments[2], arguments[3])
        } catch {
            fail("\(error)")
        }
    }

    static func talk(_ path: String, _ history: String, _ folder: String) async throws {
        let model = try await Model.open(path: path)
        let session = try model.makeSession()
        if FileManager.default.fileExists(atPath: folder) {
            try await session.setAdapter(try await model.openAdapter(path: folder))
        }
        var question = ""
        while let line = readLine() {
            if line == "/learn" {
                try await learn(model, session, history, folder)
            } else if line.hasPrefix("= ") {
                try keep(question, String(line.dropFirst(2)), in: history)
            } else {
                question = line
                print(try await session.answer(.chat([.user(question)]), options: GenerateOptions(maxTokens: 64)).text)
            }
        }
    }

    static func learn(_ model: Model, _ session: Session, _ history: String, _ folder: String) async throws {
        let lines = try String(contentsOfFile: history, encoding: .utf8).split(separator: "\n").suffix(50)
        var options = TrainOptions()
        options.steps = 20
        options.learningRate = 1e-3
        options.maxTokens = 256
        // On with what was learnt before, or anew.
        let trainer = FileManager.default.fileExists(atPath: folder)
            ? try await model.openTrainer(path: folder, options: options) : try await model.makeTrainer(options: options)
        try await trainer.add(lines.map { .line(String($0)) })
        for try await report in trainer.train() {
            FileHandle.standardError.write(Data("step \(report.step): loss \(report.loss)\n".utf8))
        }
        try await session.setAdapter(try await trainer.adapter())
        try await session.reset()
        try await trainer.save(to: folder)
    }

    static func keep(_ question: String, _ right: String, in history: String) throws {
        let line = Line(messages: [.init(role: "user", content: question), .init(role: "assistant", content: right)])
        let old = (try? Data(contentsOf: URL(fileURLWithPath: history))) ?? Data()
        let all = old + (try JSONEncoder().encode(line)) + Data("\n".utf8)
        try all.write(to: URL(fileURLWithPath: history), options: .atomic)
    }

    static func fail(_ message: String) -> Never {
        FileHandle.standardError.write(Data("GraftLearn: \(message)\n".utf8))
        exit(1)
    }
}
