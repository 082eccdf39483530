// A chat in a terminal. Adapters are switched between two answers; Ctrl-C ends the answer that is under way.
//
//     GraftChat MODEL.gguf [NAME=ADAPTER_FOLDER ...]
import Dispatch
import Foundation
import Graft

@main
struct Chat {
    static let help = """
        /adapter NAME   answer with this adapter from now on
        /off            answer with the model alone
        /reset          begin a new conversation
        /quit           end

        """

    static func main() async {
        do {
            try await run(Array(CommandLine.arguments.dropFirst()))
        } catch {
            fail("\(error)")
        }
    }

    static func run(_ arguments: [String]) async throws {
        guard let path = arguments.first else { fail("usage: GraftChat MODEL.gguf [NAME=ADAPTER_FOLDER ...]") }
        let model = try await Model.open(path: path)
        var adapters: [String: Adapter] = [:]
        for argument in arguments.dropFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { fail("\(argument): expected NAME=ADAPTER_FOLDER") }
            adapters[parts[0]] = try await model.openAdapter(path: parts[1])
        }
        let session = try model.makeSession()
        var options = GenerateOptions(maxTokens: 256)
        options.keep = 0
        var messages: [ChatMessage] = []

        while let line = ask() {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            switch words.first {
            case nil:
                continue
            case "/quit":
                return
            case "/off":
                try await session.setAdapter(nil)
            case "/reset":
                messages = []
            case "/adapter":
                if let adapter = words.last.flatMap({ adapters[$0] }) {
                    try await session.setAdapter(adapter)
                } else {
                    write("there are: \(adapters.keys.sorted().joined(separator: ", "))\n")
                }
            case let word? where word.hasPrefix("/"):
                write(help)
            default:
                messages.append(.user(line))
                messages.append(.assistant(try await say(session.generate(.chat(messages), options: options))))
            }
        }
    }

    /// Prints the text as it comes, until it ends or Ctrl-C is pressed, and gives it back.
    static func say(_ text: AsyncThrowingStream<String, Error>) async throws -> String {
        let printing = Task {
            var said = ""
            for try await piece in text {
                write(piece)
                said += piece
            }
            write("\n")
            return said
        }
        signal(SIGINT, SIG_IGN)
        let interrupt = DispatchSource.makeSignalSource(signal: SIGINT)
        interrupt.setEventHandler { printing.cancel() }
        interrupt.resume()
        defer {
            interrupt.cancel()
            signal(SIGINT, SIG_DFL)
        }
        return try await printing.value
    }

    static func ask() -> String? {
        write("> ")
        return readLine()
    }

    /// At once: what `print` writes waits for the end of a line.
    static func write(_ text: String) {
        FileHandle.standardOutput.write(Data(text.utf8))
    }

    static func fail(_ message: String) -> Never {
        FileHandle.standardError.write(Data("GraftChat: \(message)\n".utf8))
        exit(1)
    }
}
